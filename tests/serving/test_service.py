"""One request from start to end: the same numbers as the library, routing, fallbacks, appended answers."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from spoken_for import ReallyAsked, SpokenFor

from corella.config import Config
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.data.scope import Described
from corella.errors import UserError
from corella.llm.prefix import SharedPrompt
from corella.llm.timeline import TimelinePrompts
from corella.ranking.fit import fit_ranking
from corella.ranking.model import FittedRanking
from corella.retrieval.live import Reason
from corella.serving import feed as feed_module
from corella.serving.engine.asking import Answer, Candidates
from corella.serving.service import Asker, Scored, Service
from corella.serving.settings import ServingSettings
from corella.serving.state.apply import Outcome
from corella.serving.state.live import HistoryEntry
from corella.serving.store.log import open_store
from corella.serving.store.records import Event, Item, StoreError

Make = Callable[..., Service]
ITEMS = [f"i{n:02}" for n in range(30)]


def _score(service: Service, *given: Any, **more: Any) -> Scored:
    return asyncio.run(service.score(*given, **more))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_scores_are_those_of_the_library(
    make_service: Make, tiny_system: FittedRanking, tiny_dataset: Dataset, share: float
) -> None:
    """The same routed items, the same probabilities: a request's small world changes nothing, and an item that nobody
    knows is any unknown item."""
    service = make_service(ReallyAsked(tiny_system))
    items = [*ITEMS, "nobody knows it", "nor this"]
    for user in ("u03", "u29"):
        found = _score(service, Asker(user), items, share)
        moment = int(tiny_dataset.log["timestamp"].max())  # type: ignore[arg-type]
        rows = pl.DataFrame({"user_id": [user] * len(items), "item_id": items})
        wanted = tiny_system.predict(tiny_dataset.query(rows), share)
        assert moment == service.live.last_time
        np.testing.assert_array_equal(found.routed, wanted.routed)
        np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-4)
        assert (np.isnan(found.llm) == ~wanted.routed).all()
        assert set(found.fallback) == {""}


def test_corrections_are_served_as_the_library_makes_them(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """A language model that learned what is left adds to the conventional half's logit."""
    joint = {"target": "residual", "stages": [1, 3], "stage3_targets": 100}
    system = fit_ranking(tiny_system_config(joint=joint), tiny_dataset)
    store = open_store(str(tmp_path / "events.db"))
    settings = ServingSettings.model_validate({"clock": "log", "overload_ms": 1e9})
    found = _score(Service(system, store, ReallyAsked(system), settings), Asker("u03"), ITEMS, 1.0)
    rows = pl.DataFrame({"user_id": ["u03"] * len(ITEMS), "item_id": ITEMS})
    wanted = system.predict(tiny_dataset.query(rows), 1.0)
    np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-4)
    store.close()


def test_without_a_language_model_the_conventional_one_answers(make_service: Make) -> None:
    found = _score(make_service(None), Asker("u03"), ITEMS, 1.0)
    assert found.routed.all() and set(found.fallback) == {"fault"}
    np.testing.assert_array_equal(found.probability, found.crm)
    engine = SpokenFor()
    engine.ready = False
    assert set(_score(make_service(engine), Asker("u03"), ITEMS, 1.0).fallback) == {"fault"}
    engine.loading = True
    assert set(_score(make_service(engine), Asker("u03"), ITEMS, 1.0).fallback) == {"loading"}


@pytest.mark.parametrize("reason", ["deadline", "fault", "overload"])
def test_an_answer_that_does_not_come(make_service: Make, reason: str) -> None:
    engine = SpokenFor()
    engine.answer = lambda prompt: Answer(None, reason)
    found = _score(make_service(engine), Asker("u03"), ITEMS, 0.5)
    np.testing.assert_array_equal(found.probability, found.crm)
    assert [why == reason for why in found.fallback] == found.routed.tolist()


def test_what_there_is_no_room_for(make_service: Make) -> None:
    """The most urgent items are asked about; without room for the history it is read for the next time."""
    engine = SpokenFor()
    service = make_service(engine)
    _score(service, Asker("u03"), ITEMS, 1.0)
    (user, whole), *_ = engine.asked
    assert user == "u03" and len(whole.branches) == 30
    engine.asked, engine.space = [], len(whole.prefix) + sum(map(len, whole.branches[:4]))
    found = _score(service, Asker("u03"), ITEMS, 1.0)
    assert len(engine.asked[0][1].branches) == 4
    asked = np.flatnonzero(~np.isnan(found.llm))
    assert set(asked) == set(np.argsort(-found.priority, kind="stable")[:4])
    assert [why for n, why in enumerate(found.fallback) if n not in asked] == ["overload"] * 26
    engine.asked, engine.space = [], 10.0
    found = _score(service, Asker("u03"), ITEMS, 1.0)
    assert engine.asked == [] and engine.warmed == ["u03"]
    assert set(found.fallback) == {"overload"}


