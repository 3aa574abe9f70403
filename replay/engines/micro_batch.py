"""The synchronous micro-batch engine: DriftSched's protocol, `LLM.generate` on one batch after the other."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from replay.schedulers.fcfs import FCFS
from replay.simulation import batches
from replay.simulation.calling import bound
from replay.simulation.driver import OUTCOMES_A_PART, Driver
from replay.simulation.horizon import HORIZON, over_long
from replay.simulation.latency import Latency
from replay.simulation.lowering import lower
from replay.simulation.outcomes import outcomes_frame, timeline_frame
from replay.simulation.setup import Limits
from replay.simulation.state import ASKS, MORE, PAUSED, PS, SAMPLE_ROWS
from replay.simulation.warming import announced
from toolkit.errors import SettingFailure
from toolkit.protocols import LatencyModel, Scheduler, Watch
from toolkit.runs import RunWriter
from toolkit.traces import TraceInfo

LONGEST_WAIT_S = 86_400


@dataclass
class MicroBatch:
    """Synchronous micro-batches in virtual time: up to `batch_size` requests start, and end, together (DriftSched).

    The batch takes the waiting in rank order (curves and displacement do not apply) or as `order` says, once it is full
    or `batch_wait_s` after the engine first saw one of them; an idle engine looks every `idle_poll_s`, 0 being at once.
    One instance, no prefix cache. The timeline has a row a batch, `step_s` being all of its time.
    """

    latency: LatencyModel
    limits: Limits
    closed: bool = True
    batch_size: int = 32
    batch_wait_s: float = 0.010
    idle_poll_s: float = 0.0

    def __post_init__(self) -> None:
        self.limits = replace(self.limits, prefix_caching=False)
        if not 1 <= self.batch_size <= self.limits.max_num_seqs:
            raise SettingFailure(f"must be from 1 to max_num_seqs, {self.limits.max_num_seqs}", where="batch_size")
        if not (0 <= self.batch_wait_s <= LONGEST_WAIT_S and 0 <= self.idle_poll_s <= LONGEST_WAIT_S):
            raise SettingFailure(f"must be from 0 to {LONGEST_WAIT_S:,} seconds", where="batch_wait_s, idle_poll_s")
        if self.limits.instances > 1:
            raise SettingFailure("micro-batches run on one instance", where="instances", hint="use --engine simulated")
        if self.limits.async_scheduling:
            hint = "use --engine simulated"
            raise SettingFailure("a micro-batch is planned when the one before has ended", where="async", hint=hint)

    def describe(self) -> dict[str, Any]:
        """The engine's limits, as run.json and the report state them."""
        own = {name: getattr(self, name) for name in ("batch_size", "batch_wait_s", "idle_poll_s")}
        sessions = "closed" if self.closed else "open"
        return {"name": "micro-batch", "limits": {**asdict(self.limits), **own}, "sessions": sessions}

    def replay(
        self, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, writer: RunWriter, watch: Watch
    ) -> bool:
        """Replay `trace` into the run folder, from the start: it takes seconds. True when finished."""
        writer.truncate({})
        latency = self._lowered()
        driver = Driver.prepare(trace, info, scheduler, self.limits, latency, closed=self.closed)
        with announced():
            self._serve(driver, 0)
        if not self._run(driver, writer, watch):
            return False
        writer.finish(**driver.summary(), **self._load(trace, info, latency))
        return True

    def _run(self, driver: Driver, writer: RunWriter, watch: Watch) -> bool:
        more = True
        while more and not watch.stopped():
            began = time.thread_time()
            more = self._serve(driver, SAMPLE_ROWS)
            driver.cpu_s += time.thread_time() - began
            _write(driver, writer, at_least=OUTCOMES_A_PART if more else 1)
            watch.progress(int(driver.state.world[0].done), len(driver.trace))
        return not more

    def _serve(self, driver: Driver, most: int) -> bool:
        """Serve batches, asking the scheduler where it wants to be asked. False when nothing is left to do."""
        protocol = np.rint([self.batch_size, self.batch_wait_s * PS, self.idle_poll_s * PS]).astype(np.int64)
        feedback = driver.feedback
        serve = bound(batches.serve, driver.settings, driver.latency, driver.state, protocol)
        for _ in range(most + 1):
            pause = min(feedback.pause, HORIZON)
            why = serve(pause, most)
            if why == ASKS:
                feedback.order()
            elif why == PAUSED and pause == HORIZON:
                raise over_long()
            elif why == PAUSED:
                feedback.late(int(driver.state.instances[0].clock))
                feedback.observe()
            else:
                return bool(why == MORE)
        return True

    def _load(self, trace: pl.DataFrame, info: TraceInfo, latency: Latency) -> dict[str, float | None]:
        """The offered rate, and ρ: the time the same requests take when all are offered at once, over their span."""
        span_s = float(trace["arrival_s"].fill_null(0.0).max() or 0.0)  # type: ignore[arg-type]
        if span_s == 0.0:
            return {"offered_per_s": None, "utilisation": None}
        at_once = trace.with_columns(arrival_s=pl.lit(0.0))
        driver = Driver.prepare(at_once, info, FCFS(), self.limits, latency, closed=False)
        while self._serve(driver, SAMPLE_ROWS):
            driver.state.world[0].samples = 0
        busy_s = float(driver.summary()["busy_s"])
        return {"offered_per_s": len(trace) / span_s, "utilisation": busy_s / span_s}

    def _lowered(self) -> Latency:
        limits = self.limits
        return lower(self.latency, limits.max_num_batched_tokens, limits.max_num_seqs, limits.max_model_len)


def _write(driver: Driver, writer: RunWriter, at_least: int) -> None:
    """Empty the buffers into the run folder; outcomes once there are `at_least` new ones."""
    state, world = driver.state, driver.state.world[0]
    writer.append("timeline", timeline_frame(state.sample[: world.samples], driver.limits))
    world.samples = 0
    if world.done - world.written >= at_least:
        ended = state.done[world.written : world.done]
        frame = outcomes_frame(driver.trace, state, ended, driver.limits, driver.latency)
        frame = driver.feedback.with_predictions(frame)
        writer.append("outcomes", frame.with_columns(engine=pl.lit("micro-batch")))
        world.written = world.done
