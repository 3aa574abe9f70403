"""Files that are removed when the process ends."""

import atexit
import itertools
import shutil
import tempfile
from functools import cache
from pathlib import Path

_numbers = itertools.count()


def scratch_file(name: str) -> Path:
    """Where a file of that name may be written, in a folder of its own."""
    folder = _scratch() / str(next(_numbers))
    folder.mkdir()
    return folder / (name or "content")


@cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="trace-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
