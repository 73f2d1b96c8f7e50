"""What texts make of earlier interactions: the formulas, for a block of samples at a time, without any log.

`batch.py` (the ordered log) and `state.py` (one interaction at a time) look up what these read, and share them, so both
get the same numbers. S is the cosine of two items' texts, y a label, e its residual (see `neighbours.py` in
`features/`: what neither the item's mean nor the user's bias explained), w = exp(t (S - 1)) for widths t.

- *Own*: of the user's last interactions, by how near their items are to the sample's.
- *Others*: of everybody's interactions with the items nearest to the sample's, itself left out: these say how well it
  will be liked before anybody has said so.
- *Profiles*: a user's profile is the sum of e v over their interactions, v the item's vector; an item's circle is
  the sum of e times the profile of everybody who interacted with it. Profile times circle, over their number, says
  whether those who liked the item like the same texts as this user: neighbourhoods of users and of items at once,
  smooth over the text. Of the items near to it the same, which needs no interaction with the item itself.
"""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Booleans = npt.NDArray[np.bool_]

OWN_WIDTHS = (3.0, 6.0, 12.0)
OTHER_WIDTHS = (6.0, 12.0, 24.0)
COMPONENTS = 24
"""Components of the item's own vector that are features too."""
_CIRCLE_WIDTH = 12.0
_PRIOR = 0.2
"""Weight of the average in a mean over weights: that of a fifth of an identical text."""
_FEW = 20.0
"""An item with as many interactions counts fully among the others' means."""

_OWN = [f"text_own_{what}_{t:g}" for t in OWN_WIDTHS for what in ("share", "residual", "weight")]
_OWN += [f"text_own_{what}" for what in ("liked", "disliked", "difference", "nearest", "three", "three_residual")]
_OTHERS = [f"text_others_{what}_{t:g}" for t in OTHER_WIDTHS for what in ("share", "weight", "mean")]
CIRCLES = ["text_circle", "text_circle_both", "text_circle_near", "text_circle_mean"]
NAMES = [*_OWN, *_OTHERS, *CIRCLES]
_CIRCLE, _BOTH, _NEAR = (NAMES.index(name) for name in CIRCLES[:3])


def text_names(width: int) -> list[str]:
    """Names of all text features, in the order of the columns, for vectors of this width."""
    return [*NAMES, *(f"text_component_{n}" for n in range(min(width, COMPONENTS)))]


def cosines(one: Floats, others: Floats) -> Doubles:
    """Cosines of vectors of length 1: [B, d] and [B, H, d] (or [1, H, d]) -> [B, H]. Not by BLAS, whose last digits
    depend on the shape."""
    found: Doubles = np.einsum("bd,bhd->bh", one, np.broadcast_to(others, (len(one), *others.shape[1:]))).astype(
        np.float64
    )
    return found


def own_kernels(similarity: Doubles, label: Doubles, residual: Doubles, present: Booleans, average: Doubles) -> Doubles:
    """From the user's last interactions [B, H], `present` where there is one, and the average label [B] -> [B, 15]."""
    there = present.astype(np.float64)
    columns = []
    for width in OWN_WIDTHS:
        weight = np.exp(width * (similarity - 1)) * there
        total = weight.sum(1)
        columns += [((weight * label).sum(1) + _PRIOR * average) / (total + _PRIOR)]
        columns += [(weight * residual).sum(1) / (total + _PRIOR), total]
    likes = (there * label).sum(1)
    liked = (similarity * there * label).sum(1) / (likes + 1)
    disliked = (similarity * there * (1 - label)).sum(1) / (there.sum(1) - likes + 1)
    shown = np.where(present, similarity, -1.0)
    order = np.argsort(-shown, axis=1, kind="stable")[:, :3]
    near, said, left = (np.take_along_axis(a, order, axis=1) for a in (similarity * there, label, residual))
    nearest = shown.max(axis=1, initial=-1.0)
    columns += [liked, disliked, liked - disliked, nearest, (near * (2 * said - 1)).sum(1), (near * left).sum(1)]
    return np.stack(columns, axis=1)


def other_kernels(similarity: Doubles, count: Doubles, likes: Doubles, average: Doubles, smoothing: float) -> Doubles:
    """From the nearest items' numbers of interactions and likes [B, M], and the average label [B] -> [B, 9]."""
    columns = []
    means = (likes + smoothing * average[:, None]) / (count + smoothing)
    known = np.minimum(count, _FEW) / _FEW
    for width in OTHER_WIDTHS:
        weight = np.exp(width * (similarity - 1))
        total = (weight * count).sum(1)
        columns += [((weight * likes).sum(1) + _PRIOR * average) / (total + _PRIOR), np.log1p(total)]
        columns += [((weight * known * means).sum(1) + 0.02 * average) / ((weight * known).sum(1) + 0.02)]
    return np.stack(columns, axis=1)


def circle_kernels(
    profile: Doubles, circle: Doubles, count: Doubles, near: Doubles, near_count: Doubles, similarity: Doubles,
    smoothing: float,
) -> Doubles:  # fmt: skip
    """From users' profiles [B, d], the items' circles [B, d] and numbers of interactions [B], and the same of the items
    near them, [B, M, d] and [B, M] -> [B, 4]: by the item's own, all pooled, the neighbours' pooled, their mean."""
    agreed = (profile * circle).sum(1)
    around = np.einsum("bd,bmd->bm", profile, near)
    weight = np.exp(_CIRCLE_WIDTH * (similarity - 1))
    pooled, number = (weight * around).sum(1), (weight * near_count).sum(1) + smoothing
    mean = (weight * around / (near_count + smoothing)).sum(1) / (weight.sum(1) + 0.1)
    both = (agreed + pooled) / (count + number)
    return np.stack([agreed / (count + smoothing), both, pooled / number, mean], axis=1)


def without_item(text: Floats) -> Floats:
    """Text features [n, K] as if nobody had interacted with the samples' items."""
    hidden = text.copy()
    hidden[:, _CIRCLE] = 0
    hidden[:, _BOTH] = hidden[:, _NEAR]
    return hidden