def test_the_next_request_sees_a_new_answer(make_service: Make) -> None:
    engine = SpokenFor()
    service, other = make_service(engine), make_service(engine)
    before = _score(service, Asker("u03"), ITEMS, 1.0)
    known = {item for item, _ in service.live.answered("u03")}
    (new,) = service.live.most_liked(1, known)
    service.feed.store.append([Event("u03", new, 1, 999)])
    for each in (service, other):  # another server on the same store sees it too
        engine.asked = []
        after = _score(each, Asker("u03"), ITEMS, 1.0)
        assert not np.allclose(before.crm, after.crm)
        assert each.live.answered("u03")[-1] == (new, 1)
    assert len(engine.asked[0][1].prefix) > 0


def test_candidates_are_retrieved_or_most_liked(make_service: Make, tiny_dataset: Dataset) -> None:
    engine = SpokenFor()
    service = make_service(engine)
    answered = service.live.answered("u03")
    soon = time.monotonic() + 1
    liked = asyncio.run(service.candidates(Asker("u03"), 4, soon))
    counts = tiny_dataset.log.filter(label=1).group_by("item_id").len().sort("len", descending=True)
    most = dict(counts.iter_rows())
    assert not {item for item, _ in answered} & set(liked) and len(liked) == 4
    assert [most[item] for item in liked] == sorted((most[i] for i in liked), reverse=True)
    asked = engine.questions[0]
    assert isinstance(asked, Candidates) and asked.user_id == "u03"
    assert asked.liked == [item for item, label in answered if label == 1]
    engine.found = [[Reason("i07", 0.0), Reason("not in this catalogue", 0.0), Reason("i03", 0.0)]]
    assert asyncio.run(service.candidates(Asker(None, None, [HistoryEntry("i01", 1)]), 4, soon)) == ["i07", "i03"]
    asked = engine.questions[1]
    assert isinstance(asked, Candidates) and (asked.user_id, asked.liked, asked.without) == ("", ["i01"], ["i01"])


def test_somebody_described(make_service: Make, tiny_system: FittedRanking) -> None:
    """A described user with nobody's profile and no history is the library's unknown user."""
    service = make_service(ReallyAsked(tiny_system))
    found = _score(service, Asker(None, None, []), ITEMS, 1.0)
    unknown = _score(service, Asker("never seen"), ITEMS, 1.0)
    np.testing.assert_allclose(found.probability, unknown.probability, atol=1e-6)
    man = Asker(None, Described("M", {"gender": "M"}), [HistoryEntry("i00", 0), HistoryEntry("i01", 1)])
    told = _score(service, man, ITEMS, 0.0)
    assert not np.allclose(told.crm, found.crm)


def test_described_items(make_service: Make) -> None:
    engine = SpokenFor()
    service = make_service(engine)
    new = Described("Film: Yes\nFilm 1:No", {"genres": ["Action"]})
    found = _score(service, Asker("u03"), ["i00", new, "i01"], 1.0)
    text = service.model.llm.backbone.tokenizer.decode(engine.asked[0][1].branches[5 + _place(found, 1)])
    assert text.endswith(" Film - Yes Film 1 - No:") and text.count("\n") == 1 and text.startswith("\n")
    with pytest.raises(UserError, match="no item_id 'i99'"):
        _score(service, Asker(None, history=[HistoryEntry("i99", 1)]), ["i00"])


def _place(found: Scored, item: int) -> int:
    """The branch of an item: branches go by priority."""
    return np.argsort(-found.priority, kind="stable").tolist().index(item)


def test_a_store_that_fails_is_noticed_and_reading_goes_on(make_service: Make) -> None:
    service = make_service(None)
    service.feed.store.close()
    asyncio.run(service.feed.sync(1.0))
    found = _score(service, Asker("u03"), ITEMS)
    assert len(found.probability) == 30 and "cannot be read" in service.feed.health.cause


