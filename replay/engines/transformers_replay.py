"""One replay in this process: models are built, measured and served; what happens goes to the run's tables."""

import gc
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl
import torch
import transformers
from numpy.typing import NDArray

from replay.engines.transformers import Transformers
from replay.engines.transformers_rules import Ruled
from replay.engines.transformers_tables import events_frame, outcomes_frame, timeline_frame
from replay.http.verdict import lengths_kept, quantiles, statuses
from replay.planning.jobs import Job
from replay.simulation.policies import tell
from replay.simulation.sessions import think_times
from replay.torch_engine.costs import Costs, measured
from replay.torch_engine.device import Device
from replay.torch_engine.house import House
from replay.torch_engine.model import Model, build
from replay.torch_engine.placed import facts_of
from toolkit import plugins
from toolkit.errors import SettingFailure
from toolkit.placing import Load, Placement
from toolkit.protocols import Scheduler, ServiceCosts, Watch
from toolkit.runs import RunWriter

__all__ = ["Device", "Replay"]
KV_BYTES_ON_CPU = 2**30


def house_of(engine: Transformers) -> House:
    """The device with the engine's models on the host; what an earlier replay has left there is freed first."""
    gc.collect()
    device = Device.of(engine.device)
    dtype = getattr(torch, engine.dtype) if engine.dtype else None
    models = [build(s.name, s.at, device, dtype=dtype, seed=n) for n, s in enumerate(engine.sources)]
    if device.is_gpu:
        torch.cuda.empty_cache()
    memory = engine.memory_bytes or _memory(engine, device, models)
    share = 0.0 if engine.placement is None else getattr(_placement(engine), "least_kv_share", 0.05)
    return House(device, models, engine.limits, memory, page_bytes=engine.page_bytes, least_kv_share=share)


def _placement(engine: Transformers) -> Placement:
    made: Placement = plugins.create("placement", str(engine.placement))
    return made


