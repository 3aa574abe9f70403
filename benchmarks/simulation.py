"""The simulated engine beside NVIDIA Dynamo's offline replay, in one run, as ratios.

    python -m benchmarks.simulation [--traces FOLDER] [--dynamo PYTHON] [--largest N] [--save]

Limits as in the peer's settings: one engine, blocks of 16 tokens, 256 sequences, 2048 tokens a step, chunked prefill,
no prefix cache. The two tools time steps by models of their own, so what is compared is the work of simulating the same
requests. `core` is run.json's simulation_cpu_s, `command` all of `trace replay`, which simulates twice (for ρ). How to
set up the peer is said in benchmarks/dynamo_peer.py.
"""

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import traffic
from benchmarks.machine import TRACE, bandwidth_bytes_per_s, facts, spent
from replay.latency_models.roofline import Roofline
from replay.schedulers.fcfs import FCFS
from replay.simulation.driver import Driver
from replay.simulation.lowering import lower
from replay.simulation.setup import Limits
from toolkit import plugins
from toolkit.traces import TraceInfo

RESULTS = Path(__file__).parent / "results"
SETTINGS = "--gpu h100 --model-preset llama-3.1-8b --no-prefix-caching --max-num-seqs 256 --max-num-batched-tokens 2048"
MODERATE = (10.0, 16_384)  # requests a second, KV blocks
HIGH = (30.0, 6_144)  # about one preemption in ten requests
PEER_MOST = 100_000  # requests: it keeps more than 10 kB of each
OWN_POLICIES = '''"""Policies of a user: one that ranks, and one that is called back at every decision."""

import numpy as np

class Ranking:
    """Longer prompts later, as if they had come a second later for each thousand tokens."""

    def rank(self, requests, now_s):
        return (requests["prompt_tokens"] / 1000 + requests["arrival_s"]).to_numpy()

class Ordering(Ranking):
    """The same, decided anew at every decision."""

    def order(self, waiting, now_s):
        return np.argsort(waiting["prompt_tokens"] / 1000 + waiting["arrival_s"], kind="stable")
'''
OWN = {"Ranking": "a user's file, `rank`", "Ordering": "a user's file, `order` in NumPy at every decision"}


@dataclass(frozen=True)
class Replay:
    """What one `trace replay` took."""

    requests: int
    steps: int
    preemptions: int
    utilisation: float
    core_s: float
    command_s: float
    wall_s: float
    peak_bytes: int

    @property
    def core_per_s(self) -> float:
        return self.requests / self.core_s

    @property
    def command_per_s(self) -> float:
        return self.requests / self.command_s


def replay(trace: Path, scheduler: str, blocks: int, times: int = 3, **environment: str) -> Replay:
    """Replay `trace` by the command; the run whose core was fastest, in CPU time."""
    return min((_replay(trace, scheduler, blocks, environment) for _ in range(times)), key=lambda found: found.core_s)


def _replay(trace: Path, scheduler: str, blocks: int, environment: dict[str, str]) -> Replay:
    with tempfile.TemporaryDirectory() as out:
        command = [*TRACE, "replay", trace, *SETTINGS.split(), "--kv-blocks", blocks]
        took = spent([*command, "--scheduler", scheduler, "--out", out], **environment)
        infos = [json.loads(path.read_text()) for path in Path(out).glob("*/run.json")]
    return Replay(
        *(sum(info[name] for info in infos) for name in ("requests", "steps", "preemptions")),
        utilisation=infos[0]["utilisation"] or 0.0,
        core_s=sum(info["simulation_cpu_s"] for info in infos),
        command_s=took.cpu_s,
        wall_s=took.wall_s,
        peak_bytes=took.peak_bytes,
    )


def peer(python: str, trace: Path, blocks: int) -> dict[str, float]:
    """The same trace through Dynamo: requests, cpu_s, peak_bytes."""
    script = Path(__file__).with_name("dynamo_peer.py")
    found: dict[str, float] = json.loads(spent([python, script, trace, blocks]).output.splitlines()[-1])
    return found


def state_bytes() -> float:
    """Bytes of the core's state a request, exactly: what a thousand requests more add."""
    return (_state_size(2_000) - _state_size(1_000)) / 1_000


