"""A transformer as an encoder: its vector is pooled as its folder says (the format of sentence-transformers), or is the
mean of its last hidden states where the folder says nothing, so that a causal language model is an encoder too.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from corella.config.text import TextConfig
from corella.errors import UserError
from corella.features.text.encoder import Floats, OnTexts
from corella.weights import choose_device, choose_dtype

_FEW, _STEP = 4, 32
"""So few texts are filled up to a multiple of so many tokens."""
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class TransformerEncoder:
    """A transformer and its pooling; weights are read at the first text."""

    source: str
    """A folder or a hub name."""
    config: TextConfig

    @property
    def fitted(self) -> Mapping[str, Floats]:
        """Nothing."""
        return {}

    @cached_property
    def digest(self) -> str:
        """Of the weights' files and the settings."""
        settings = (self.source, self.config.revision, self.config.longest_tokens, self.config.dtype)
        found = hashlib.sha256(repr(settings).encode())
        for path in sorted(Path(self.source).glob("*.json")) if Path(self.source).is_dir() else []:
            found.update(path.read_bytes())
        for path in sorted(Path(self.source).glob("*.safetensors")) if Path(self.source).is_dir() else []:
            found.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
        return found.hexdigest()[:16]

    @cached_property
    def _pooling(self) -> str:
        """`cls`, `max` or `mean`. Raises `UserError` for modules that are not known here."""
        folder = Path(self.source)
        modules = folder / "modules.json"
        if not modules.is_file():
            return "mean"
        path = None
        for module in json.loads(modules.read_text(encoding="utf-8")):
            kind = str(module["type"]).rsplit(".", 1)[-1]
            if kind not in ("Transformer", "Pooling", "Normalize"):
                raise UserError(f"data.text.encoder: {folder} has a module '{kind}', which is not known here")
            path = folder / module["path"] / "config.json" if kind == "Pooling" else path
        chosen = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}
        modes = [name for name, on in chosen.items() if name.startswith("pooling_mode_") and on is True]
        known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
        if len(modes) > 1 or any(mode not in known for mode in modes):
            raise UserError(f"data.text.encoder: {folder} pools by {', '.join(modes)}; known are {', '.join(known)}")
        return known[modes[0]] if modes else "mean"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and model."""
        import transformers

        transformers.utils.logging.disable_progress_bar()
        config = self.config
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.source, revision=config.revision)
            model = transformers.AutoModel.from_pretrained(
                self.source, revision=config.revision, dtype=choose_dtype(config.dtype), use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"data.text.encoder '{config.encoder}' cannot be loaded: {str(error).splitlines()[0]}"
            ) from None
        return tokenizer, model.to(choose_device(config.device)).eval().requires_grad_(False)

    def encode(self, texts: Sequence[str], on_texts: OnTexts = lambda done: None) -> Floats:
        """See `Encoder`. Texts of like length are read together, so that hardly any padding is."""
        tokenizer, model = self._loaded
        longest = min(self.config.longest_tokens, getattr(model.config, "max_position_embeddings", None) or 1 << 30)
        ids = tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"] if len(texts) else []
        vectors = np.zeros((len(ids), model.config.hidden_size), np.float32)
        order = np.argsort([len(i) for i in ids], kind="stable")
        done = 0
        for group in _groups([len(ids[n]) for n in order]):
            part = order[group]
            vectors[part] = self._read(model, [ids[n] for n in part]).float().cpu().numpy()
            done += len(part)
            on_texts(done)
        return vectors

    @torch.inference_mode()
    def _read(self, model: Any, ids: Sequence[Sequence[int]]) -> Tensor:
        device = model.device
        lengths = torch.tensor([len(i) for i in ids], device=device)
        longest = max(int(lengths.max()), 1)
        if len(ids) <= _FEW:  # a processor makes its kernels anew for every length, which takes longer than reading
            most = getattr(model.config, "max_position_embeddings", None) or 1 << 30
            longest = min(-(-longest // _STEP) * _STEP, most)
        padded = torch.zeros(len(ids), longest, dtype=torch.long)
        for row, one in enumerate(ids):
            padded[row, : len(one)] = torch.tensor(one, dtype=torch.long)
        mask = torch.arange(longest, device=device) < lengths[:, None]
        even = bool((lengths == longest).all())  # without a mask attention takes its fast way
        state = model(input_ids=padded.to(device), attention_mask=None if even else mask.long()).last_hidden_state
        if self._pooling == "cls":
            pooled = state[:, 0].float()
        elif self._pooling == "max":
            pooled = state.float().masked_fill(~mask[..., None], -torch.inf).amax(1)
        else:
            weight = mask.to(state.dtype) / lengths.clamp(min=1)[:, None].to(state.dtype)
            pooled = torch.bmm(weight.float()[:, None], state.float())[:, 0]
        return torch.nn.functional.normalize(torch.where(lengths[:, None] > 0, pooled, 0.0), dim=-1)


def _groups(lengths: Sequence[int]) -> list[slice]:
    """Slices of texts in ascending length that hold at most `_BATCH_TOKENS`, padding included."""
    groups, start = [], 0
    for place, length in enumerate(lengths):
        if place > start and (place + 1 - start) * length > _BATCH_TOKENS:
            groups.append(slice(start, place))
            start = place
    return [*groups, slice(start, len(lengths))] if len(lengths) else []
