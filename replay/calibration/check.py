"""A real run replayed with its own limits and profile, and how far the replay is from it. Nothing is fitted."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.calibration.engine_log import EngineLog
from replay.schedulers.fcfs import FCFS
from replay.simulation.driver import Driver
from replay.simulation.lowering import lower
from replay.simulation.state import PS
from toolkit.errors import SettingFailure
from toolkit.schema import TRACE, conform
from toolkit.traces import TraceInfo

Values = NDArray[np.float64]
QUANTILES = {"p50_error": 0.5, "p90_error": 0.9, "p99_error": 0.99}


def check(log: EngineLog) -> dict[str, Any]:
    """Signed relative errors of TTFT, TPOT and E2E (mean and quantiles), and the mean absolute error a request."""
    ours, preemptions = replay_log(log)
    measured, simulated = times(log.requests), times(ours)
    errors = {name: compare(simulated[name], measured[name]) for name in ("ttft", "tpot", "e2e")}
    return {**errors, "requests": len(ours), "preemptions": preemptions, "notes": list(log.notes)}


def compare(ours: Values, theirs: Values) -> dict[str, float]:
    """Signed relative errors (0.05: 5 % too high) of the mean and of quantiles; mape pairs the requests."""
    found = {"mean_error": float(ours.mean() / theirs.mean() - 1)}
    found |= {name: float(np.quantile(ours, q) / np.quantile(theirs, q) - 1) for name, q in QUANTILES.items()}
    return {**found, "mape": float(np.mean(np.abs(ours / theirs - 1)))}


def times(frame: pl.DataFrame) -> dict[str, Values]:
    """TTFT, TPOT (of requests of two tokens and more) and E2E, seconds."""
    arrival, first, finish = (frame[c].to_numpy() for c in ("arrival_s", "first_token_s", "finish_s"))
    tokens = frame["output_tokens"].to_numpy()
    many = tokens > 1
    return {"ttft": first - arrival, "tpot": (finish - first)[many] / (tokens[many] - 1), "e2e": finish - arrival}


def replay_log(log: EngineLog) -> tuple[pl.DataFrame, int]:
    """(The log's requests with simulated times, preemptions). SettingFailure when its limits could not serve one."""
    driver = _driver(log)
    driver.exhaust()
    found = driver.state.requests
    if (found["reason"] != 0).any():
        request = int(np.flatnonzero(found["reason"])[0])
        raise SettingFailure(f"request {request} does not fit the limits in the log", hint="look at its KV blocks")
    simulated = {"first_token_s": found["first"] / PS, "finish_s": found["finish"] / PS}
    return log.requests.with_columns(**simulated), int(found["preemptions"].sum())


def _driver(log: EngineLog) -> Driver:
    given = log.requests.select("request_id", "arrival_s", "prompt_tokens", "output_tokens")
    trace, limits = conform(given, TRACE, source="log"), log.limits
    info = TraceInfo("log", "log", "", len(trace), len(trace), span_s=float(trace["arrival_s"][-1]))
    tokens, together = limits.max_num_batched_tokens, limits.instances if limits.lockstep else 1
    latency = lower(log.latency, tokens, limits.max_num_seqs, limits.max_model_len, together)
    driver = Driver.prepare(trace, info, FCFS(), limits, latency, closed=False)
    driver.compile()
    return driver
