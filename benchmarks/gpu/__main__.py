"""`make gpu`: measure on one CUDA GPU, in calls of minutes; each result is on disk when the next is begun.

python3 -m benchmarks.gpu --out FOLDER [--only NAME,…] [--budget-s 540] [--resume] [--device cuda]
"""

import argparse
import importlib
import math
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu import records
from benchmarks.gpu.children import METHODS, Died, called
from toolkit.errors import Failure, SettingFailure, nearest

MEASUREMENTS = ("pages", "kv", "weights", "steps", "preempt", "offload", "order", "sharing")
BEGIN_S, GRACE_S = 20.0, 20.0  # least time to begin a measurement with, and what one may run over
Count = tuple[int, int]
DRIVER = Path("/dev/nvidiactl")
ROUNDS = {True: 2, False: 5}  # repeats, when it is a smoke test and when it is not


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all was measured, 3 when something is left for another call, 1 when it cannot begin."""
    asked = _asked(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _all(asked)
    except KeyboardInterrupt:
        print(f"stopped; {asked.out} has what was measured, --resume goes on", file=sys.stderr)
        return 130
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure costs on one CUDA GPU.")
    parser.add_argument("--out", type=Path, required=True, help="folder of results, a file a measurement")
    parser.add_argument("--only", help=f"some of {', '.join(MEASUREMENTS)}")
    parser.add_argument("--budget-s", type=float, default=540.0, help="begin nothing that would end later (540)")
    parser.add_argument("--resume", action="store_true", help="measure what the folder lacks")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N; cpu is a smoke test with tiny models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int)
    return parser.parse_args(arguments)


def _all(asked: argparse.Namespace) -> int:
    deadline = time.monotonic() + asked.budget_s
    names = _names(asked.only)
    _check_folder(asked, names)
    facts = _facts(asked)
    asked.out.mkdir(parents=True, exist_ok=True)
    print(f"{facts.get('gpu', 'CPU: a smoke test, no measurement')}; {', '.join(names)} into {asked.out}", flush=True)
    left = failed = 0
    for name in names:
        more = _measured(name, asked, facts, deadline)
        left, failed = left + more[0], failed + more[1]
    print(_last_line(asked, left, failed), flush=True)
    return 3 if left else 0


def _names(only: str | None) -> list[str]:
    names = [word.strip() for word in only.split(",")] if only else list(MEASUREMENTS)
    for name in names:
        if name not in MEASUREMENTS:
            raise SettingFailure(f"no measurement '{name}'", where="--only", hint=nearest(name, MEASUREMENTS))
    return names


def _check_folder(asked: argparse.Namespace, names: Sequence[str]) -> None:
    there = [name for name in names if records.file_of(asked.out, name).exists()]
    if there and not asked.resume:
        hint = "--resume goes on with it, or name another folder"
        raise SettingFailure(f"has results of {', '.join(there)}", where=str(asked.out), hint=hint)


def _facts(asked: argparse.Namespace) -> dict[str, Any]:
    """What it runs on, or a Failure in one line where it cannot."""
    try:
        import torch  # noqa: F401  here, so that the processes that are forked need not

        importlib.import_module("transformers.models.llama.modeling_llama")

        from benchmarks.gpu.facts import described
    except ImportError as error:
        hint = "run it with a Python that has them, such as make gpu GPU_PYTHON=/path/to/python"
        raise SettingFailure(f"torch and transformers are needed ({error})", hint=hint) from error
    facts, asked.method = _described(described, asked.device)
    repeats = asked.repeats or ROUNDS[asked.device == "cpu"]
    return {**facts, "smoke": asked.device == "cpu", "seed": asked.seed, "repeats": repeats}


def _described(described: Callable[[str], dict[str, Any]], device: str) -> tuple[dict[str, Any], str]:
    """What the device is, and how processes that use it are started: one that was forked cannot where, against all
    care, an import here has touched the GPU.
    """
    for method in METHODS:
        try:
            return called(described, device, method=method, timeout_s=120), method
        except (Failure, Died) as error:
            if method == METHODS[-1] or device == "cpu" or not DRIVER.exists():
                why = error.what if isinstance(error, Failure) else str(error)
                hint = "run it on a machine with one, or see that it works: --device cpu"
                raise SettingFailure(f"no GPU to measure on: {why}", hint=hint) from error
    raise AssertionError


def _measured(name: str, asked: argparse.Namespace, facts: dict[str, Any], deadline: float) -> Count:
    """Points that are left, one at least where that cannot be told, and points that failed."""
    remaining = deadline - time.monotonic()
    if remaining < BEGIN_S:
        print(f"{name}: no time is left", flush=True)
        return 1, 0
    try:
        count: Count = called(_points, name, asked, facts, deadline, method=asked.method, timeout_s=remaining + GRACE_S)
    except (Died, Failure) as error:
        records.write(asked.out, name, {}, {"error": str(error)}, facts)
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return 1, 0
    return count


def _points(name: str, asked: argparse.Namespace, facts: dict[str, Any], deadline: float) -> Count:
    """Measure what is not there yet and what the time allows."""
    done, left, failed = records.done(asked.out, name), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        points = _module_points(name, asked, facts, Path(scratch))
        for point in points:
            if records.key(point.what) in done:
                continue
            if time.monotonic() + point.needs_s * (not facts["smoke"]) > deadline:
                left += 1
                continue
            good = _write(name, point, asked.out, facts)
            failed += not good
            if not good and not facts["smoke"]:
                _still_there()
            del point  # and with it what it holds on the device
    return left, failed


def _still_there() -> None:
    """An error may have spoilt the device for this process: then torch says so again, and the process ends."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def _module_points(name: str, asked: argparse.Namespace, facts: dict[str, Any], scratch: Path) -> Iterator[Any]:
    import torch

    from benchmarks.gpu.setting import Setting
    from replay.torch_engine.device import Device

    if facts["smoke"]:
        torch.set_num_threads(1)
    module = importlib.import_module(f"benchmarks.gpu.{name}")
    at = Setting(
        Device.of(asked.device),
        asked.seed,
        facts["repeats"],
        facts["smoke"],
        facts["free_bytes"],
        facts["host_free_bytes"],
        scratch,
    )
    points: Iterator[Any] = module.points(at)
    return points


