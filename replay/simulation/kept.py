"""What was compiled, kept on disk until its source changes."""

from collections.abc import Callable
from typing import Any

from numba.core.caching import FunctionCache


def kept(function: Callable[..., Any], source: str) -> Any:
    """The cache of `function` as compiled from all that `source` stands for: Numba looks at its own file only."""
    made = Kept(function)
    made._cache_file._source_stamp = source
    return made


class Kept(FunctionCache):
    """Numba's cache, which gives what it holds without loading all that compiling would need: 0.1 s."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)
