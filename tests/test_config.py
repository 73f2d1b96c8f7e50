"""Settings: what is wrong is named, the nearest valid name suggested, and no secret is shown."""

from pathlib import Path
from typing import Any

import pytest

from corella.config import Config, Section, TableConfig
from corella.config.loading import describe, load_config, merge, parse_override, read_yaml, to_yaml
from corella.errors import UserError
from corella.serving.settings import ServingSettings

SECRET = "hunter2"  # noqa: S105


def _message(*overrides: str, path: Path | None = None, settings: dict[str, Any] | None = None) -> str:
    with pytest.raises(UserError) as error:
        load_config(path, overrides, settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.item_text={title}", "data.item_text: a text is needed; put what begins with a brace into quotes"),
        ("data.items=movies.csv", "data.items: a section is needed, with data.items.path: movies.csv"),
        ("sed=2", "sed: no such setting; did you mean 'seed'?"),
        ("crm.modle=dcnv2", "crm.modle: no such setting; did you mean 'model'?"),
        ("data.split.fraction=[1]", "data.split.fraction: no such setting; did you mean 'fractions'?"),
        ("jont.alpha=1", "jont: no such setting; did you mean 'joint'?"),
        ("crm.zzz=1", "valid names: model, counts, trees, ids"),
        ("seed=many", "seed: Input should be a valid integer"),
        ("joint.stages=[4]", "joint.stages.0: Input should be 1, 2 or 3 (got 4)"),
        ("data.source=ml-100", "data.source: Input should be 'ml-100k'"),
        ("data.source=ml-1m", "source `ml-1m` needs `data.path`"),
        ("data.source=tables", "source `tables` needs `data.interactions`"),
        ("data.label=rating > high", "write a label rule like `rating >= 4`"),
        ("data.split.fractions=[0.5, 0.1, 0.1]", "three positive fractions that sum to 1"),
        ("data=5", "data: "),
        ("data.items={path: items.csv}", "tables are given, but `data.source` is `ml-100k`: set it to `tables`"),
        ("data.split={by: user, dates: [1998-01-01, 1998-02-01]}", "dates belong to `by: time`"),
        ("data.split={by: column, min_history: 2}", "min_history belongs to learn_history"),
        ("data.counts.groups=[[user], [item], [user]]", "the group ['user'] comes more than once"),
        ("crm.batch_size=0", "crm.batch_size: Input should be greater than or equal to 1 (got 0)"),
        ("routing.budget=-1", "routing.budget: Input should be greater than or equal to 0"),
        ("seed", "override 'seed' is not of the form section.key=value"),
        ("=3", "is not of the form section.key=value"),
        ("crm.hidden=[1, 2", "the value is not valid YAML"),
    ],
)
def test_what_is_wrong(override: str, expected: str) -> None:
    assert expected in _message(override)


def test_all_that_is_wrong_at_once() -> None:
    message = _message("sed=2", "crm.epochs=0")
    assert "sed: no such setting" in message
    assert "crm.epochs: " in message


def test_unknown_key_of_a_table() -> None:
    table = {"path": "log.csv", "colums": {}}
    message = _message(settings={"data": {"source": "tables", "interactions": table}})
    assert "data.interactions.colums: no such setting; did you mean 'columns'?" in message