def _state_size(count: int) -> int:
    limits = Limits(kv_blocks=16_384, max_model_len=32_768, prefix_caching=False)
    latency = lower(Roofline(gpu="h100", model="llama-3.1-8b"), 2_048, 256, 32_768)
    frame = traffic.generated(count, 10.0, None)
    driver = Driver.prepare(frame, TraceInfo("t", "t", "", count, count), FCFS(), limits, latency, closed=True)
    return sum(array.nbytes for array in driver.state if isinstance(array, np.ndarray))


def cases(traces: Path, largest: int) -> dict[str, tuple[pl.DataFrame, int]]:
    """Traces by name, each with its KV blocks."""
    conversation = traffic.conversation(traces)
    found: dict[str, tuple[pl.DataFrame, int]] = {}
    if conversation is None:
        print(f"skipped: the Azure 2023 conversation trace is not at {traces / traffic.CONVERSATION}")
    else:
        found["azure conversation"] = (conversation, MODERATE[1])
    for count in sorted({min(100_000, largest), largest}):
        for load, (per_s, blocks) in (("moderate", MODERATE), ("high", HIGH)):
            found[f"{count:,} {load}"] = (traffic.generated(count, per_s, conversation), blocks)
    return found


def compare(given: dict[str, tuple[pl.DataFrame, int]], folder: Path, dynamo: str | None) -> dict[str, Any]:
    """Every case by name: ours, and the peer's where it can run."""
    found: dict[str, Any] = {}
    for name, (frame, blocks) in given.items():
        parquet, mooncake = traffic.write_both(frame, folder, name.replace(" ", "-").replace(",", ""))
        ours = replay(parquet, "fcfs", blocks)
        theirs = peer(dynamo, mooncake, blocks) if dynamo and len(frame) <= PEER_MOST else None
        found[name] = {"ours": asdict(ours), "peer": theirs, "file": str(parquet), "blocks": blocks}
        print(line(name, found[name]), flush=True)
    return found


def line(name: str, case: dict[str, Any]) -> str:
    """A case as a row of the table."""
    ours, theirs = Replay(**case["ours"]), case["peer"]
    cells = [
        name,
        f"{ours.utilisation:.2f}",
        f"{ours.preemptions / ours.requests:.1%}",
        f"{ours.core_per_s:,.0f}",
        f"{ours.command_per_s:,.0f}",
        f"{ours.steps / ours.core_s / 1e6:.1f} M",
        f"{ours.peak_bytes / 1e6:.0f}",
    ]
    if theirs:
        rate = theirs["requests"] / theirs["cpu_s"]
        cells += [f"{rate:,.0f}", f"{theirs['peak_bytes'] / 1e6:.0f}"]
        cells += [f"**{ours.core_per_s / rate:.0f}**", f"{ours.command_per_s / rate:.0f}"]
    else:
        cells += ["–"] * 4
    return "| " + " | ".join(cells) + " |"


COLUMNS = (
    *("trace", "ρ", "preempted", "core req/s", "command req/s", "steps/s", "MB"),
    *("peer req/s", "peer MB", "core ratio", "command ratio"),
)
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def policies(file: Path, blocks: int, folder: Path) -> list[str]:
    """Each built-in scheduler, and a user's own, against FCFS: core requests a CPU second."""
    own = folder / "mine.py"
    own.write_text(OWN_POLICIES)
    specs = {name: name for name in plugins.BUILTIN["scheduler"]}
    specs |= {said: f"{own}:{name}" for name, said in OWN.items()}
    found = {}
    for name, spec in specs.items():
        try:
            found[name] = replay(file, spec, blocks, times=2).core_per_s
        except subprocess.CalledProcessError:  # a policy may need columns that the trace has not
            print(f"skipped scheduler {name}: it cannot rank this trace")
    rows = ["| scheduler | core req/s | of FCFS |", "|---|---|---|"]
    rows += [f"| {name} | {rate:,.0f} | {rate / found['fcfs']:.2f} |" for name, rate in found.items()]
    return rows


def findings(cases_: dict[str, Any], folder: Path) -> list[str]:
    """Start-up, growth, both cores, and how far the core is from what the memory could do."""
    tiny = traffic.write_both(traffic.generated(10, 10.0, None), folder, "tiny")[0]
    warm = replay(tiny, "fcfs", 16_384)
    with tempfile.TemporaryDirectory() as cold:
        compiling = replay(tiny, "fcfs", 16_384, times=1, NUMBA_CACHE_DIR=cold)
    compile_s, largest = compiling.wall_s - warm.wall_s, _largest(cases_)
    return [
        f"- Ten requests, compile cache warm: {warm.wall_s:.2f} s wall; first compile: {compile_s:.1f} s more.",
        *_growth(cases_),
        *_both_cores(Path(largest["file"]), largest["blocks"]),
        *_limit(largest),
    ]


