"""Events of every kind, undone and repeated; streams of them; people who ask what is held, and to be forgotten."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spoken_for import SpokenFor
from starlette.testclient import TestClient

from corella.serving.http.keys import Key, _hash
from corella.serving.service import Service

Serve = Callable[..., TestClient]
LIKE = {"user_id": "guest", "item_id": "i01", "liked": True}


def _service(client: TestClient) -> Service:
    found: Service = client.app.state.context.service  # type: ignore[attr-defined]
    return found


def _answers(client: TestClient, user: str = "guest") -> list[tuple[str, bool]]:
    rows = client.get(f"/v1/users/{user}/history").json()["history"]
    return [(row["item_id"], row["liked"]) for row in rows]


def test_an_acknowledgement_says_what_it_did(serve: Serve) -> None:
    client = serve()
    said = [
        client.post("/v1/events", json=sent)
        for sent in (
            {**LIKE, "event_id": "a"}, {**LIKE, "event_id": "a"}, {**LIKE, "event_id": "b", "liked": False},
            {**LIKE, "event_id": "c", "kind": "view", "liked": None},
        )
    ]  # fmt: skip
    assert [(one.status_code, one.json()["outcome"], one.json()["answers"]) for one in said] == [
        (201, "recorded", 1), (200, "repeated", 1), (201, "replaced", 1), (201, "recorded", 1),
    ]  # fmt: skip
    assert _answers(client) == [("i01", False)]


def test_what_was_said_can_be_taken_back(serve: Serve) -> None:
    client = serve()
    event = client.post("/v1/events", json=LIKE).json()["event_id"]
    first = client.delete(f"/v1/events/{event}").json()
    assert (first["outcome"], first["answers"], _answers(client)) == ("recorded", 0, [])
    again = client.delete(f"/v1/events/{event}").json()
    assert (again["outcome"], again["why"]) == ("repeated", "it was taken back before")
    assert client.delete("/v1/events/never-seen").status_code == 404
    assert _answers(serve()) == []  # another service on the same store


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"kind": "buy"}, "recorded"),
        ({"kind": "share"}, "recorded"),
        ({"kind": "bye"}, "kind: no 'bye'; did you mean 'buy'?"),
        ({"kind": "view", "liked": True}, "liked: an event of the kind 'view' does not say so; send a like"),
        ({"kind": "like", "liked": False}, "liked: false, but 'like' says the contrary"),
        ({"kind": "rating"}, "rating: an event of the kind 'rating' has to say it"),
        ({}, "liked: say whether it was"),
    ],
)
def test_kinds_say_what_they_mean(serve: Serve, sent: dict[str, Any], said: str) -> None:
    client = serve(events={"share": {"label": True, "weight": 2}})
    answer = client.post("/v1/events", json={"user_id": "guest", "item_id": "i01", **sent}).json()
    assert answer.get("error", answer.get("outcome", "")).startswith(said)


def test_weights_decide_what_is_popular_now(serve: Serve) -> None:
    client = serve(clock="wall")
    for user, item, kind in (("a", "i05", "view"), ("b", "i05", "view"), ("a", "i06", "buy"), ("c", "i07", "dislike")):
        client.post("/v1/events", json={"user_id": user, "item_id": item, "kind": kind})
    found = client.post("/v1/popular", json={"k": 3, "window": "24h"}).json()["items"]
    assert [(one["item_id"], round(one["score"], 3)) for one in found[:2]] == [("i06", 3.0), ("i05", 0.2)]
    assert found[2]["score"] < 0.01
    only = client.post("/v1/popular", json={"k": 40, "window": "24h", "exclude": ["i06"]}).json()["items"]
    assert "i06" not in {one["item_id"] for one in only}


def test_a_key_of_no_weight_moves_nobody_else(serve: Serve) -> None:
    """Invented users of one caller do not make an item popular; the users themselves have what they said."""
    keys = [Key("page", "write", _hash("p"), 0.0), Key("shop", "write", _hash("s"))]
    client = serve(keys=keys, clock="wall")
    page, shop = ({"Authorization": f"Bearer {token}"} for token in "ps")
    before = client.get("/v1/items/i09", headers=shop).json()
    for n in range(20):
        sent = {"user_id": f"made-up-{n}", "item_id": "i09", "liked": True}
        assert client.post("/v1/events", json=sent, headers=page).status_code == 201
    assert client.get("/v1/items/i09", headers=shop).json() == before
    popular = client.post("/v1/popular", json={"window": "1h"}, headers=shop).json()["items"]
    assert max(one["score"] for one in popular) < 0.01
    assert client.get("/v1/users/made-up-3/history", headers=page).json()["answers"] == 1
    client.post("/v1/events", json={"user_id": "real", "item_id": "i09", "liked": True}, headers=shop)
    assert client.get("/v1/items/i09", headers=shop).json()["answers"] == before["answers"] + 1


def test_a_stream_keeps_what_is_right_and_tells_of_the_rest(serve: Serve) -> None:
    client = serve()
    lines = [json.dumps({**LIKE, "user_id": f"s{n}", "event_id": f"s{n}"}) for n in range(30)]
    lines[3:3] = ["", "{no json", json.dumps({"user_id": "x", "item_id": "i99", "liked": True}), '{"user_id": 5}']
    body = "\n".join(lines).encode()
    told = client.post("/v1/events/bulk", content=body).json()
    assert (told["lines"], told["recorded"], told["repeated"], told["refused"]) == (33, 30, 0, 3)
    assert [(one["line"], one["what"][:20]) for one in told["problems"]] == [
        (5, "Invalid JSON: key mu"), (6, "no item_id 'i99' in "), (7, "user_id: Input shoul"),
    ]  # fmt: skip
    again = client.post("/v1/events/bulk", content=body).json()
    assert (again["recorded"], again["repeated"]) == (0, 30)
    assert _answers(client, "s29") == [("i01", True)]
    assert client.post("/v1/events/bulk", content=b"x" * 20_000).status_code == 413


def test_all_that_is_held_on_a_user_and_nothing_any_more(serve: Serve, tmp_path: Path) -> None:
    engine = SpokenFor()
    client = serve(engine)
    name = "somebody-who-leaves"
    person = {"text": "A woman", "fields": {"gender": "F"}}
    assert client.put(f"/v1/users/{name}", json=person).json() == {"outcome": "recorded"}
    assert client.put(f"/v1/users/{name}", json={"text": "x", "fields": {"job": "y"}}).status_code == 422
    client.post("/v1/events", json={**LIKE, "user_id": name, "event_id": f"{name}-1"})
    client.delete(f"/v1/events/{name}-1")
    client.post("/v1/events", json={**LIKE, "user_id": name, "kind": "buy", "liked": None})
    held = client.get(f"/v1/users/{name}").json()
    assert (held["text"], held["fields"], held["trained"], held["models"]) == ("A woman", {"gender": "F"}, False, [])
    assert [one["kind"] for one in held["records"]] == ["Person", "Event", "Undone", "Event"]
    assert [row["item_id"] for row in held["history"]] == ["i01"]
    assert client.delete(f"/v1/users/{name}").json() == {"records": 4, "models": []}
    gone = client.get(f"/v1/users/{name}").json()
    assert gone["records"] == gone["history"] == [] and gone["text"] == "" and engine.forgotten[0] == name
    traces = [path for path in tmp_path.rglob("*") if path.is_file() and name.encode() in path.read_bytes()]
    assert traces == []
    trained = client.delete("/v1/users/u03").json()
    assert trained == {"records": 0, "models": ["tiny-1"]}  # its files still hold the id
    assert _answers(client, "u03") == _answers(serve(), "u03") == []


def test_a_described_user_is_read(serve: Serve) -> None:
    engine = SpokenFor()
    client = serve(engine)
    ask = {"user_id": "guest", "items": ["i01"], "share": 1.0}
    before = client.post("/v1/score", json=ask).json()["items"][0]["crm_probability"]
    client.put("/v1/users/guest", json={"text": "M", "fields": {"gender": "M"}})
    after = client.post("/v1/score", json=ask).json()["items"][0]["crm_probability"]
    assert before != after


def test_parameters_that_a_route_does_not_have(serve: Serve) -> None:
    client = serve()
    answer = client.get("/v1/items/search", params={"q": "Film", "limt": 3})
    assert answer.status_code == 422 and answer.json()["error"] == "no parameter 'limt'; did you mean 'limit'?"
    assert client.post("/v1/score?share=1", json={"user_id": "u03", "items": ["i01"]}).status_code == 422
