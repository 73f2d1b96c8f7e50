"""Items that come, change and go while the service runs; lists as callers want them; reasons."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from spoken_for import SpokenFor
from starlette.testclient import TestClient

from corella.retrieval.live import Reason

Serve = Callable[..., TestClient]
NEW = {
    "text": "A new film",
    "fields": {"genres": ["Action"]},
    "image": "https://x.org/n.jpg",
    "link": "https://x.org/n",
}


def _recommended(client: TestClient, **asked: Any) -> list[str]:
    answer = client.post("/v1/recommend", json={"user_id": "u03", "k": 40, **asked})
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def test_an_item_that_is_put_is_seen_by_the_next_request(serve: Serve) -> None:
    client, other = serve(), serve()
    assert client.put("/v1/items/n1", json=NEW).json() == {"outcome": "recorded"}
    held = client.get("/v1/items/n1").json()
    assert held == {"item_id": "n1", **NEW, "available": True, "trained": False, "answers": 0, "likes": 0}
    for each in (client, other):
        assert "n1" in _recommended(each)
        assert each.get("/v1/items/search", params={"q": "new"}).json()["items"][0]["item_id"] == "n1"
    assert client.post("/v1/score", json={"user_id": "u03", "items": ["n1"]}).json()["items"][0]["known"]
    first = client.post("/v1/recommend", json={"user_id": "u03", "k": 1, "pins": ["n1"]}).json()["items"][0]
    assert (first["item_id"], first["pinned"], first["image"], first["link"]) == (
        "n1", True, NEW["image"], NEW["link"],
    )  # fmt: skip
    assert client.post("/v1/events", json={"user_id": "u03", "item_id": "n1", "liked": True}).status_code == 201
    assert "n1" not in _recommended(client) and client.get("/v1/items/n1").json()["likes"] == 1
    assert client.put("/v1/items/n1", json={**NEW, "available": False}).json() == {"outcome": "replaced"}
    assert client.delete("/v1/items/n1").json() == {"item_id": "n1"}
    assert client.get("/v1/items/n1").status_code == client.delete("/v1/items/n1").status_code == 404
    assert client.get("/v1/users/u03/history").json()["history"][0]["item_id"] == "n1"  # what was said stays


def test_an_item_of_the_training_data_changes_and_goes(serve: Serve) -> None:
    client = serve()
    before = client.get("/v1/items/i01").json()
    assert before["trained"] and before["text"] == "Film 1"
    client.put("/v1/items/i01", json={"text": "Another film", "fields": before["fields"], "available": False})
    assert "i01" not in _recommended(client, user_id="nobody")
    assert client.get("/v1/items/search", params={"q": "another"}).json()["items"] == []  # not to be had
    client.delete("/v1/items/i02")
    assert "i02" not in _recommended(client, user_id="nobody")
    scored = client.post("/v1/score", json={"user_id": "u03", "items": ["i02"]}).json()["items"][0]
    assert not scored["known"]
    client.put("/v1/items/i02", json={"text": "Film 2", "fields": {}})
    assert "i02" in _recommended(client, user_id="nobody")


def test_fields_and_addresses_must_be_right(serve: Serve) -> None:
    client = serve()
    wrong = {**NEW, "fields": {"genre": ["Action"]}}
    assert client.put("/v1/items/n1", json=wrong).json()["error"] == "fields: no 'genre'; did you mean 'genres'?"
    assert client.put("/v1/items/n1", json={**NEW, "link": "javascript:alert(1)"}).status_code == 422


def test_a_catalogue_as_a_stream(serve: Serve) -> None:
    client = serve()
    rows = [json.loads(line) for line in client.get("/v1/items").text.splitlines()]
    assert len(rows) == 40 and rows[1]["item_id"] == "i01" and rows[1]["text"] == "Film 1"
    body = "\n".join(json.dumps({"item_id": f"n{n}", **NEW}) for n in range(5))
    told = client.post("/v1/items/bulk", content=f"{body}\n{{}}\n").json()
    assert (told["recorded"], told["refused"], told["problems"][0]["line"]) == (5, 1, 6)
    assert len(client.get("/v1/items").text.splitlines()) == 45
    client.post("/v1/items/bulk?replace=true", content=body)
    assert len(client.get("/v1/items").text.splitlines()) == 5


def test_filters_are_typed_and_checked(serve: Serve) -> None:
    client = serve()
    genres = {f"i{n:02}": client.get(f"/v1/items/i{n:02}").json()["fields"].get("genres", []) for n in range(40)}
    one = next(values[0] for values in genres.values() if values)
    found = _recommended(client, user_id="nobody", filters=[{"field": "genres", "any_of": [one]}])
    assert set(found) == {item for item, values in genres.items() if one in values}
    found = _recommended(client, user_id="nobody", filters=[{"field": "genres", "none_of": [one]}])
    assert set(found) == {item for item, values in genres.items() if one not in values}
    client.put("/v1/items/n1", json={"text": "new", "fields": {"genres": [one]}})
    popular = client.post("/v1/popular", json={"k": 50, "filters": [{"field": "genres", "all_of": [one]}]}).json()
    assert "n1" in {item["item_id"] for item in popular["items"]}
    for wrong, said in (
        ({"field": "genre", "any_of": ["x"]}, "filters: no field 'genre'; did you mean 'genres'?"),
        ({"field": "genres"}, "filters: 'genres': say any_of, all_of, none_of, at_least or at_most"),
        ({"field": "genres", "at_least": 3}, "filters: 'genres' holds no numbers to compare"),
    ):
        answer = client.post("/v1/recommend", json={"user_id": "u03", "filters": [wrong]})
        assert answer.status_code == 422 and answer.json()["error"] == said


def test_pages_pins_boosts_and_caps(serve: Serve) -> None:
    client = serve()
    whole = _recommended(client, user_id="nobody", candidates=40)
    pages = [_recommended(client, user_id="nobody", candidates=40, k=7, offset=offset) for offset in range(0, 42, 7)]
    assert [item for page in pages for item in page] == whole
    asked = {"user_id": "nobody", "k": 7, "offset": 35, "candidates": 40}
    assert client.post("/v1/recommend", json=asked).json()["more"] is False
    assert client.post("/v1/recommend", json={**asked, "offset": 0}).json()["more"] is True
    last = whole[-1]
    assert _recommended(client, user_id="nobody", candidates=40, pins=[last])[:2] == [last, whole[0]]
    assert last not in _recommended(client, user_id="nobody", exclude=[last])
    genre = client.get(f"/v1/items/{last}").json()["fields"]["genres"][0]
    boosts = [{"where": {"field": "genres", "any_of": [genre]}, "by": 100}]
    boosted = _recommended(client, user_id="nobody", candidates=40, boosts=boosts)
    assert boosted.index(last) < whole.index(last)
    capped = client.post("/v1/recommend", json={"user_id": "nobody", "k": 3, "caps": [{"field": "genres", "most": 1}]})
    values = [
        client.get(f"/v1/items/{i['item_id']}").json()["fields"].get("genres", []) for i in capped.json()["items"]
    ]
    flat = [value for row in values for value in row]
    assert len(flat) == len(set(flat))
    assert "caps: no field 'g'" in client.post("/v1/recommend", json={"caps": [{"field": "g", "most": 1}]}).text
    assert "pins: no item_id 'i99'" in client.post("/v1/recommend", json={"pins": ["i99"]}).text


def test_nobody_in_particular_gets_what_is_popular(serve: Serve) -> None:
    client = serve(SpokenFor())
    for asked in ({}, {"user_id": "never seen"}, {"history": []}):
        answer = client.post("/v1/recommend", json={"k": 5, **asked}).json()
        assert answer["by"] == "popular" and len(answer["items"]) == 5
    visitor = {"history": [{"item_id": "i01", "liked": True}]}
    assert client.post("/v1/recommend", json=visitor).json()["by"] == "user"


def test_reasons_are_the_retrievals_and_the_trees_own(serve: Serve) -> None:
    engine = SpokenFor()
    client = serve(engine)
    history = client.get("/v1/users/u03/history").json()["history"]
    liked = [row["item_id"] for row in history if row["liked"]][:2]
    ask = {"user_id": "u03", "k": 1, "explain": True, "share": 0.0}
    engine.found = [[Reason("i07", 0.0)]]

    def because(item: str) -> list[list[Reason]]:
        return [[Reason(liked[0], 0.6, 0.75), Reason(liked[1], 0.2, 0.25), Reason("i39", -0.1, -0.1)]]

    async def retrieve(question: Any, deadline: float) -> list[list[Reason]]:
        return because("") if type(question).__name__ == "Because" else [[Reason("i07", 0.0)]]

    engine.retrieve = retrieve  # type: ignore[method-assign]
    (item,) = client.post("/v1/recommend", json=ask).json()["items"]
    texts = {row["item_id"]: row["text"] for row in history}
    said = item["reason"]
    assert said["sentence"] == f"Because you liked {texts[liked[0]]} and {texts[liked[1]]}."
    assert [(one["item_id"], one["share"]) for one in said["because"]] == [
        (liked[0], pytest.approx(0.75)), (liked[1], pytest.approx(0.25)),
    ]  # fmt: skip
    assert said["features"] and {"what", "adds"} == set(said["features"][0])
    sizes = [abs(one["adds"]) for one in said["features"]]
    assert sizes == sorted(sizes, reverse=True)


def test_what_is_like_an_item(serve: Serve) -> None:
    engine = SpokenFor()
    client = serve(engine)
    engine.found = [[Reason("i07", 0.5), Reason("i08", 0.25), Reason("i99", 0.1)]]
    found = client.post("/v1/similar", json={"item_id": "i01", "exclude": ["i07"]}).json()
    assert (found["by"], [(one["item_id"], one["score"]) for one in found["items"]]) == ("behaviour", [("i08", 0.25)])
    assert client.post("/v1/similar", json={"item_id": "i99"}).status_code == 404


def test_many_are_answered_line_by_line(serve: Serve) -> None:
    client = serve()
    lines = [
        {"user_id": "u03", "k": 2},
        {"user_id": "u04", "k": 1},
        {"k": 0},
        {"user_id": "u05", "k": 1, "pins": ["x"]},
    ]
    answer = client.post("/v1/recommend/bulk", content="\n".join(map(json.dumps, lines)))
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [len(row.get("items", [])) for row in rows] == [2, 1, 0, 0]
    assert rows[2]["line"] == 3 and rows[2]["where"] == ["k"] and rows[3]["error"].startswith("pins: no item_id 'x'")


def test_contributions_sum_to_the_trees_logit(serve: Serve) -> None:
    """LightGBM's own account: what all have in common, and the parts, are the logit."""
    import asyncio

    from corella.crm.trees import feature_names
    from corella.ranking.views import request_view
    from corella.serving.service import Asker

    service = serve().app.state.context.service  # type: ignore[attr-defined]
    names, parts = asyncio.run(service.contributions(Asker("u03"), ["i01", "i02", "i03"]))
    scope, samples = service.live.scope("u03", ["i01", "i02", "i03"], now=service.feed.now)
    base = request_view(service.model, scope).base
    logits = base.ensemble.trees.logits(base.encoder, samples)
    assert names == feature_names(base.encoder, service.model.dataset.count_names, service.model.dataset.text_names)
    assert parts.shape == (3, len(names))
    np.testing.assert_allclose(np.diff(logits), np.diff(parts.sum(axis=1)), atol=1e-5)
