"""What a rating says."""

import pytest

from corella.config import DataConfig
from corella.errors import UserError
from corella.features.ratings import LabelRule, answer_label


@pytest.mark.parametrize(
    ("rule", "positive"),
    [
        ("rating >= 4", {4, 5}),
        ("rating>3", {4, 5}),
        ("rating < 2.5", {-1, 1, 2}),
        ("rating == -1", {-1}),
        ("rating<=1", {-1, 1}),
    ],
)
def test_label_rules(rule: str, positive: set[int]) -> None:
    parsed = LabelRule.parse(rule)
    assert parsed.column == "rating"
    assert {value for value in (-1, 1, 2, 3, 4, 5) if parsed.compare(value, parsed.bound)} == positive
    with pytest.raises(UserError, match="is not of the form"):
        LabelRule.parse("label")


def test_an_answer_is_what_the_training_data_would_make_of_it() -> None:
    config = DataConfig(label="rating >= 4")
    assert answer_label(config, None, 4.0) == 1 and answer_label(config, None, 3.5) == 0
    assert answer_label(config, True, 5.0) == 1 and answer_label(config, False, None) == 0
    for liked, rating, said in ((True, 2.0, "liked, but a rating of 2"), (False, 4.0, "not liked, but a rating of 4")):
        with pytest.raises(UserError, match=f"{said} says the contrary by the rule 'rating >= 4'"):
            answer_label(config, liked, rating)
    with pytest.raises(UserError, match="liked: say whether it was"):
        answer_label(config, None, None)


@pytest.mark.parametrize("rule", ["label", "seconds >= 30"])
def test_a_rule_that_is_none_on_ratings_says_nothing_of_them(rule: str) -> None:
    config = DataConfig(label=rule)
    assert answer_label(config, True, 1.0) == 1
    with pytest.raises(UserError, match="nothing else tells it here"):
        answer_label(config, None, 5.0)
