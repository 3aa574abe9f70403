"""One replay of one trace against OpenAI-compatible endpoints, from the probe to the verdict."""

import secrets
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl

from replay.http import hinting, obeyed
from replay.http.asking import dial_of
from replay.http.bodies import Recipe
from replay.http.crew import Crew, crew
from replay.http.endpoint import Endpoint
from replay.http.live import Live
from replay.http.load import share
from replay.http.orders import Orders, asked, orders_of
from replay.http.plan import Waits, roots, waits, write_plans
from replay.http.pool import Address, Dial
from replay.http.probe import Found, Probe, limits, notes
from replay.http.records import Records, answered, leftover
from replay.http.scraping import Scraper
from replay.http.shards import owners
from replay.http.targets import Routes
from replay.http.verdict import lengths_kept, statuses, validity, went_wrong, with_clocks
from replay.vllm import hints
from toolkit.errors import RunFailure
from toolkit.protocols import Scheduler, Watch
from toolkit.runs import Run, RunWriter
from toolkit.traces import TraceInfo

if TYPE_CHECKING:
    from replay.engines.openai import OpenAI
    from replay.http.hosts import HostCrew

PLAN = "plan"
SEED_BITS = 23  # each run has prompts of its own, so that no run finds the cache of another


@dataclass
class Replaying:
    """One replay of one trace by one engine."""

    engine: "OpenAI"
    trace: pl.DataFrame
    info: TraceInfo
    scheduler: Scheduler
    writer: RunWriter
    watch: Watch

    def run(self) -> bool:
        folder = self.writer.path / PLAN
        records = Records(self.trace, self.writer, "openai")
        self._take_in(records, folder)
        addresses: dict[Endpoint, Address] = {}
        served: dict[Endpoint, list[dict[str, Any]]] = {}
        routes = self.engine.find(self.trace, addresses, served)
        recipes = self._recipes(routes, addresses, served)
        waiting = waits(self.trace, closed=self.engine.waits)
        orders = self._orders(waiting)
        hinted = self._announced(routes, addresses, recipes, waiting) if self.engine.send_hints else recipes
        with written_to(folder):
            from_s = self._plan(folder, routes, waiting, orders)
            line = self._line(folder, orders)
            settings = self._settings(folder, routes, addresses, hinted, line, waiting)
        asked_of = [(e, dial_of(e, addresses[e], self.engine.ca)) for e in routes.endpoints]
        if not self._send(settings, from_s, records, asked_of):
            return False
        self._compare(routes, asked_of, recipes, orders)
        shutil.rmtree(folder)
        return True

    def _take_in(self, records: Records, folder: Path) -> None:
        """What processes wrote down whose run was cut short."""
        records.follow(leftover(folder))
        records.look(last=True)
        shutil.rmtree(folder, ignore_errors=True)

    def _recipes(
        self,
        routes: Routes,
        addresses: dict[Endpoint, Address],
        served: dict[Endpoint, list[dict[str, Any]]],
    ) -> list[Recipe]:
        """How to ask each endpoint, by a probe of the first model it serves for us; what it can do goes to run.json.

        A run that is resumed asks as it did before: all of its requests are of one kind.
        """
        seed = self.writer.info.get("prompt_seed", secrets.randbits(SEED_BITS))
        start = Recipe(block_tokens=self.info.block_tokens or 16, seed=seed, words=list(self.engine.words))
        if "recipes" in self.writer.info:
            begun_with = [can["url"] for can in self.writer.info["engine"]["capabilities"].values()]
            if begun_with != [target.url for target in routes.endpoints]:
                hint = "restore the file of --models, or start a new run"
                raise RunFailure("was begun with other endpoints", where=str(self.writer.path), hint=hint)
            return [replace(start, **kept) for kept in self.writer.info["recipes"]]
        found: list[Found] = []
        said = {}
        for i, target in enumerate(routes.endpoints):
            model = next(m for at, m in routes.table if at == i)
            dial = dial_of(target, addresses[target], self.engine.ca)
            probed = Probe(target, dial, model, self.engine.limits.answer).run(start, self.engine.api)
            found.append(probed)
            told = {"url": target.url, **limits(served[target], model), **probed.capabilities}
            said[f"endpoint_{i + 1}"] = told
        described = {**self.engine.describe(), "capabilities": said}
        self.writer.update(engine=described, prompt_seed=seed, recipes=[f.recipe.found for f in found])
        return [f.recipe for f in found]

    def _announced(
        self, routes: Routes, addresses: dict[Endpoint, Address], recipes: list[Recipe], waiting: Waits
    ) -> list[Recipe]:
        """Put the scheduler inside each engine in charge; how to ask from then on."""
        seed = int(self.writer.info["prompt_seed"])
        spec = self.writer.info["scheduler"]["spec"]
        told = hints.announcement(seed, spec, self.trace, ~waiting.by_clock)
        for i, (target, recipe) in enumerate(zip(routes.endpoints, recipes, strict=True)):
            model = next(m for at, m in routes.table if at == i)
            hinting.announce(target, dial_of(target, addresses[target], self.engine.ca), model, recipe, told)
        return [replace(recipe, hints=seed) for recipe in recipes]

    def _compare(
        self, routes: Routes, endpoints: list[tuple[Endpoint, Dial]], recipes: list[Recipe], orders: Orders | None
    ) -> None:
        """Hold the order of the ranks against that in which the engines began; to run.json and its notes."""
        if orders is None or self.engine.most is not None:
            return
        starts = [pl.DataFrame(schema=hints.STARTS)]
        if self.engine.send_hints:
            seed = int(self.writer.info["prompt_seed"])
            for i, ((target, dial), recipe) in enumerate(zip(endpoints, recipes, strict=True)):
                model = next(m for at, m in routes.table if at == i)
                starts.append(hinting.ask(target, dial, model, recipe, seed))
        told = pl.concat(starts)
        outcomes = Run(self.writer.path, self.writer.info).table("outcomes").collect()
        endpoint_of = np.array([at for at, _ in routes.table])[routes.of]
        found = None if asked(self.scheduler) else obeyed.compared(outcomes, told, orders, endpoint_of)
        notes = [*self.writer.info["notes"], *obeyed.noted(found)]
        self.writer.update(
            order=found, preemptions=int(told["preemptions"].sum()) if told.height else None, notes=notes
        )

    def _orders(self, waiting: Waits) -> Orders | None:
        """What the scheduler says of the requests, where it is in charge of anything."""
        if self.engine.most is None and not self.engine.send_priority and not self.engine.send_hints:
            return None
        return orders_of(self.scheduler, self.trace, waiting, self.engine.send_priority)

    def _line(self, folder: Path, orders: Orders | None) -> dict[str, Any]:
        """How a worker orders what waits: by the plan's columns, or by asking the scheduler, which needs the trace."""
        if orders is None or self.engine.most is None or not asked(self.scheduler):
            return {"lanes": orders.lanes if orders else {}}
        self.trace.write_parquet(folder / "trace.parquet")
        return {"scheduler": self.writer.info["scheduler"]["spec"], "trace": str(folder / "trace.parquet")}

    def _plan(self, folder: Path, routes: Routes, waiting: Waits, orders: Orders | None) -> float:
        engine, before = self.engine, answered(self.writer)
        return write_plans(
            folder,
            engine.load.planned(self.trace, before),
            waiting,
            workers=engine.workers,
            route=routes.of,
            columns=orders.columns if orders else None,
            answered=before,
            session_blocks=self.info.block_scope == "session",
            owner=owners(self.trace, roots(waiting.parent), engine.workers) if engine.workers > 1 else None,
        )

    def _settings(
        self,
        folder: Path,
        routes: Routes,
        addresses: dict[Endpoint, Address],
        recipes: list[Recipe],
        line: dict[str, Any],
        waiting: Waits,
    ) -> list[Path]:
        """A file of settings for each worker; no secret is in it."""
        engine, files = self.engine, []
        for k in range(engine.workers):
            settings = {
                "plan": str(folder / f"plan-{k}.jsonl"),
                "turns": str(folder / f"turns-{k}.jsonl"),
                "journal": str(folder / f"journal-{k}.jsonl"),
                "endpoints": [asdict(e) for e in routes.endpoints],
                "addresses": [addresses[e] for e in routes.endpoints],
                "recipes": [asdict(r) for r in recipes],
                "routes": routes.table,
                "timeouts": asdict(engine.limits),
                "retries": engine.retries,
                "reuse": engine.reuse,
                "most": share(engine.most, engine.workers, k),
                "load": engine.load.of_worker(k, engine.workers, self.trace, waiting.by_clock),
                "token_times": engine.token_times,
                "line": line,
                "ca": engine.ca,
            }
            path = folder / f"worker-{k}.json"
            path.write_bytes(orjson.dumps(settings))
            files.append(path)
        return files

    def _send(
        self, settings: list[Path], from_s: float, records: Records, endpoints: list[tuple[Endpoint, Dial]]
    ) -> bool:
        records.follow([path.parent / f"journal-{k}.jsonl" for k, path in enumerate(settings)])
        with self._crew(settings) as workers, Live(len(self.trace)) as live:
            began_s = workers.start(from_s)
            scraper = Scraper(endpoints, began_s - from_s)

            def look() -> None:
                scraper.look()
                if records.look():
                    self.writer.append("timeline", scraper.frame())
                live.show(workers.states)
                self.watch.progress(records.count, len(self.trace))

            finished = workers.watch(look, self.watch.stopped)
            records.look(last=True)
            self.writer.append("timeline", scraper.frame())
            wall_s = time.monotonic() - began_s
        self._note(workers, from_s, began_s, wall_s)
        if not finished or records.count < len(self.trace):
            return False
        self.writer.finish(**self._results([w for w in workers.done if w], wall_s, workers))
        return True

    def _crew(self, settings: list[Path]) -> "AbstractContextManager[Crew | HostCrew]":
        """Processes here, or on the hosts of a cluster."""
        if self.engine.on == "local":
            return crew(settings, self.writer.path)
        from replay.http.hosts import host_crew

        return host_crew(self.engine.on, settings)

    def _note(self, workers: "Crew | HostCrew", from_s: float, began_s: float, wall_s: float) -> None:
        """Each stretch of sending, for a run may have several; `epoch_s` is the trace's second 0 by the calendar."""
        epoch_s = time.time() - time.monotonic() + began_s - from_s
        before = self.writer.info.get("stretches", [])
        keys = ("sent", "ended", "retries", "connections", "connections_refused", "circuit_opened", "cpu_s")
        done = [w for w in workers.done if w]
        stretch = {
            "from_s": from_s,
            "epoch_s": epoch_s,
            "wall_s": wall_s,
            **{key: sum(w[key] for w in done) for key in keys},
        }
        self.writer.update(stretches=[*before, stretch], sender=[w for w in workers.ready if w])

    def _results(self, done: list[dict[str, Any]], wall_s: float, workers: "Crew | HostCrew") -> dict[str, Any]:
        bound_s = self.engine.lag_bound_s
        sent = validity(self.writer, done, bound_s, wall_s)
        if not isinstance(workers, Crew):
            sent = with_clocks(sent, done, workers.clocks(), bound_s)
        by_clock = self.engine.load.concurrency is None
        span_s = float(self.trace["arrival_s"].max() or 0.0) if by_clock else 0.0  # type: ignore[arg-type]
        return {
            "requests": len(self.trace),
            "offered_per_s": len(self.trace) / span_s if span_s else None,
            "utilisation": None,
            "statuses": statuses(self.writer),
            "notes": [
                *notes(self.writer.info["engine"]["capabilities"], send_priority=self.engine.send_priority),
                *went_wrong(self.writer),
            ],
            "lengths": lengths_kept(self.trace, self.writer),
            **sent,
        }


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """A disk that is full, or not ours to write, is the user's to mend."""
    try:
        yield
    except OSError as error:
        hint = f"make room and go on with: trace replay --resume {shlex.quote(str(folder.parent))}"
        raise RunFailure(f"cannot be written ({error.strerror or error})", where=str(folder), hint=hint) from error
