"""Semantic ids: a text's vector as a few small numbers, each saying more closely where it lies.

Residual k-means: the first code is the nearest of some centres, the next one that of what is left, and so on (Rajput et
al., arXiv 2305.05065; as prefixes for ranking: Singh et al., arXiv 2306.08121). A new item gets
its codes from its vector.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_FITTED = 50_000
"""Vectors that centres are fitted on, at most."""
_BLOCK = 4096


def fit_codes(vectors: Floats, sizes: Sequence[int], seed: int = 0) -> list[Floats]:
    """Centres of every level, float32 [size, width] each (fewer where there are fewer vectors)."""
    from sklearn.cluster import MiniBatchKMeans

    some = np.random.default_rng(seed).permutation(len(vectors))[:_FITTED]
    left, centres = vectors[np.sort(some)], []
    for size in sizes:
        clusters = MiniBatchKMeans(min(size, len(left)), random_state=seed, n_init=1, batch_size=2048).fit(left)
        found = clusters.cluster_centers_.astype(np.float32)
        left = left - found[assign(left, found)]
        centres.append(found)
    return centres


def assign(vectors: Floats, centres: Floats) -> Ints:
    """The nearest centre of every vector, int64 [n].

    >>> assign(np.array([[0.9, 0], [0, 2]], np.float32), np.eye(2, dtype=np.float32)).tolist()
    [0, 1]
    """
    half = (centres**2).sum(1) / 2
    parts = [np.argmax(vectors[n : n + _BLOCK] @ centres.T - half, axis=1) for n in range(0, len(vectors), _BLOCK)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def codes(vectors: Floats, centres: Sequence[Floats]) -> Ints:
    """The codes of every vector, int64 [n, levels]."""
    left, found = vectors, []
    for level in centres:
        found.append(assign(left, level))
        left = left - level[found[-1]]
    return np.stack(found, axis=1) if found else np.zeros((len(vectors), 0), np.int64)
