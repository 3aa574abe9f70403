"""A sending process: `python -m replay.http.worker SETTINGS.json`, told when to start on stdin.

    stdin   start AT FROM    the trace's second FROM is the instant AT of CLOCK_MONOTONIC
            stop GRACE       send nothing more, and end GRACE seconds later at the latest; so does the end of stdin
    stdout  a line of JSON: {"ready": …}, then what progress shows a few times a second, and at the end {"done": …}

It imports neither polars nor NumPy: many of them fit into little memory.
"""

import asyncio
import gc
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import orjson

from replay.http.admission import Line
from replay.http.bodies import Bodies, Recipe
from replay.http.deadlines import Timeouts
from replay.http.endpoint import Endpoint, secrets, tls
from replay.http.journal import Journal
from replay.http.lines import LaneRule, Ranked
from replay.http.open_files import open_as_many_as_may_be
from replay.http.plan_file import Plan
from replay.http.pool import Dial
from replay.http.sender import Route, Sender

REPORT_S = 0.25


class Worker:
    """One sender with its files and its talk with the process that began it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: dict[str, Any]):
        self._loop = loop
        self._journal = Journal(Path(settings["journal"]))
        plan = Plan(Path(settings["plan"]), Path(settings["turns"]))
        self.sender: Sender = Sender(
            loop,
            routes(settings),
            plan.rows(),
            turns=plan.turns,
            write=self._journal.write,
            limits=Timeouts(**settings["timeouts"]),
            hidden=secrets(),
            retries=settings["retries"],
            reuse=settings["reuse"],
            most=settings["most"],
            line=self._line(settings["line"]),
            token_times=settings["token_times"],
            **settings["load"],
        )
        self._heard = b""

    def _line(self, settings: dict[str, Any]) -> Line:
        """Who waits, in what order; only a scheduler that wants to be asked needs the trace, and polars for it."""
        if "scheduler" not in settings:
            return Ranked(LaneRule(**settings["lanes"]))
        import polars as pl

        from replay.http.asked import Asked
        from toolkit import plugins

        scheduler = plugins.create("scheduler", settings["scheduler"])
        return Asked(scheduler, pl.read_parquet(settings["trace"], glob=False), lambda: self.sender.origin_s)

    async def run(self) -> None:
        self._loop.set_exception_handler(self._broken)
        self._loop.add_reader(0, self._hear)
        self.sender.prepare()
        say({"ready": {"pacing": self.sender.pacing, "loop": type(self._loop).__module__}})
        report = self._loop.create_task(self._report())
        await self.sender.done
        report.cancel()
        gauges = self.sender.gauges
        say({"done": self.sender.state() | {"loop_lag_s": gauges.loop_lag_s.tolist(), "peak_bytes": peak_bytes()}})
        self._journal.close()

    def _hear(self) -> None:
        data = os.read(0, 4096)
        if not data:
            self._loop.remove_reader(0)
            self.sender.stop(0.0)
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            word, *numbers = line.split()
            if word == b"start":
                self.sender.start(*map(float, numbers))
            else:
                self.sender.stop(float(numbers[0]))

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            say(self.sender.state())

    def _broken(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Nothing may fail unnoticed: a callback that raises ends the worker."""
        error = context.get("exception") or RuntimeError(context.get("message", "unknown"))
        if not self.sender.done.done():
            self.sender.done.set_exception(error)


def routes(settings: dict[str, Any]) -> list[Route]:
    """The routes that rows name by number."""
    endpoints = [Endpoint(**e) for e in settings["endpoints"]]
    dials = [
        Dial(
            (family, tuple(address)),
            endpoint.host,
            tls(settings["ca"]) if endpoint.scheme == "https" else None,
            settings["timeouts"]["connect"],
        )
        for endpoint, (family, address) in zip(endpoints, settings["addresses"], strict=True)
    ]
    recipes = [Recipe(**r) for r in settings["recipes"]]
    return [
        Route(dials[i], Bodies(endpoints[i], model, recipes[i], close=not settings["reuse"]))
        for i, model in settings["routes"]
    ]


def say(message: dict[str, Any]) -> None:
    os.write(1, orjson.dumps(message) + b"\n")


def peak_bytes() -> int:
    """The most memory this process held; Linux's getrusage counts what the process that began it held, too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # either may reach every process of a group; the first one decides
    open_as_many_as_may_be()
    settings = orjson.loads(Path(sys.argv[1]).read_bytes())
    try:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(loop, settings)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    loop.run_until_complete(worker.run())


if __name__ == "__main__":
    main()
