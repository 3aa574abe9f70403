"""Work on a Ray cluster. Only this file and those that have it in their name import Ray, and only when asked to.

Ray carries data to where work is done and says who is there. A piece whose result comes here is tried again by nobody
but us, so that it is counted, and named when it was in vain. What is left on the cluster for other pieces Ray itself
makes again, where it is lost with a worker or a host.
"""

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from toolkit.errors import Failure, RunFailure, SettingFailure, printable
from toolkit.executors import Failed, attempt, result_of, results_of
from toolkit.runs import versions

Item = TypeVar("Item")
Result = TypeVar("Result")
Prepare = Callable[[], None]

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
TRIES = 3  # of a piece whose worker was lost; of one that failed unexpectedly, one less
AHEAD = 4  # pieces given out for each core, so that a cluster that grows on demand sees what is wanted
LOOK_S = 1.0
KEPT = 8  # things that were put into the object store once, and are kept unpacked in a worker


def ray_module() -> Any:
    """Ray, or one line that says how to get it."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        hint = "install it with: pip install 'trace-toolkit[ray]'"
        raise SettingFailure("Ray is not installed", where="--on", hint=hint) from error
    return ray


def connect(on: str) -> Any:
    """Ray, connected to what `on` names: the cluster at hand (else one on this machine), or the one at ray://…"""
    ray = ray_module()
    _keep_stdout(ray)
    if ray.is_initialized():
        return ray
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    address = on if on.startswith("ray://") else None
    try:
        here = {} if address or os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of them is in the failure
            ray.init(address=address, **quiet, **here)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ImportError) as error:
        what = printable(str(error).strip().split("\n", 1)[0])
        hint = "start a cluster with `ray start --head`, or name one as ray://HOST:10001"
        if address:
            hint = "is it there, and does it ask for a token? Then set RAY_AUTH_MODE=token here, too"
        raise SettingFailure(f"cannot connect ({what})", where=f"--on {on}", hint=hint) from error
    return ray


def _keep_stdout(ray: Any) -> None:
    """Ray prints what happened to hosts on stdout, which belongs to results; here each command says its own."""
    worker: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda data, ignore_prefix: None


@dataclass
class Spent:
    """What a cluster has done so far."""

    pieces: int = 0
    core_s: float = 0.0
    hosts: set[str] = field(default_factory=set)
    again: int = 0  # pieces given out anew

    def said(self) -> str:
        hosts = f"{len(self.hosts)} host{'s' if len(self.hosts) != 1 else ''}"
        again = f", {self.again} tried again" if self.again else ""
        return f"{self.core_s / 3600:.3g} core-hours on {hosts}{again}"


@dataclass(frozen=True)
class _Piece:
    """A piece of work that is under way."""

    item: Any
    tries: int = 1


