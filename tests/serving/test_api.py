"""The HTTP interface: answers, errors as JSON, keys, limits, and nothing that strangers send brings it down."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spoken_for import SpokenFor
from starlette.testclient import TestClient

from corella.llm.prefix import SharedPrompt
from corella.serving.engine.asking import Answer
from corella.serving.http.keys import Key, _hash
from corella.serving.http.limits import Lag

Serve = Callable[..., TestClient]


def test_scored_items_say_who_said_what(serve: Serve) -> None:
    engine = SpokenFor()
    client = serve(engine)
    body = client.post("/v1/score", json={"user_id": "u03", "items": ["i01", "i02"], "share": 1.0}).json()
    assert [item["item_id"] for item in body["items"]] == ["i01", "i02"]
    first = body["items"][0]
    assert first["text"] == "Film 1" and first["routed"] and first["why"] == "everything is routed"
    assert 0 < first["crm_probability"] < 1 and 0 < first["crm_entropy"] <= np.log(2)
    assert first["llm_probability"] is not None and first["fallback"] == ""
    assert body["share_routed"] == 1.0 and body["milliseconds"]["llm"] is not None
    engine.answer = lambda prompt: Answer(None, "deadline")
    item = client.post("/v1/score", json={"user_id": "u03", "items": ["i01"], "share": 1.0}).json()["items"][0]
    assert item["fallback"] == "deadline" and item["llm_probability"] is None
    assert item["probability"] == item["crm_probability"]
    none = client.post("/v1/score", json={"user_id": "u03", "items": ["i01"], "share": 0}).json()
    assert none["items"][0]["why"] == "the budget routes nothing" and none["milliseconds"]["llm"] is None


def test_recommendations_are_new_and_best_first(serve: Serve) -> None:
    client = serve(SpokenFor())
    known = {row["item_id"] for row in client.get("/v1/users/u03/history?limit=1000").json()["history"]}
    found = client.post("/v1/recommend", json={"user_id": "u03", "k": 5}).json()["items"]
    assert len(found) == min(5, 40 - len(known))
    assert not known & {item["item_id"] for item in found}
    chances = [item["probability"] for item in found]
    assert chances == sorted(chances, reverse=True)
    visitor = {"history": [{"item_id": "i01", "liked": True}], "profile": {"text": "A man", "fields": {"gender": "M"}}}
    best = client.post("/v1/recommend", json={**visitor, "k": 40}).json()["items"]
    assert len(best) == 39 and "i01" not in {item["item_id"] for item in best}


def test_an_event_is_seen_by_the_next_request(serve: Serve) -> None:
    client = serve()
    before = client.post("/v1/recommend", json={"user_id": "guest", "k": 3}).json()["items"]
    sent = {"user_id": "guest", "item_id": before[0]["item_id"], "liked": True, "rating": 4.5}
    answer = client.post("/v1/events", json=sent)
    said = answer.json()
    assert answer.status_code == 201
    assert said == {"event_id": said["event_id"], "outcome": "recorded", "why": "", "user_id": "guest", "answers": 1}
    history = client.get("/v1/users/guest/history").json()
    row = {"item_id": sent["item_id"], "text": before[0]["text"], "liked": True, "event_id": said["event_id"]}
    assert history["history"] == [row]
    after = client.post("/v1/recommend", json={"user_id": "guest", "k": 40}).json()["items"]
    assert sent["item_id"] not in {item["item_id"] for item in after}


@pytest.mark.parametrize("rating", ["NaN", "1e999", '"five"', '"4.5"', "true", "[5]"])
def test_a_rating_is_a_number(serve: Serve, rating: str) -> None:
    body = f'{{"user_id": "guest", "item_id": "i01", "liked": true, "rating": {rating}}}'
    answer = serve().post("/v1/events", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and "rating" in answer.text


def test_search(serve: Serve) -> None:
    client = serve()
    found = client.get("/v1/items/search", params={"q": "2 FILM"}).json()
    assert {item["text"] for item in found["items"]} == {f"Film {n}" for n in range(40) if "2" in str(n)}
    assert found["exact"] and found["said"] == ""
    assert len(client.get("/v1/items/search", params={"limit": 3}).json()["items"]) == 3
    alike = client.get("/v1/items/search", params={"q": "flim 12"}).json()
    assert not alike["exact"] and alike["items"][0]["text"] == "Film 12" and "written alike" in alike["said"]
    none = client.get("/v1/items/search", params={"q": "xyzzy"}).json()
    assert none["items"] == [] and "None is written alike" in none["said"]
    assert client.get("/v1/users/search", params={"q": "u0", "limit": 2}).json() == ["u00", "u01"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"history": [{"item_id": "i99", "liked": True}], "items": ["i01"]}, "no item_id 'i99' in the catalogue"),
        (
            {"user_id": "u03", "items": [{"text": "New", "fields": {"genre": ["A"]}}]},
            "fields: no 'genre'; did you mean 'genres'?",
        ),
        (
            {"user_id": "u03", "items": [{"text": "New", "fields": {"genres": "A|B"}}]},
            "fields: 'genres' is a list of values, not 'A|B'",
        ),
        (
            {"profile": {"text": "A man", "fields": {"gender": ["M"]}}, "items": ["i01"]},
            "fields: 'gender' is a single value, not ['M']",
        ),
        ({"user_id": "u03", "items": ["i01"] * 5}, "items: 5; at most 4"),
        ({"history": [{"item_id": "i01", "liked": True}] * 4, "items": ["i01"]}, "history: 4 answers; at most 3"),
        ({"user_id": "u03", "items": []}, "the request is not right"),
        ({"items": ["i01"]}, "the request is not right"),
        ({"user_id": "u03", "profile": {"text": "x"}, "items": ["i01"]}, "the request is not right"),
        ({"user_id": "u03", "items": ["i01"], "shares": 1}, "the request is not right"),
        ({"user_id": "u\x00", "items": ["i01"]}, "the request is not right"),
    ],
)
def test_mistakes_are_named(serve: Serve, body: dict[str, Any], said: str) -> None:
    answer = serve(max_candidates=4, max_history=3).post("/v1/score", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"] == said


def test_an_item_that_the_catalogue_does_not_have_spoils_nothing(serve: Serve) -> None:
    client = serve(SpokenFor())
    together = client.post("/v1/score", json={"user_id": "u03", "items": ["i01", "i99", "i02"], "share": 1.0}).json()
    assert [(item["item_id"], item["known"]) for item in together["items"]] == [
        ("i01", True), ("i99", False), ("i02", True),
    ]  # fmt: skip
    alone = client.post("/v1/score", json={"user_id": "u03", "items": ["i01", "i02"], "share": 1.0}).json()
    for item, same in zip(together["items"][::2], alone["items"], strict=True):
        assert item["probability"] == pytest.approx(same["probability"], abs=1e-5)


def test_the_deadline_that_holds_is_said(serve: Serve) -> None:
    client = serve(SpokenFor(), deadline_ms=100, max_deadline_ms=250)
    for asked, held in ((None, 100), (50, 50), (60_000, 250)):
        body = {"user_id": "u03", "items": ["i01"], "deadline_ms": asked}
        assert client.post("/v1/score", json=body).json()["milliseconds"]["deadline"] == pytest.approx(held)


def test_an_event_without_an_answer(serve: Serve) -> None:
    """The tiny data have labels, no rule on ratings: a rating tells nothing."""
    answer = serve().post("/v1/events", json={"user_id": "u03", "item_id": "i01", "rating": 5})
    assert answer.status_code == 422 and answer.json()["error"].startswith("liked: say whether it was")


def test_where_a_mistake_is(serve: Serve) -> None:
    answer = serve().post("/v1/score", json={"user_id": "u03", "items": ["i01"], "share": 2})
    assert answer.json()["details"] == [{"where": ["body", "share"], "what": "Input should be less than or equal to 1"}]


def test_keys(serve: Serve) -> None:
    keys = [Key("shop", "read", _hash("r")), Key("etl", "write", _hash("w"))]
    client = serve(keys=keys)
    event, ask = {"user_id": "g", "item_id": "i01", "liked": True}, {"user_id": "u03", "items": ["i01"]}

    def status(path: str, body: dict[str, Any], header: str) -> int:
        return client.post(path, json=body, headers={"Authorization": header} if header else {}).status_code

    assert [status("/v1/score", ask, h) for h in ("", "Bearer x", "Basic r", "Bearer r", "Bearer w")] == [
        401, 401, 401, 200, 200,
    ]  # fmt: skip
    assert [status("/v1/events", event, h) for h in ("", "Bearer r", "Bearer w")] == [401, 403, 201]
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_limits(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve(requests_per_second=0.001, max_body_bytes=2000)
    ask = {"user_id": "u03", "items": ["i01"]}
    assert [client.post("/v1/score", json=ask).status_code for _ in range(2)] == [200, 429]
    assert client.post("/v1/score", content=b" " * 2001).status_code == 413
    monkeypatch.setattr(Lag, "start", lambda lag: None)  # it would measure that there is none
    other = serve(overload_ms=50)
    other.app.state.context.lag.seconds = 0.2  # type: ignore[attr-defined]
    answer = other.post("/v1/score", json=ask)
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"


def test_no_path_reaches_the_files(serve: Serve) -> None:
    client = serve()
    for path in (
        "/../api.py",
        "/%2e%2e/api.py",
        "/..%2fapi.py",
        "//etc/passwd",
        "/page/../../serve.py",
        "/index.html/../../keys.py",
    ):
        assert client.get(path).status_code in (400, 404), path
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")


def test_a_store_that_fails(serve: Serve) -> None:
    client = serve()
    client.app.state.context.service.feed.store.close()  # type: ignore[attr-defined]
    answer = client.post("/v1/events", json={"user_id": "g", "item_id": "i01", "liked": True})
    assert answer.status_code == 503 and "may not be kept" in answer.json()["error"]
    ready = client.get("/readyz")
    assert ready.status_code == 503 and ready.json()["problems"][0]["part"] == "store"
    assert (
        "closed" in ready.json()["problems"][0]["cause"]
        and 'corella_problem{part="store"} 1.0' in client.get("/metrics").text
    )
    assert client.post("/v1/score", json={"user_id": "u03", "items": ["i01"]}).status_code == 200


def test_a_fault_of_ours_is_counted_and_told_nothing_of(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve()
    monkeypatch.setattr(client.app.state.context.service.live, "scope", lambda *given: 1 / 0)  # type: ignore[attr-defined]
    answer = client.post("/v1/score", json={"user_id": "u03", "items": ["i01"]})
    assert answer.status_code == 500 and "ZeroDivision" not in answer.text and answer.json()["error"]
    assert 'corella_requests_total{path="/v1/score",status="500"} 1.0' in client.get("/metrics").text


def test_without_keys_only_this_machines_names(serve: Serve) -> None:
    """A page elsewhere whose name was made to lead here is turned away; with keys the key decides."""
    assert serve().get("/healthz", headers={"Host": "evil.example"}).status_code == 400
    keyed = serve(keys=[Key("shop", "read", _hash("r"))])
    assert keyed.get("/healthz", headers={"Host": "shop.example"}).status_code == 200


def test_times_and_ids_that_are_odd(serve: Serve) -> None:
    client = serve()
    late = {"user_id": "a/b", "item_id": "i01", "liked": True, "timestamp": 2**36}
    assert "in the future" in client.post("/v1/events", json=late).json()["error"]
    assert client.post("/v1/events", json={**late, "timestamp": 5}).status_code == 201
    assert client.get("/v1/users/a%2Fb/history").json()["answers"] == 1
    again = client.post("/v1/events", json={**late, "timestamp": 6, "liked": False}).json()
    assert (again["outcome"], again["answers"]) == ("replaced", 1)
    assert client.get("/v1/users/a%2Fb/history").json()["history"][0]["liked"] is False
    first = serve(repeats="first").post("/v1/events", json={**late, "timestamp": 7}).json()
    assert (first["outcome"], first["why"]) == ("ignored", "the user's first answer to an item counts")


def test_what_is_counted(serve: Serve) -> None:
    engine = SpokenFor()
    client = serve(engine)
    client.post("/v1/score", json={"user_id": "u03", "items": ["i01", "i02"], "share": 1.0})
    engine.answer = lambda prompt: Answer(None, "deadline")
    client.post("/v1/score", json={"user_id": "u03", "items": ["i01"], "share": 1.0})
    client.post("/v1/score", json={"user_id": "u03", "items": ["i01"], "share": 0.0})
    client.get("/no/such/page")
    text = client.get("/metrics").text
    for line in (
        'corella_items_total{by="llm"} 2.0', 'corella_items_total{by="crm"} 2.0',
        'corella_fallbacks_total{reason="deadline"} 1.0', 'corella_score_seconds_count{by="llm"} 1.0',
        'corella_requests_total{path="/v1/score",status="200"} 3.0',
        'corella_requests_total{path="none",status="404"} 1.0',
    ):  # fmt: skip
        assert line in text, line
    traffic = client.get("/v1/traffic").json()["window"]
    assert traffic["requests"] == 3 and traffic["items"] == 4 and traffic["fallbacks"] == {"deadline": 1}
    assert traffic["share_routed"] == 0.75 and traffic["share_answered"] == 0.5
    assert traffic["latency"]["llm"]["requests"] == 1 and sum(traffic["slots"]["crm"]) == 2
    assert [(p["share"], p["auc"]) for p in client.get("/v1/curve").json()["curve"]] == [(0.0, 0.7), (1.0, 0.75)]


def test_documented(serve: Serve) -> None:
    found = serve().get("/openapi.json").json()
    assert {"/v1/score", "/v1/recommend", "/v1/events", "/v1/items/search"} <= set(found["paths"])
    assert "examples" in str(found["components"]["schemas"]["ScoreRequest"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["u03", "i01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "user_id", "items", "share", "k", "candidates", "profile", "history", "deadline_ms", "item_id", "liked",
    "timestamp", "rating", "kind", "event_id", "filters", "pins", "boosts", "caps", "exclude", "offset", "window",
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(["/v1/score", "/v1/recommend", "/v1/events", "/v1/similar", "/v1/popular"]),
    body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5) | JSON,
)
def test_nothing_that_is_sent_is_an_internal_error(fuzzed: TestClient, path: str, body: Any) -> None:
    answer = fuzzed.post(path, content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert answer.status_code in (200, 201, 404, 422)
    assert answer.json() is not None


@pytest.fixture
def fuzzed(serve: Serve) -> TestClient:
    def answer(prompt: SharedPrompt) -> Answer:
        return Answer(np.zeros(len(prompt.branches), np.float32))

    engine = SpokenFor()
    engine.answer = answer
    client = serve(engine, requests_per_second=1e9)
    client.app.state.context.lag.seconds = 0.0  # type: ignore[attr-defined]
    return client


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b'"\\ud800"', b'{"user_id": "\\ud800", "items": ["i01"]}', b"\xff\xfe", b"[" * 5000, b"1e999",
     b'{"\\ud800": 1}', b'{"user_id": "u03", "items": ["i01"], "share": NaN}', b'{"user_id": 1e400}'],
)  # fmt: skip
def test_broken_json(fuzzed: TestClient, content: bytes) -> None:
    for path in ("/v1/score", "/v1/recommend", "/v1/events"):
        answer = fuzzed.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.json()["error"]


def test_who_has_answered_everything_gets_nothing(serve: Serve) -> None:
    client = serve(SpokenFor())
    for n in range(40):
        sent = {"user_id": "reader", "item_id": f"i{n:02}", "liked": n % 2 == 0}
        assert client.post("/v1/events", json=sent).status_code == 201
    answer = client.post("/v1/recommend", json={"user_id": "reader", "k": 5})
    assert answer.status_code == 200 and answer.json()["items"] == [] and answer.json()["share_routed"] == 0


@pytest.mark.parametrize("field", ["items", "history"])
def test_a_long_list_of_wrong_entries_is_looked_at_once(serve: Serve, field: str) -> None:
    """Two hundred thousand entries are not explained one by one."""
    wrong = {"user_id": "u03", "items": ["i01"], field: [1] * 200_000}
    answer = serve().post("/v1/score", json=wrong)
    assert answer.status_code == 422 and len(answer.json()["details"]) <= 2


def test_without_a_key_the_body_is_not_read_and_tries_are_counted(serve: Serve) -> None:
    client = serve(keys=[Key("shop", "read", _hash("r"))], requests_per_second=0.001)
    said = [client.post("/v1/score", content="{no json").status_code for _ in range(2)]
    assert said == [401, 429]
    assert 'corella_requests_total{path="none",status="401"} 1.0' in client.get("/metrics").text
    body = {"user_id": "u03", "items": ["i01"]}
    assert client.post("/v1/score", json=body, headers={"Authorization": "Bearer r"}).status_code == 200
    assert client.get("/healthz").status_code == 200


def test_nobody_chooses_a_longer_deadline_than_the_service_allows(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, rooms = SpokenFor(), []
    monkeypatch.setattr(engine, "room", lambda seconds, user: rooms.append(seconds) or float("inf"))
    client = serve(engine, deadline_ms=50, max_deadline_ms=200)
    for asked in (None, 100, 60_000):
        body = {"user_id": "u03", "items": ["i01"], "share": 1.0, "deadline_ms": asked}
        assert client.post("/v1/score", json=body).status_code == 200
    assert 0 < rooms[0] <= 0.05 and 0.05 < rooms[1] <= 0.1 and 0.1 < rooms[2] <= 0.2
