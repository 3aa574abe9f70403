"""Fits to runs of any engine: what a stepped engine of known times did is given back, however much is known of it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from replay.calibrate import _of_run, _write
from replay.calibration.fitting import fit_run
from replay.planning.jobs import Job
from replay.serve.batching import Batching, Parts
from replay.simulation.setup import Limits
from toolkit.errors import InputFailure, RunFailure
from toolkit.runs import RunWriter
from toolkit.schema import OUTCOMES, conform

STEP_S, SEQUENCE_S, KV_S, PREFILL_S, PAIR_S = 0.006, 1e-4, 4e-8, 2e-5, 1e-9
OUTSIDE_S = 0.003


def known(parts: Parts) -> float:
    decodes = [job for job, _ in parts if job.decodes]
    filled = [(tokens, job.computed) for job, tokens in parts if not job.decodes]
    time = STEP_S + SEQUENCE_S * len(decodes) + KV_S * sum(job.computed + 1 for job in decodes)
    return time + sum(PREFILL_S * tokens + PAIR_S * tokens * (prior + tokens / 2) for tokens, prior in filled)


def served(count: int = 220, gap_s: float = 0.3, budget: int = 2048) -> pl.DataFrame:
    """OUTCOMES of requests as the stepped engine serves them, token times included."""
    rng = np.random.default_rng(3)
    limits = Limits(20_000, max_num_batched_tokens=budget, prefix_caching=False)
    engine, now_s, tokens = Batching(limits, known), 0.0, {}

    def note(job: Job) -> None:
        tokens.setdefault(job.number, []).append(now_s)

    arrival = np.cumsum(rng.exponential(gap_s, count))
    prompts = np.clip(rng.lognormal(6.5, 1.0, count), 8, 9_000).astype(int)
    outputs = np.clip(rng.lognormal(5.0, 0.7, count), 2, 900).astype(int)
    asked = zip(arrival.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
    jobs = [Job(n, prompt, output, at_s) for n, (at_s, prompt, output) in enumerate(asked)]
    coming = list(jobs)
    while coming or engine.running or engine.waiting:
        while coming and coming[0].arrival_s <= now_s:
            engine.submit(coming.pop(0), note)
        step = engine.begin(now_s)
        if step is None:
            now_s = coming[0].arrival_s
            continue
        now_s += step.duration_s
        engine.end(step, now_s)
    rows = {
        "request_id": range(count),
        "status": ["ok"] * count,
        "arrival_s": arrival,
        "sent_s": arrival,
        "start_s": [j.start_s for j in jobs],
        "first_token_s": [tokens[n][0] for n in range(count)],
        "finish_s": [tokens[n][-1] for n in range(count)],
        "prompt_tokens": prompts,
        "output_tokens": outputs,
        "token_s": [np.array(tokens[n]) - arrival[n] for n in range(count)],
    }
    return conform(pl.DataFrame(rows), OUTCOMES, source="test")


@pytest.fixture(scope="module")
def run() -> pl.DataFrame:
    return served()


def steps_of(fit: dict) -> list[float]:
    """Step times of some batches, over the true ones."""
    batches = [(0, 0, 500), (4, 4_000, 0), (16, 30_000, 0), (8, 12_000, 1500), (2, 1_000, 2048)]

    def time(a: float, b: float, c: float, d: float, e: float) -> np.ndarray:
        return np.array([a + b * n + c * kv + d * new + e * new**2 / 2 for n, kv, new in batches])

    found = time(*(fit[k] for k in ("step_s", "sequence_s", "kv_token_s", "prefill_token_s", "pair_s")))
    return (found / time(STEP_S, SEQUENCE_S, KV_S, PREFILL_S, PAIR_S)).tolist()


def unknown(*columns: str) -> list[pl.Expr]:
    return [pl.lit(None, OUTCOMES[name]).alias(name) for name in columns]


@pytest.mark.parametrize("gone", [("token_s",), ("start_s",), ("token_s", "start_s")])
def test_a_fit_gives_back_the_step_times_however_much_is_known(run: pl.DataFrame, gone: tuple[str, ...]) -> None:
    fit = fit_run(run.with_columns(unknown(*gone)).lazy(), "run")
    assert steps_of(fit) == pytest.approx([1.0] * 5, abs=0.05)
    assert fit["held_back"]["mape"] < 0.01
    assert fit["fitted"]["outside_s"] < 0.001


def test_time_outside_the_engine_is_told_apart_from_its_steps(run: pl.DataFrame) -> None:
    outside = served(120, gap_s=2.0).with_columns(unknown("token_s", "start_s"))
    later = outside.with_columns(pl.col("first_token_s", "finish_s") + OUTSIDE_S)
    fit = fit_run(later.lazy(), "run")
    assert fit["fitted"]["prefills"] > 20
    assert fit["fitted"]["outside_s"] == pytest.approx(OUTSIDE_S, rel=0.35)
    assert steps_of(fit) == pytest.approx([1.0] * 5, abs=0.05)


def test_cached_prompt_tokens_were_not_computed(run: pl.DataFrame) -> None:
    whole = pl.col("prompt_tokens") + 4_000
    cached = run.with_columns(prompt_tokens=whole, cached_tokens=pl.lit(4_000, pl.Int32))
    fit = fit_run(cached.lazy(), "run")
    assert fit["prefill_token_s"] < 2 * PREFILL_S
    assert fit_run(cached.with_columns(cached_tokens=None).lazy(), "run")["prefill_token_s"] < fit["prefill_token_s"]


def test_two_engines_are_no_engine_twice_as_busy(run: pl.DataFrame) -> None:
    other = served(210, gap_s=0.31).with_columns(pl.col("request_id") + 1_000)
    both = pl.concat([run, other]).with_columns(unknown("token_s", "start_s")).lazy()
    assert steps_of(fit_run(both, "run", instances=2)) == pytest.approx([1.0] * 5, abs=0.15)


def test_the_engines_limit_says_how_many_steps_a_prompt_took() -> None:
    small = served(200, budget=256).with_columns(unknown("token_s", "start_s")).lazy()
    assert steps_of(fit_run(small, "run", budget=256))[0] == pytest.approx(1.0, abs=0.05)


def test_what_has_no_lengths_cannot_be_fitted(run: pl.DataFrame) -> None:
    with pytest.raises(InputFailure, match="0 requests decode with known lengths and times; 25 are needed"):
        fit_run(run.with_columns(unknown("output_tokens")).lazy(), "run")


@pytest.mark.parametrize(("instances", "blocks"), [(2, 800), (4, 400), (6, 266)])
def test_an_instances_blocks_are_its_share_of_its_endpoints(run: pl.DataFrame, tmp_path, instances, blocks) -> None:
    assert _of_run(two_endpoints(run, tmp_path), instances, 2048)["fitted"]["kv_blocks"] == blocks


def test_two_endpoints_are_no_single_engine(run: pl.DataFrame, tmp_path) -> None:
    with pytest.raises(RunFailure, match=r"was served at 2 endpoints; give --instances 2 or more .*alike"):
        _of_run(two_endpoints(run, tmp_path), 1, 2048)


def two_endpoints(run: pl.DataFrame, folder: Path) -> Path:
    """A run of two endpoints with 800 KV blocks each."""
    info = {"run_id": "r", "engine": {"name": "openai", "capabilities": {"endpoint_1": {}, "endpoint_2": {}}}}
    writer = RunWriter.create(folder / "r", info)
    writer.append("outcomes", run)
    writer.append("timeline", pl.DataFrame({"time_s": [0.0, 0.0], "gpu": ["a", "b"], "kv_total_blocks": [800, 800]}))
    writer.finish()
    return folder / "r"


def test_a_model_that_cannot_be_written_is_one_line(tmp_path) -> None:
    with pytest.raises(RunFailure, match=r"cannot be written .*give --out a file"):
        _write({"latency": "fit", "held_back": {}}, tmp_path, False)
