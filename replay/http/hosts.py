"""Sending processes on the hosts of a Ray cluster: begun there, told when to start by their own clock, listened to.

What they write down comes here as they go and lands in the same journals as if they were here. A host that is lost
costs what it had under way; what it had not begun to send is left for a resumed run.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import orjson

from replay.http.clock_wire import ask
from replay.http.clocks import Aligned, Exchange, aligned, drift
from replay.http.crew import GRACE_S, READY_S
from replay.http.endpoint import HEADERS, KEY
from replay.http.outpost import Outpost
from toolkit.errors import RunFailure
from toolkit.on_ray import connect, lost

LEAD_S = 2.0  # between the order to start and the start: it has to reach every host
LOOK_S = 0.1
ALIGN_EVERY_S = 5.0
BY_RAY = 16  # exchanges, where the clock's own port cannot be reached
NAMED = ("plan", "turns", "journal")


class _Placed(Outpost):
    """An outpost that knows where Ray has put it."""

    def address(self) -> str:
        import ray

        return str(ray.util.get_node_ip_address())


class Host:
    """One sending process elsewhere."""

    def __init__(self, ray: Any, actor: Any, settings: Path):
        self._ray, self.actor = ray, actor
        given = orjson.loads(settings.read_bytes())
        self.journal, self.plan = Path(given["journal"]), Path(given["plan"])
        self._given = given
        self.read = 0  # bytes of its journal
        self.name, self._address, self._port = "", "", 0
        self.first: Aligned | None = None
        self.last: Aligned | None = None
        self.heard_s = 0.0
        self.gone: str | None = None

    def begin(self) -> None:
        told = self._ray.get(self.actor.where.remote())
        self.name, self._port = told["host"], told["port"]
        self._address = self._ray.get(self.actor.address.remote())
        files = [Path(self._given[name]) for name in ("plan", "turns")]
        files += [Path(p) for p in (self._given["line"].get("trace"), self._given["ca"]) if p]
        contents = {path.name: path.read_bytes() for path in files if path.exists()}
        settings = self._given | {name: Path(self._given[name]).name for name in NAMED}
        line = self._given["line"]
        settings["line"] = line | ({"trace": Path(line["trace"]).name} if "trace" in line else {})
        settings["ca"] = Path(self._given["ca"]).name if self._given["ca"] else None
        secrets = {name: os.environ[name] for name in (KEY, HEADERS) if name in os.environ}
        self._ray.get(self.actor.begin.remote(settings, contents, secrets))

    def align(self) -> None:
        """Compare the clocks, over TCP or else by Ray's own calls."""
        try:
            found = ask((self._address, self._port))
        except OSError:
            found = [self._asked_by_ray() for _ in range(BY_RAY)]
        self.last = aligned(found, found[-1].answered_s)
        self.first = self.first or self.last

    def _asked_by_ray(self) -> Exchange:
        asked_s = time.monotonic()
        theirs_s = self._ray.get(self.actor.show.remote())
        return Exchange(asked_s, theirs_s, time.monotonic())

    def keep(self, lines: bytes) -> None:
        """Append whole lines to the journal here."""
        whole = lines[: lines.rfind(b"\n") + 1]
        if whole:
            with self.journal.open("ab") as file:
                file.write(whole)
            self.read += len(whole)

    def clock(self, bound_s: float) -> dict[str, Any]:
        """What run.json says of its clock."""
        assert self.first is not None
        assert self.last is not None
        drifted = drift(self.first, self.last)
        return {
            "host": self.name,
            "start_error_s": self.first.error_at(bound_s),
            "moved_s": self.last.offset_s - self.first.offset_s,
            "moved_error_s": self.first.error_s + self.last.error_s,
            "drift_per_s": drifted.per_s if drifted else None,
            "drift_error_per_s": drifted.error_per_s if drifted else None,
        }


