"""Malformed requests: almost right ones with wrong values, and broken ones by hand."""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

Request = tuple[str, str, dict[str, str], bytes | None]

_PATHS = (
    "/v1/score", "/v1/recommend", "/v1/events", "/v1/similar", "/v1/popular", "/v1/events/bulk", "/v1/items/bulk",
    "/v1/recommend/bulk",
)  # fmt: skip
_FIELDS = (
    "user_id", "items", "share", "k", "candidates", "profile", "history", "deadline_ms", "item_id", "liked",
    "timestamp", "rating", "kind", "event_id", "filters", "exclude", "pins", "boosts", "caps", "offset",
    "window", "text",
)  # fmt: skip
_BODIES = (
    b"", b"{", b"null", b"[]", b'"\\ud800"', b"\xff\xfe\x00", b"[" * 20_000, b"1e999", b'{"\\ud800": 1}', b"0" * 5_000,
    b'{"user_id": 1e400}', b'{"user_id": "u", "items": ["i"], "share": NaN}', b"{}" * 1000,
    b'{"user_id": {"$ne": null}, "items": ["1"]}', b'{"user_id": "\\u0000", "items": ["1"]}',
    b'{"user_id": "x", "items": [{"text": "' + b"A" * 100_000 + b'"}]}', b'{"a":' * 2000 + b"1" + b"}" * 2000,
)  # fmt: skip
_URLS = (
    "/v1/items/search?q=" + "%00" * 10, "/v1/items/search?limit=-1", "/v1/items/search?limit=abc", "/v1/nothing",
    "/v1/items/%00", "/v1/items/fields?x=1", "/v1/events/%ff", "/v1/versions/0", "/v1/versions/99",
    "/v1/experiment?a=b",
    "/v1/users/%2e%2e%2f%2e%2e%2fetc%2fpasswd/history", "/v1/users//history", "/%2e%2e/%2e%2e/etc/passwd",
    "/v1/users/%F0%28%8C%28/history?limit=99999999999999999999", "/v1/users/search?q=%ff", "/index.html%00.js",
    "/v1/items/search?q=" + "x" * 5000, "/..%5c..%5cwindows", "/v1/score", "/metrics/../v1/score",
)  # fmt: skip
_METHODS = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "POST")
_TYPES = (
    "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "",
    "application/json; charset=utf-7",
)  # fmt: skip


def requests(count: int, users: Sequence[str], items: Sequence[str]) -> Iterator[Request]:
    """So many requests; three in four are JSON objects that are almost right, the others broken in other ways."""
    drawn = random.Random(1)
    shapes = _Shapes(drawn, users, items)
    for n in range(count):
        headers = {"Content-Type": "application/json"}
        if n % 4:
            body: Any = shapes.body()
            yield "POST", drawn.choice(_PATHS), headers, json.dumps(body).encode()
        elif n % 8:
            headers["Content-Type"] = drawn.choice(_TYPES)
            raw = drawn.choice(_BODIES) if drawn.random() < 0.5 else drawn.randbytes(drawn.randrange(300))
            yield "POST", drawn.choice(_PATHS), headers, raw
        else:
            yield drawn.choice(_METHODS), drawn.choice(_URLS), headers, None


class _Shapes:
    """Bodies that are near to right ones: right fields, wrong values; wrong fields, right values."""

    def __init__(self, drawn: random.Random, users: Sequence[str], items: Sequence[str]) -> None:
        self._drawn, self._users, self._items = drawn, users, items

    def body(self) -> dict[str, Any]:
        drawn = self._drawn
        body: dict[str, Any] = {"user_id": drawn.choice(self._users), "items": [drawn.choice(self._items)]}
        for _ in range(drawn.randrange(1, 4)):
            name = drawn.choice(_FIELDS) if drawn.random() < 0.9 else self._text()
            body[name] = self._value(3)
        return body

    def _value(self, depth: int) -> Any:
        drawn = self._drawn
        kind = drawn.randrange(12 if depth else 9)
        simple = (
            None, True, drawn.randrange(-10, 10), 10**30, -1.5, float("nan"), float("inf"), self._text(),
            drawn.choice(self._items),
        )  # fmt: skip
        if kind < len(simple):
            return simple[kind]
        if kind == 9:
            return [self._value(depth - 1) for _ in range(drawn.randrange(4))]
        if kind == 10:
            return [drawn.choice(self._items)] * drawn.choice((0, 1, 5000))
        names = ("text", "fields", "item_id", "liked", "rating", self._text())
        return {drawn.choice(names): self._value(depth - 1) for _ in range(drawn.randrange(4))}

    def _text(self) -> str:
        drawn = self._drawn
        return drawn.choice(
            (
                "",
                " ",
                "\x00",
                "\ud800",
                "A" * 3000,
                "'; DROP TABLE x;--",
                "../../etc/passwd",
                "{{7*7}}",
                "\u202e",
                "Yes",
            )
        )
