"""Numbers that are summed stand on grids: their sums are exact then, so that they are the same in any order, in any
parts, and depend on no later row, not even in their last digit."""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

VALUE = 2.0**24
"""Steps between 0 and 1 of answers, ratings, and what they are above the expected: sums are exact below 2^29."""
RESIDUAL = 2.0**15
"""Of residuals: sums of products of two of them are exact below 2^23."""
VECTOR = 2.0**26
"""Of residuals times coordinates of texts: sums are exact below 2^27."""
TERM = 2.0**40
"""Of what one neighbour says: sums are exact below 2^13, and few neighbours speak for a row."""


def on_grid(values: Doubles | np.float64, steps: float) -> Doubles:
    """Values as multiples of 1 / steps, float64.

    >>> on_grid(np.array([0.3, -0.3]), 4).tolist()
    [0.25, -0.25]
    """
    return np.asarray(np.rint(values * steps) / steps)
