"""Seconds of work on a device, repeated, and what is told of them."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from replay.torch_engine.device import Device


def seconds(device: "Device", work: Callable[[], Any], repeats: int, warm: int = 1) -> list[float]:
    """Of each of `repeats` times, after `warm` that do not count."""
    return [once(device, work) for _ in range(warm + repeats)][warm:]


def once(device: "Device", work: Callable[[], Any]) -> float:
    """From an idle device to an idle device."""
    device.wait()
    began = time.perf_counter()
    work()
    device.wait()
    return time.perf_counter() - began


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, extremes and how many."""
    low, q25, median, q75, high = np.quantile(samples, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return {"median": median, "q25": q25, "q75": q75, "low": low, "high": high, "repeats": len(samples)}
