"""Settings for somebody's files, as YAML with a comment at each line."""

import json
from pathlib import Path

from corella.columns import ITEM, LABEL, RATING, TIME, USER
from corella.data.builtin.movielens import is_grouplens
from corella.data.guessing.columns import Column, Role
from corella.data.guessing.tables import Guessed, guess_tables

_OURS: dict[Role, str] = {"user": USER, "item": ITEM, "rating": RATING, "label": LABEL, "time": TIME}
_BOUNDS = ((1, 1), (5, 4), (10, 7), (100, 70))
"""By the highest rating of a scale: from where on something was liked. Beyond 100 they are counts."""


def write_settings(paths: list[Path]) -> tuple[str, list[str]]:
    """YAML for these files or this folder, and what was guessed, for people. Raises `UserError` where nothing fits."""
    if len(paths) == 1 and is_grouplens(paths[0].expanduser()):
        text = (
            f"data:\n  source: movielens  # a folder of GroupLens, or one like it\n  path: {_quoted(str(paths[0]))}\n"
        )
        return text, [f"{paths[0]}: a folder of GroupLens (ratings and movies)"]
    log, items, users = guess_tables(paths)
    tables = (("interactions", log), ("items", items), ("users", users))
    told = [_told(name, table) for name, table in tables if table is not None]
    lines = ["data:", "  source: tables  # your own"]
    for name, table in tables:
        lines += _table(name, table) if table is not None else []
    lines += _answers(log)
    if log.column("time") is None:
        lines.append("  order: []  # no times: the file's order is the order of time")
    if items is not None:
        lines += _texts(items)
    fields = [c.name for c in users.columns if c.role == "field"] if users else []
    if fields:
        lines.append(
            f"  user_fields: [{', '.join(map(_quoted, fields))}]  # columns of users with few different values"
        )
    if items is None:
        told.append("no table of items: items are known by their ids alone, and texts cannot help")
    return "\n".join(lines) + "\n", told


def _table(name: str, table: Guessed) -> list[str]:
    config = table.config
    lines = [f"  {name}:", f"    path: {_quoted(str(config.path))}  # {table.rows:,} rows"]
    if config.separator is not None:
        lines.append(f"    separator: {json.dumps(config.separator)}  # between the columns")
    if config.encoding != "utf-8":
        lines.append(f"    encoding: {config.encoding}  # its letters are not UTF-8")
    if config.header is False:
        names = ", ".join(f"column_{n}" for n in range(1, len(table.columns) + 1))
        lines.append(f"    header: false  # the first line is data; its columns are called {names}")
    ours = [(role, column) for role in _OURS if (column := table.column(role)) and _needed(role, name)]
    renamed = [(role, column) for role, column in ours if column.name != _OURS[role]]
    if renamed:
        lines.append("    columns:  # our name: the file's")
        lines += [f"      {_OURS[role]}: {_quoted(column.name)}  # e.g. {column.shown}" for role, column in renamed]
    lists = [column for column in table.columns if column.role == "list" and column.separator]
    if lists:
        lines.append("    lists:  # what stands between the entries of a list")
        lines += [f"      {_quoted(c.name)}: {json.dumps(c.separator)}  # e.g. {c.shown}" for c in lists]
    return lines


def _needed(role: Role, table: str) -> bool:
    return {"interactions": True, "items": role == "item", "users": role == "user"}[table]


def _answers(log: Guessed) -> list[str]:
    label, rating = log.column("label"), log.column("rating")
    if label is not None:
        return [f"  label: label  # {label.name} says what was liked: {label.shown}"]
    if rating is not None:
        most = rating.largest or 5.0
        bound = next((bound for end, bound in _BOUNDS if most <= end), 1)
        return [f"  label: rating >= {bound}  # from here on something was liked; the highest is {most:g}"]
    return ["  label: clicks  # no rating and no label: every row is a click"]


def _texts(items: Guessed) -> list[str]:
    names = [c.name for c in items.columns if c.role == "text"][:1]
    lists = [c.name for c in items.columns if c.role == "list"]
    long = items.column("description")
    shown = names or [c.name for c in items.columns if c.role not in ("item", "other")][:1] or [ITEM]
    braces = ", ".join(f"{{{name}}}" for name in [*shown, *lists[:1]])
    lines = [f"  item_text: {json.dumps(braces)}  # how an item is written for a language model"]
    if long is not None:
        lines.append(f"  item_description: {json.dumps(f'{{{long.name}}}')}  # a longer text, read behind it")
    if lists:
        lines.append(f"  list_fields: [{', '.join(map(_quoted, lists))}]  # lists that the conventional models read")
    fields = [c.name for c in items.columns if c.role == "field"]
    if fields:
        lines.append(f"  item_fields: [{', '.join(map(_quoted, fields))}]  # columns with few different values")
    groups = [["user"], ["item"], *([["user", lists[0]]] if lists else [])]
    lines.append(f"  counts: {{groups: {json.dumps(groups)}}}  # whose answers are counted")
    return lines


def _told(name: str, table: Guessed) -> str:
    roles = "; ".join(_described(column) for column in table.columns if column.role != "other")
    return f"{name}: {table.config.path}, {table.rows:,} rows: {roles}"


def _described(column: Column) -> str:
    return f"{column.name} is {'a' if column.role in ('list', 'field') else 'the'} {column.role} ({column.shown})"


def _quoted(text: str) -> str:
    """As YAML reads it back."""
    plain = text.replace("_", "").replace("-", "").replace(".", "").replace("/", "")
    return text if plain.isalnum() and not plain.isdigit() and text.lower() not in _RESERVED else json.dumps(text)


_RESERVED = {"yes", "no", "true", "false", "on", "off", "null", "y", "n"}
