"""Who does pieces of work that do not depend on each other: this process, several here, or those of a Ray cluster.

Whatever an executor is given can be pickled, and results do not depend on who made them, in which order, or beside
what. The one on Ray has a file of its own, toolkit/on_ray.py.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from toolkit.errors import Failure, InputFailure, printable
from toolkit.plugins import own_mistake

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed:
    """Why there is no result, in one line; `detail` is the traceback of what should not have happened."""

    said: str
    detail: str | None = None


class Executor(Protocol):
    """Does pieces of work that do not depend on each other."""

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result | Failed]]:
        """Every item once, with what `work` made of it, as they are done."""
        ...

    def close(self) -> None:
        """Stop at once; what is under way is lost."""
        ...


class Keeping(Executor, Protocol):
    """Leaves what was made where it was made, until somebody asks for it or makes something else of it."""

    def begin(self, work: Callable[..., Sequence[Any]], *given: Any, results: int = 1) -> list[Any]:
        """Begin a piece of work that has so many results, each of which gets a handle.

        Each of `given` may be a handle; work that is given what there is none of is not done.
        """
        ...

    def end(self, begun: Any) -> Any:
        """What the handle stands for, once it is there; raises why there is none."""
        ...


def result_of(found: Result | Failed) -> Result:
    """The result; raises InputFailure where there is none."""
    if not isinstance(found, Failed):
        return found
    raise RuntimeError(found.detail) if found.detail else InputFailure(found.said)


def results_of(work: Callable[..., Sequence[Any]], results: int, given: Sequence[Any]) -> list[Any]:
    """So many results, or as often why there are none."""
    lacking = next((one for one in given if isinstance(one, Failed)), None)
    made = attempt(work, *given) if lacking is None else lacking
    return [made] * results if isinstance(made, Failed) else list(made)


def attempt(work: Callable[..., Result], *given: Any) -> Result | Failed:
    """The result, or why there is none."""
    try:
        return work(*given)
    except Failure as failure:
        return Failed(str(failure))
    except Exception as error:
        if (own := own_mistake(error)) is not None:
            return Failed(printable(str(own)))
        what = printable(str(error).split("\n", 1)[0])
        return Failed(f"{type(error).__name__}: {what}", traceback.format_exc())


class InProcess:
    """One after the other, here."""

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result | Failed]]:
        for item in items:
            yield item, attempt(work, item)

    def begin(self, work: Callable[..., Sequence[Any]], *given: Any, results: int = 1) -> list[Any]:
        return results_of(work, results, given)

    def end(self, begun: Any) -> Any:
        return result_of(begun)

    def close(self) -> None:
        """Nothing is under way."""


class LocalProcesses:
    """Worker processes on this machine, each with one piece of work at a time.

    The first piece is done here, before there are any: what it compiles is compiled once, and not by each of them.
    """

    def __init__(self, workers: int):
        self.workers, self.warm = workers, False
        self._others = set(multiprocessing.active_children())
        self._pool = _pool(workers)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result | Failed]]:
        waiting, running = deque(items), dict[Future[Any], Item]()
        if waiting and not self.warm:
            self.warm = True
            yield waiting[0], attempt(work, waiting.popleft())
        while waiting or running:
            self._hand_out(work, waiting, running)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                suspects = list(running.values())
                running.clear()
                self._restart()
                yield from ((item, self._by_itself(work, item)) for item in suspects)
                continue
            for future in done:
                yield running.pop(future), future.result()

    def _hand_out(self, work: Callable[[Item], Result], waiting: deque[Item], running: dict[Future[Any], Item]) -> None:
        """Give every worker something to do."""
        while waiting and len(running) < self.workers:
            try:
                running[self._pool.submit(attempt, work, waiting[0])] = waiting[0]
            except BrokenProcessPool:
                if running:  # they say so themselves
                    return
                self._restart()
            else:
                waiting.popleft()

    def _by_itself(self, work: Callable[[Item], Result], item: Item) -> Result | Failed:
        """Where a process died, nobody knows by whose fault: each that was under way is tried alone."""
        try:
            return self._pool.submit(attempt, work, item).result()
        except BrokenProcessPool:
            self._restart()
            return Failed("its process died, as when memory runs out; try fewer --workers")

    def _restart(self) -> None:
        self._pool.shutdown(wait=True)
        self._pool = _pool(self.workers)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - self._others:
            child.terminate()
            child.join()


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _settle)


def _settle() -> None:
    """A worker leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=partial(_follow, parent), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local(workers: int) -> Executor:
    """This process for one worker, processes of their own for several."""
    return InProcess() if workers == 1 else LocalProcesses(workers)
