"""The meaning of a column, guessed from its name and its values."""

import re
from dataclasses import dataclass
from typing import Literal, cast

import polars as pl

from corella.data.labels import as_number
from corella.data.times import read_times

Role = Literal["user", "item", "rating", "label", "time", "split", "text", "description", "list", "field", "other"]

_NAMES: dict[Role, str] = {
    "user": r"(user|u|uid|userid|username|customer|customerid|client|clientid|member|memberid|visitor|visitorid|person"
    r"|personid|account|accountid|reviewer|reviewerid|session|sessionid|author_?id)",
    "item": r"(item|i|iid|itemid|movie|movieid|film|filmid|product|productid|asin|parentasin|isbn|book|bookid|article"
    r"|articleid|newsid|sku|track|trackid|song|songid|artistid|anime|animeid|game|gameid|appid|business|businessid"
    r"|recipe|recipeid|course|courseid|offer|offerid|listing|listingid|id)",
    "rating": r"(rating|ratings|score|stars|star|overall|rate|grade|bookrating)",
    "label": r"(label|liked|like|isliked|click|clicked|isclick|target|y|purchased|bought|converted)",
    "time": r"(timestamp|time|date|datetime|ts|created|createdat|unixreviewtime|reviewtime|eventtime|ratingtimestamp"
    r"|when|day|timestampms)",
    "split": r"split",
    "text": r"(title|name|movietitle|productname|producttitle|booktitle|headline|text|itemname|label)",
    "description": r"(description|overview|plot|summary|body|content|abstract|about|details|itemdescription)",
    "list": r"(genres|genre|categories|category|tags|tag|topics|keywords|authors|actors|styles)",
}
_SEPARATORS = ("|", ";", ",", "/")
_FEW = 50
"""Different values that a field has at most."""
_MOST_RATINGS = 21


@dataclass(frozen=True)
class Column:
    """A column of somebody's table."""

    name: str
    role: Role
    shown: str
    """Some of its values, for people."""
    separator: str | None = None
    """Of a list that is written as text."""
    largest: float | None = None
    """Of a rating."""


def guess_columns(frame: pl.DataFrame, named: bool) -> list[Column]:
    """The columns of the first rows of a table. Each of user, item, rating, label, time and split comes once at most.
    `named`: whether the names are the file's own; without them the order and the values tell."""
    taken: set[Role] = set()
    found = []
    for place, name in enumerate(frame.columns):
        values = frame[name].drop_nulls()
        role = _by_name(name, values, taken) if named else _by_place(place, values, taken)
        separator = _separator(values) if role in ("list", "field") else None
        if role == "list" and separator is None and not values.dtype.is_nested():
            role = "field" if values.n_unique() <= _FEW else "other"
        elif role == "field" and separator is not None:
            role = "list"
        taken.add(role)
        largest = as_number(values).max() if role == "rating" else None
        found.append(
            Column(name, role, _shown(values), separator if role == "list" else None, cast("float | None", largest))
        )
    return found


def is_header(first: list[str], second: list[str]) -> bool:
    """Whether the first of two lines names the columns: nothing in it is a number, and the second has numbers, or the
    first has names that are known.

    >>> is_header(["user", "movie"], ["1", "2"]), is_header(["1", "2"], ["3", "4"]), is_header(["a", "b"], ["c", "d"])
    (True, False, False)
    """
    numbers = [sum(re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", cell) is not None for cell in line) for line in (first, second)]
    known = any(re.fullmatch(pattern, _plain(cell)) for cell in first for pattern in _NAMES.values())
    return numbers[0] == 0 and (numbers[1] > 0 or known)


def _by_name(name: str, values: pl.Series, taken: set[Role]) -> Role:
    plain = _plain(name)
    for role, pattern in _NAMES.items():
        if role in taken and role not in ("list", "text"):
            continue
        if re.fullmatch(pattern, plain) and _fits(role, values):
            return role
    return "field" if values.dtype == pl.String and 1 < values.n_unique() <= _FEW else "other"


def _by_place(place: int, values: pl.Series, taken: set[Role]) -> Role:
    """Without names: user, item, and then what the values may be."""
    order: list[Role] = ["user", "item"]
    if place < len(order):
        return order[place]
    for role in ("time", "label", "rating"):
        if role not in taken and _fits(role, values):
            return role
    return "other"


def _fits(role: Role, values: pl.Series) -> bool:
    """Whether the values can be what the name says."""
    if role == "rating":
        numbers = as_number(values)
        return numbers.null_count() == 0 and len(numbers) > 0
    if role == "label":
        words = {str(value).strip().lower() for value in values.unique().head(5)}
        return len(words) > 0 and words <= {"0", "1", "-1", "true", "false", "yes", "no", "0.0", "1.0", "-1.0"}
    if role == "time":
        seconds = values if values.dtype.is_nested() else read_times(values).seconds
        if values.dtype.is_nested():
            return True
        numbers = as_number(values)
        late = seconds.null_count() == 0 and len(seconds) > 0
        return late and (numbers.null_count() > 0 or bool((seconds > 1e6).any()))
    if role in ("text", "description"):
        return values.dtype == pl.String
    return True


def _separator(values: pl.Series) -> str | None:
    """What stands between the entries of lists that are written as text; a comma within brackets."""
    if values.dtype != pl.String or not len(values):
        return None
    if values.str.contains(r"^\s*\[.*\]\s*$").mean() > 0.5:  # type: ignore[operator]
        return ","
    share = {sign: float(values.str.contains(sign, literal=True).mean()) for sign in _SEPARATORS}  # type: ignore[arg-type]
    sign = max(_SEPARATORS, key=lambda each: share[each])
    return sign if share[sign] > 0.2 else None


def _shown(values: pl.Series) -> str:
    some = [str(value) for value in values.unique(maintain_order=True).head(3).to_list()]
    return ", ".join(text if len(text) <= 30 else f"{text[:27]}..." for text in some)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().split(":")[0])
