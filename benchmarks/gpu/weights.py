"""Weights from the host or a file to the device, by size and way; giving their memory back; starting an engine."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.setting import Point, Setting
from benchmarks.gpu.shapes import fitting, tensors, weight_bytes
from benchmarks.gpu.timing import once, seconds
from replay.torch_engine.device import Device
from toolkit.errors import SettingFailure

CHUNK = 64 * 2**20
STREAMS, THREADS = (2, 4), (1, 4, 8)
HUGE, OF_HUGE = "14b", ("pageable", "pinned", "staged-8")  # what takes minutes, and the ways that are worth it
SLOWEST_BYTES_PER_S = 1e9  # of any way, to know what a point needs


class Sides:
    """Memory on both sides, there when it is first asked for."""

    def __init__(self, device: Device, size: int):
        self.device, self.size = device, size

    @cached_property
    def there(self) -> Any:
        return torch.empty(self.size, dtype=torch.uint8, device=self.device.at)

    @cached_property
    def pinned(self) -> Any:
        return self.device.host_bytes(self.size).fill_(1)

    @cached_property
    def pageable(self) -> Any:
        return torch.ones(self.size, dtype=torch.uint8)


def points(at: Setting) -> Iterator[Point]:
    yield Point({"way": "start"}, lambda: start(at), 60)
    for name in fitting(at):
        size = weight_bytes(name, at.smoke)
        sides = Sides(at.device, size)
        needs_s = 2 + (at.repeats + 1) * size / SLOWEST_BYTES_PER_S / 3
        for way, work in _ways(sides, tensors(name, at.smoke), CHUNK if not at.smoke else 2**16).items():
            if name != HUGE or way in OF_HUGE:
                yield Point(_what(name, size, way), lambda work=work: _timed(at, work), needs_s)
        del sides, work
        _release(at.device)
        yield Point(_what(name, size, "memory"), lambda size=size: memory(at, size), 5)
        if name != HUGE:
            yield Point(_what(name, size, "file"), lambda n=name, s=size: from_file(at, n, s), 10 + 12 * size / 1e9)
        _release(at.device)


def _what(name: str, size: int, way: str) -> dict[str, Any]:
    return {"model": name, "bytes": size, "way": way}


def _timed(at: Setting, work: Callable[[], None]) -> dict[str, Any]:
    return {"load_s": seconds(at.device, work, at.repeats)}


def _ways(sides: Sides, pieces: int, chunk: int) -> dict[str, Callable[[], None]]:
    """`tensors` copies as many pieces as the model has tensors; `staged` goes from pageable through pinned memory."""
    each = -(-sides.size // pieces)
    ways: dict[str, Callable[[], None]] = {
        "pageable": lambda: sides.there.copy_(sides.pageable),
        "pinned": lambda: sides.there.copy_(sides.pinned, non_blocking=True),
        "tensors": lambda: _pieces(sides.there, sides.pinned, each),
        "tensors-pageable": lambda: _pieces(sides.there, sides.pageable, each),
    }
    for streams in STREAMS if sides.device.is_gpu else ():
        ways[f"streams-{streams}"] = lambda n=streams: _streamed(sides, n, chunk)
    for threads in THREADS:
        ways[f"staged-{threads}"] = Staged(sides, threads, chunk)
    return ways


def _pieces(to: Any, source: Any, each: int) -> None:
    for begin in range(0, len(to), each):
        to[begin : begin + each].copy_(source[begin : begin + each], non_blocking=True)


def _streamed(sides: Sides, count: int, chunk: int) -> None:
    """Chunks of pinned memory by several streams in turn."""
    streams = [torch.cuda.Stream(sides.device.at) for _ in range(count)]
    for number, begin in enumerate(range(0, sides.size, chunk)):
        with torch.cuda.stream(streams[number % count]):
            sides.there[begin : begin + chunk].copy_(sides.pinned[begin : begin + chunk], non_blocking=True)


class Staged:
    """Chunks of pageable memory through pinned buffers, by several threads, each with two buffers and a stream."""

    def __init__(self, sides: Sides, threads: int, chunk: int):
        self.sides, self.threads, self.chunk = sides, threads, chunk

    @cached_property
    def _buffers(self) -> list[tuple[Any, Any]]:
        device = self.sides.device
        return [(device.host_bytes(self.chunk), device.host_bytes(self.chunk)) for _ in range(self.threads)]

    def __call__(self) -> None:
        there, source, buffers = self.sides.there, self.sides.pageable, self._buffers
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(lambda n: self._lane(there, source, buffers[n], n), range(self.threads)))

    def _lane(self, there: Any, source: Any, buffers: tuple[Any, Any], lane: int) -> None:
        device = self.sides.device
        stream = torch.cuda.Stream(device.at) if device.is_gpu else None
        left = [torch.cuda.Event(), torch.cuda.Event()] if device.is_gpu else []
        with torch.cuda.stream(stream) if stream else nullcontext():
            for turn, begin in enumerate(range(lane * self.chunk, self.sides.size, self.threads * self.chunk)):
                part = source[begin : begin + self.chunk]
                buffer = buffers[turn % 2][: len(part)]
                if left and turn > 1:
                    left[turn % 2].synchronize()
                buffer.copy_(part)
                there[begin : begin + self.chunk].copy_(buffer, non_blocking=True)
                if left:
                    left[turn % 2].record()
        if stream:
            stream.synchronize()


def memory(at: Setting, size: int) -> dict[str, Any]:
    """Seconds to get memory on the device from the driver, and to give it back: an eviction without an arena."""
    got, given = [], []
    for _ in range(at.repeats):
        held: list[Any] = []
        got.append(once(at.device, lambda held=held: held.append(_fresh(at.device, size))))
        given.append(once(at.device, lambda held=held: _give(at.device, held)))
    return {"allocate_s": got, "evict_s": given}


def _fresh(device: Device, size: int) -> Any:
    return torch.empty(size, dtype=torch.uint8, device=device.at)


def _give(device: Device, held: list[Any]) -> None:
    held.clear()
    if device.is_gpu:
        torch.cuda.empty_cache()


def from_file(at: Setting, name: str, size: int) -> dict[str, Any]:
    """From a safetensors file: in the page cache, and after the kernel was asked to drop it."""
    from safetensors.torch import load_file

    path = at.scratch / f"{name}.safetensors"
    free = shutil.disk_usage(at.scratch).free
    if free < 1.2 * size:
        raise SettingFailure(f"{size / 1e9:.1f} GB are not free there, {free / 1e9:.1f} are", where=str(at.scratch))
    where = f"cuda:{torch.cuda.current_device()}" if at.device.is_gpu else "cpu"
    repeats, cold = min(at.repeats, 3), []
    try:
        began = time.perf_counter()
        _write(path, size, tensors(name, at.smoke))
        wrote_s = time.perf_counter() - began
        cached = seconds(at.device, lambda: load_file(path, device=where), repeats)
        for _ in range(repeats):
            _drop(path)
            cold.append(once(at.device, lambda: load_file(path, device=where)))
    finally:
        path.unlink(missing_ok=True)
    return {"cached_s": cached, "cold_s": cold, "write_s": wrote_s, "filesystem": filesystem(at.scratch)}


def filesystem(path: Path) -> str:
    """The kind that holds `path`: what is in memory, such as tmpfs, has no drive to read from."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    over = [(len(point), kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    return max(over, default=(0, "unknown"))[1]


