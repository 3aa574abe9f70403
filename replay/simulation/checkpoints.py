"""Reads where a replay stood when it was stopped."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import RunFailure

NAME = "checkpoint.npz"
START_OVER = "delete it to start over"


def read_checkpoint(folder: Path) -> dict[str, NDArray[Any]] | None:
    """What the checkpoint in a run folder holds, by name; null where there is none. RunFailure for a damaged one."""
    file = folder / NAME
    if not file.exists():
        return None
    try:
        with file.open("rb") as opened, np.load(opened) as saved:
            return dict(saved)
    except (BadZipFile, EOFError, OSError, ValueError) as error:
        raise RunFailure("is damaged", where=str(file), hint=START_OVER) from error


def misfit(folder: Path) -> RunFailure:
    """Of a checkpoint that is another trace's, or another version's."""
    return RunFailure("does not fit the trace", where=str(folder / NAME), hint=START_OVER)
