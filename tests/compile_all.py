"""Compiles the core before the tests, each part once and two at a time; else every test process compiles all of it.

python -m tests.compile_all
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from replay.placements.static import Static
from replay.schedulers.fcfs import FCFS
from replay.simulation.setup import Limits
from tests.replay import micro_batches
from tests.replay.clusters import cluster_of, replay_on, several
from tests.replay.simulations import simulate
from toolkit import plugins


def core() -> None:
    trace = several(["m"], 4, 10.0)
    simulate(trace, plugins.create("scheduler", "uniboost:rule=ratio"), Limits(kv_blocks=100))


def lockstep() -> None:
    simulate(several(["m"], 4, 10.0), FCFS(), Limits(kv_blocks=100, instances=2, lockstep=True))


def cluster() -> None:
    replay_on(cluster_of(["m"]), several(["m"], 4, 10.0), Static())


def micro_batch() -> None:
    micro_batches.serve(several(["m"], 4, 10.0), FCFS(), Limits(kv_blocks=100))


PARTS: tuple[Callable[[], None], ...] = (cluster, core, lockstep, micro_batch)


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(part) for part in PARTS]:
            done.result()
