"""Named settings, plain data: one preset for each built-in dataset's `data` section, and the recipes.

A preset and a recipe stand under whatever the user gives.
"""

from collections.abc import Mapping

PRESETS: dict[str, Mapping[str, object]] = {
    "ml-100k": {
        "source": "ml-100k",
        "label": "rating >= 4",
        "order": ["timestamp"],
        "user_fields": ["gender", "age_group", "occupation"],
        "item_fields": ["year"],
        "list_fields": ["genres"],
        "item_text": "{title}, {genres}",
        "user_text": "A {age_group} year old {person}, {occupation}, rates movies. Likes it?",
        "counts": {"groups": [["user"], ["item"], ["user", "genres"]]},
    },
    "ml-1m": {
        "source": "ml-1m",
        "label": "rating > 3",
        "order": ["timestamp"],
        "split": {"by": "time", "fractions": [0.8, 0.1, 0.1], "min_history": 5},
        "user_fields": ["gender", "age_group", "occupation", "zip"],
        "item_fields": ["year"],
        "list_fields": ["genres"],
        "item_text": "{title}, {genres}",
        "user_text": "A {age_group} year old {person}, {occupation}, rates movies. Likes it?",
        "counts": {"groups": [["user"], ["item"], ["user", "genres"]]},
    },
    "movielens": {
        "source": "movielens",
        "label": "rating >= 4",
        "order": ["timestamp"],
        "item_fields": ["year"],
        "list_fields": ["genres"],
        "item_text": "{title}, {genres}",
        "counts": {"groups": [["user"], ["item"], ["user", "genres"]]},
    },
    "ml-1m-collm": {
        "source": "ml-1m-collm",
        "label": "label",
        "order": ["timestamp"],
        "split": {"by": "column"},
        "user_fields": ["gender", "age_group", "occupation", "zip"],
        "item_fields": ["year"],
        "list_fields": ["genres"],
        "item_text": "{title}, {genres}",
        "user_text": "A {age_group} year old {person}, {occupation}, rates movies. Likes it?",
        "counts": {"groups": [["user"], ["item"], ["user", "genres"]]},
    },
    "bookcrossing": {
        "source": "bookcrossing",
        "label": "rating >= 5",
        "order": [],
        "duplicates": "keep",
        "split": {"by": "column", "learn_history": True, "min_history": 5},
        "user_fields": ["country", "age_group"],
        "item_fields": ["author", "publisher", "year"],
        "item_text": "{title} by {author}",
        "user_text": "A reader from {country}, age {age_group}, rates books. Likes it?",
        "history_length": 60,
        "counts": {
            "groups": [["user"], ["item"], ["author"], ["publisher"], ["title"], ["user", "author"]],
            "frozen": True,
            "ratings": False,  # a rating of 0 there means that none was given
            "neighbours": 0,  # hardly two readers share two books: nothing gained on validation rows
        },
    },
    "amazon": {
        "source": "amazon",
        "label": "rating > 3",
        "order": ["timestamp"],
        "core": 5,
        "item_fields": ["brand"],
        "list_fields": ["category"],
        "item_text": "{title}, {brand}, {category}",
        "user_text": "A customer rates products. Likes it?",
        "counts": {"groups": [["user"], ["item"], ["brand"], ["user", "brand"], ["user", "category"]]},
    },
    "amazon-books": {
        "source": "amazon-books",
        "label": "rating >= 5",
        "order": ["timestamp"],
        "split": {"by": "time", "fractions": [0.8, 0.1, 0.1], "min_history": 5},
        "item_fields": ["brand"],
        "list_fields": ["category"],
        "item_text": "{title} by {brand}",
        "user_text": "A reader rates books. Likes it?",
        "counts": {"groups": [["user"], ["item"], ["brand"], ["user", "brand"], ["user", "category"]]},
    },
    "amazon-scientific": {
        "source": "amazon-scientific",
        "label": "label",
        "order": [],
        "only_likes": True,
        "split": {"by": "leave-last-out"},
        "item_fields": ["brand"],
        "list_fields": ["category"],
        "item_text": "{title}, {brand}",
        "item_description": "{categories}. {description}",
        "text": {"longest_tokens": 256},
        "user_text": "A customer buys products. Likes it?",
        "counts": {"groups": [["user"], ["item"], ["brand"], ["user", "brand"], ["user", "category"]]},
    },
    "amazon-p5": {
        "source": "amazon-p5",
        "label": "label",
        "order": [],
        "only_likes": True,
        "split": {"by": "leave-last-out"},
        "item_text": "{words}",
        "user_text": "A customer buys products. Likes it?",
        "counts": {"groups": [["user"], ["item"]]},
    },
    "polis": {
        "source": "polis",
        "label": "label",
        "order": ["timestamp"],
        "split": {"by": "time", "within": "conversation"},
        "item_fields": ["conversation"],
        "item_text": "{statement}",
        "user_text": "A person votes on statements of others. The topic: {topic}. Agrees with it?",
        "counts": {"groups": [["user"], ["item"], ["conversation"]]},
    },
}
"""Built-in dataset -> its `data` settings."""

RECIPES: dict[str, Mapping[str, object]] = {
    "corella": {},
    "paper": {
        "crm": {"counts": False, "trees": False, "text": False, "id_dropout": 0.0, "embedding_size": 32},
        "llm": {"prompt": "pointwise", "show_ratings": True},
        "joint": {"learning_rate": 0.001, "align_normalise": False, "keep_better_crm": False},
        "routing": {"rung": 2, "policy": "entropy", "combine": "replace", "calibration": "none"},
        "retrieval": {"cllm4rec": True},
    },
    "tallrec": {
        "crm": {"trees": False, "text": False},
        "llm": {"prompt": "pointwise", "show_ratings": True},
        "joint": {"stages": [3], "learning_rate": 0.001},
        "routing": {"rung": 2, "policy": "random", "combine": "replace", "budget": 1.0},
    },
}
"""`recipe` -> settings of every section; see `Config.recipe`."""
