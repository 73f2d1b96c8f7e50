"""Gains and prices of the three rungs, by hand; and the sentence that follows from them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from sklearn.metrics import roc_auc_score

from corella.evaluation.rungs import ALL, COLD_ITEMS, COLD_USERS, WARM, Measured, Price, Prices, Rows, Rung, measure
from corella.intervals import Difference
from corella.report.wording import override, recommendation

_GAIN, _NOTHING = Difference(0.011, 0.007, 0.016, 0.01), Difference(0.0005, -0.001, 0.002, 0.6)


def _rows(n: int = 200) -> Rows:
    """Every second sample is liked; 10 users; the first half's items are cold, and the first user."""
    place = np.arange(n)
    return Rows(place % 2, place * 10 // n, np.where(place < n // 2, 4, 5), np.where(place < n // 10, 0, 50))


def test_groups_by_hand() -> None:
    rows = Rows(np.array([1, 0, 1, 0]), np.arange(4), np.array([4, 5, 0, 5]), np.array([5, 4, 0, 9]))
    groups = {name: np.flatnonzero(inside).tolist() for name, inside in rows.groups().items()}
    assert groups == {ALL: [0, 1, 2, 3], COLD_ITEMS: [0, 2], COLD_USERS: [1, 2], WARM: [3]}


def test_a_rung_that_knows_only_cold_items() -> None:
    """Below, all is guessed; above, cold items are known: 1 in that group, .5 among the warm, and .75 overall, for
    within one half pairs are right, across halves half of them are."""
    rows = _rows()
    cold = rows.seen < 5
    found = measure(rows, np.where(cold, rows.label - 0.5, 0.0), np.zeros(200), 200, 1)
    assert found[COLD_ITEMS].samples == found[WARM].samples == 100
    assert (found[COLD_ITEMS].auc, found[WARM].auc) == (1.0, 0.5)
    assert found[ALL].auc == pytest.approx((1 + 1 / 2 + 1 + 1) / 4)
    gains = {name: each.gain for name, each in found.items()}
    assert gains[COLD_ITEMS] == Difference(0.5, 0.5, 0.5, 0.01)
    assert gains[WARM] == Difference(0.0, 0.0, 0.0, 1.0)
    everything = gains[ALL]
    assert everything is not None and 0 < everything.low < everything.mean < everything.high < 0.5
    lowest = measure(rows, np.zeros(200), None, 200, 1)
    assert all(each.gain is None for each in lowest.values())


def test_the_interval_is_by_user() -> None:
    """Rows of one user say one thing: as many users as rows would make the interval narrower."""
    rng = np.random.default_rng(0)
    label, user = rng.integers(0, 2, 2000), np.repeat(np.arange(20), 100)
    helps = rng.normal(1, 2, 20)[user] * (label - 0.5)
    below = rng.normal(size=2000)
    seen = length = np.full(2000, 9)
    wide, narrow = (
        measure(Rows(label, units, seen, length), below + helps, below, 200, 1)[ALL].gain
        for units in (user, np.arange(2000))
    )
    assert wide is not None and narrow is not None
    assert wide.mean == narrow.mean
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


@pytest.mark.parametrize(
    ("rows", "auc"),
    [
        (_rows(18), None),  # nine of each class
        (replace(_rows(), label=np.ones(200, int)), None),  # one class
        (replace(_rows(), user=np.arange(200) % 4), 1.0),  # four users: an AUC, and no interval of a gain
    ],
)
def test_too_few_say_so(rows: Rows, auc: float | None) -> None:
    found = measure(rows, rows.label.astype(float), np.zeros(len(rows.label)), 20, 1)[ALL]
    assert (found.auc, found.gain) == (auc, None)
    assert (found.auc_low is None) == (found.auc_high is None) == (auc is None)
    none = measure(replace(rows, seen=np.full(len(rows.label), 9)), rows.label.astype(float), None, 20, 1)[COLD_ITEMS]
    assert none == Measured(0, None, None, None, None)


def _rung(number: int, below: int | None, gain: Difference | None, cold: Difference | None, **price: Any) -> Rung:
    groups = {
        name: Measured(900, 0.8, 0.79, 0.81, each) for name, each in ((ALL, gain), (COLD_ITEMS, cold), (WARM, None))
    }
    return Rung(number, below, groups, Price(**{"milliseconds": 0.2, "memory": 0, "training_seconds": 9.0, **price}))


def _prices(served: int = 1, text: Difference | None = _GAIN, asking: Difference | None = _NOTHING) -> Prices:
    cold = Difference(0.021, 0.01, 0.03, 0.01)
    each = {"share": 0.2, "milliseconds_asked": 35.0, "milliseconds": 7.0}
    rungs = (_rung(0, None, None, None), _rung(1, 0, text, cold), _rung(2, 1, asking, None, **each))
    return Prices("validation", rungs, served, "auto")


def test_sentence() -> None:
    assert recommendation(_prices()) == (
        "On your data (validation rows), text read once an item is worth +.0110 AUC [+.0070, +.0160] (+.0210 on items "
        "with under 5 interactions) for 0.2 ms more a sample; asking a language model per request, about 20\xa0% of "
        "the samples, adds +.0005 AUC [\N{MINUS SIGN}.0010, +.0020] (n.s.) for 35 ms each time. Served: text once an "
        "item (the cheapest that is not significantly worse on validation rows)."
    )


def test_sentence_where_something_is_missing() -> None:
    zero, one, two = _prices().rungs
    alone = recommendation(Prices("test", (zero,), 0, "auto"))
    assert "(test rows), no text encoder has read the items; with a budget of 0" in alone
    assert "Served: no language model (" in alone
    few = recommendation(_prices(0, None, None))
    assert few.count("too few users or samples to tell") == 2
    asked = recommendation(replace(_prices(2, _GAIN, _GAIN), setting=2))
    assert "per request, on top of text once an item (as routing.rung=2 wants)." in asked
    without = Prices("test", (zero, one, replace(two, below=0)), 2, "auto")
    assert "per request, without text once an item (the cheapest" in recommendation(without)
    unsure = recommendation(Prices("test", (zero, _rung(1, 0, _NOTHING, _NOTHING, milliseconds=0.0)), 0, "auto"))
    assert "(n.s.) (+.0005, n.s., on items with under 5 interactions) for under 0.01 ms more" in unsure


def test_how_to_have_it_otherwise() -> None:
    assert "--set share=0.3`, or train with routing.rung=2." in override(_prices(1), 0.3)
    assert "score --share 0.2`" in override(_prices(0), 0.0)
    assert override(_prices(2), 0.3).startswith("To ask no language model: `corella score --share 0`")
    assert override(_prices(2), 0.3).endswith("or train with routing.rung=1.")


def test_comes_back_from_json() -> None:
    prices = _prices()
    adapter = TypeAdapter(Prices)
    assert adapter.validate_json(adapter.dump_json(prices)) == prices


def test_auc_is_of_the_group() -> None:
    rng = np.random.default_rng(3)
    rows = Rows(rng.integers(0, 2, 500), rng.integers(0, 40, 500), rng.integers(0, 9, 500), rng.integers(0, 9, 500))
    z = rng.normal(size=500) + rows.label
    found = measure(rows, z, None, 20, 1)
    for name, inside in rows.groups().items():
        assert found[name].auc == pytest.approx(roc_auc_score(rows.label[inside], z[inside]))
        assert found[name].samples == inside.sum()
