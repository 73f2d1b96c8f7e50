"""Memory that the process has let go of, and that the C library keeps for later."""

import ctypes
import gc
import sys


def give_back() -> None:
    """Give it back to the system: loading a model takes several times what stays. Does nothing where the C library is
    another one than glibc."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
