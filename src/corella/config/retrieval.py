"""Settings of the retrieval."""

from typing import ClassVar, Literal

from pydantic import Field

from corella.config.section import Section


class RetrievalConfig(Section):
    """Retrieval: a linear model in closed form that reads texts once, a fusion of sources, and CLLM4Rec beside it
    (user and item tokens, arXiv 2311.01343)."""

    advanced: ClassVar = frozenset({
        "penalty", "text", "following", "recency", "neighbours", "candidates", "refit", "collaborative", "content",
        "backbone", "layers", "backbone_rate", "lambda_c", "lambda_l", "std", "start", "tied", "head_size",
        "head_epochs", "head_rate", "head_decay", "head_texts", "head_text_decay", "head_shown", "pooled",
        "fixed_order", "pretraining_epochs", "fine_tuning_epochs", "learning_rate", "fine_tuning_rate",
        "users_per_step", "items_per_step", "texts_per_epoch", "reviews_per_epoch", "masked_share", "least_shown",
        "llm_weight", "longest_history", "longest_text", "batch_tokens", "max_grad_norm", "new_item_penalty",
        "checkpoint_seconds",
    })  # fmt: skip

    penalty: float | None = Field(default=None, gt=0)
    """Ridge penalty of the linear model. Unset, here and for the next three: what validation rows prefer."""
    text: float | None = Field(default=None, ge=0)
    """How much the linear model is pulled towards what items' texts say of each other; 0: not at all."""
    following: float | None = Field(default=None, ge=0)
    """Weight of what was liked next beside what was liked by the same people; 0: order is not read."""
    recency: float | None = Field(default=None, gt=0, le=1)
    """What an item of a history says beside the one that followed it; 1: age does not matter."""
    dense_items: int = Field(default=20_000, ge=0)
    """Largest catalogue for which all pairs of items have a weight; memory grows with the square of it (20,000 items:
    7 GiB in training). Beyond it an item has weights from its nearest items alone."""
    neighbours: int = Field(default=64, ge=1)
    """How many nearest items that is."""
    fusion: bool = True
    """Let boosted trees, trained on validation rows, order the best candidates by all that is known of them: scores of
    every source, nearness of texts, popularity. They are used if they gain more than noise on held-out users."""
    candidates: int = Field(default=200, ge=10)
    """How many candidates the fusion orders."""
    measure_at: int = Field(default=100, ge=1)
    """Everything is chosen by NDCG at this place."""
    refit: bool = True
    """When all is chosen, learn from validation rows too. False: for protocols that forbid it."""
    cllm4rec: bool = False
    """Train CLLM4Rec too, as one more source of the fusion: a language model in every retrieval. All settings below
    are its own."""
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
    start: Literal["random", "words", "encoder"] = "words"
    """How items begin: at random [paper], as the mean of their texts' word embeddings, or as what the text encoder made
    of them. [ours]"""
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
    """Let the head read the items' texts too, as `start` does. [ours]"""
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
    """Weight of the language model's part beside the pooled one. Unset: what validation rows prefer, of 0 to 1, and 0
    where the gain is no more than noise; with 0 the language model is not read when recommending. [ours]"""
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
