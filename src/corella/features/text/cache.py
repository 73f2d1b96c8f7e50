"""What an encoder made of texts, kept on disk: no text is read twice, in whatever dataset it stands.

One folder an encoder. A shard is a safetensors file of vectors and of the SHA-256 of their texts; shards are written
while the encoder goes through a catalogue, so a killed run resumes where it was.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corella.arrays import load_arrays, save_arrays
from corella.errors import UserError
from corella.features.text.encoder import Encoder
from corella.files import cache_folder
from corella.progress import Reporter, Task

Floats = npt.NDArray[np.float32]

_SHARD = 8192


def encode_cached(
    texts: Sequence[str], encoder: Encoder, reporter: Reporter | None = None, folder: Path | None = None
) -> Floats:
    """Vectors of texts, float32 [texts, width]: from the cache where they are there, else made and kept there.

    `folder`: the cache; unset: under `$CORELLA_CACHE`.
    """
    reporter = reporter or Reporter(quiet=True)
    folder = (folder or cache_folder() / "texts") / encoder.digest
    keys = [hashlib.sha256(text.encode()).digest() for text in texts]
    known = _read(folder)
    missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items())
    if missing:
        with reporter.task("text encoder: texts", len(missing)) as task:
            for start in range(0, len(missing), _SHARD):
                shard = dict(missing[start : start + _SHARD])
                vectors = encoder.encode(list(shard.values()), partial(_shift, task, start))
                _write(folder, list(shard), vectors)
                known.update(zip(shard, vectors, strict=True))
    return np.stack([known[key] for key in keys]) if keys else np.zeros((0, 0), np.float32)


def _shift(task: Task, start: int, done: int) -> None:
    task.update(start + done)


def _write(folder: Path, keys: Sequence[bytes], vectors: Floats) -> None:
    named = hashlib.sha256(b"".join(keys)).hexdigest()[:16]
    told = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1)
    save_arrays(folder / f"{named}.safetensors", {"keys": told, "vectors": vectors})


def _read(folder: Path) -> dict[bytes, Floats]:
    """Everything that is kept; a shard that cannot be read is made again."""
    known: dict[bytes, Floats] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            tensors = load_arrays(path)
        except UserError:
            path.unlink(missing_ok=True)
            continue
        known.update(zip(map(bytes, tensors["keys"]), tensors["vectors"], strict=True))
    return known
