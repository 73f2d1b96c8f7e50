"""How far a stranger's words may move an answer: the order of their logits stays, the distance is bounded. [ours]

A guarded text (`corella.llm.guard`) cannot act as an answer, but its words still count, and "everyone loves it" is not
to be told from what an item is. So items that a request describes get a logit near to the one that the same user gives
ordinary items of the catalogue, asked about as new ones too.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

MOST = 0.15
"""How far from the ordinary one a logit may be; two texts are never twice that apart."""
_ORDINARY = 5


def ordinary_texts(catalogue: Sequence[str]) -> list[str]:
    """A few texts of the catalogue, evenly spaced.

    >>> ordinary_texts([f"Film {n}" for n in range(100)])
    ['Film 10', 'Film 30', 'Film 50', 'Film 70', 'Film 90']
    """
    count = min(_ORDINARY, len(catalogue))
    return [catalogue[(2 * n + 1) * len(catalogue) // (2 * count)] for n in range(count)]


def bounded(logits: Floats, ordinary: Floats) -> Floats:
    """Logits of described items (float32 [n], nan where there is no answer) in the same order, less than `MOST` from
    the median of the `ordinary` texts' logits for the same user and history.

    Near the median little changes. The median, so that one odd text of the catalogue moves nothing; where an ordinary
    text has no answer, no item has one.

    >>> bounded(np.float32([-2.85, 0, 0.15, 0.6]), np.float32([-1, 0, 7])).round(4)
    array([-0.1425,  0.    ,  0.075 ,  0.12  ], dtype=float32)
    """
    middle = np.median(ordinary)
    away = logits - middle
    near: Floats = (middle + away / (1 + np.abs(away) / MOST)).astype(np.float32)
    return near
