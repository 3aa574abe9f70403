"""What was measured on: the machine's facts, its memory bandwidth, and what a process took."""

import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from toolkit.runs import versions

TRACE = (sys.executable, "-c", "from toolkit.cli import main; main()")


@dataclass(frozen=True)
class Spent:
    """What one process took."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str


def spent(command: Sequence[object], **environment: str) -> Spent:
    """Run `command` to its end, as users do: with its bytecode kept. CalledProcessError when it fails."""
    began = time.perf_counter()
    words = [str(word) for word in command]
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | environment
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=given)
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words, output)
    unit = 1 if sys.platform == "darwin" else 1024
    return Spent(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * unit, output)


def made_apart(work: Callable[..., object], *arguments: object) -> None:
    """Run `work` in a process of its own: what this one ever held would count as `spent` by those it starts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(work, *arguments).result()


def bandwidth_bytes_per_s(size: int = 2**28, repeats: int = 5) -> float:
    """What copying a large array moves: bytes read and written in a second by one core."""
    source, target = np.ones(size // 8), np.zeros(size // 8)
    best = np.inf
    for _ in range(repeats):
        began = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - began)
    return 2 * size / best


def oversleeping(seconds: float = 5.0) -> str:
    """How late the machine itself wakes a sleep of 1 ms while another process computes."""
    busy = f"import time; end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    beside = subprocess.Popen([sys.executable, "-c", busy])
    late, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        time.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)
    beside.wait()
    p50, p99, most = np.quantile(late, [0.5, 0.99, 1.0]) * 1e3
    return f"p50 {p50:.2f}, p99 {p99:.2f}, at most {most:.1f} ms"


def facts() -> dict[str, str]:
    """Date, processor, cores, load and versions."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load when begun": load,
        **versions(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