def test_overrides_win_over_the_file_over_settings(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 2\ncrm: {epochs: 3, hidden: [8]}\n")
    config = load_config(path, ["crm.hidden=[4, 2]", "data.split.min_history=7"], {"seed": 1, "crm": {"epochs": 9}})
    assert (config.seed, config.crm.epochs, config.crm.hidden) == (2, 3, [4, 2])
    assert config.data.split.min_history == 7
    assert config.data.split.by == "time"  # what stands beside it is kept


def test_presets() -> None:
    default = load_config()
    assert default.data.source == "ml-100k"
    assert default.data.list_fields == ["genres"]
    assert "{title}" in default.data.item_text
    mine = load_config(overrides=["data.item_text='{title}!'", "data.history_length=3"])
    assert (mine.data.item_text, mine.data.history_length) == ("{title}!", 3)
    assert mine.data.user_text == default.data.user_text
    other = load_config(settings={"data": {"source": "ml-1m-collm", "path": "somewhere"}})
    assert other.data.split.by == "column"
    tables = load_config(settings={"data": {"source": "tables", "interactions": {"path": "log.csv"}}})
    assert tables.data.list_fields == []


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("crm: [unclosed\n")
    assert f"{path} is not valid YAML" in _message(path=path)
    path.write_text("- a list\n")
    assert "must hold a mapping of sections, not list" in _message(path=path)
    path.write_text("")
    assert load_config(path) == load_config()
    assert "does not exist" in _message(path=tmp_path / "nothing.yaml")
    path.write_text("data: !!python/object/apply:os.system ['true']\n")
    assert "is not valid YAML" in _message(path=path)


@pytest.mark.parametrize(
    "uri", [f"postgresql://me:{SECRET}@host/db", f"mysql://me:{SECRET}@h", f"postgresql://me:a/{SECRET}@host/db",
            f"postgresql://:{SECRET}@host", f"postgresql://me:x@{SECRET}@host/db"],
)  # fmt: skip
def test_a_password_is_refused_and_never_shown(uri: str, tmp_path: Path) -> None:
    table = {"uri": uri, "query": "select 1"}
    message = _message(settings={"data": {"source": "tables", "interactions": table}})
    assert "a password stands in the URI; write ${DB_PASSWORD}" in message
    path = tmp_path / "c.yaml"
    path.write_text(f"data:\n  interactions:\n    uri: {uri}\n    query: [select\n")  # no YAML
    misplaced = [
        _message(f"data.interactions={uri}"), _message(f"data.interactions.uri {uri}"), _message(f"data.path=[{uri}"),
        _message(f"data.source={uri}"), _message(path=path),
    ]  # fmt: skip
    assert [m for m in [message, *misplaced] if SECRET in m] == []


@pytest.mark.parametrize(
    "uri", ["postgresql://${DB_USER}:${DB_PASSWORD}@host/db", "sqlite:///a.db", "postgresql://h/d"]
)
def test_uris_without_a_password(uri: str) -> None:
    table = {"uri": uri, "query": "select 1"}
    config = load_config(settings={"data": {"source": "tables", "interactions": table}})
    assert config.data.interactions is not None
    assert config.data.interactions.uri == uri


@pytest.mark.parametrize(
    ("table", "message"),
    [({}, "exactly one of `path`, `url` and `uri`"), ({"path": "a", "uri": "sqlite://b", "query": "q"}, "exactly one"),
     ({"uri": "sqlite://b"}, "`uri` and `query` belong together"), ({"path": "a", "query": "q"}, "belong together")],
)  # fmt: skip
def test_one_source_a_table(table: dict[str, str], message: str) -> None:
    assert message in _message(settings={"data": {"source": "tables", "interactions": table}})


def test_every_setting_is_described() -> None:
    rows = describe()
    names = [row.name for row in rows]
    assert len(set(names)) == len(names) > 80
    assert [row.name for row in rows if not row.text] == []
    assert {"seed", "data.split.by", "crm.hidden", "llm.yes", "joint.gamma", "evaluation.bootstrap"} <= set(names)
    assert {row.name: row.default for row in rows}["crm.hidden"] == "[200, 80]"


def _fields(section: type[Section], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, Section)
        names += _fields(inner, f"{prefix}{name}.") if nested else [prefix + name]  # type: ignore[arg-type]
    return names


_TABLES = {f"data.{table}.{name}" for table in ("users", "items") for name in TableConfig.model_fields}
"""Described once, with the interactions' table."""


def test_no_setting_is_left_out() -> None:
    assert set(_fields(Config)) <= {row.name for row in describe()} | _TABLES


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"seed": 7, "threads": 2, "crm": {"hidden": []}, "joint": {"stages": [3]}, "llm": {"yes": " ja", "no": " nö"}},
        {"data": {"source": "ml-1m-collm", "path": "/tmp/x"}},  # noqa: S108
        {"data": {"source": "tables", "interactions": {"path": "a b.csv", "columns": {"user_id": "u"}},
                  "items": {"uri": "sqlite:///x", "query": "select *", "lists": {"genres": "|"}},
                  "split": {"dates": ["2020-01-01", "2021-01-01"]}}},
    ],
)  # fmt: skip
def test_there_and_back_again(settings: dict[str, Any], tmp_path: Path) -> None:
    config = load_config(settings=settings)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(path) == config
    assert to_yaml(load_config(path)) == to_yaml(config)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config().seed = 3


def test_merge_leaves_its_arguments() -> None:
    base, over = {"a": {"b": 1}, "l": [1, 2]}, {"a": {"c": 2}, "l": [3]}
    assert merge(base, over) == {"a": {"b": 1, "c": 2}, "l": [3]}
    assert base == {"a": {"b": 1}, "l": [1, 2]}


def test_overrides_are_yaml() -> None:
    assert parse_override("a.b=true") == {"a": {"b": True}}
    assert parse_override("a=x=y") == {"a": "x=y"}
    assert parse_override("a=") == {"a": None}
    assert parse_override('llm.yes=" Yes"') == {"llm": {"yes": " Yes"}}


def test_read_yaml(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: {b: 1}\n")
    assert read_yaml(tmp_path / "c.yaml") == {"a": {"b": 1}}


def test_what_yaml_takes_for_a_boolean_or_a_date(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text('llm: {yes: " Ja", no: " Nein"}\ndata: {split: {dates: [1998-01-01, 1998-02-01]}}\n')
    config = load_config(path)
    assert (config.llm.yes, config.llm.no) == (" Ja", " Nein")
    assert config.data.split.dates == ("1998-01-01", "1998-02-01")


def test_every_setting_is_explained_and_few_are_for_everybody() -> None:
    """A user meets sixty at most; names that are called advanced are settings."""
    for kind, most in ((Config, 60), (ServingSettings, 10)):
        settings = describe(kind)
        assert all(setting.text for setting in settings if setting.name.count(".") or setting.default)
        assert sum(not setting.advanced for setting in settings) <= most
    for section in _sections(Config):
        assert section.advanced <= section.model_fields.keys()


def _sections(kind: type[Section]) -> list[type[Section]]:
    inner = [
        part
        for field in kind.model_fields.values()
        for part in (field.annotation, *getattr(field.annotation, "__args__", ()))
        if isinstance(part, type) and issubclass(part, Section)
    ]
    return [kind, *(found for part in inner for found in _sections(part))]
