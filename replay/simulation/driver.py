"""Drives the compiled core: moves it in bites, writes what has happened, saves where it stands.

After each bite the buffers are emptied into the run folder. A checkpoint holds the whole state and how many parts were
written up to it, so a resumed replay continues to the byte as if it had not been cut.
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from replay.simulation import core, setup
from replay.simulation.calling import bound
from replay.simulation.checkpoints import NAME, misfit, read_checkpoint
from replay.simulation.costs import service_costs
from replay.simulation.feedback import Feedback
from replay.simulation.horizon import HORIZON, over_long
from replay.simulation.latency import Latency
from replay.simulation.lockstep import advance_together
from replay.simulation.outcomes import events_frame, outcomes_frame, timeline_frame
from replay.simulation.policies import Policy, tell
from replay.simulation.sessions import think_times
from replay.simulation.setup import Limits
from replay.simulation.state import ASKS, I64, MORE, NEVER, NONE, NOTE_ROWS, PAUSED, PS, Records, State
from replay.simulation.warming import announced
from toolkit.protocols import Scheduler, Watch
from toolkit.runs import RunWriter
from toolkit.traces import TraceInfo

BITE = 200_000  # moves between two looks at the clock: some tens of milliseconds
MOVES_A_QUESTION = 50  # what asking a scheduler counts for in a bite
OUTCOMES_A_PART = 250_000
SAMPLES_A_SPAN = 2_000  # timeline rows over the trace's span
CHECKPOINT_EVERY_S = 60.0


@dataclass
class Driver:
    """One replay: its settings, its state, and where it writes."""

    trace: pl.DataFrame
    limits: Limits
    settings: Records
    latency: Latency
    state: State
    feedback: Feedback
    cpu_s: float = 0.0

    @classmethod
    def prepare(
        cls,
        trace: pl.DataFrame,
        info: TraceInfo,
        scheduler: Scheduler,
        limits: Limits,
        latency: Latency,
        *,
        closed: bool,
        jump: bool = True,
        watch: int = NONE,
    ) -> "Driver":
        """A replay of `trace` that has not begun; it notes what happens to request `watch`."""
        think = think_times(trace) if closed else np.full(len(trace), -1, np.int64)
        hash_tokens = info.block_tokens or 0
        blocks = setup.shared_blocks(trace, hash_tokens, limits)
        every = max(1, int(float(info.span_s or 1.0) * PS) // SAMPLES_A_SPAN)
        settings = setup.settings_of(limits, blocks[2], hash_tokens, every, jump=jump, closed=closed)
        tell(scheduler, service_costs(trace, limits, latency))
        policy = Policy.of(scheduler, trace, think)
        policy.write(settings)
        state = setup.first_state(trace, policy, think, blocks, limits)
        if watch != NONE:
            settings.watch = watch
            state = state._replace(note=np.zeros((NOTE_ROWS + 4 * limits.max_num_seqs, 4), np.int64))
        return cls(trace, limits, settings, latency, state, Feedback(scheduler, trace, settings, state))

    def run(self, writer: RunWriter, watch: Watch) -> bool:
        """Go on until the end, or until `watch` says stop; then a checkpoint is left. True when finished."""
        self.compile()
        saved = time.monotonic()
        more = True
        while more:
            if watch.stopped():
                self._write(writer)
                self.save(writer)
                return False
            began = time.thread_time()
            more = self._advance()
            self.cpu_s += time.thread_time() - began
            self._write(writer, at_least=OUTCOMES_A_PART if more else 1)
            watch.progress(int(self.state.world[0].done), len(self.trace))
            if time.monotonic() - saved > CHECKPOINT_EVERY_S:
                self._write(writer)
                self.save(writer)
                saved = time.monotonic()
        return True

    def compile(self) -> None:
        """Let the core be compiled, or loaded, now."""
        with announced():
            self._move(NEVER, 0)
            self.feedback.compile()

    def _advance(self) -> bool:
        """Move on, asking the scheduler where it wants to be asked. False when nothing is left to do."""
        left = BITE
        while left > 0:
            pause = min(self.feedback.pause, HORIZON)
            why = self._move(pause, left)
            if why == ASKS:
                self.feedback.order()
            elif why == PAUSED and pause == HORIZON:
                raise over_long()
            elif why == PAUSED:
                self.feedback.observe()
            else:
                return bool(why == MORE)
            left -= MOVES_A_QUESTION
        return True

    @cached_property
    def _move(self) -> Callable[[int, int], int]:
        """Up to so many moves, none that begins at or after the first; why it stopped."""
        advance = advance_together if self.limits.lockstep else core.advance
        return bound(advance, self.settings, self.latency, self.state)

    def exhaust(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Go on until the end, or until `stopped`, without writing anything."""
        world = self.state.world[0]
        while not stopped() and self._advance():
            world.samples = world.events = 0

    def story(self) -> I64:
        """Go on until the end without writing anything; the notes about the watched request (State.note)."""
        world, told, more = self.state.world[0], [], True
        while more:
            more = self._advance()
            told.append(self.state.note[: world.notes].copy())
            world.samples = world.events = world.notes = 0
        return np.concatenate(told)

    @property
    def makespan_s(self) -> float:
        """When the last instance stops."""
        return float(self.state.instances["clock"].max() / PS)

    def summary(self) -> dict[str, Any]:
        """What run.json says of a finished replay."""
        instances, requests = self.state.instances, self.state.requests
        return {
            "requests": len(self.trace),
            "steps": int(instances["steps"].sum()),
            "preemptions": int(requests["preemptions"].sum()),
            "busy_s": float(instances["busy"].sum() / PS),
            "simulation_cpu_s": round(self.cpu_s, 6),
        }

    def _write(self, writer: RunWriter, at_least: int = 1) -> None:
        """Empty the buffers into the run folder; outcomes once there are `at_least` new ones."""
        state, world = self.state, self.state.world[0]
        writer.append("timeline", timeline_frame(state.sample[: world.samples], self.limits))
        writer.append("events", events_frame(state.event[: world.events]))
        world.samples = world.events = 0
        if world.done - world.written >= at_least:
            ended = state.done[world.written : world.done]
            frame = outcomes_frame(self.trace, state, ended, self.limits, self.latency)
            writer.append("outcomes", self.feedback.with_predictions(frame))
            world.written = world.done

    def save(self, writer: RunWriter) -> None:
        """Write the checkpoint; none where the scheduler has a memory of its own: such a replay starts over."""
        if not self.feedback.resumable:
            return
        parts = writer.part_counts()
        saved: dict[str, Any] = {f"part_{name}": np.array(count) for name, count in parts.items()}
        saved |= {"cpu_s": np.array(self.cpu_s), **_arrays(self.state)}
        file = io.BytesIO()
        np.savez(file, **saved)
        writer.write_bytes(NAME, file.getvalue())

    def restore(self, path: Path, writer: RunWriter) -> None:
        """Continue from the checkpoint in the run folder at `path`; from the start where there is none."""
        saved = read_checkpoint(path)
        if saved is None:
            writer.truncate({})
            return
        for name, array in _arrays(self.state).items():
            if name not in saved or saved[name].shape != array.shape:
                raise misfit(path)
            array[...] = saved[name]
        self.cpu_s = float(saved["cpu_s"])
        writer.truncate({name: int(saved[f"part_{name}"]) for name in writer.part_counts()})


def _arrays(state: State) -> dict[str, Any]:
    """Every array of the state by name, records as plain structured arrays."""
    return {name: array.view(np.ndarray) for name, array in state._asdict().items()}
