"""How the core is compiled: once, cached on disk, without the interpreter's lock.

No function is passed as an argument to compiled code (that would defeat the disk cache), and floating point keeps its
order, so that the same source run with NUMBA_DISABLE_JIT=1 gives the same bytes.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile `function` at its first call."""
    result: Function = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return result