class RayTasks:
    """Tasks of one core each, on whatever hosts the cluster has; `prepare` runs first in each worker process."""

    def __init__(self, on: str, workers: int | None = None, prepare: Prepare | None = None):
        self._ray = connect(on)
        self._workers = workers
        self._prepare = self._ray.put((prepare, versions()))
        self._piece = self._ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_work)
        self._kept = self._ray.remote(num_cpus=1, max_retries=TRIES, scheduling_strategy="SPREAD")(_work_kept)
        self._running: dict[Any, _Piece] = {}
        self._begun: list[Any] = []  # what each piece that was begun says it has spent
        self._works: dict[int, tuple[Any, Any]] = {}
        self.spent = Spent()

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result | Failed]]:
        put = {"prepare": [self._prepare], "work": [self._ray.put(work)]}
        waiting = deque(_Piece(item) for item in items)
        while waiting or self._running:
            while waiting and len(self._running) < self._most():
                piece = waiting.popleft()
                self._running[self._piece.remote(put, piece.item)] = piece
            done, _ = self._ray.wait(list(self._running), timeout=LOOK_S)
            for reference in done:
                piece = self._running.pop(reference)
                result, final = self._taken(reference, piece)
                if final:
                    yield piece.item, result
                else:
                    self.spent.again += 1
                    waiting.append(replace(piece, tries=piece.tries + 1))

    def _most(self) -> int:
        """How many pieces to have given out; a host that joins brings its cores."""
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        return self._workers or max(1, AHEAD * cores)

    def _taken(self, reference: Any, piece: _Piece) -> tuple[Any, bool]:
        """What became of a piece, and whether that is its end."""
        try:
            result, core_s, host = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Failed(lost(error)), piece.tries >= TRIES
        except (ConnectionError, OSError) as error:
            raise RunFailure("the Ray cluster is gone", where="--on", hint="the same command goes on") from error
        self._count(core_s, host)
        unexpected = isinstance(result, Failed) and result.detail is not None
        return result, not unexpected or piece.tries >= TRIES - 1

    def begin(self, work: Callable[..., Sequence[Any]], *given: Any, results: int = 1) -> list[Any]:
        if id(work) not in self._works:
            self._works[id(work)] = work, self._ray.put(work)
        put = {"prepare": [self._prepare], "work": [self._works[id(work)][1]]}
        made: list[Any]
        *made, spent = self._kept.options(num_returns=results + 1).remote(put, results, *given)
        self._begun.append(spent)
        return made

    def end(self, begun: Any) -> Any:
        try:
            return result_of(self._ray.get(begun))
        except self._ray.exceptions.RayError as error:
            raise RunFailure(f"a piece of work was lost ({lost(error)})", where="--on", hint="try again") from error

    def _count(self, core_s: float, host: str) -> None:
        self.spent.pieces += 1
        self.spent.core_s += core_s
        self.spent.hosts.add(host)

    def close(self) -> None:
        known = self._ray.wait(self._begun, num_returns=len(self._begun), timeout=0) if self._begun else ([], [])
        done, under_way = known
        for reference in [*self._running, *under_way]:
            self._ray.cancel(reference, force=True)
        for core_s, host in self._known(done):
            self._count(core_s, host)
        self._running.clear()
        self._begun.clear()

    def _known(self, done: Sequence[Any]) -> Iterator[tuple[float, str]]:
        """What pieces have spent, of those that were not lost."""
        for reference in done:
            with suppress(self._ray.exceptions.RayError):
                yield self._ray.get(reference)


def lost(error: Exception) -> str:
    """Why a piece came back without a result, in one line."""
    why = {
        "OutOfMemoryError": "its host ran out of memory",
        "WorkerCrashedError": "its process died, as when memory runs out",
        "NodeDiedError": "its host was lost",
        "RayActorError": "its process died, or its host was lost",
        "ActorDiedError": "its process died, or its host was lost",
        "TaskCancelledError": "it was stopped",
    }
    name = type(error).__name__
    return why.get(name) or printable(str(error).strip().splitlines()[-1])


# What follows runs in Ray's worker processes.

_kept: dict[Any, Any] = {}
_prepared: set[Any] = set()


def kept(reference: Any) -> Any:
    """What was put into the object store, unpacked once in each process."""
    import ray

    if reference not in _kept:
        while len(_kept) >= KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[reference] = ray.get(reference)
    return _kept[reference]


def _work(put: dict[str, list[Any]], item: Any) -> tuple[Any, float, str]:
    """A piece's result, the seconds that it took and its host."""
    began_s = time.monotonic()
    result = _unprepared(put) or attempt(kept(put["work"][0]), item)
    return result, time.monotonic() - began_s, _host()


def _work_kept(put: dict[str, list[Any]], results: int, *given: Any) -> list[Any]:
    """A piece's results, and after them the seconds that it took with its host."""
    began_s = time.monotonic()
    failed = _unprepared(put)
    made = [failed] * results if failed else results_of(kept(put["work"][0]), results, given)
    return [*made, (time.monotonic() - began_s, _host())]


def _unprepared(put: dict[str, list[Any]]) -> Failed | None:
    try:
        _prepare_once(put["prepare"][0])
    except Failure as failure:
        return Failed(str(failure))
    return None


def _prepare_once(reference: Any) -> None:
    if reference in _prepared:
        return
    import ray

    prepare, wanted = ray.get(reference)
    check_versions(wanted)
    if prepare is not None:
        prepare()
    _prepared.add(reference)


def check_versions(wanted: dict[str, str]) -> None:
    """Raise SettingFailure where this host would not give the same bytes."""
    here = versions()
    differ = [f"{name} {here.get(name)} instead of {v}" for name, v in wanted.items() if here.get(name) != v]
    if differ:
        what, hint = f"a host has {', '.join(differ)}", "install the same versions on all"
        raise SettingFailure(what, where=os.uname().nodename, hint=hint)


def _host() -> str:
    import ray

    return f"{os.uname().nodename}:{ray.get_runtime_context().get_node_id()}"
