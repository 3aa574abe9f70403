"""Pages of the GPU's virtual memory: to create, map and open them, and back again; one at a time and in rows.

This is what an elastic KV cache pays for growing and shrinking. On a CPU there is nothing to measure.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gpu.driver import VirtualMemory, library
from benchmarks.gpu.setting import Point, Setting
from benchmarks.gpu.timing import once

PAGE, COUNT = 2 * 2**20, 256
ROWS = (1, 8, 64)  # pages opened by one call
LARGER = (16 * 2**20, 64 * 2**20)
BUSY_S, MOST_QUEUED = 2.0, 900  # of work, in fewer launches than a driver holds before it makes callers wait


def points(at: Setting) -> Iterator[Point]:
    if not at.device.is_gpu:
        return
    for row in ROWS:
        yield Point({"page_bytes": PAGE, "row": row, "gpu": "idle"}, lambda row=row: measured(at, PAGE, row, False))
    for size in LARGER:
        what = {"page_bytes": size, "row": 1, "gpu": "idle"}
        yield Point(what, lambda size=size: measured(at, size, 1, False))
    yield Point({"page_bytes": PAGE, "row": 1, "gpu": "busy"}, lambda: measured(at, PAGE, 1, True), 15)


def measured(at: Setting, page_bytes: int, row: int, busy: bool) -> dict[str, Any]:
    """Seconds of each call; `open_s` is of a call for a whole row."""
    import torch

    torch.ones(1, device=at.device.at).sum().item()  # the context is there, and current in this thread
    memory = VirtualMemory(library(), torch.cuda.current_device())
    size = -(-page_bytes // memory.granularity) * memory.granularity
    count = max(row, min(COUNT, 4 * 2**30 // size) // row * row)
    work = _occupied(at) if busy else None
    found = cycle(memory, size, count, row)
    if work is not None:
        found["busy_throughout"] = not work.query()
    at.device.wait()
    return {**found, "pages": count, "granularity_bytes": memory.granularity}


def cycle(memory: VirtualMemory, size: int, count: int, row: int) -> dict[str, Any]:
    """`count` pages, there and back."""
    times: dict[str, list[float]] = {name: [] for name in ("call", "create", "map", "open", "unmap", "release")}

    def timed(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        answer = work(*arguments)
        times[name].append(time.perf_counter() - began)
        return answer

    for _ in range(count):
        timed("call", memory.nothing)
    base = memory.reserve(size * count)
    handles = [timed("create", memory.create, size) for _ in range(count)]
    for n, handle in enumerate(handles):
        timed("map", memory.map, base + n * size, size, handle)
    for n in range(0, count, row):
        timed("open", memory.open, base + n * size, row * size)
    for n in range(count):
        timed("unmap", memory.unmap, base + n * size, size)
    for handle in handles:
        timed("release", memory.release, handle)
    memory.free(base, size * count)
    return {f"{name}_s": samples for name, samples in times.items()}


def _occupied(at: Setting) -> Any:
    """Two seconds of matrix products, or so, that the GPU has been given; the event says whether it has done them."""
    import torch

    side = torch.ones(8192, 8192, dtype=torch.bfloat16, device=at.device.at)
    into = torch.empty_like(side)
    each_s = min(once(at.device, lambda: torch.mm(side, side, out=into)) for _ in range(5))
    for _ in range(min(MOST_QUEUED, int(BUSY_S / each_s))):
        torch.mm(side, side, out=into)
    done = torch.cuda.Event()
    done.record()
    return done
