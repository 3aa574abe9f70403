"""DriftSched's protocol replayed: which engines, which policies, and what is measured of each phase."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from benchmarks.reproductions.driftsched_workload import LEARNING, STRESS, WORDS_PER_TOKEN, Phase, requests, workload
from benchmarks.reproductions.replaying import outcomes, trace_of
from replay.engines.micro_batch import MicroBatch
from replay.engines.simulated import Simulated
from replay.latency_models.fit import Fit
from replay.latency_models.roofline import Roofline
from replay.simulation.hardware import gpu_preset, kv_blocks, model_preset
from replay.simulation.setup import Limits
from toolkit import plugins
from toolkit.metrics import E2E, QUEUEING_DELAY
from toolkit.protocols import Engine, LatencyModel
from toolkit.traces import TraceInfo

GPU, MODEL, MEMORY_SHARE, BLOCK_TOKENS = "l4", "qwen1.5-1.8b", 0.70, 16
BATCH, WAIT_S, POLL_S, LONGEST_TOKENS = 32, 0.010, 1.0, 2048
STEP_S = 0.030
REST_S = 15.0  # between the end of learning and the stress phase
ENGINES = ("synchronous", "continuous")
STEPS = ("30 ms", "roofline")
OURS = ("FIFO", "Priority", "Weighted", "SJF", "Aging")
POLICIES = {
    "FCFS": "fcfs",
    **{name: f"driftsched-{name.lower()}" for name in OURS},
    "oracle SJF": "sjf",
}


@dataclass(frozen=True)
class Setting:
    """One replay of both phases. `unit` and `adaptive` are the estimator's, for those of OURS."""

    engine: str
    policy: str
    seed: int
    unit: str = "words"
    adaptive: bool = True
    steps: str = "30 ms"

    @property
    def spec(self) -> str:
        """The scheduler as `trace replay --scheduler` takes it."""
        estimator = f":unit={self.unit},adaptive={str(self.adaptive).lower()}" if self.policy in OURS else ""
        return POLICIES[self.policy] + estimator


def engine(name: str, steps: str = "30 ms") -> Engine:
    """The synchronous micro-batches of the paper, or continuous batching with as many places on the same hardware."""
    latency: LatencyModel = Fit(step_s=STEP_S) if steps == "30 ms" else Roofline(gpu=GPU, model=MODEL)
    limits = Limits(
        kv_blocks=kv_blocks(gpu_preset(GPU), model_preset(MODEL), BLOCK_TOKENS, MEMORY_SHARE),
        block_tokens=BLOCK_TOKENS,
        max_num_seqs=BATCH,
        max_num_batched_tokens=LONGEST_TOKENS,
        max_model_len=LONGEST_TOKENS,
        prefix_caching=False,
    )
    if name == "synchronous":
        return MicroBatch(latency, limits, batch_size=BATCH, batch_wait_s=WAIT_S, idle_poll_s=POLL_S)
    return Simulated(latency, limits, band=False)


@dataclass(frozen=True)
class Case:
    """Both phases of one seed on one engine: the trace, and each phase's ρ by itself."""

    trace: pl.DataFrame
    info: TraceInfo
    served: Engine
    phases: tuple[Phase, Phase]
    rho: dict[str, float]


def case(name: str, steps: str, seed: int, phases: tuple[Phase, Phase] = (LEARNING, STRESS)) -> Case:
    """The stress phase begins REST_S after learning has drained, with half as long again for other policies."""
    served = engine(name, steps)
    rho, ends = {}, []
    for phase, (trace, info) in zip(phases, apart(phases, seed), strict=True):
        found, summary = outcomes(trace, info, "fcfs", served)
        rho[phase.name] = float(summary["utilisation"])
        ends.append(float(found["finish_s"].max()))  # type: ignore[arg-type]
    trace, info = workload(phases, seed, (0.0, 1.5 * ends[0] + REST_S))
    return Case(trace, info, served, phases, rho)


def apart(phases: Sequence[Phase], seed: int) -> list[tuple[pl.DataFrame, TraceInfo]]:
    """Each phase's requests of a seed by themselves."""
    rng = np.random.default_rng(seed)
    return [trace_of(requests(phase, rng), phase.name) for phase in phases]


def settings(name: str, steps: str, seed: int) -> list[Setting]:
    """What is replayed: everything on the paper's engine, by both units; less where only the order matters."""
    chosen = ("FCFS", "SJF", "oracle SJF") if steps != "30 ms" else tuple(POLICIES)
    made = [Setting(name, policy, seed, steps=steps) for policy in chosen]
    if steps == "30 ms":
        in_tokens = OURS if name == "synchronous" else ("SJF",)
        made += [Setting(name, policy, seed, unit="tokens") for policy in in_tokens]
        made += [Setting(name, "SJF", seed, unit=unit, adaptive=False) for unit in ("words", "tokens")]
    return made


