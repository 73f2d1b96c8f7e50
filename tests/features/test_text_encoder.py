"""Encoders: like texts are near, every text is read once, a killed run resumes, the bundled weights work."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from corella.config import TextConfig
from corella.errors import UserError
from corella.features.text.cache import encode_cached
from corella.features.text.encoder import Floats, OnTexts, fit_tfidf, load_encoder
from corella.features.text.items import ItemTexts, read_items
from corella.features.text.transformer import TransformerEncoder


@dataclass
class Counting:
    """An encoder that remembers what it read, and dies after so many texts."""

    read: list[str] = field(default_factory=list)
    most: int = 1 << 30
    digest: str = "counting"

    def encode(self, texts: Sequence[str], on_texts: OnTexts = lambda done: None) -> Floats:
        if len(self.read) + len(texts) > self.most:
            raise KeyboardInterrupt
        self.read += texts
        return np.array([[len(t), ord(t[0])] for t in texts], np.float32)


def test_every_text_is_read_once(tmp_path: Path) -> None:
    encoder = Counting()
    first = encode_cached(["b", "aa", "b"], encoder, folder=tmp_path)
    assert first.tolist() == [[1, 98], [2, 97], [1, 98]]
    assert encode_cached(["aa", "ccc"], encoder, folder=tmp_path).tolist() == [[2, 97], [3, 99]]
    assert encoder.read == ["b", "aa", "ccc"]


def test_a_killed_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corella.features.text.cache._SHARD", 2)
    texts = ["a", "b", "c", "d", "e"]
    with pytest.raises(KeyboardInterrupt):
        encode_cached(texts, Counting(most=4), folder=tmp_path)
    resumed = Counting()
    assert encode_cached(texts, resumed, folder=tmp_path)[:, 1].tolist() == [97, 98, 99, 100, 101]
    assert resumed.read == ["e"]


def test_a_broken_shard_is_made_again(tmp_path: Path) -> None:
    encode_cached(["a"], Counting(), folder=tmp_path)
    (shard,) = (tmp_path / "counting").glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:20])
    again = Counting()
    assert encode_cached(["a"], again, folder=tmp_path).tolist() == [[1, 97]]
    assert again.read == ["a"]


def test_the_bundled_encoder() -> None:
    texts = ["a cat sits on the mat", "a kitten rests on a rug", "the stock market fell sharply", ""]
    encoder = load_encoder(TextConfig(dtype="float32"))
    vectors = encoder.encode(texts)
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > 0.5
    assert far < 0.2
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert alone == pytest.approx(vectors, abs=1e-5)  # padding is never seen


def test_only_so_many_tokens_are_read() -> None:
    encoder = load_encoder(TextConfig(longest_tokens=8, dtype="float32"))
    one, other = encoder.encode(["one two three four five six seven", "one two three four five six eight"])
    assert one == pytest.approx(other, abs=1e-6)


def test_a_language_model_is_an_encoder(tiny_backbone_folder: Path) -> None:
    vectors = load_encoder(TextConfig(encoder=str(tiny_backbone_folder), dtype="float32")).encode(
        ["Alpha", "Alpha", "Beta"]
    )
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    assert abs(vectors[0] - vectors[2]).max() > 1e-3


@pytest.mark.parametrize("kind", ["Dense", "LSTM"])
def test_unknown_modules_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "modules.json").write_text(f'[{{"type": "sentence_transformers.models.{kind}", "path": "2"}}]')
    with pytest.raises(UserError, match=f"module '{kind}'"):
        _ = TransformerEncoder(str(tmp_path), TextConfig())._pooling


def test_missing_weights_are_named() -> None:
    with pytest.raises(UserError, match="no/such/folder"):
        load_encoder(TextConfig(encoder="no/such/folder")).encode(["a"])


def test_a_fitted_control_comes_back(tmp_path: Path) -> None:
    config = TextConfig(encoder="tfidf", tfidf_size=3)
    made = read_items(["red shirt", "blue shirt", "green sea", "deep blue sea"], config)
    assert made is not None and made.vectors.shape == (4, 3)
    made.save(tmp_path / "texts.safetensors")
    again = ItemTexts.load(tmp_path / "texts.safetensors", config)
    assert again.vectors.tolist() == made.vectors.tolist()
    assert again.encoder.encode(["a new red shirt"]) == pytest.approx(made.encoder.encode(["a new red shirt"]))
    assert read_items(["a"], TextConfig(encoder="none")) is None
    assert fit_tfidf(["one"], 4).encode(["one"]).shape == (1, 1)
