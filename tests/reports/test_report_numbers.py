"""The numbers behind the page: quantiles, intervals, attainment, differences, phases, groups, time."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import Recipe, make_run

from reports import groups, lives, overtime
from reports.attainment import OBJECTIVES, SCALES, Objectives, ratios, scale_curve
from reports.compare import comparison, find, same_trace, shift
from reports.measured import input_length, labels, measure
from reports.numbers import P999_FROM, PERCENTILES, run_numbers, statistics
from reports.resampling import GRID, draws, interval, mean_replicates, quantile_replicates, tally
from reports.run_page import Report, compute
from toolkit.errors import InputFailure
from toolkit.metrics import meets_tpot, meets_ttft
from toolkit.runs import Run, RunWriter, find_runs
from toolkit.stats import bootstrap_quantile_interval


def test_percentiles_are_numpys(two: Report) -> None:
    run = two.runs[0].frame.filter(pl.col("status") == "ok")
    expected = np.quantile(run["finish_s"] - run["arrival_s"], [0.5, 0.99])
    found = two.numbers[0]["metrics"]["e2e_s"]
    assert [found["p50"]["value"], found["p99"]["value"]] == pytest.approx(expected.tolist())
    assert found["n"] == run.height


def test_a_run_of_nothing_but_warm_up_says_so(tmp_path) -> None:
    run = Run.open(make_run(tmp_path, Recipe(requests=50)))
    for part in run.path.glob("outcomes/*.parquet"):
        pl.read_parquet(part).with_columns(warm_up=pl.lit(True)).write_parquet(part)
    with pytest.raises(InputFailure, match="every request of the run was warm-up; replay it with a shorter --warm-up"):
        measure(run, "r")


def test_p999_waits_for_ten_thousand_requests(tmp_path) -> None:
    for n, there in ((P999_FROM - 1, False), (P999_FROM, True)):
        run = Run.open(make_run(tmp_path, Recipe(requests=n, failed=0.0)))
        numbers = run_numbers(statistics(measure(run, "r"), Objectives()))
        assert (numbers["metrics"]["ttft_s"]["p99_9"] is not None) is there


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=8, max_size=200), st.integers(0, 2**31))
def test_replicates_of_a_small_sample_are_the_plain_block_bootstrap(values: list[int], seed: int) -> None:
    sample = np.array(values, dtype=float)
    block_of = np.arange(len(sample)) * 5 // len(sample)
    drawn = draws(5, seed=seed, replicates=20)
    found = quantile_replicates(tally(sample, block_of), drawn, np.array([0.5, 0.9]))
    for row, weights in zip(found, drawn, strict=True):
        pool = np.concatenate([np.tile(sample[block_of == b], int(w)) for b, w in enumerate(weights)])
        expected = np.quantile(pool, [0.5, 0.9], method="inverted_cdf")
        assert row.tolist() == expected.tolist()


def test_intervals_agree_with_the_ground_floors_bootstrap() -> None:
    rng = np.random.default_rng(5)
    values = np.convolve(rng.lognormal(0, 1, 40_000), np.ones(20), "valid")  # autocorrelated, like queueing
    assert len(values) > GRID
    block_of = np.arange(len(values)) * 60 // len(values)
    low, high = interval(quantile_replicates(tally(values, block_of), draws(60, seed=1), np.array([0.99])))
    expected = bootstrap_quantile_interval(values, 0.99, np.random.default_rng(2), blocks=60)
    assert (low[0], high[0]) == pytest.approx(expected, rel=0.02)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for i in range(100):
        values = rng.exponential(1.0, 1_200)
        counted = tally(values, np.arange(1_200) * 60 // 1_200)
        low, high = interval(quantile_replicates(counted, draws(60, seed=i, replicates=200), np.array([0.9])))
        covered += low[0] <= np.log(10) <= high[0]
    assert 86 <= covered <= 100


def test_undefined_values_are_left_out() -> None:
    values = np.array([1.0, np.nan, 3.0, np.nan])
    counted = tally(values, np.array([0, 0, 1, 1]))
    assert counted.n == 2
    assert mean_replicates(counted, np.array([[2.0, 0.0]])).tolist() == [1.0]
    empty = tally(np.array([np.nan, np.nan]), np.array([0, 1]))
    assert np.isnan(empty.quantiles(np.array([0.5]))).all()
    assert np.isnan(interval(quantile_replicates(empty, draws(2, seed=0), np.array([0.5])))[0]).all()


def test_attainment_counts_failures_as_misses_and_agrees_with_the_metrics(two: Report) -> None:
    frame = two.runs[0].frame
    used = ratios(frame, Objectives())
    for name, meets in (("ttft", meets_ttft), ("tpot", meets_tpot)):
        expected = (
            frame.with_columns(pl.col("status").cast(pl.String)).select(meets(pl.col(f"slo_{name}_s"))).to_series()
        )
        assert (used[name] <= 1).to_list() == expected.to_list()
    assert used.filter(frame["status"].cast(pl.String) != "ok")["joint"].is_infinite().all()
    assert used["e2e"].null_count() == frame.height


def test_an_objective_of_the_user_replaces_the_traces(two: Report) -> None:
    frame = two.runs[0].frame
    assert Objectives().fixed("ttft", frame) == 2.0
    assert Objectives(ttft_s=5.0).fixed("ttft", frame) == 5.0
    strict, loose = (ratios(frame, Objectives(ttft_s=s))["ttft"] for s in (1.0, 5.0))
    assert (strict / loose).drop_nans().to_list() == pytest.approx([5.0] * len((strict / loose).drop_nans()))


def test_the_scale_curve_passes_through_the_attainment(two: Report) -> None:
    curve = scale_curve(two.stats[0].used["joint"])
    at_one = curve[np.argmin(np.abs(SCALES - 1))]
    assert at_one == pytest.approx(two.numbers[0]["attainment"]["joint"]["value"], abs=1e-9)
    assert (np.diff(curve) >= 0).all()
    assert set(two.stats[0].met) == {*OBJECTIVES, "joint"}


def test_a_run_does_not_differ_from_itself(two: Report) -> None:
    rows = comparison(two.stats[0], [two.stats[0]])["runs"][0]["differences"]
    assert rows
    assert not any(r["shown"] for r in rows)
    assert all(r["difference"] == 0 for r in rows)


def test_differences_have_the_right_sign_and_their_interval_holds_them(two: Report) -> None:
    found = two.differences["runs"][0]
    assert found["paired"]
    worse, better = find(found["differences"], "e2e_s", "p99"), find(found["differences"], "slowdown", "p99")
    assert worse["shown"]
    assert worse["low"] < worse["difference"] < worse["high"]
    assert worse["low"] > 0 > better["high"]
    sizes = [abs(np.log(r["value"] / r["base"])) for r in found["differences"] if r["shown"]]
    assert sizes == sorted(sizes, reverse=True)


def test_runs_of_different_requests_are_not_paired(tmp_path) -> None:
    runs = [Run.open(make_run(tmp_path, Recipe(requests=500, seed=s))) for s in (1, 2)]
    report = compute(runs)
    assert not same_trace(*report.runs)
    assert not report.differences["runs"][0]["paired"]


def test_the_shift_is_the_difference_of_the_quantiles(two: Report) -> None:
    a, b = two.stats
    found = shift(a, b, "e2e_s")
    at = int(np.argmin(np.abs(found["level"] - 0.5)))
    expected = np.subtract(*(np.median(s.tallies["e2e_s"].ordered) for s in (b, a)))
    assert found["difference"][at] == pytest.approx(expected)


def test_the_phases_of_a_life_sum_to_its_e2e(two: Report) -> None:
    found = lives.lives(two.runs[0])
    total = found.frame.select(pl.sum_horizontal(lives.PHASES)).to_series()
    assert total.to_numpy() == pytest.approx(found.frame["e2e_s"].to_numpy(), abs=1e-9)
    assert found.frame.select(pl.min_horizontal(lives.PHASES).min()).item() >= 0
    slowest = lives.slices(found)["Slowest 20"]
    assert slowest["e2e_s"].to_list() == found.frame["e2e_s"].sort(descending=True).head(20).to_list()


def test_loading_is_taken_out_of_queueing(two: Report) -> None:
    run = two.runs[0]
    calm = replace(run, events=run.events.clear())
    row = lives.lives(calm).frame.filter(pl.col("queue_s") > 1).head(1)
    load = {"time_s": row["arrival_s"] - 5, "kind": ["load"], "duration_s": [5.5]}
    event = pl.DataFrame(load).with_columns(model=row["model"].cast(pl.String))
    moved = lives.lives(replace(run, events=event)).frame.filter(pl.col("request_id") == row["request_id"][0])
    assert moved["loading_s"][0] == pytest.approx(0.5)
    assert moved["queue_s"][0] == pytest.approx(row["queue_s"][0] - 0.5)


def test_groups_are_ordered_by_harm_and_count_every_request(two: Report) -> None:
    runs = two.runs
    found = {s.name: s for s in groups.splits(runs, [s.used["joint"] <= 1 for s in two.stats])}
    assert set(found) == {"model", "tenant", "tier", "input_length"}
    for split in found.values():
        assert split.table["requests"].sum() == sum(r.frame.height for r in runs)
        worst = split.table.group_by("group").agg(pl.col("p99").max())
        by_group = dict(worst.iter_rows())
        assert [by_group[g] for g in split.order] == sorted(by_group.values(), reverse=True)
    model = found["model"].order[0]
    expected = runs[0].frame.filter(pl.col("model").cast(pl.String) == model)["slowdown"].drop_nulls().to_numpy()
    row = found["model"].table.filter((pl.col("group") == model) & (pl.col("run") == runs[0].label))
    assert row["p99"].item() == pytest.approx(np.quantile(expected, 0.99))
    values, above = groups.tail_of(found["model"].tails[0][model])
    assert np.mean(expected > values[10]) == pytest.approx(above[10], abs=0.01)


def test_requests_without_a_group_are_a_group(tmp_path) -> None:
    frame = pl.DataFrame({"request_id": range(40), "arrival_s": [float(i) for i in range(40)], "status": ["ok"] * 40})
    frame = frame.with_columns(
        model=pl.when(pl.col("request_id") % 2 == 0).then(pl.lit("a")), finish_s=pl.col("arrival_s") + 1
    )
    writer = RunWriter.create(tmp_path / "run", {"run_id": "x"})
    writer.append("outcomes", frame)
    report = compute(find_runs([tmp_path / "run"]))
    split = groups.splits(report.runs, [report.stats[0].used["joint"] <= 1])[0]
    assert set(split.order) == {None, "a"}
    assert split.harm == "e2e_s"
    assert [len(v) for v in split.tails[0].values()] == [20, 20]


def test_bins_are_round_and_hold_every_arrival(two: Report) -> None:
    start, end = overtime.span_of(two.runs)
    width = overtime.bin_width(end - start)
    assert width in (1.0, 2.0, 5.0)
    table = overtime.over_time(two.runs[0], start, width)
    assert round(table["arrivals_per_s"].sum() * width) == two.runs[0].frame.height
    assert table["kv_use"].drop_nulls().is_between(0, 1).all()


def test_the_queue_is_counted_where_the_engine_gave_no_samples(two: Report) -> None:
    run = two.runs[0]
    start, end = overtime.span_of([run])
    counted = overtime.counted_state(run, start, 5.0)
    sampled = overtime.engine_state(run, start, 5.0)
    both = counted.join(sampled, on="bin")
    assert np.corrcoef(both["queue"], both["queue_right"])[0, 1] > 0.99
    assert end > start


def test_labels_are_short_printable_and_unique(tmp_path) -> None:
    names = ["same", "same", "n" * 300, "abc\u202egnp.exe"]
    found = labels([Run(tmp_path, {"name": n}) for n in names])
    assert found[:2] == ["same (1)", "same (2)"]
    assert len(set(found)) == 4
    assert max(map(len, found)) <= 40
    assert all(f.isprintable() for f in found)
    days = [Run(tmp_path / day / "fcfs", {"name": "fcfs"}) for day in ("monday", "tuesday", "d" * 60)]
    assert labels(days) == ["monday/fcfs", "tuesday/fcfs", "…" + "d" * 34 + "/fcfs"]


def test_a_run_without_outcomes_is_an_input_failure(tmp_path) -> None:
    RunWriter.create(tmp_path / "run", {"run_id": "x"})
    with pytest.raises(InputFailure, match="no outcomes"):
        compute(find_runs([tmp_path / "run"]))


def test_percentile_names_are_levels() -> None:
    assert [float(n[1:].replace("_", ".")) / 100 for n in PERCENTILES] == pytest.approx(list(PERCENTILES.values()))


def test_input_lengths_are_binned_at_the_edges_and_unknown_stays_null() -> None:
    tokens = [0, 127, 128, 511, 512, 32_767, 32_768, None]
    found = input_length(pl.DataFrame({"prompt_tokens": tokens}, schema={"prompt_tokens": pl.Int32}))
    expected = ["< 128", "< 128", "128 to 511", "128 to 511", "512 to 2047", "8192 to 32767", "≥ 32768", None]
    assert found.to_list() == expected