class HostCrew:
    """Workers on other hosts that start at one instant; `states` is what each said last."""

    def __init__(self, on: str, settings: Sequence[Path]):
        self._ray = connect(on)
        made = self._ray.remote(num_cpus=1, scheduling_strategy="SPREAD", max_concurrency=4)(_Placed)
        self._hosts = [Host(self._ray, made.remote(), path) for path in settings]
        self.ready: list[dict[str, Any] | None] = [None] * len(settings)
        self.states: list[dict[str, Any]] = [{}] * len(settings)
        self.done: list[dict[str, Any] | None] = [None] * len(settings)
        self._began_s = self._from_s = self._aligned_s = 0.0
        self._asked: dict[Any, int] = {}

    def start(self, from_s: float) -> float:
        """Start all at once; the instant (time.monotonic, here) that is the trace's second `from_s`."""
        try:
            return self._started(from_s)
        except self._ray.exceptions.RayError as error:
            raise RunFailure(f"the sending processes do not start ({lost(error)})", where="replay --on") from error

    def _started(self, from_s: float) -> float:
        for host in self._hosts:
            host.begin()
        until_s = time.monotonic() + READY_S
        while not all(self.ready):
            if time.monotonic() > until_s or any(host.gone is not None for host in self._hosts):
                why = next((host.gone for host in self._hosts if host.gone), "they take too long")
                raise RunFailure(f"the sending processes do not start ({why})", where="replay --on")
            self._look()
        for host in self._hosts:
            host.align()
        self._began_s, self._from_s = time.monotonic() + LEAD_S, from_s
        orders = []
        for host in self._hosts:
            assert host.first is not None
            orders.append(host.actor.tell.remote(f"start {host.first.theirs(self._began_s)!r} {from_s!r}"))
        self._ray.get(orders)
        self._aligned_s = self._began_s
        return self._began_s

    def watch(self, look: Callable[[], None], stopped: Callable[[], bool]) -> bool:
        """Until all have ended, calling `look` now and then; False when they were told to stop, or one was lost."""
        told = False
        while any(self._under_way(k) for k in range(len(self._hosts))):
            self._look()
            self._align()
            look()
            if not told and stopped():
                told = True
                self._tell(f"stop {GRACE_S}")
        self._aligned_s = 0.0
        self._align(last=True)
        for host in self._hosts:
            if host.gone is not None:
                click.echo(f"lost {host.name}: {host.gone}; what it had not sent is left for --resume", err=True)
        return not told and not any(host.gone is not None for host in self._hosts)

    def clocks(self) -> list[dict[str, Any]]:
        """How each host's clock stood to this one."""
        return [host.clock(self._began_s) for host in self._hosts if host.first is not None]

    def _under_way(self, k: int) -> bool:
        return self.done[k] is None and self._hosts[k].gone is None

    def _look(self) -> None:
        for k, host in enumerate(self._hosts):
            if self._under_way(k) and k not in self._asked.values():
                self._asked[host.actor.hear.remote(host.read)] = k
        time.sleep(LOOK_S)
        done, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for reference in done:
            k = self._asked.pop(reference)
            try:
                self._hear(k, self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                self._lose(k, lost(error))

    def _hear(self, k: int, told: dict[str, Any]) -> None:
        host = self._hosts[k]
        host.keep(told["journal"])
        host.heard_s = time.monotonic()
        self.ready[k], self.states[k] = told["ready"], told["state"]
        if told["ended"] is None:
            return
        if told["ended"] or told["done"] is None:
            self._lose(k, f"its sending process ended ({told['ended'] or 'without a word'})")
        else:
            self.done[k] = told["done"]

    def _lose(self, k: int, why: str) -> None:
        """Give what was under way there its outcome."""
        host = self._hosts[k]
        host.gone = why
        if self._began_s:
            at_s = host.heard_s - self._began_s + self._from_s
            lines = in_flight(host, at_s, int(self.states[k].get("in_flight", 0)), why)
            host.keep(b"".join(orjson.dumps(line) + b"\n" for line in lines))

    def _align(self, *, last: bool = False) -> None:
        if time.monotonic() < self._aligned_s + ALIGN_EVERY_S:
            return
        self._aligned_s = time.monotonic()
        for k, host in enumerate(self._hosts):
            if self._under_way(k) or (last and host.gone is None):
                with suppress(self._ray.exceptions.RayError):
                    host.align()

    def _tell(self, message: str) -> None:
        for k, host in enumerate(self._hosts):
            if self._under_way(k):
                with suppress(self._ray.exceptions.RayError):
                    self._ray.get(host.actor.tell.remote(message))

    def close(self) -> None:
        """End whoever has not ended; the end of an actor is the end of its process."""
        for host in self._hosts:
            self._ray.kill(host.actor)


def in_flight(host: Host, at_s: float, count: int, why: str) -> list[dict[str, Any]]:
    """Journal lines for those that had been sent when the host was last heard of, by the trace's second `at_s`."""
    known = {line["id"] for line in _lines(host.journal) if "event" not in line}
    begun: list[dict[str, Any]] = []
    for row in _lines(host.plan):
        if row["arrival_s"] > at_s or len(begun) == count:
            break
        if row["id"] not in known:
            begun.append(row)
    said = f"its host {host.name} was lost at {at_s:.3f} s: {why}; whether it was answered is not known"
    return [
        {"id": row["id"], "status": "error", "error": said, "attempts": 1, "arrival_s": row["arrival_s"]}
        for row in begun
    ]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open("rb") as file:
            yield from (orjson.loads(line) for line in file if line.endswith(b"\n"))


@contextmanager
def host_crew(on: str, settings: Sequence[Path]) -> Iterator[HostCrew]:
    """Workers on hosts for as long as the block runs."""
    made = HostCrew(on, settings)
    try:
        yield made
    finally:
        made.close()