@dataclass(frozen=True)
class Found:
    """Of one case: measures a setting, phase and tier; biases by unit and category, as they went; who Aging moved."""

    measures: pl.DataFrame
    biases: dict[str, dict[str, list[float]]]
    moved: dict[str, int]  # by phase: requests that Aging starts at another time than Priority


def found_in(name: str, steps: str, seed: int, phases: tuple[Phase, Phase] = (LEARNING, STRESS)) -> Found:
    """Replay every setting of one case."""
    on = case(name, steps, seed, phases)
    rows, biases, starts = [], {}, {}
    for setting in settings(name, steps, seed):
        made, scheduler = replay(setting, on)
        rows.append(measured(setting, on, made))
        if setting.policy == "SJF" and setting.adaptive:
            biases[setting.unit] = {kind: path[1] for kind, path in scheduler.estimator.paths().items()}
        if setting.policy in ("Priority", "Aging") and setting.unit == "words":
            starts[setting.policy] = made.select("phase", "start_s")
    return Found(pl.concat(rows, how="diagonal"), biases, _moved(starts))


def replay(setting: Setting, on: Case) -> tuple[pl.DataFrame, Any]:
    """OUTCOMES with `phase`, and the scheduler with what it has learnt."""
    scheduler = plugins.create("scheduler", setting.spec)
    found, _ = outcomes(on.trace, on.info, scheduler, on.served)
    first, second = on.phases
    learning = pl.col("request_id") < first.requests
    rested = float(on.trace["arrival_s"][first.requests]) - REST_S
    assert float(found.filter(learning)["finish_s"].max()) < rested  # type: ignore[arg-type]
    return found.with_columns(
        phase=pl.when(learning).then(pl.lit(first.name)).otherwise(pl.lit(second.name))
    ), scheduler


def measured(setting: Setting, on: Case, found: pl.DataFrame) -> pl.DataFrame:
    """One row a phase and tier (`all` too): latencies in seconds, errors in the setting's unit; and `both` phases."""
    timed = found.with_columns(E2E, QUEUEING_DELAY, errors(setting.unit))
    tiers = timed.group_by("phase", "tier").agg(*MEASURES)
    everyone = timed.group_by("phase").agg(*MEASURES).with_columns(tier=pl.lit("all"))
    both = timed.select(*MEASURES).with_columns(tier=pl.lit("all"), phase=pl.lit("both"))
    rows = pl.concat([tiers, everyone, both], how="diagonal").join(wasted(found), on="phase", how="left")
    return rows.with_columns(
        pl.col("phase").replace_strict(on.rho, default=None, return_dtype=pl.Float64).alias("rho"),
        **{name: pl.lit(value) for name, value in vars(setting).items()},
    ).sort("phase", "tier")


def _moved(starts: dict[str, pl.DataFrame]) -> dict[str, int]:
    if not starts:
        return {}
    phases = starts["Priority"]["phase"]
    other = starts["Priority"]["start_s"] != starts["Aging"]["start_s"]
    return {str(phase): int((other & (phases == phase)).sum()) for phase in phases.unique(maintain_order=True)}


MEASURES = (
    pl.len().alias("requests"),
    pl.col("e2e_s").mean().alias("mean"),
    *(pl.col("e2e_s").quantile(q, "linear").alias(f"P{100 * q:g}") for q in (0.5, 0.95, 0.99)),
    pl.col("queueing_delay_s").mean().alias("wait mean"),
    pl.col("queueing_delay_s").quantile(0.99, "linear").alias("wait P99"),
    pl.col("queueing_delay_s").max().alias("wait max"),
    pl.col("error").abs().mean().alias("MAE"),
    (pl.col("error") ** 2).mean().sqrt().alias("RMSE"),
    (pl.col("finish_s").max() - pl.col("arrival_s").min()).alias("makespan"),
)


def errors(unit: str) -> pl.Expr:
    """Estimated less real output, as the estimator counts it; null for a policy that estimates nothing."""
    counted = WORDS_PER_TOKEN if unit == "words" else 1.0
    return (pl.col("predicted_output_tokens") - (counted * pl.col("output_tokens")).floor()).alias("error")


def wasted(found: pl.DataFrame) -> pl.DataFrame:
    """The share of the places in a batch's decode steps that somebody holds who has ended; by phase.

    Of requests that start together: 0 under continuous batching, where each starts and ends by itself.
    """
    batches = found.group_by("phase", "start_s").agg(
        tokens=pl.col("output_tokens").sum(),
        held=pl.len() * pl.col("output_tokens").max(),
        ends=pl.col("finish_s").n_unique(),
    )
    held = pl.when(pl.col("ends") == 1).then("held").otherwise("tokens")
    return batches.group_by("phase").agg(wasted=1 - pl.col("tokens").sum() / held.sum())
