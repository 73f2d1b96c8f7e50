"""The one exception that a user's mistake raises: what was wrong, where, and what to do.

The command line prints its message without a traceback and exits with code 2.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: a wrong key, a missing column, a file that is not there."""


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return a hint that names the nearest valid spelling, or all of them where none is near.

    >>> suggest("rattings", ["rating", "user_id"])
    "did you mean 'rating'?"
    >>> suggest("zzz", ["rating", "user_id"])
    'valid names: rating, user_id'
    """
    names = [str(v) for v in valid]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else "valid names: " + ", ".join(names)
