"""Experiments in service: arms are dealt, pages kept, users counted once; what other budgets would have earned."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from spoken_for import SpokenFor
from starlette.testclient import TestClient

from corella.errors import UserError
from corella.serving.http.shown import drawn
from corella.serving.store.records import Event, Record, Shown, Undone
from corella.serving.trial.policy import value_of
from corella.serving.trial.settings import Experiment
from corella.serving.trial.tracker import HOUR, Tracker
from corella.serving.trial.wording import in_words

Serve = Callable[..., TestClient]
EXPERIMENT = Experiment.model_validate({"name": "budget", "arms": {"control": {}, "more": {"share": 1.0, "weight": 2}}})


def _shown(user: str, arm: str, time: int, items: list[str] | None = None, **more: Any) -> Shown:
    items = items or ["i1", "i2"]
    some = [0.5] * len(items)
    given = {"propensity": [1.0, 0.0], "crm": some, "final": some, "priority": some, **more}
    return Shown(user, items, version="v", experiment="budget", arm=arm, timestamp=time, request_id="r", **given)


def test_a_user_counts_once_and_only_with_what_was_shown() -> None:
    tracker = Tracker(EXPERIMENT)
    told: list[Record] = [
        _shown("a", "control", 0), Event("a", "i1", 1, 10, event_id="e1"), Event("a", "i2", 1, 20, event_id="e2"),
        _shown("b", "more", 0), Event("b", "i9", 1, 10, event_id="e3"), Event("b", "i1", None, 10, kind="view"),
        _shown("c", "more", 0), Event("c", "i1", 1, 25 * HOUR, event_id="e4"),
        _shown("d", "more", 5 * HOUR), Event("d", "i2", 1, 6 * HOUR, event_id="e5"),
        Event("never shown", "i1", 1, 10), Undone("e1", "a", "i1", "like", 1.0, 10),
    ]  # fmt: skip
    for record in told:
        tracker.take(record)
    control, more = tracker.standing(26 * HOUR).arms
    assert (control.users, control.complete, control.rate) == (1, 1, 1.0)
    assert (more.users, more.complete, more.rate) == (3, 2, 0.0)  # of d the time is not over
    assert tracker.standing(30 * HOUR).arms[1].rate == pytest.approx(1 / 3)
    tracker.take(Undone("e2", "a", "i2", "like", 1.0, 20))
    tracker.forget("d")
    assert [arm.rate for arm in tracker.standing(30 * HOUR).arms] == [0.0, 0.0]
    assert "too few users so far" in in_words(tracker.standing(30 * HOUR))


def test_arms_are_dealt_by_weight_and_found_apart() -> None:
    tracker, rng = Tracker(EXPERIMENT), np.random.default_rng(3)
    for n in range(6000):
        user, arm = f"u{n}", tracker.arm(f"u{n}")
        tracker.take(_shown(user, arm, 0))
        if rng.random() < (0.3 if arm == "more" else 0.2):
            tracker.take(Event(user, "i1", 1, 10, event_id=str(n)))
    standing = tracker.standing(25 * HOUR)
    assert standing.arms[1].users / 6000 == pytest.approx(2 / 3, abs=0.02)
    assert 0 < standing.contrasts[0].low < 0.1 < standing.contrasts[0].high
    assert "better by" in in_words(standing)


def test_an_experiment_in_service(serve: Serve) -> None:
    given = {"name": "budget", "arms": {"control": {"share": 0.0}, "more": {"share": 1.0}}}
    client = serve(SpokenFor(), experiment=given, impressions=True)
    arms = {}
    for n in range(12):
        answer = client.post("/v1/recommend", json={"user_id": f"u{n:02}", "k": 3}).json()
        arms[f"u{n:02}"] = answer["arm"]
        assert answer["share_routed"] == (1.0 if answer["arm"] == "more" else 0.0)
        assert client.post("/v1/recommend", json={"user_id": f"u{n:02}", "k": 3}).json()["arm"] == answer["arm"]
    assert set(arms.values()) == {"control", "more"}
    assert client.post("/v1/recommend", json={"k": 3}).json()["arm"] == ""
    told = client.get("/v1/experiment").json()
    assert [arm["name"] for arm in told["standing"]["arms"]] == ["control", "more"] and told["lost"] == 0
    assert serve().get("/v1/experiment").json()["said"] == "No experiment runs."


def test_outcomes_that_no_event_has_are_refused(serve: Serve) -> None:
    given = {"name": "budget", "arms": {"control": {}, "more": {"share": 1.0}}, "outcomes": ["clik"]}
    with pytest.raises(UserError, match="no kind of event 'clik'; did you mean 'click'"):
        serve(experiment=given)


def test_pages_are_kept_with_the_chance_that_each_item_had(serve: Serve) -> None:
    client = serve(SpokenFor(), explore=0.3)
    context = client.app.state.context  # type: ignore[attr-defined]
    kept: list[Shown] = []
    context.impressions = type("Kept", (), {"add": staticmethod(kept.append)})()
    pages = [client.post("/v1/recommend", json={"user_id": "u03", "k": 3}).json()["items"] for _ in range(60)]
    best = max(({one["item_id"]: one["probability"] for one in pages[0]}).items(), key=lambda pair: pair[1])[0]
    for page, shown in zip(pages, kept, strict=True):
        assert [one["item_id"] for one in page] == shown.items
        chances = dict(zip(shown.items, shown.propensity, strict=True))
        assert chances.pop(best) == pytest.approx(0.8) and set(map(lambda c: round(c, 6), chances.values())) == {0.1}
    firsts = {shown.items[0] for shown in kept}
    assert len(firsts) == 3  # chance of missing one: 2 * .9^60
    client.post("/v1/recommend", json={"user_id": "u03", "k": 3, "offset": 3})
    assert kept[-1].propensity == []
    assert drawn([4, 5], context, by_lot=False) == ([4, 5], [])


def _log(pages: int, explore: float = 0.4) -> list[Record]:
    """Pages of two items: the language model knows that the second is liked (.5), the first is not (.1)."""
    rng, records = np.random.default_rng(7), list[Record]()
    for n in range(pages):
        user, asked = f"u{n % 300}", n % 2
        priority = [0.9, 0.9] if asked else [0.2, 0.2]
        order = [1, 0] if asked else [0, 1]  # served: asked where the priority is .5 or more
        if rng.random() < explore:
            order = list(rng.permutation(order))
        greedy = 1 if asked else 0
        chance = [explore / 2 + (1 - explore) * (item == greedy) for item in order]
        final = [0.1, 0.5] if asked else [0.3, 0.2]
        records.append(
            _shown(
                user, "", 100 * n, [f"i{n}-{item}" for item in order], propensity=chance,
                crm=[[0.3, 0.2][item] for item in order], final=[final[item] for item in order], priority=priority,
            )
        )  # fmt: skip
        if rng.random() < [0.1, 0.5][order[0]]:
            records.append(Event(user, f"i{n}-{order[0]}", 1, 100 * n + 1, event_id=str(n)))
    return records


def test_what_other_budgets_would_have_earned() -> None:
    """Asking nobody puts the first item first: .1. Asking half of the pages: .3."""
    records = _log(4000)
    for threshold, truth in ((float("inf"), 0.1), (0.5, 0.3)):
        found = value_of(records, threshold, ("like",), 24.0)
        for estimate in (found.inverse, found.normalised, found.robust):
            assert estimate.low < truth < estimate.high
            assert estimate.high - estimate.low < 0.08
    with pytest.raises(UserError, match="no page was shown by lot: set explore"):
        value_of([_shown("u", "", 0)], 0.5, ("like",), 24.0)
