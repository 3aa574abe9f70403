"""DriftSched's correction where there is no text: production traces, `preset=trace`, predict first and learn later."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.reproductions.replaying import outcomes
from benchmarks.reproductions.tables import Estimate, percent
from replay.engines.simulated import Simulated
from replay.latency_models.roofline import Roofline
from replay.simulation.hardware import gpu_preset, kv_blocks, model_preset
from replay.simulation.setup import Limits
from toolkit.analysis.drift_estimate import estimates
from toolkit.metrics import E2E
from toolkit.protocols import Engine
from toolkit.traces import TraceInfo, read_trace

TRACES = {
    "Azure conversation 2023": "azure_llm_2023/AzureLLMInferenceTrace_conv.csv",
    "Azure code 2023": "azure_llm_2023/AzureLLMInferenceTrace_code.csv",
}
GPU, MODEL, LOAD, TRAINING = "h100", "llama-3.1-8b", 0.9, 0.1
BLOCKS, RESAMPLES = 100, 1000
Floats = NDArray[np.float64]


def engine() -> Engine:
    """Continuous batching on one H100."""
    model = model_preset(MODEL)
    limits = Limits(kv_blocks=kv_blocks(gpu_preset(GPU), model, 16), max_model_len=model.max_position_embeddings)
    return Simulated(Roofline(gpu=GPU, model=MODEL), limits, band=False)


def at_load(path: Path, on: Engine, limit: int | None = None) -> tuple[pl.DataFrame, TraceInfo]:
    """The trace, its clock made to run as fast or slow as gives ρ of LOAD."""
    read = read_trace([path])
    frame = read.frame.head(limit).collect() if limit else read.frame.collect()
    _, summary = outcomes(frame, read.info, "fcfs", on)
    faster = LOAD / summary["utilisation"]
    return frame.with_columns(pl.col("arrival_s") / faster), read.info


def trace_rows(name: str, path: Path, limit: int | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(Errors static and adaptive, latencies by policy) of one trace."""
    on = engine()
    frame, info = at_load(path, on, limit)
    found = _replays(frame, info, on)
    errors = [*_frozen(name, frame), *_expanding(name, frame, found)]
    return errors, [_latency_row(name, policy, *made) for policy, made in found.items()]


POLICIES = {
    "FCFS": "fcfs",
    "SJF, no correction": "driftsched-sjf:preset=trace,adaptive=false,feedback_s=5",
    "SJF, corrected": "driftsched-sjf:preset=trace,feedback_s=5",
    "oracle SJF": "sjf",
}


def _replays(frame: pl.DataFrame, info: TraceInfo, on: Engine) -> dict[str, tuple[pl.DataFrame, float]]:
    found = {}
    for policy, spec in POLICIES.items():
        made, summary = outcomes(frame, info, spec, on)
        found[policy] = (made, float(summary["utilisation"]))
    return found


def _frozen(name: str, frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The base of a training window, corrected or not: the drift analysis's estimator `paper`."""
    table = estimates(frame)[0].filter(pl.col("by") == "all", pl.col("estimator") == "paper")
    both = {row["calibration"]: row for row in table.iter_rows(named=True)}
    base = f"class mean of the first {100 * TRAINING:.0f} %"
    return [_error_row(name, base, both["static"], both["ema"], requests=both["static"]["requests"], interval=None)]


def _expanding(name: str, frame: pl.DataFrame, found: dict[str, tuple[pl.DataFrame, float]]) -> list[dict[str, Any]]:
    """The base follows all that has ended; corrected or not, as the scheduler estimated in its replay."""
    late = slice(int(TRAINING * len(frame)), None)
    actual = frame["output_tokens"].to_numpy()[late]
    static, adaptive = (
        np.abs(found[p][0]["predicted_output_tokens"].to_numpy()[late] - actual).astype(float)
        for p in ("SJF, no correction", "SJF, corrected")
    )
    both = [{"mae": e.mean(), "rmse": np.sqrt((e**2).mean())} for e in (static, adaptive)]
    interval = block_change(static, adaptive)
    base = "class mean so far, by prompt length"
    return [_error_row(name, base, *both, requests=len(actual), interval=interval)]


def _error_row(
    name: str, base: str, static: Any, adaptive: Any, *, requests: int, interval: Estimate | None
) -> dict[str, Any]:
    change, verdict = f"{100 * (adaptive['mae'] / static['mae'] - 1):+.1f} %", "–"
    if interval:
        change, verdict = percent(interval), judged(interval)
    return {
        "trace": name,
        "base": base,
        "requests": requests,
        "MAE static": static["mae"],
        "MAE adaptive": adaptive["mae"],
        "MAE change": change,
        "RMSE static": static["rmse"],
        "RMSE adaptive": adaptive["rmse"],
        "RMSE change": f"{100 * (adaptive['rmse'] / static['rmse'] - 1):+.1f} %",
        "correction": verdict,
    }


def judged(found: Estimate) -> str:
    """What correction does to an error, where the interval leaves out zero."""
    return "helps" if found.high < 0 else "harms" if found.low > 0 else "no change that shows"


def block_change(static: Floats, adaptive: Floats, seed: int = 0) -> Estimate:
    """The change of the mean error, with a 95 % interval from resampling BLOCKS stretches of consecutive requests."""
    rng = np.random.default_rng(seed)
    before, after = (np.array([part.sum() for part in np.array_split(e, BLOCKS)]) for e in (static, adaptive))
    drawn = rng.integers(0, BLOCKS, (RESAMPLES, BLOCKS))
    low, high = np.quantile(after[drawn].sum(axis=1) / before[drawn].sum(axis=1) - 1, [0.025, 0.975])
    return Estimate(float(after.sum() / before.sum() - 1), float(low), float(high))


def _latency_row(name: str, policy: str, found: pl.DataFrame, rho: float) -> dict[str, Any]:
    e2e = found.select(E2E).to_series()
    quantiles = {f"P{100 * q:g}, s": float(e2e.quantile(q, "linear")) for q in (0.5, 0.95, 0.99)}  # type: ignore[arg-type]
    return {"trace": name, "policy": policy, "ρ": rho, "mean, s": float(e2e.mean()), **quantiles}  # type: ignore[arg-type]
