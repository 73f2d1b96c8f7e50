"""A linear model and what is known of items as files: safetensors, dense or sparse."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix

from corella.checkpoint import load_tensors, save_tensors
from corella.retrieval.catalogue import Catalogue
from corella.retrieval.linear import Centre, Linear, Strengths

Floats = npt.NDArray[np.float32]

_SPARSE = ("words", "fields", "together", "next", "follows")
"""Of a catalogue."""


def save_linear(path: Path, linear: Linear, catalogue: Catalogue, centre: Centre | None) -> None:
    """Write all of them. Vectors of texts are not written: they lie with the dataset."""
    known = {"popularity": catalogue.popularity, "lately": catalogue.lately, "new": catalogue.new}
    arrays: dict[str, npt.NDArray[Any]] = {"to_new": linear.to_new, "from_new": linear.from_new, **known}
    if centre is not None:
        arrays["centre"] = centre.mean
    for name in _SPARSE:
        arrays |= _sparse(name, getattr(catalogue, name))
    weights = linear.weights
    arrays |= _sparse("weights", weights) if isinstance(weights, csr_matrix) else {"weights": weights}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    save_tensors(path, tensors, asdict(linear.strengths))


def load_linear(path: Path, vectors: Floats | None) -> tuple[Linear, Catalogue, Centre | None]:
    """Read what `save_linear` wrote; `vectors` of the catalogue's texts, None where nobody asks for them."""
    tensors, facts = load_tensors(path)
    arrays = {name: value.numpy() for name, value in tensors.items()}
    weights = arrays["weights"] if "weights" in arrays else _read("weights", arrays)
    linear = Linear(weights, Strengths(**facts), arrays["to_new"], arrays["from_new"])
    sparse = {name: _read(name, arrays) for name in _SPARSE}
    centre = Centre(arrays["centre"]) if "centre" in arrays else None
    texts = None if centre is None or vectors is None else centre.unit(vectors)
    catalogue = Catalogue(texts, **sparse, popularity=arrays["popularity"], lately=arrays["lately"], new=arrays["new"])
    return linear, catalogue, centre


def _sparse(name: str, matrix: csr_matrix) -> dict[str, npt.NDArray[Any]]:
    return {
        f"{name}.data": matrix.data.astype(np.float32), f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.indptr": matrix.indptr.astype(np.int64), f"{name}.shape": np.array(matrix.shape),
    }  # fmt: skip


def _read(name: str, arrays: dict[str, npt.NDArray[Any]]) -> csr_matrix:
    parts = tuple(arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
    return csr_matrix(parts, shape=tuple(arrays[f"{name}.shape"]))