def _memory(engine: Transformers, device: Device, models: Sequence[Model]) -> int:
    """What weights and KV may take where nothing is said."""
    limits = engine.limits
    if limits.kv_blocks is not None and engine.placement is None:
        block = models[0].shape.token_bytes * limits.block_tokens
        page = max(engine.page_bytes, -(-block // 256) * 256)
        return int(-(-models[0].size // page) + -(-limits.kv_blocks // (page // block))) * page
    if device.is_gpu:
        return int(device.free_bytes() * engine.memory_share - engine.reserve_bytes)
    if engine.placement is not None:
        hint = "say how much weights and KV may take of it"
        raise SettingFailure("the CPU's memory is not one GPU's", where="--memory-gib", hint=hint)
    return int(models[0].size) + KV_BYTES_ON_CPU


@dataclass
class Replay:
    """One replay of one trace."""

    engine: Transformers
    trace: pl.DataFrame
    model_of: NDArray[np.int64]
    house: House = field(init=False)
    late: list[float] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=lambda: {"steps": 0, "busy_s": 0.0, "preemptions": 0})

    def __post_init__(self) -> None:
        self.house = house_of(self.engine)

    def run(
        self, scheduler: Scheduler, writer: RunWriter, watch: Watch, left_out: dict[str, int], prefix_tokens: int
    ) -> bool:
        house, trace = self.house, self.trace
        costs = measured(house, self._prompt(), self._context())
        tell(scheduler, self._together(costs))
        think = think_times(trace) if self.engine.closed else np.full(len(trace), -1, np.int64)
        ruled = Ruled(scheduler, trace, think)
        jobs = ruled.jobs(self.model_of.tolist(), prefix_tokens)
        house.rule(ruled.rules)
        self._begin(jobs, costs)
        writer.update(engine={**self.engine.describe(), **self._facts(costs)})
        from_s = min((job.arrival_s for job in jobs if job.parent < 0), default=0.0)
        with ThreadPoolExecutor(1) as pool:
            parts: list[Future[None]] = []

            def look() -> None:
                watch.progress(house.done, len(jobs))
                parts.append(pool.submit(self._write, ruled, writer, *self._new()))
                if parts[0].done():
                    parts.pop(0).result()

            began = time.perf_counter()
            finished = house.run(jobs, stopped=watch.stopped, look=look, from_s=from_s, prefix_tokens=prefix_tokens)
            wall_s = time.perf_counter() - began
            for part in parts:
                part.result()
        if finished:
            writer.finish(**self._results(writer, wall_s), left_out=left_out)
        return finished

    def _begin(self, jobs: Sequence[Job], costs: Sequence[Costs]) -> None:
        """Load what is there before the first request."""
        if self.engine.placement is None:
            self.house.start([Load(0, (0,))])
        else:
            slo = [self._objective(name) for name in ("slo_ttft_s", "slo_tpot_s")]
            self.house.place(_placement(self.engine), facts_of(self.house, jobs, costs, *slo))
        self.house.notes.steps.clear()

    def _prompt(self) -> int:
        return round(float(self.trace["prompt_tokens"].mean() or 1.0))  # type: ignore[arg-type]

    def _context(self) -> float:
        """The mean context of what decodes: a request is there as long as its output, with half of that on average."""
        prompt, output = (self.trace[n].fill_null(0).cast(pl.Float64) for n in ("prompt_tokens", "output_tokens"))
        return float((output * (prompt + output / 2)).sum()) / max(1.0, float(output.sum()))

    def _together(self, costs: Sequence[Costs]) -> ServiceCosts:
        """What service takes of each model, and of all together: the mean over requests."""
        each = [
            ServiceCosts(c.prefill_s_per_token, c.decode_s_per_token, c.step_s, c.restore_s_per_token) for c in costs
        ]
        weight = np.maximum(np.bincount(self.model_of, minlength=len(each)), 1e-9)
        names = ("prefill_s_per_token", "decode_s_per_token", "step_s", "restore_s_per_token")
        mean = {n: float(np.average([getattr(c, n) for c in each], weights=weight)) for n in names}
        served = pl.DataFrame({"name": self.trace["model"], "m": self.model_of}).unique("name", keep="first")
        return ServiceCosts(**mean, models={str(name): each[m] for name, m in served.iter_rows()})

    def _objective(self, name: str) -> NDArray[np.float64]:
        """[m] the median of what its requests ask for; NaN where they ask for nothing."""
        values = self.trace[name].cast(pl.Float64).to_numpy()
        made = np.full(len(self.engine.sources), np.nan)
        for m in range(len(made)):
            mine = values[self.model_of == m]
            mine = mine[~np.isnan(mine)]
            made[m] = np.median(mine) if len(mine) else np.nan
        return made

    def _facts(self, costs: Sequence[Costs]) -> dict[str, Any]:
        house = self.house
        arena = house.arena
        return {
            **house.device.describe(),
            "transformers": transformers.__version__,
            "dtype": str(house.models[0].shape.dtype).removeprefix("torch."),
            "memory_bytes": arena.pages * arena.page_bytes,
            "page_bytes": arena.page_bytes,
            "kv_blocks": [e.kv.most for e in house.engines],
            "weights": [
                {"model": m.name, "bytes": m.size, "kv_bytes_per_token": m.shape.token_bytes, **asdict(c)}
                for m, c in zip(house.models, costs, strict=True)
            ],
        }

    def _new(self) -> tuple[list[Any], list[Any], list[Any]]:
        """What happened since the last time, taken out of the house."""
        house = self.house
        ended, steps, events = house.ended, house.notes.steps, house.notes.events
        house.ended, house.notes.steps, house.notes.events = [], [], []
        return ended, steps, events

    def _write(self, ruled: Ruled, writer: RunWriter, ended: list[Job], steps: list[Any], events: list[Any]) -> None:
        if steps:
            writer.append("timeline", timeline_frame(steps))
        if events:
            writer.append("events", events_frame(events))
        if ended:
            writer.append("outcomes", ruled.predicted(outcomes_frame(self.trace, ended)))
        self.late += [job.late_s for job in ended]
        self.counts["steps"] += len(steps)
        self.counts["busy_s"] += sum(step.step_s for step in steps)
        self.counts["preemptions"] += sum(job.preemptions for job in ended)

    def _results(self, writer: RunWriter, wall_s: float) -> dict[str, Any]:
        lag, bound_s = quantiles(np.array(self.late)), self.engine.lag_bound_s
        bound = lag["p99"] is not None and lag["p99"] > bound_s
        reasons = [f"P99 of what arrivals waited between steps is {lag['p99'] * 1e3:.1f} ms"] if bound else []  # type: ignore[operator]
        span_s = float(self.trace["arrival_s"].max() or 0.0)  # type: ignore[arg-type]
        halved = self.house.notes.halved
        notes = [f"{halved} steps found no memory for their activations and ran in parts"] if halved else []
        return {
            "requests": len(self.trace),
            "offered_per_s": len(self.trace) / span_s if span_s else None,
            "utilisation": None,
            "wall_s": wall_s,
            **self.counts,
            "loads": self.house.hosting.loads,
            "statuses": statuses(writer),
            "lengths": lengths_kept(self.trace, writer),
            "notes": notes,
            "verdict": "CLIENT-BOUND" if bound else "VALID",
            "validity": {"reasons": reasons, "bound_s": bound_s, "send_lag_s": lag},
        }
