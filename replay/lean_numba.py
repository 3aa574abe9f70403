"""Numba, without the quarter of a second in which it imports scipy.linalg before it loads anything compiled.

`numba.np.arraymath` asks once, while it is imported, whether SciPy has a BLAS, and uses the answer only to choose how
`np.convolve` and `np.correlate` multiply in compiled code; linear algebra asks again when it is compiled.
"""

import sys
from contextlib import suppress

import numba

__all__ = ["numba"]
BLAS = "scipy.linalg.cython_blas"


def _import_without_blas() -> None:
    sys.modules[BLAS] = None  # type: ignore[assignment]  # Python's way to say that a module cannot be imported
    try:
        with suppress(ImportError):
            import numba.np.arraymath  # noqa: F401
    finally:
        del sys.modules[BLAS]


if BLAS not in sys.modules:
    _import_without_blas()
