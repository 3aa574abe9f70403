"""A real run replayed with its own limits and profile, and how far the replay is from it. Nothing is fitted."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.calibration.engine_log import EngineLog
from replay.schedulers.fcfs import FCFS
from replay.simulation import setup
from replay.simulation.ahead import Group, advance_together
from replay.simulation.lowering import lower
from replay.simulation.policies import Policy
from replay.simulation.state import PS
from replay.simulation.warming import announced
from toolkit.errors import SettingFailure
from toolkit.schema import TRACE, conform

Values = NDArray[np.float64]
BITE = 10_000  # steps between two looks at the buffers
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
    apart = log.limits.instances if log.latency.ranks == 1 else 1
    parts = [_replay(log, log.requests[first::apart], log.limits.instances // apart) for first in range(apart)]
    return pl.concat([frame for frame, _ in parts]).sort("request_id"), sum(preemptions for _, preemptions in parts)


def _replay(log: EngineLog, requests: pl.DataFrame, instances: int) -> tuple[pl.DataFrame, int]:
    """Replay on instances that step together; those that do not take every so-many-th request each."""
    given = requests.select("request_id", "arrival_s", "prompt_tokens", "output_tokens")
    trace = conform(given, TRACE, source="log")
    limits = replace(log.limits, instances=instances)
    tokens, seqs = limits.max_num_batched_tokens, limits.max_num_seqs
    latency = lower(log.latency, tokens, seqs, limits.max_model_len, instances)
    think = np.full(len(trace), -1, np.int64)
    blocks = setup.shared_blocks(trace, 0, limits)
    settings = setup.settings_of(limits, blocks[2], 0, PS, jump=False, closed=False)
    policy = Policy.of(FCFS(), trace, think)
    policy.write(settings)
    state = setup.first_state(trace, policy, think, blocks, limits)
    group = Group.of(instances, seqs, log.planned_ahead)
    with announced():
        advance_together(settings, latency, state, group, 0)
    while advance_together(settings, latency, state, group, BITE):
        state.world[0].events = 0
    if (state.requests["reason"] != 0).any():
        request = int(np.flatnonzero(state.requests["reason"])[0])
        raise SettingFailure(f"request {request} does not fit the limits in the log", hint="look at its KV blocks")
    simulated = {"first_token_s": state.requests["first"] / PS, "finish_s": state.requests["finish"] / PS}
    return requests.with_columns(**simulated), int(state.requests["preemptions"].sum())
