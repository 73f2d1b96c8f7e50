"""Recommendations for a few real users, for the report: what they liked, what was retrieved and ranked."""

import numpy as np

from corella.data.dataset import Dataset
from corella.evaluation.results import Example
from corella.recommender import Recommender, texts_of
from corella.retrieval.histories import training_likes

_LEAST_LIKED = 3
_SHOWN, _RANKED = 8, 10


def example_recommendations(recommender: Recommender, dataset: Dataset, known: int = 3) -> list[Example]:
    """Examples: `known` users with training rows, from short histories to long ones, and a user without.

    Each has `user_id`, `user` (the user's text), `trained`, `liked` and `disliked` (texts, the newest first), and
    `items` (fields of `Recommendation`). Only users of test rows who liked three items at least.
    """
    events, tested = dataset.events, np.unique(dataset.user[dataset.rows("test")])
    liked = np.r_[0, np.cumsum(events.label)]
    likes = liked[events.start[tested + 1]] - liked[events.start[tested]]
    tested, likes = tested[likes >= _LEAST_LIKED], likes[likes >= _LEAST_LIKED]
    in_training = np.array([len(items) > 0 for items in training_likes(dataset)])[tested]
    chosen: list[int] = []
    for group, count in ((in_training, known), (~in_training, 1)):
        users = tested[group][np.argsort(likes[group], kind="stable")]
        if len(users):
            places = np.linspace(0, len(users) - 1, count + 2)[1:-1].round().astype(int)
            chosen += list(dict.fromkeys(users[places].tolist()))
    return [_example(recommender, dataset, user, bool(in_training[tested == user][0])) for user in chosen]


def _example(recommender: Recommender, dataset: Dataset, user: int, trained: bool) -> Example:
    events = dataset.events
    mine = slice(int(events.start[user]), int(events.start[user + 1]))
    item, label = events.item[mine][::-1], events.label[mine][::-1]
    ids = dataset.items["item_id"]
    person = dataset.users.row(user, named=True)
    return Example(
        user_id=person["user_id"], user=person["text"], trained=trained,
        liked=texts_of(dataset, [ids[int(i)] for i in item[label == 1][:_SHOWN]]),
        disliked=texts_of(dataset, [ids[int(i)] for i in item[label == 0][: _SHOWN // 2]]),
        items=recommender.recommend(person["user_id"], _RANKED),
    )  # fmt: skip
