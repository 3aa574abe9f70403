"""The simulated engine."""

import copy
import threading
from dataclasses import asdict
from typing import Any

import polars as pl

from replay.schedulers.fcfs import FCFS
from replay.simulation.driver import Driver
from replay.simulation.latency import Latency
from replay.simulation.lowering import lower
from replay.simulation.sensitivity import SCALES, quantile_rows, scaled
from replay.simulation.setup import Limits, bounded
from replay.simulation.state import I64
from toolkit.protocols import LatencyModel, Scheduler, Watch
from toolkit.runs import RunWriter
from toolkit.traces import TraceInfo


class Simulated:
    """Continuous batching in virtual time, after vLLM V1: paged KV memory, chunked prefill, prefix cache, preemption.

    The trace's models are served as one. `closed` sessions wait for the turn before and their think time. `band`
    replays again with step times 5 and 10 % shorter and longer, for SENSITIVITY.
    """

    def __init__(
        self, latency: LatencyModel, limits: Limits, closed: bool = True, jump: bool = True, band: bool = True
    ):
        self.model, self.limits, self.closed, self.jump, self.band = latency, limits, closed, jump, band
        self._bounded = bounded(limits)
        self._latency: Latency | None = None
        self._saturated: tuple[pl.DataFrame, float] | None = None
        self._lowering_lock, self._saturation_lock = threading.Lock(), threading.Lock()

    def describe(self) -> dict[str, Any]:
        """The engine's limits, as run.json and the report state them."""
        return {"name": "simulated", "limits": asdict(self.limits), "sessions": "closed" if self.closed else "open"}

    def replay(
        self, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, writer: RunWriter, watch: Watch
    ) -> bool:
        """Replay `trace` into the run folder, from its checkpoint where it has one. True when finished."""
        untouched = copy.deepcopy(scheduler)
        driver = self._driver(trace, info, scheduler, self._lowered())
        driver.restore(writer.path, writer)
        if not driver.run(writer, watch):
            return False
        summary, exact = driver.summary(), quantile_rows(driver.state, 1.0)
        del driver  # its state is as large as the next one's
        if self.band:
            rows = [exact]
            for scale in SCALES:
                rows.append(self._with_steps(scale, trace, info, untouched, watch))
                if watch.stopped():
                    return False  # without a checkpoint: the replay itself takes no longer than what is left
            writer.append("sensitivity", pl.concat(rows))
        writer.finish(**summary, **self._load(trace, info))
        return True

    def explain(self, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, request: int) -> I64:
        """What happens to one request, as notes (simulation.notes)."""
        latency, limits = self._lowered(), self._bounded
        driver = Driver.prepare(trace, info, scheduler, limits, latency, closed=self.closed, watch=request)
        return driver.story()

    def _with_steps(
        self, scale: float, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, watch: Watch
    ) -> pl.DataFrame:
        """SENSITIVITY rows of the same replay with step times multiplied by `scale`, as far as `watch` lets it."""
        driver = self._driver(trace, info, copy.deepcopy(scheduler), scaled(self._lowered(), scale))
        driver.exhaust(watch.stopped)
        return quantile_rows(driver.state, scale)

    def _driver(self, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, latency: Latency) -> Driver:
        return Driver.prepare(trace, info, scheduler, self._bounded, latency, closed=self.closed, jump=self.jump)

    def _load(self, trace: pl.DataFrame, info: TraceInfo) -> dict[str, float | None]:
        """The offered rate, and ρ: the time the same requests take when all are offered at once, over their span.

        That is offered work over capacity with the batching, memory and chunking the engine has; null without a span.
        """
        arrival = trace["arrival_s"].fill_null(0.0)
        span_s = float(arrival.max()) if len(trace) else 0.0  # type: ignore[arg-type]
        if span_s == 0.0:
            return {"offered_per_s": None, "utilisation": None}
        return {"offered_per_s": len(trace) / span_s, "utilisation": self._saturated_s(trace, info) / span_s}

    def _saturated_s(self, trace: pl.DataFrame, info: TraceInfo) -> float:
        with self._saturation_lock:
            known = self._saturated
            if known is None or known[0] is not trace:
                at_once = trace.with_columns(arrival_s=pl.lit(0.0))
                driver = Driver.prepare(at_once, info, FCFS(), self._bounded, self._lowered(), closed=False)
                driver.exhaust()
                known = self._saturated = (trace, driver.makespan_s)
            return known[1]

    def _lowered(self) -> Latency:
        with self._lowering_lock:
            if self._latency is None:
                limits = self._bounded
                tokens, sequences = limits.max_num_batched_tokens, limits.max_num_seqs
                together = limits.instances if limits.lockstep else 1
                self._latency = lower(self.model, tokens, sequences, limits.max_model_len, together)
            return self._latency
