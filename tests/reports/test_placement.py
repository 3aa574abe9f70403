"""Where models were, and why objectives were missed, against runs whose answer is known."""

from pathlib import Path

import polars as pl
import pytest

from reports import residency
from reports.lives import lives
from reports.measured import Measured, measure
from reports.misses import misses
from toolkit.runs import Run, RunWriter

GIB = 2**30


def row(request: int, model: str, arrival: float, start: float, first: float, finish: float, **more: object) -> dict:
    known = {"request_id": request, "model": model, "arrival_s": arrival, "sent_s": arrival, "start_s": start}
    known |= {"first_token_s": first, "finish_s": finish, "prompt_tokens": 10, "cached_tokens": 0, "output_tokens": 11}
    known |= {
        "preemptions": 0,
        "preempted_s": 0.0,
        "alone_s": 0.1,
        "attempts": 1,
        "status": "ok",
        "engine": "simulated",
    }
    return {**known, "slo_ttft_s": 1.0, "slo_tpot_s": 0.1, **more}


OUTCOMES = [
    row(0, "small", 0.0, 0.0, 0.1, 0.5),  # in time
    row(1, "wide", 10.0, 14.0, 14.1, 14.5),  # waits for its load from 10 to 14
    row(2, "wide", 20.0, 23.0, 23.1, 23.5),  # waits, with nothing being loaded
    row(3, "small", 30.0, 30.0, 33.0, 33.5),  # a slow prefill
    row(4, "small", 40.0, 40.1, 40.2, 45.2, preemptions=1, preempted_s=4.8),  # decodes slowly: it lost its place
    row(5, "small", 50.0, 50.1, 50.2, 55.2),  # decodes slowly
    row(6, "small", 60.0, 0.0, 0.0, 0.0, status="rejected"),
]
EVENTS = [
    {"time_s": 0.0, "kind": "load", "gpu": "0", "model": "small", "bytes": 2 * GIB, "duration_s": 0.0},
    {"time_s": 10.0, "kind": "load", "gpu": "0", "model": "big", "bytes": 16 * GIB, "duration_s": 4.0},
    {"time_s": 40.0, "kind": "evict", "gpu": "0", "model": "big", "bytes": 16 * GIB, "duration_s": 0.2},
    {"time_s": 50.0, "kind": "migrate", "gpu": "1", "model": "small", "bytes": 2 * GIB, "duration_s": 0.1},
    {"time_s": 55.0, "kind": "leave", "gpu": "0", "model": "small", "bytes": 2 * GIB, "duration_s": 0.0},
]
TIMELINE = [{"time_s": t + 0.5, "gpu": "0", "model": "small", "kv_bytes": GIB} for t in range(5)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    models = [{"name": "big", "serves": ["wide"]}, {"name": "small", "serves": []}]
    info = {"run_id": "r", "name": "r", "engine": {"name": "cluster", "cluster": {"models": models}}, "trace": {}}
    path: Path = tmp_path_factory.mktemp("placed") / "r"
    writer = RunWriter.create(path, info)
    for name, rows in (("outcomes", OUTCOMES), ("events", EVENTS), ("timeline", TIMELINE)):
        writer.append(name, pl.DataFrame(rows, infer_schema_length=None))
    writer.finish()
    return measure(Run.open(path), "r")


def test_a_stay_lasts_from_the_load_to_the_eviction_or_until_the_model_has_left(run: Measured) -> None:
    found = [tuple(r) for r in residency.stays(run).select("gpu", "model", "begin_s", "end_s").iter_rows()]
    assert found == [("0", "small", 0.0, 55.0), ("0", "big", 10.0, 40.0), ("1", "small", 50.0, None)]


def test_memory_is_weights_while_a_model_is_there_and_the_mean_of_its_kv(run: Measured) -> None:
    held = residency.memory(run, 0.0, 5.0, 12)
    at = {(t, g, m): (w, k) for t, g, m, w, k in held.iter_rows()}
    assert at[2.5, "0", "small"] == (2 * GIB, GIB)
    assert at[12.5, "0", "big"] == (16 * GIB, 0.0)
    assert (42.5, "0", "big") not in at
    assert at[52.5, "1", "small"][0] == 2 * GIB
    assert held.group_by("time_s").agg(pl.col("weights_bytes").sum())["weights_bytes"].max() == 18 * GIB


def test_a_model_is_active_for_two_minutes_after_a_request(run: Measured) -> None:
    active = dict(residency.active_set(run, 0.0, 10.0, 30).iter_rows())
    assert (active[5.0], active[15.0], active[175.0], active[295.0]) == (1, 2, 1, 0)


def test_misses_are_put_down_to_what_took_longest(run: Measured) -> None:
    found = {r["cause"]: (r["ttft"], r["tpot"], r["either"]) for r in misses(run, lives(run)).iter_rows(named=True)}
    assert found == {"refused": (1, 1, 1), "load": (1, 0, 1), "queue": (1, 0, 1), "kv": (0, 1, 1), "steps": (1, 1, 2)}