def _largest(found: dict[str, Any]) -> dict[str, Any]:
    moderate = [case for name, case in found.items() if "moderate" in name]
    result: dict[str, Any] = max(moderate, key=lambda case: case["ours"]["requests"])
    return result


def _growth(found: dict[str, Any]) -> list[str]:
    moderate = sorted((c["ours"]["requests"], c["ours"]["peak_bytes"]) for n, c in found.items() if "moderate" in n)
    rows = [f"- State of the core: {state_bytes():.0f} bytes a request."]
    if len(moderate) > 1:
        (few, small), (many, large) = moderate[0], moderate[-1]
        rows.append(f"- Peak memory of the command grows by {(large - small) / (many - few):.0f} bytes a request.")
    theirs = sorted((c["peer"]["requests"], c["peer"]["peak_bytes"]) for c in found.values() if c["peer"])
    if len(theirs) > 1:
        (few, small), (many, large) = theirs[0], theirs[-1]
        rows.append(f"- The peer's grows by {(large - small) / (many - few):,.0f} bytes a request.")
    return rows


def _both_cores(file: Path, blocks: int) -> list[str]:
    alone = sum(replay(file, spec, blocks, times=1).wall_s for spec in ("fcfs", "sjf"))
    together = replay(file, "fcfs,sjf", blocks, times=1).wall_s
    return [
        f"- Two replays at once: {together:.1f} s wall; one after the other: {alone:.1f} s ({alone / together:.2f}×)."
    ]


def _limit(case: dict[str, Any]) -> list[str]:
    ours, bandwidth, size = Replay(**case["ours"]), bandwidth_bytes_per_s(), state_bytes()
    limit = bandwidth / (2 * size)
    return [
        f"- The limit: each request's state ({size:.0f} bytes) is read and written once at the "
        f"{bandwidth / 1e9:.1f} GB/s that one core copies: {limit / 1e6:.0f} million requests a CPU second. "
        f"The core reaches {ours.core_per_s / limit:.1%} of it; {ours.core_s / ours.steps * 1e9:.0f} ns a step, "
        f"{1e9 / ours.core_per_s:.0f} ns a request."
    ]


def main() -> None:
    """Print the tables; with --save also write them beside this file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"), help="folder of public traces")
    parser.add_argument("--dynamo", default=os.environ.get("DYNAMO_PYTHON"), help="the peer's Python")
    parser.add_argument("--largest", type=int, default=1_000_000, help="requests of the largest generated trace")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}/simulation.md and .json")
    options = parser.parse_args()
    machine = facts()
    if not options.dynamo:
        print("skipped: the peer; set it up as benchmarks/dynamo_peer.py says and name its Python with --dynamo")
    with tempfile.TemporaryDirectory() as folder:
        print(HEADER)
        found = compare(cases(options.traces, options.largest), Path(folder), options.dynamo)
        extra = findings(found, Path(folder))
        moderate = next(case for name, case in found.items() if "moderate" in name)
        ranked = policies(Path(moderate["file"]), moderate["blocks"], Path(folder))
    print("\n".join(["", *ranked, "", *extra]))
    if options.save:
        save(machine, found, ranked, extra)


def save(machine: dict[str, str], found: dict[str, Any], ranked: list[str], extra: list[str]) -> None:
    """Write the tables as Markdown, and the figures as JSON."""
    RESULTS.mkdir(exist_ok=True)
    about = "; ".join(f"{key} {value}" for key, value in machine.items())
    table = [HEADER, *(line(name, case) for name, case in found.items())]
    title = [
        "# The simulated engine beside Dynamo's offline replay",
        "",
        f"`python -m benchmarks.simulation`: {about}.",
        "",
    ]
    (RESULTS / "simulation.md").write_text("\n".join([*title, *table, "", *ranked, "", *extra]) + "\n")
    cases_ = {name: {key: case[key] for key in ("ours", "peer", "blocks")} for name, case in found.items()}
    (RESULTS / "simulation.json").write_text(json.dumps({"machine": machine, "cases": cases_}, indent=2) + "\n")


if __name__ == "__main__":
    main()
