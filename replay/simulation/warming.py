"""The first call of the core compiles it; that is said, and kept out of every measurement."""

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.runs import versions

FEW_COLLECTIONS = (200_000, 20, 100)  # looking for garbage takes a tenth of a compile, and finds little
QUIET_S = 1.5  # loading the compiled core from disk takes less
LOCK = threading.Lock()


@contextmanager
def announced() -> Iterator[None]:
    """Say on stderr what takes so long, once it does, where somebody is watching."""
    timer = threading.Timer(QUIET_S, _say)
    timer.daemon = True
    with LOCK:
        collections = gc.get_threshold()
        gc.set_threshold(*FEW_COLLECTIONS)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            gc.set_threshold(*collections)


def _say() -> None:
    if not sys.stderr.isatty():
        return
    numba = versions()["numba"]
    print(f"compiling the simulation core with numba {numba}: once, some fifteen seconds", file=sys.stderr, flush=True)
