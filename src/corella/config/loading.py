"""Read the configuration: presets, recipes, YAML files and `--set` overrides, merged and checked; and explain it.

Every mistake is a `UserError` that names the key, what is wrong, and the nearest valid name. Passwords are never shown.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import ValidationError

from corella.config import Config, Section
from corella.config.presets import PRESETS, RECIPES
from corella.errors import UserError, suggest

S = TypeVar("S", bound=Section)
Settings = dict[str, Any]
"""Nested settings, as YAML gives them."""
Nested = Mapping[str, Any]


def merge(base: Nested, over: Nested) -> Settings:
    """Merge nested mappings; values of `over` win, lists are replaced whole.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if nested else value
    return result


def parse_override(text: str) -> Settings:
    """Turn `section.key=value` (value in YAML) into a nested mapping.

    >>> parse_override("crm.hidden=[64, 32]")
    {'crm': {'hidden': [64, 32]}}
    """
    path, sign, value = text.partition("=")
    if not sign or not path.strip():
        raise UserError(f"override {hide_passwords(text)!r} is not of the form section.key=value")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(hide_passwords(f"override {text!r}: the value is not valid YAML: {error}")) from None
    for key in reversed(path.strip().split(".")):
        nested = {key: nested}
    return dict(nested)


def read_yaml(path: Path) -> Settings:
    """Read a YAML mapping; anything else is a `UserError` that names the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        _refuse_repeated(yaml.compose(text, Loader=yaml.SafeLoader), path)
        value = yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(hide_passwords(f"{path} is not valid YAML: {error}")) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a mapping of sections, not {type(value).__name__}")
    found: Settings = _named(value)
    return found


def _refuse_repeated(node: yaml.Node | None, path: Path) -> None:
    """Raise `UserError` for a key that comes twice in one mapping: YAML itself takes the last in silence."""
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _refuse_repeated(entry, path)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            raise UserError(f"{path}: line {line}: '{name}' comes twice (first in line {lines[name]})")
        lines[name] = line
        _refuse_repeated(value, path)


def _named(value: Any) -> Any:
    """The same with settings called `yes` and `no`, whose bare names are booleans in YAML."""
    if not isinstance(value, dict):
        return value
    return {{True: "yes", False: "no"}.get(key, key): _named(inner) for key, inner in value.items()}


def load_config(
    path: Path | str | None = None, overrides: Sequence[str] = (), settings: Nested | None = None
) -> Config:
    """Build the configuration: the dataset's preset and the recipe, then `settings`, the YAML file, and the overrides.

    Raises `UserError` with the offending key, the nearest valid name, and the reason.
    """
    return build_config(given_settings(path, overrides, settings))


def given_settings(
    path: Path | str | None = None, overrides: Sequence[str] = (), settings: Nested | None = None
) -> Settings:
    """What `settings`, the YAML file, and the overrides say, later ones over earlier ones."""
    given: Settings = dict(settings or {})
    if path is not None:
        given = merge(given, read_yaml(Path(path)))
    for text in overrides:
        given = merge(given, parse_override(text))
    return given


def build_config(given: Nested) -> Config:
    """The configuration of these settings over the dataset's preset and the recipe; see `load_config`."""
    data = given.get("data")
    source = data.get("source", "ml-100k") if isinstance(data, Mapping) else "ml-100k"
    merged = merge(merge({"data": PRESETS.get(str(source), {})}, RECIPES.get(str(given.get("recipe")), {})), given)
    return validated(Config, merged)


def validated(kind: type[S], values: Nested, title: str = "configuration") -> S:
    """A section from its values. Raises `UserError` for what is not right; `title`: what the message begins with."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(hide_passwords(_explain(error, kind, title))) from None


def changed(one: Section, other: Section, prefix: str = "") -> list[str]:
    """Names of the settings that differ.

    >>> changed(load_config(), load_config(overrides=["seed=7", "llm.layers=4"]))
    ['seed', 'llm.layers']
    """
    names: list[str] = []
    for name in type(one).model_fields:
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(mine, Section) and isinstance(theirs, Section):
            names += changed(mine, theirs, f"{prefix}{name}.")
        elif mine != theirs:
            names.append(prefix + name)
    return names


def hide_passwords(text: str) -> str:
    """The text without what looks like a password in a URI.

    >>> hide_passwords("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    return re.sub(r"(://[^/@\s:]*:)(?!\$\{)[^\s]*@", r"\1***@", text)


def to_yaml(config: Section) -> str:
    """The configuration as YAML, every value written out."""
    found: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return found


def _explain(error: ValidationError, kind: type[Section], title: str) -> str:
    """One line an error: the key, what is wrong, and the nearest valid name of an unknown key."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{where}: no such setting; {suggest(str(item['loc'][-1]), _fields(kind, item['loc'][:-1]))}")
        elif item["type"] == "model_type" and isinstance(item["input"], str) and "path" in _fields(kind, item["loc"]):
            lines.append(f"{where}: a section is needed, with {where}.path: {item['input']}")
        elif item["type"] == "string_type" and isinstance(item["input"], dict):
            lines.append(f"{where}: a text is needed; put what begins with a brace into quotes")
        else:
            secret = item["loc"][-1] == "uri" or isinstance(item["input"], dict)
            got = "" if secret else f" (got {item['input']!r})"
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{got}")
    return f"{title}: " + "\n  ".join(lines)


def _fields(kind: type[Section], where: Sequence[int | str]) -> list[str]:
    """Names of the settings of the section that stands there."""
    section: Any = kind
    for part in where:
        annotation = section.model_fields[part].annotation if isinstance(part, str) else None
        section = next((a for a in _models(annotation)), section)
    return list(section.model_fields)


def _models(annotation: Any) -> list[type[Section]]:
    """The section classes inside a type annotation such as `TableConfig | None`."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return [c for c in candidates if isinstance(c, type) and issubclass(c, Section)]


@dataclass(frozen=True)
class Setting:
    """One setting, as it is explained."""

    name: str
    """Dotted."""
    default: str
    """As YAML."""
    text: str
    """What it does, what its values mean, when to change it."""
    advanced: bool
    """Whether hardly anybody needs it."""


def describe(kind: type[Section] = Config, prefix: str = "", advanced: bool = False) -> list[Setting]:
    """Every setting, in order. A section that stands in several places is described in the first of them.

    >>> describe()[0].name, describe()[0].default
    ('recipe', 'corella')
    """
    found: list[Setting] = []
    seen: set[type[Section]] = set()
    for name, field in kind.model_fields.items():
        inner = _models(field.annotation)
        rare = advanced or name in kind.advanced
        if field.description or not inner:
            default = "needed" if field.is_required() else field.get_default(call_default_factory=True)
            text = "" if isinstance(default, Section) else yaml.safe_dump(default, default_flow_style=True)
            said = " ".join((field.description or "").split())
            found.append(Setting(prefix + name, text.removesuffix("...\n").strip(), said, rare))
        for section in inner:
            if section not in seen:
                seen.add(section)
                key = "NAME." if get_origin(field.annotation) is dict else ""  # a section for each name
                found += describe(section, f"{prefix}{name}.{key}", rare)
    return found
