"""A likeness has the rate, burstiness, popularity and lengths of its source, and says how near it came."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from click.testing import CliRunner

from toolkit.cli import main
from workloads.closeness import Measure, compare


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of two models, bursty and with a daily shape, long outputs for short prompts, a spike of 513."""
    folder = tmp_path_factory.mktemp("like")
    (folder / "spec.yaml").write_text(
        "span_s: 259200\nstreams:\n"
        "- {generator: gamma, name: a, rate_per_s: 0.08, cv: 3, models: big, daily: {amplitude: 0.8},\n"
        "   prompt_tokens: {median: 500, sigma: 0.8}, output_tokens: {median: 300, sigma: 0.9, maximum: 513},\n"
        "   correlation: -0.5}\n"
        "- {generator: poisson, name: b, rate_per_s: 0.02, models: small, tenants: {shares: {x: 0.9, y: 0.1}},\n"
        "   prompt_tokens: 50, output_tokens: {median: 20, sigma: 0.3}}\n"
    )
    trace = folder / "source.parquet"
    done = CliRunner().invoke(main, ["generate", str(folder / "spec.yaml"), "--out", str(trace), "--seed", "3"])
    assert done.exit_code == 0, done.output
    return trace


def like(source: Path, out: Path, *options: str) -> dict[str, Measure]:
    command = ["generate", "--like", str(source), "--out", str(out), "--json", *options]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    return {m["name"]: Measure(**m) for m in orjson.loads(done.stdout)["closeness"]}


def test_more_of_the_same_is_near_the_source(source: Path, tmp_path: Path) -> None:
    near = like(source, tmp_path / "t.parquet", "--seed", "1")
    for name, off in {
        "requests/s": 0.06, "gap CV": 0.1, "dispersion in 60 s": 0.15, "dispersion in 600 s": 0.2,
        "busiest model's share": 0.06, "prompt tokens p50": 0.06, "prompt tokens p90": 0.06, "output tokens p50": 0.06,
        "output tokens p99": 0.02,
    }.items():  # fmt: skip
        assert near[name].made == pytest.approx(near[name].source, rel=off), name
    assert near["rank correlation"].made == pytest.approx(near["rank correlation"].source, abs=0.05)
    for name in ("KS of gaps", "KS of prompt tokens", "KS of output tokens"):
        assert near[name].made is not None
        assert near[name].noise is not None
        assert near[name].made < 2 * near[name].noise, name
    frame = pl.read_parquet(tmp_path / "t.parquet")
    tenants = frame.filter(pl.col("model") == "small")["tenant"].value_counts(normalize=True)
    assert dict(tenants.iter_rows())["x"] == pytest.approx(0.9, abs=0.03)
    assert (frame["output_tokens"] == 513).mean() == pytest.approx(0.2, abs=0.05)


