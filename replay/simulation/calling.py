"""Calls of the compiled core that look at nobody's types again.

That is more than half of what a call costs, as the state has many arrays, and a scheduler that is asked is asked often.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, cast

from replay.lean_numba import numba
from replay.simulation.pointing import pointed


def bound(entry: Callable[..., Any], *fixed: Any, like: tuple[Any, ...] | None = None) -> Callable[..., Any]:
    """`entry` (see compiled.py), compiled or loaded, with its first arguments fixed.

    The others are of the types of those in `like`, or integers.
    """
    if not hasattr(entry, "overloads"):  # interpreted
        return partial(entry, *fixed)
    compiled = cast(Any, entry)
    fixed = tuple(pointed(one) if isinstance(one, tuple) else one for one in fixed)
    others = (0,) * (len(signature(compiled.py_func).parameters) - len(fixed)) if like is None else like
    kinds = tuple(map(numba.typeof, (*fixed, *others)))
    compiled.compile(kinds)
    return partial(compiled.overloads[kinds].entry_point, *fixed)
