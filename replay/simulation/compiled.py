"""How the core is compiled: once, cached on disk, without the interpreter's lock and without counting references.

Only an `entry` can be called from Python; what it calls is compiled into it, with no wrapper and no cache file of its
own. No function is passed as an argument to compiled code (that would defeat the cache), and floating point keeps its
order, so that the same source run with NUMBA_DISABLE_JIT=1 gives the same bytes.

`_nrt=False` leaves out Numba's runtime: counting references to the state's arrays took six sevenths of the time. The
caller holds the arrays for the length of the call, and compiled code that would allocate one does not compile.
"""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from replay.lean_numba import numba
from replay.simulation.kept import kept
from replay.simulation.parts import PartCompiler, whatever_constants
from toolkit import placing

Function = Callable[..., Any]
COMMON: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
PART: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": PartCompiler}
MARKS = (b"simulation.compiled import", b"np.dtype(")  # of files that the compiled core is made from


def compiled(function: Function) -> Function:
    """Compile `function` into the entries that call it."""
    return _part(function, forceinline=True)


def called(function: Function) -> Function:
    """Compile `function` once, to be called: for what is large, has several callers and is not in an inner loop."""
    return _part(function, forceinline=False)


def entry(function: Function) -> Function:
    """Compile `function` at its first call from Python, and keep the result on disk until any of the core changes."""
    made: Any = numba.njit(**COMMON)(function)
    if hasattr(made, "_cache"):  # not where NUMBA_DISABLE_JIT is set
        made._cache = kept(function, _sources())
    return cast(Function, made)


def _part(function: Function, *, forceinline: bool) -> Function:
    made: Any = numba.njit(**COMMON, **PART, forceinline=forceinline)(function)
    if hasattr(made, "_compiler"):  # not where NUMBA_DISABLE_JIT is set
        whatever_constants(made)
    return cast(Function, made)


@cache
def _sources() -> str:
    """A hash of every file with compiled code or with constants that it holds."""
    here = Path(__file__).parent
    texts = [path.read_bytes() for folder in (here, here.parent / "cluster") for path in sorted(folder.glob("*.py"))]
    held = repr((placing.ABSENT, placing.LOADING, placing.READY, placing.LEAVING)).encode()
    return sha256(held + b"".join(text for text in texts if any(mark in text for mark in MARKS))).hexdigest()
