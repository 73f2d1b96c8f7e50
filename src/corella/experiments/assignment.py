"""Which arm of an experiment a user gets: a hash of the two names, so that nothing is stored and all servers agree."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate

from corella.errors import UserError

TOLERANCE = 1e-6
"""Shares may miss a sum of 1 by this much, so that 0.333333 three times is a third each."""

HASH_BYTES = 6
"""48 bits: a user's point is then an exact float, and stays below 1 when it is scaled by the sum of the shares."""


def arm_of(user_id: str, experiment: str, shares: Sequence[float]) -> int:
    """The arm of a user: an index into `shares`, the same at each call, on each machine.

    A user's point in [0, 1) is the BLAKE2b hash of experiment, NUL, user. The arms' shares lie side by side in [0, 1),
    and the point picks the arm. Two experiments give one user independent points. Where shares change while an
    experiment runs, only users whose point falls to another arm move: [0.9, 0.1] to [0.5, 0.5] moves users from arm 0
    to arm 1, and none back.

    Raises UserError where a share is negative or not a number, where the shares do not sum to 1, and where the
    experiment's name has a NUL (another pair of names would then give the same hash).

    >>> [arm_of(user, "new ranking", [0.5, 0.5]) for user in ("ann", "bob", "cy", "dee")]
    [0, 0, 1, 0]
    >>> arm_of("ann", "new ranking", [0.0, 1.0])
    1
    """
    if not all(share >= 0 for share in shares) or not math.isclose(sum(shares), 1, rel_tol=0, abs_tol=TOLERANCE):
        raise UserError(f"shares of experiment {experiment!r} must be at least 0 and sum to 1, not {list(shares)}")
    if "\0" in experiment:
        raise UserError(f"the name of experiment {experiment!r} must not have a NUL in it")
    # A lone surrogate is no valid text, yet JSON can carry one in an identifier: it gets an arm like any other.
    name = f"{experiment}\0{user_id}".encode(errors="surrogatepass")
    point = int.from_bytes(blake2b(name, digest_size=HASH_BYTES).digest(), "big") / 2 ** (8 * HASH_BYTES)
    edges = list(accumulate(shares))
    return bisect_right(edges, point * edges[-1])
