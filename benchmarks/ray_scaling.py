"""What a second worker is worth on Ray, and what would be full first with a hundred hosts.

    python -m benchmarks.ray_scaling [--rows N] [--points N] [--save]

Nodes on this machine, each held to a core of its own: 1, then 2; the command has what they leave it. What is measured:
a sweep, an analysis of time-partitioned Parquet, a workload of several streams; what one piece costs whoever gives
it out, and what the command itself spends on an analysis and a generation, in CPU time: no worker takes these off it.
The rest is arithmetic on these figures, with its assumptions beside it. On a busy machine the figures are of the
neighbours.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import facts
from replay.sweep.on_ray import Sent
from replay.sweep.points import Point, grid
from replay.sweep.source import Source
from replay.sweep.spec import load_sweep
from replay.sweep.work import Demand, Task, row_of
from toolkit.analyses_in_parts import analyse_parts
from toolkit.on_ray import RayTasks, ray_module
from toolkit.parts import open_parts
from workloads.generate_on_ray import generate_on_ray
from workloads.generate_parts import generate_parts
from workloads.generate_spec import read_spec

RESULTS = Path(__file__).parent / "results"
STORE_BYTES = 600_000_000
HOSTS, CORES = 100, 16
QUIET = 1.5  # load average above which figures say little
JOURNAL_BYTES = 330  # a request's line, as replays write it
EMPTY = 200
OWN = "of the command's own core"
STREAMS = 6
SWEEP = """
cluster: cluster.yaml
workload: w.yaml
schedulers: [fcfs, srpt]
gpus: [2, 4]
seeds: [{seeds}]
"""
CLUSTER = "gpus: [{type: h100, count: 2}]\nmodels:\n" + "".join(
    f"  - {{name: m{k}, preset: llama-3.1-8b}}\n" for k in range(STREAMS)
)


def nothing(item: int) -> int:
    return item


def workload(folder: Path, rows: int) -> Path:
    stream = "- {{rate_per_s: 20, models: m{k}, prompt_tokens: {{median: 500, sigma: 1}}, output_tokens: 60}}\n"
    text = f"span_s: {rows / 20 / STREAMS:g}\nstreams:\n" + "".join(stream.format(k=k) for k in range(STREAMS))
    path = folder / f"w{rows}.yaml"
    path.write_text(text)
    return path


def timed(work: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def measured(nodes: int, folder: Path, rows: int, points: int) -> dict[str, float]:
    """Seconds by what was done, on so many nodes."""
    ray = ray_module()
    from ray.cluster_utils import Cluster

    given = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    with held_to(0):
        cluster = Cluster(initialize_head=True, head_node_args=given | {"include_dashboard": False})
    for core in range(1, nodes):
        with held_to(core):
            cluster.add_node(**given)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        return _on(folder, nodes, rows, points)
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def held_to(core: int) -> Iterator[None]:
    """What is started meanwhile stays on one core: Ray counts cores, but holds nobody to them."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(ours)[core % len(ours)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def _on(folder: Path, nodes: int, rows: int, points: int) -> dict[str, float]:
    (folder / "w.yaml").write_text(workload(folder, 20_000).read_text())
    (folder / "cluster.yaml").write_text(CLUSTER)
    seeds = ", ".join(map(str, range(points // 4)))
    (folder / "sweep.yaml").write_text(SWEEP.format(seeds=seeds))
    source = Source(*load_sweep(folder / "sweep.yaml"))
    tasks = [Task(point, Demand(None, None), None) for point in grid(source.sweep, source.cluster)]
    sweep, plain = RayTasks("ray", prepare=Sent.of(source)), RayTasks("ray")
    first: Point = tasks[0].point
    list(sweep.map(_Row(source), [tasks[0]] * nodes))  # processes are there and prepared
    list(plain.map(nothing, range(nodes)))
    made = read_spec(workload(folder, rows), None)
    parts = folder / "parts"
    reading: dict[str, Any] = {"format": None, "columns": {}, "time_unit": None}
    if not parts.exists():
        generate_parts(made, parts, 1)

    def analysed() -> None:
        analyse_parts(open_parts([str(parts)], plain, reading), plain)

    analysed()  # once without being timed: what workers load, they load now
    found = {"sweep": timed(lambda: list(sweep.map(_Row(source), tasks)))}
    for name, work in (
        ("analyze", analysed),
        ("generate", lambda: generate_on_ray("ray", made, folder / f"parts-{nodes}-{first.seed}", 1)),
    ):
        begun_s = time.process_time()
        found[name] = timed(work)
        found[f"{name}, {OWN}"] = time.process_time() - begun_s
    return found | {"an empty piece": timed(lambda: list(plain.map(nothing, range(EMPTY)))) / EMPTY}


class _Row:
    def __init__(self, source: Source):
        self.source = source

    def __call__(self, task: Task) -> Any:
        return row_of(self.source, task)


def extrapolated(one: dict[str, float], points: int, rows: int) -> list[str]:
    """What limits a hundred hosts, by the figures of one worker."""
    cores, piece_s = HOSTS * CORES, one["an empty piece"]
    point_s, core_rows = one["sweep"] / points, rows / one["analyze"]
    return [
        f"With {HOSTS} hosts of {CORES} cores ({cores:,} cores), no core slower than this one and none shared:",
        f"- sweep: a point takes {point_s:.3g} s of a core and {1e3 * piece_s:.2g} ms of whoever gives it out, so he is"
        f" full at {point_s / piece_s:,.0f} cores with points as small as these; points ten times as long feed ten"
        " times as many",
        f"- analyze: {core_rows:,.0f} rows/s a core; the disk comes first: at 9 bytes a row in Parquet {cores:,} cores"
        f" would read {core_rows * cores * 9 / 1e9:,.1f} GB/s; the command spends"
        f" {one[f'analyze, {OWN}'] / rows * 1e9:,.0f} s on 10⁹ rows",
        f"- generate: {rows / one['generate']:,.0f} rows/s with one worker; as many actors make streams as there are"
        f" streams, at most; the command spends {one[f'generate, {OWN}'] / rows * 1e9:,.0f} s on 10⁹ rows besides"
        f" writing their files, so it is full at {rows / one[f'generate, {OWN}']:,.0f} rows/s",
        f"- replay: the driver appends {JOURNAL_BYTES} bytes a request and writes its row; at 1,000 requests/s a host"
        f" {HOSTS} hosts bring {HOSTS * 1000 * JOURNAL_BYTES / 1e6:.0f} MB/s",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    about, busy = facts(), os.getloadavg()[0]
    said = "quiet" if busy < QUIET else "busy: the figures say little"
    with tempfile.TemporaryDirectory(prefix="ray-scaling-") as scratch:
        found = {nodes: measured(nodes, Path(scratch), given.rows, given.points) for nodes in (1, 2)}
    title, _, purpose = (__doc__ or "").partition("\n")
    text = f"# {title.rstrip('.')}\n{purpose}\n{given.rows:,} rows, {given.points} points; the machine was {said}.\n\n"
    text += f"| | 1 worker | 2 workers | faster |\n|---|---|---|---|\n{rows_of(found)}\n\n"
    text += "\n".join(
        [*extrapolated(found[1], given.points, given.rows), "", *(f"- {k}: {v}" for k, v in about.items())]
    )
    print(text)
    if given.save:
        (RESULTS / "ray_scaling.md").write_text(text + "\n")


def rows_of(found: dict[int, dict[str, float]]) -> str:
    lines = [
        f"| {name} | {found[1][name]:.3g} s | {found[2][name]:.3g} s | {found[1][name] / found[2][name]:.2f} |"
        for name in found[1]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
