"""A scheduler of ours inside the in-process engine: its tables and questions as that engine's jobs and rules."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.planning.jobs import INFINITE, Job
from replay.planning.rules import Rules
from replay.simulation.policies import Policy, checked_ranks, curve_of, observes, offsets_of, orders
from replay.simulation.state import NEVER, PS
from toolkit.errors import SettingFailure
from toolkit.protocols import Scheduler

UNKNOWN = "the trace does not tell its prompt_tokens or output_tokens"


class Ruled:
    """The jobs of a trace and the rules of a scheduler, which is asked about the trace's rows."""

    def __init__(self, scheduler: Scheduler, trace: pl.DataFrame, think: NDArray[np.int64]):
        self._scheduler: Any = scheduler
        self._trace = trace
        self._policy = Policy.of(scheduler, trace, think)
        self._think = think
        self._columns: dict[str, NDArray[Any]] = {}
        self.rules = self._rules()

    def _rules(self) -> Rules:
        policy, told = self._policy, self._policy.settings
        rules = Rules(
            boundaries=policy.boundaries.tolist(),
            offsets=policy.offsets,
            slope=told["slope"],
            prompt_work=told["prompt_work"],
            displace=bool(told["displace"]),
            hysteresis=told["hysteresis"],
            context_cost=told["context_cost"],
            min_run=bool(told["min_run"]),
            latest=bool(told["latest"]),
            since_place=bool(told["since_place"]),
            hold_tokens=int(told["hold_tokens"]),
            lanes=policy.lanes,
            cycle=policy.cycle.tolist(),
            prompt_weight=told["prompt_weight"],
            output_weight=told["output_weight"],
            window=int(told["window"]),
            order=self._order if orders(self._scheduler) else None,
        )
        if observes(self._scheduler):
            rules.arrived, rules.observe = self._rank, self._observe
            rules.observe_every_s = float(self._scheduler.observe_every_s)
        return rules

    def jobs(self, model_of: Sequence[int], prefix_tokens: int = 0) -> list[Job]:
        """A job for each request, in the trace's order; with prefix blocks where their length is known."""
        policy, turns = self._policy, self._policy.turns
        columns = self._trace.select(
            pl.col("prompt_tokens", "output_tokens"),
            pl.col("arrival_s").cast(pl.Float64).fill_null(0.0),
            pl.col("parent_id").cast(pl.Int64).fill_null(-1),
        )
        prefix = self._trace["prefix_blocks"] if prefix_tokens and "prefix_blocks" in self._trace.columns else None
        after = np.full(len(self._trace), INFINITE)
        if turns is not None:
            after[turns.after != NEVER] = turns.after[turns.after != NEVER] / PS
        made = []
        for n, (prompt, output, arrival_s, parent) in enumerate(columns.iter_rows()):
            waits, hold_at = self._think[n] >= 0, int(policy.hold_at[n])
            made.append(
                Job(
                    n,
                    prompt or 0,
                    output or 0,
                    0.0 if waits else arrival_s,
                    model=int(model_of[n]),
                    parent=parent if waits else -1,
                    think_s=float(self._think[n]) / PS if waits else 0.0,
                    prefix=() if prefix is None or prefix[n] is None else prefix[n].to_list(),
                    rank=float(policy.rank[n]),
                    rise=float(policy.rise[n]),
                    curve=int(policy.curve[n]),
                    lane=int(policy.lane[n]),
                    hold_at=float(hold_at),
                    after_s=float(after[n]),
                    shift=float(turns.shift[n]) if turns is not None else 0.0,
                    error=UNKNOWN if prompt is None or output is None else None,
                )
            )
        return made

    def predicted(self, outcomes: pl.DataFrame) -> pl.DataFrame:
        """OUTCOMES rows with the output tokens that the scheduler expected, where it says."""
        if not callable(getattr(self._scheduler, "predicted", None)):
            return outcomes
        expected = np.asarray(self._scheduler.predicted(outcomes["request_id"].to_numpy()), np.float64)
        rounded = pl.Series(np.clip(expected, 0, np.iinfo(np.int32).max).round(), nan_to_null=True)
        return outcomes.with_columns(predicted_output_tokens=rounded.cast(pl.Int32))

    def _rank(self, jobs: list[Job], now_s: float) -> None:
        """Rank by what has been learnt by now."""
        jobs.sort(key=lambda job: job.number)
        arrival = pl.Series([job.arrival_s for job in jobs], dtype=pl.Float64)
        frame = self._trace[[job.number for job in jobs]].with_columns(arrival_s=arrival)
        for job, rank in zip(jobs, checked_ranks(self._scheduler, frame, now_s).tolist(), strict=True):
            job.rank = rank

    def _observe(self, jobs: list[Job], now_s: float) -> bool:
        if self._scheduler.observe(observed(jobs), now_s) is False:
            return False
        offsets = offsets_of(curve_of(self._scheduler))
        if offsets.shape != self.rules.offsets.shape:
            raise SettingFailure("observe() changed the boundaries", where=type(self._scheduler).__name__)
        self.rules.offsets = offsets
        return True

    def _order(self, jobs: list[Job], now_s: float) -> Sequence[int]:
        answer: list[int] = np.asarray(self._scheduler.order(Queue(self._column, jobs), now_s)).tolist()
        return answer

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._columns:
            column = self._trace[name]
            if column.dtype == pl.String:
                column = column.rank("dense").cast(pl.Int64).fill_null(0) - 1
            self._columns[name] = column.to_numpy()
        return self._columns[name]


class Queue:
    """Jobs that wait, as a scheduler sees them (protocols.Waiting)."""

    def __init__(self, column: Any, jobs: list[Job]):
        self._column, self._jobs = column, jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name in ("arrival_s", "served"):
            return np.array([job.arrival_s if name == "arrival_s" else job.produced for job in self._jobs])
        values: NDArray[Any] = self._column(name)[[job.number for job in self._jobs]]
        return values


def observed(jobs: Sequence[Job]) -> pl.DataFrame:
    """What a scheduler is shown of jobs that have ended; times of those that were not served are NaN."""
    nan = float("nan")
    ok = [job.status == "ok" for job in jobs]
    return pl.DataFrame(
        {
            "request_id": [job.number for job in jobs],
            "arrival_s": [job.arrival_s for job in jobs],
            "start_s": [job.start_s if good else nan for job, good in zip(jobs, ok, strict=True)],
            "first_token_s": [job.times[0] if good else nan for job, good in zip(jobs, ok, strict=True)],
            "finish_s": [job.finish_s if good else nan for job, good in zip(jobs, ok, strict=True)],
            "prompt_tokens": np.array([job.prompt for job in jobs], np.int32),
            "output_tokens": np.array([job.produced for job in jobs], np.int32),
            "preemptions": np.array([job.preemptions for job in jobs], np.int32),
            "status": ["ok" if good else "rejected" for good in ok],
        }
    )
