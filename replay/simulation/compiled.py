"""How the core is compiled: once, cached on disk, without the interpreter's lock.

Only an `entry` can be called from Python; what it calls is compiled into it, with no wrapper and no cache file of its
own. No function is passed as an argument to compiled code (that would defeat the cache), and floating point keeps its
order, so that the same source run with NUMBA_DISABLE_JIT=1 gives the same bytes.
"""

from collections.abc import Callable
from typing import Any

import numba

Function = Callable[..., Any]
WRAPPERLESS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: Function) -> Function:
    """Compile `function` into the entries that call it."""
    made: Function = numba.njit(nogil=True, error_model="numpy", forceinline=True, **WRAPPERLESS)(function)
    return made


def entry(function: Function) -> Function:
    """Compile `function` at its first call from Python, and keep the result on disk."""
    made: Function = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return made