def test_longer_heavier_and_with_more_models(source: Path, tmp_path: Path) -> None:
    options = ("--span", "604800", "--load", "2", "--models", "6", "--seed", "2")
    near = like(source, tmp_path / "t.parquet", *options)
    frame = pl.read_parquet(tmp_path / "t.parquet")
    assert near["requests/s"].made == pytest.approx(near["requests/s"].source, rel=0.06)
    assert frame["model"].n_unique() == 6
    assert frame["arrival_s"].max() > 600_000
    by_hour = np.bincount((frame["arrival_s"].to_numpy() % 86_400 // 3_600).astype(int), minlength=24)
    assert by_hour.argmax() in range(11, 18), "the day's shape goes on"
    assert by_hour.max() > 2 * by_hour.min()


def test_fewer_models_keep_the_rate(source: Path, tmp_path: Path) -> None:
    near = like(source, tmp_path / "t.parquet", "--models", "1")
    assert pl.read_parquet(tmp_path / "t.parquet")["model"].unique().to_list() == ["big"]
    assert near["requests/s"].made == pytest.approx(near["requests/s"].source, rel=0.1)


def test_a_specification_lays_more_over_a_likeness(source: Path, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        f"span_s: 86400\nstreams:\n- {{generator: like, trace: {source}, models: 3, load: 0.5,\n"
        "   drift: [{column: output_tokens, at_s: 43200, factor: 3, model: big}], prediction: {sigma: 0.1}}\n"
    )
    done = CliRunner().invoke(main, ["generate", str(tmp_path / "w.yaml"), "--out", str(tmp_path / "t.parquet")])
    assert done.exit_code == 0, done.output
    frame = pl.read_parquet(tmp_path / "t.parquet")
    late = (
        frame.filter(pl.col("model") == "big")
        .group_by(late=pl.col("arrival_s") > 43_200)
        .agg(pl.col("output_tokens", "predicted_output_tokens").mean())
    )
    (before, guessed), (after, guess) = late.sort("late").drop("late").rows()
    assert after / before == pytest.approx(3, rel=0.15)
    assert guess / guessed == pytest.approx(1, rel=0.15)
    assert frame["model"].n_unique() == 3
    spec = (tmp_path / "w.yaml").read_text()
    for wrong in ("model: bigg", "tenant: nobody"):
        (tmp_path / "w.yaml").write_text(spec.replace("model: big", wrong))
        done = CliRunner().invoke(main, ["generate", str(tmp_path / "w.yaml"), "--out", str(tmp_path / "t.parquet")])
        assert (done.exit_code, done.output[:28]) == (1, "trace: the drift of stream-0")


def test_a_coarse_clock_is_kept(tmp_path: Path) -> None:
    times = np.sort(np.random.default_rng(1).uniform(0, 3_600, 4_000) // 5 * 5)
    pl.DataFrame({"arrival_s": times, "prompt_tokens": 10, "output_tokens": 5}).write_csv(tmp_path / "s.csv")
    near = like(tmp_path / "s.csv", tmp_path / "t.parquet")
    made = pl.read_parquet(tmp_path / "t.parquet")["arrival_s"]
    assert (made % 5 == 0).all()
    assert near["gap CV"].made == pytest.approx(near["gap CV"].source, rel=0.1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "arrival_s,prompt_tokens\n1,2\n2,3\n",
            "cannot be fitted; --like needs arrival times that differ and 20 requests",
        ),
        ("num_prefill_tokens,num_decode_tokens\n1,2\n", "--like needs arrival times that differ"),
        ("arrival_s,prompt_tokens\n5,2\n5,3\n", "--like needs arrival times that differ"),
    ],
)
def test_what_cannot_be_fitted_is_told_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(text)
    done = CliRunner().invoke(
        main, ["generate", "--like", str(tmp_path / "s.csv"), "--out", str(tmp_path / "t.parquet")]
    )
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert said in done.stderr


def test_equal_traces_are_told_as_equal() -> None:
    rng = np.random.default_rng(1)
    frame = pl.LazyFrame(
        {
            "arrival_s": np.cumsum(rng.exponential(1, 2_000)),
            "model": "m",
            "prompt_tokens": rng.integers(1, 99, 2_000),
            "output_tokens": rng.integers(1, 99, 2_000),
        }
    )
    for measure in compare(frame, frame):
        assert measure.made == (0.0 if measure.noise else measure.source), measure.name


def test_a_real_trace_is_met(shared_traces: Path, tmp_path: Path) -> None:
    near = like(shared_traces / "azure_llm_2023/AzureLLMInferenceTrace_conv.csv", tmp_path / "t.parquet")
    for name, off in {"requests/s": 0.06, "gap CV": 0.1, "dispersion in 10 s": 0.25, "output tokens p90": 0.05}.items():
        assert near[name].made == pytest.approx(near[name].source, rel=off), name
    assert near["KS of gaps"].made < 0.03  # type: ignore[operator]
