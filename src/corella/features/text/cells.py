"""Cells of a catalogue: clusters of vectors, so that a vector need only be compared with those near it."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_FITTED = 50_000
"""Vectors that centres are fitted on, at most."""
_BLOCK = 4096


def fit_centres(vectors: Floats, count: int, seed: int = 0) -> Floats:
    """Centres of k-means, float32 [count, width] (fewer where there are fewer vectors)."""
    from sklearn.cluster import MiniBatchKMeans

    some = np.random.default_rng(seed).permutation(len(vectors))[:_FITTED]
    clusters = MiniBatchKMeans(min(count, len(some)), random_state=seed, n_init=1, batch_size=2048)
    return np.asarray(clusters.fit(vectors[np.sort(some)]).cluster_centers_, dtype=np.float32)


def assign(vectors: Floats, centres: Floats) -> Ints:
    """The nearest centre of every vector, int64 [n].

    >>> assign(np.array([[0.9, 0], [0, 2]], np.float32), np.eye(2, dtype=np.float32)).tolist()
    [0, 1]
    """
    half = (centres**2).sum(1) / 2
    parts = [np.argmax(vectors[n : n + _BLOCK] @ centres.T - half, axis=1) for n in range(0, len(vectors), _BLOCK)]
    return np.concatenate([np.zeros(0, np.int64), *parts])
