"""The command line: `corella`, or `python -m corella`."""

import os

# NumPy's BLAS lets its threads spin for a tenth of a second after each product, and torch's threads wait for them: a
# request that uses both took nine times as long on two cores. It is read when NumPy is loaded, so it stands first.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

from corella.cli import main

if __name__ == "__main__":
    main()