def test_answers_that_cannot_be_kept_soon_are_refused(make_service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is slow: those that waited for too long are not kept behind the back of who gave up."""
    monkeypatch.setattr(feed_module, "_APPEND_SECONDS", 0.1)
    monkeypatch.setattr(feed_module, "_MOST_APPENDS", 3)
    service = make_service()
    append, kept = service.feed.store.append, []

    def slow(events: list[Event]) -> list[bool]:
        time.sleep(0.2)
        kept.extend(event.item_id for event in events)
        return append(events)

    monkeypatch.setattr(service.feed.store, "append", slow)

    async def run() -> list[Any]:
        events = [Event("guest", f"i{n:02}", 1, 2000, event_id=f"e{n}") for n in range(5)]
        return await asyncio.gather(*(service.feed.add([event]) for event in events), return_exceptions=True)

    found = asyncio.run(run())
    assert found[0] == [Outcome("recorded")] and kept == ["i00"]
    assert all(isinstance(error, StoreError) for error in found[1:])
    assert [item for item, _ in service.live.answered("guest")] == ["i00"]


def test_a_long_page_of_answers_lets_requests_through(make_service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server has imported many answers: between some of them others have their turn."""
    monkeypatch.setattr(feed_module, "_AT_ONCE", 5)
    service = make_service()
    service.feed.store.append([Event(f"new{n}", "i01", 1, 2000) for n in range(30)])
    taken: list[int] = []

    async def run() -> None:
        reading = asyncio.create_task(service.feed._read_store())
        while not reading.done():
            await asyncio.sleep(0)
            taken.append(sum(bool(service.live.answered(f"new{n}")) for n in range(30)))

    asyncio.run(run())
    assert taken[-1] == 30 and {5, 10, 15, 20, 25} <= set(taken)


def test_a_request_of_two_prompts_keeps_one_prefix(make_service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a long line leaves less room for the history, the few are asked about without the user's key."""
    engine = SpokenFor()
    service = make_service(engine)
    shared = TimelinePrompts.shared

    def split(self: TimelinePrompts, samples: Samples, *given: Any) -> list[SharedPrompt]:
        (prompt,) = shared(self, samples, *given)
        parts = [prompt.branches[:1], prompt.branches[1:]]
        return [SharedPrompt(prompt.prefix, p, i) for p, i in zip(parts, np.split(prompt.sample, [1]), strict=True)]

    monkeypatch.setattr(TimelinePrompts, "shared", split)
    found = _score(service, Asker("u03"), ITEMS[:6], 1.0)
    assert [(user, len(prompt.branches)) for user, prompt in engine.asked] == [("", 1), ("u03", 5)]
    assert not np.isnan(found.llm).any()


def test_a_full_disk_is_told_of_and_gets_over(make_service: Make) -> None:
    service, told = make_service(), list[str]()
    service.feed.on_health = told.append
    writer = service.feed.store._writer  # type: ignore[attr-defined]
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")  # as a disk without room does

    async def run() -> None:
        events = [Event(f"guest {n}" * 100, "i01", 1, 2000, event_id=f"e{n}") for n in range(20)]
        with pytest.raises(StoreError, match="full"):
            await service.feed.add(events)
        assert "keeps nothing: database or disk is full" in service.feed.health.cause
        assert len((await service.score(Asker("u03"), ITEMS)).probability) == 30
        writer.execute("PRAGMA max_page_count = 100000")
        assert [outcome.what for outcome in await service.feed.add(events)] == ["recorded"] * 20

    asyncio.run(run())
    assert len(told) == 2 and told[1] == "" == service.feed.health.cause


def test_strangers_texts_are_compared_with_ordinary_ones(make_service: Make) -> None:
    """Whatever the language model says of a described item, or of one that was put: near what it says of ordinary new
    ones; where there is no room to ask about those, the conventional model answers."""
    engine = SpokenFor()
    service = make_service(engine)

    def answer(prompt: SharedPrompt) -> Answer:
        decode = service.model.llm.backbone.tokenizer.decode
        return Answer(np.array([9.0 if "wonderful" in decode(b) else 0.5 for b in prompt.branches], np.float32))

    engine.answer = answer
    asyncio.run(service.feed.put(Item("n1", "wonderful film")))
    found = _score(service, Asker("u03"), ["i00", Described("wonderful"), "n1"], 1.0)
    assert len(engine.asked[0][1].branches) == 3 + 5
    plain, told, put = service.model.router.llm(np.float32([0.5, 0.65, 0.65]))
    assert np.log(found.llm / (1 - found.llm)) == pytest.approx([plain, told, put], abs=0.01)
    assert found.fallback == [""] * 3 and len(found.probability) == 3
    engine.asked = []
    _score(service, Asker("u03"), ["i00", "i01"], 1.0)
    assert len(engine.asked[0][1].branches) == 2  # texts of the training data are nobody's to write
    _score(service, Asker("u03"), [Described("wonderful")], 0.0)
    assert len(engine.asked) == 1


def test_scores_are_the_same_while_another_model_is_loaded(make_service: Make) -> None:
    """Loading one in half precision changes what torch takes for granted, in all threads."""
    service = make_service()
    before = _score(service, Asker("u03"), ITEMS, 0.0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = _score(service, Asker("u03"), [*ITEMS, Described("Film new", {"genres": ["Action"]})], 0.0)
        parts = asyncio.run(service.contributions(Asker("u03"), ITEMS[:2]))[1]
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(found.probability[:30], before.probability, atol=1e-6)
    assert parts.shape[0] == 2