def _write(name: str, point: Any, out: Path, facts: dict[str, Any]) -> bool:
    """Measure a point and write it down; whether it could be measured. What spoils the device ends the process."""
    began = time.perf_counter()
    try:
        told = records.told(point.work())
    except Exception as error:  # whatever it is, the other points are worth having
        traceback.print_exc()
        told = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    records.write(out, name, point.what, {**told, "wall_s": round(time.perf_counter() - began, 3)}, facts)
    print(_line(name, point.what, told), flush=True)
    return "error" not in told


def _line(name: str, what: dict[str, Any], told: dict[str, Any]) -> str:
    where = " ".join(f"{k}={v}" for k, v in what.items())
    found = [f"{k} {_short(v['median'])}" for k, v in told.items() if isinstance(v, dict) and "median" in v]
    return f"{name} {where}: {told.get('error') or ', '.join(found) or 'done'}"


def _short(value: float) -> str:
    if not value or not math.isfinite(value):
        return str(value)
    scale, unit = (1, "s") if value >= 1 else (1e3, "ms") if value >= 1e-3 else (1e6, "us")
    return f"{value * scale:.3g} {unit}"


def _last_line(asked: argparse.Namespace, left: int, failed: int) -> str:
    said = f"{failed} points failed, see their error; " if failed else ""
    if left:
        return f"{said}{left} points or more are left: run it again with --resume"
    return f"{said}the rest is measured: python -m benchmarks.gpu.tables {asked.out}"


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # looks for a GPU without touching it, before forks
    sys.exit(main())