def _write(path: Path, size: int, pieces: int) -> None:
    """A safetensors file of random bytes, made without holding them all."""
    each = size // pieces
    part = os.urandom(each)
    spans = {
        f"t{n}": {"dtype": "U8", "shape": [each], "data_offsets": [n * each, (n + 1) * each]} for n in range(pieces)
    }
    header = json.dumps(spans).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _ in range(pieces):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def _drop(path: Path) -> None:
    """Ask the kernel to forget the file's pages."""
    file = os.open(path, os.O_RDONLY)
    try:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


STARTING = """
import json, sys, time
began = time.perf_counter()
if sys.argv[1] == "cpu":  # a smoke test, which need not wait for them
    print([0.0, 0.0, 0.0]), sys.exit()
import torch
torch_s = time.perf_counter() - began
import transformers.models.llama.modeling_llama
imported_s = time.perf_counter() - began
torch.ones(1, device=sys.argv[1]).sum().item()
print(json.dumps([torch_s, imported_s - torch_s, time.perf_counter() - began - imported_s]))
"""


def start(at: Setting) -> dict[str, Any]:
    """A process from nothing to a device that it has computed something on."""
    parts: list[list[float]] = [[], [], [], []]
    for _ in range(1 if at.smoke else min(at.repeats, 3)):
        began = time.perf_counter()
        command = [sys.executable, "-c", STARTING, str(at.device.at)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        for samples, value in zip(parts, [time.perf_counter() - began, *json.loads(told)], strict=True):
            samples.append(value)
    names = ("start_s", "import_torch_s", "import_transformers_s", "context_s")
    return dict(zip(names, parts, strict=True))


def _release(device: Device) -> None:
    """Give cached memory back, pinned memory too where torch can."""
    if device.is_gpu:
        torch.cuda.empty_cache()
        getattr(torch._C, "_host_emptyCache", lambda: None)()
