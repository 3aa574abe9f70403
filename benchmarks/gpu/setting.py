"""What every measurement is told, and what it gives: points, each with the work that measures it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replay.torch_engine.device import Device


@dataclass(frozen=True)
class Setting:
    """Where to measure. `smoke`: everything tiny, to see that it runs."""

    device: "Device"
    seed: int
    repeats: int
    smoke: bool
    memory_bytes: int  # free on the device
    host_bytes: int  # free on the host
    scratch: Path  # for large files, which whoever writes them removes


@dataclass(frozen=True)
class Point:
    """One measurement by its parameters; `work` gives lists of samples and plain numbers by name.

    `needs_s` is about what it takes on a GPU, so that none is begun that the time does not allow.
    """

    what: dict[str, Any]
    work: Callable[[], dict[str, Any]]
    needs_s: float = 5.0
