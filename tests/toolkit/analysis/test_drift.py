"""Planted drifts are found where they are, and drift-free traces are left alone."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from toolkit import drift_json
from toolkit.analysis.drift_stretch import stretches

Ask = Callable[..., dict[str, pl.DataFrame]]
Floats = NDArray[np.float64]
N = 8000


def tokens(deviation: Floats) -> NDArray[np.int32]:
    return np.maximum(1, np.rint(200 * np.exp(deviation))).astype(np.int32)


def ar1(phi: float, rng: np.random.Generator, n: int = N) -> Floats:
    values = rng.standard_normal(n)
    for i in range(1, n):
        values[i] = phi * values[i - 1] + np.sqrt(1 - phi**2) * values[i]
    return values


def asked(ask: Ask, deviation: Floats, **columns: Any) -> dict[str, pl.DataFrame]:
    """The analysis of planted outputs beside independent prompts, ten requests a second."""
    n = len(deviation)
    prompt = np.random.default_rng(99).lognormal(6, 1, n).astype(np.int32) + 1
    given = {"arrival_s": np.arange(n) / 10, "prompt_tokens": prompt, "output_tokens": tokens(deviation)} | columns
    return ask("drift", info={"span_s": n / 10}, request_id=np.arange(n), **given)


def verdicts(tables: dict[str, pl.DataFrame]) -> dict[str, str]:
    return dict(tables["summary"].select("column", "verdict").iter_rows())


def points(tables: dict[str, pl.DataFrame], column: str = "output_tokens") -> list[int]:
    return tables["change_points"].filter(pl.col("column") == column)["request_id"].to_list()


@pytest.mark.parametrize("factor", [0.6, 1.5, 2.0])
@pytest.mark.parametrize("at", [0.3, 0.6])
def test_a_step_is_found_where_it_is(ask: Ask, factor: float, at: float) -> None:
    rng = np.random.default_rng(int(10 * (factor + at)))
    planted = rng.standard_normal(N) + log(factor) * (np.arange(N) >= at * N)
    tables = asked(ask, planted)
    assert verdicts(tables) == {"prompt_tokens": "none", "output_tokens": "drift", "ratio": "drift"}
    found = min(points(tables), key=lambda request: abs(request - at * N))
    assert abs(found - at * N) < 100
    row = tables["change_points"].filter(pl.col("request_id") == found).row(0, named=True)
    medians = [np.median(tokens(planted)[part]) for part in (slice(0, found), slice(found, None))]
    if len(points(tables)) == 1:
        assert (row["before"], row["after"]) == pytest.approx(medians)
    assert 1 < (row["after"] / row["before"]) ** np.sign(log(factor)) < 2.2
    assert row["request_low"] <= found <= row["request_high"]
    assert row["time_s"] == found / 10


def test_a_small_step_a_ramp_a_pulse_and_a_change_of_shape(ask: Ask) -> None:
    rng, place = np.random.default_rng(4), np.arange(20_000) / 20_000
    noise = rng.standard_normal(20_000)
    planted = {
        "step": noise + log(1.2) * (place >= 0.5),
        "ramp": noise + log(1.5) * np.clip((place - 0.3) / 0.4, 0, 1),
        "pulse": noise + log(1.6) * ((place >= 0.45) & (place < 0.55)),
        "shape": np.where(place >= 0.5, 0.7 * noise + (1 - 0.49) / 2, noise),
    }
    found = {name: points(asked(ask, deviation)) for name, deviation in planted.items()}
    assert len(found["step"]) == len(found["shape"]) == 1
    assert abs(found["shape"][0] - 10_000) < 200
    assert all(0.25 < at / 20_000 < 0.75 for at in found["ramp"])
    assert np.array(found["pulse"]) / 20_000 == pytest.approx(np.array([0.45, 0.55]), abs=0.01)


@pytest.mark.parametrize("n", [5000, N])
def test_the_block_in_which_a_change_lies_is_no_change_of_its_own(ask: Ask, n: int) -> None:
    place = (np.arange(n) + 0.5) / n
    found = []
    for seed in range(3):
        noise = 0.3 * np.random.default_rng(seed).standard_normal(n)
        found.append(points(asked(ask, noise + log(2) * ((place >= 0.5) & (place < 0.6)))))
    assert [len(each) for each in found] == [2, 2, 2]
    assert np.array(found) / n == pytest.approx(np.tile([0.5, 0.6], (3, 1)), abs=0.002)


@pytest.mark.parametrize("phi", [0.8, 0.97])
def test_autocorrelated_lengths_without_drift_seldom_alarm(ask: Ask, phi: float) -> None:
    runs = [verdicts(asked(ask, ar1(phi, np.random.default_rng(seed), 5000))) for seed in range(4)]
    assert sum(run["output_tokens"] == "drift" for run in runs) <= 1


def test_sessions_with_lengths_of_their_own_are_no_drift(ask: Ask) -> None:
    """Half of the variance is the session's; forty of them interleave, so neighbours hardly resemble each other."""
    rng, n = np.random.default_rng(1), 5000
    session = np.sort(rng.integers(0, n // 12, n) * 12 + rng.integers(0, 400, n), kind="stable") // 12
    own = rng.standard_normal(session.max() + 1)
    deviation = np.sqrt(0.5) * own[session] + np.sqrt(0.5) * rng.standard_normal(n)
    names = [f"s{i}" for i in session]
    with_ids, without = asked(ask, deviation, session_id=names), asked(ask, deviation)
    stretch = [t["summary"].filter(pl.col("column") == "output_tokens")["stretch"][0] for t in (with_ids, without)]
    assert stretch[0] >= stretch[1] >= 1
    assert verdicts(with_ids)["output_tokens"] == "none"


def test_weak_but_long_resemblance_stretches_the_null_and_a_clear_step_does_not() -> None:
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((40, 96, 1))
    wander = np.stack([ar1(0.85, rng, 96) for _ in range(40)])[:, :, None]
    assert np.mean([stretches(blocks, 1e9) for blocks in noise]) < 1.5
    assert np.mean([stretches(blocks, 1e9) for blocks in noise + 0.7 * wander]) > 2.5
    levels = 5.0 * (np.arange(96) // 24 % 2)[:, None]
    assert np.mean([stretches(blocks + levels, 1e9) for blocks in noise]) > 3
    assert np.mean([stretches(blocks + levels, 50) for blocks in noise]) < 1.5


def test_a_change_of_mix_is_laid_to_the_mix_and_an_own_change_to_the_stratum(ask: Ask) -> None:
    rng = np.random.default_rng(3)
    late = np.arange(N) >= N // 2
    long = rng.random(N) < np.where(late, 0.7, 0.2)
    model = np.where(long, "long", "short")
    mixed = asked(ask, rng.standard_normal(N) + 1.2 * long, model=model)
    row = mixed["summary"].filter(pl.col("column") == "output_tokens").row(0, named=True)
    assert (row["verdict"], row["cause_by"]) == ("drift", "model")
    assert row["mix"] > 0.9
    assert verdicts(mixed)["model"] == "drift"
    steady = np.where(rng.random(N) < 0.5, "a", "b")
    own = asked(ask, rng.standard_normal(N) + 0.8 * (late & (steady == "a")), model=steady)
    cause = own["cause"].filter(pl.col("column") == "output_tokens", pl.col("by") == "model", pl.col("change") == 0)
    parts = {name: (own, mix) for name, own, mix in cause.select("stratum", "own", "mix").iter_rows()}
    assert parts["a"][0] > 0.85
    assert abs(parts["b"][0]) < 0.15
    assert cause.select(pl.col("own", "mix").sum().sum()).row(0) == pytest.approx(
        (cause["own"].sum(), 1 - cause["own"].sum())
    )


def part(rng: np.random.Generator, n: int = 6000) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Models and tenants of n requests; 8 % are b's for tenant v."""
    return rng.choice(["a", "b", "c"], n, p=[0.6, 0.2, 0.2]), rng.choice(["u", "v", "w"], n, p=[0.4, 0.4, 0.2])


def named(tables: dict[str, pl.DataFrame], column: str = "output_tokens") -> list[tuple[str | None, str | None]]:
    found = tables["strata_points"].filter(pl.col("column") == column)
    return list(dict.fromkeys(found.select("model", "tenant").iter_rows()))


@pytest.mark.parametrize("which", ["pair", "model", "tenant"])
def test_a_change_in_a_part_is_laid_to_that_part_and_its_size_said(ask: Ask, which: str) -> None:
    """Steps that all requests together hide, or show faintly: the smallest part that has the whole change is named."""
    rng = np.random.default_rng(7)
    model, tenant = part(rng)
    inside = {"pair": (model == "b") & (tenant == "v"), "model": model == "b", "tenant": tenant == "w"}[which]
    step = 2.5 if which == "pair" else 1.7
    late = np.arange(6000) >= 3600
    tables = asked(ask, rng.standard_normal(6000) + log(step) * (inside & late), model=model, tenant=tenant)
    assert named(tables) == [{"pair": ("b", "v"), "model": ("b", None), "tenant": (None, "w")}[which]]
    assert verdicts(tables)["output_tokens"] == "drift"
    assert named(tables, "prompt_tokens") == []
    row = tables["strata_points"].filter(pl.col("column") == "output_tokens").row(0, named=True)
    assert row["request_low"] <= row["request_id"] <= row["request_high"]
    assert abs(row["request_id"] - 3600) < 300
    assert row["ratio"] == pytest.approx(step, rel=0.25)
    assert row["requests"] == np.count_nonzero(inside)
    told = drift_json.shape(tables)["output_tokens"]
    assert {"time_s", "request_id", "before", "after", "model", "tenant"} <= set(told["change_points"][-1])
    assert (told["change_points"][-1]["model"], told["change_points"][-1]["tenant"]) == named(tables)[0]


def test_what_all_do_is_not_found_again_in_every_part(ask: Ask) -> None:
    rng = np.random.default_rng(11)
    model, tenant = part(rng)
    late = np.arange(6000) >= 3000
    tables = asked(ask, rng.standard_normal(6000) + log(1.8) * late, model=model, tenant=tenant)
    assert len(points(tables)) == 1
    assert named(tables) == []


def test_a_part_that_changes_at_a_time_of_its_own_is_named_beside_what_all_do(ask: Ask) -> None:
    rng = np.random.default_rng(12)
    model, tenant = part(rng)
    place = np.arange(6000) / 6000
    planted = rng.standard_normal(6000) + log(2) * (place >= 0.3) - 1.2 * ((place >= 0.7) & (model == "c"))
    tables = asked(ask, planted, model=model, tenant=tenant)
    own = tables["strata_points"].filter(pl.col("column") == "output_tokens", pl.col("model") == "c")
    if ("c", None) in named(tables):
        assert (own["request_id"] - 4200).abs().min() < 200  # type: ignore[operator]
    else:  # all together show it too
        assert min(abs(at - 4200) for at in points(tables)) < 200
    assert min(abs(at - 1800) for at in points(tables)) < 100


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_parts_without_drift_seldom_alarm(ask: Ask, phi: float) -> None:
    """Lengths of several models and tenants, each of a scale of its own, that wander together or not at all."""
    false = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        model, tenant = part(rng, 3000)
        deviation = ar1(phi, rng, 3000) * np.where(model == "a", 0.5, 1) + (model == "c")
        false += bool(asked(ask, deviation, model=model, tenant=tenant)["strata_points"].height)
    assert false == 0


def test_parts_too_small_or_nearly_all_are_left_out_and_counted(ask: Ask) -> None:
    rng = np.random.default_rng(2)
    model = np.where(np.arange(4000) % 40 == 0, "rare", "common")
    tables = asked(ask, rng.standard_normal(4000), model=model)
    row = tables["summary"].filter(pl.col("column") == "output_tokens").row(0, named=True)
    assert (row["strata_tested"], row["strata_left_out"]) == (0, 2)


def test_detectors_alarm_after_a_step_and_state_the_delay(ask: Ask) -> None:
    rng = np.random.default_rng(8)
    tables = asked(ask, rng.standard_normal(N) + log(2) * (np.arange(N) >= N // 2))
    alarms = tables["alarms"].filter(pl.col("column") == "output_tokens", pl.col("delay_requests").is_not_null())
    first = alarms.group_by("detector").agg(pl.col("delay_requests", "direction").first())
    assert set(first["detector"]) == {"ADWIN", "CUSUM", "Page–Hinkley"}
    assert first["delay_requests"].max() < 400  # type: ignore[operator]
    assert set(first["direction"]) == {"up"}


def test_windows_move_away_from_the_first_and_the_null_says_how_far_is_far(ask: Ask) -> None:
    rng = np.random.default_rng(8)
    tables = asked(ask, rng.standard_normal(N) + log(2) * (np.arange(N) >= N // 2))
    windows = tables["windows"].filter(pl.col("column") == "output_tokens")
    assert windows["requests"].sum() == N
    half = windows.height // 2
    assert windows["ks_reference"][half + 2 :].mean() > 2 * windows["ks_reference"][1:half].mean()  # type: ignore[operator]
    assert windows["p50"][-1] / windows["p50"][0] == pytest.approx(2, rel=0.3)
    ks = tables["null"].filter(pl.col("column") == "prompt_tokens", pl.col("distance") == "ks")
    assert (ks["most"] < ks["null"]).all()


def test_json_has_the_contract(ask: Ask) -> None:
    rng = np.random.default_rng(8)
    tables = asked(ask, rng.standard_normal(N) + log(2) * (np.arange(N) >= N // 2))
    shape = drift_json.shape(tables)
    assert {"output_tokens", "prompt_tokens", "estimate"} <= set(shape)
    assert (shape["output_tokens"]["verdict"], shape["prompt_tokens"]["verdict"]) == ("drift", "none")
    assert {"time_s", "request_id", "before", "after"} <= set(shape["output_tokens"]["change_points"][0])
    assert shape["estimate"]["estimators"]["class mean"]["ema"]["mae"] > 0


def test_the_same_trace_gives_the_same_answer(ask: Ask) -> None:
    deviation = np.random.default_rng(5).standard_normal(3000)
    first, second = asked(ask, deviation), asked(ask, deviation)
    assert all(first[name].equals(second[name]) for name in first)


def test_too_few_requests_and_no_times(ask: Ask) -> None:
    few = asked(ask, np.random.default_rng(0).standard_normal(50))
    assert few["summary"]["p_value"].null_count() == few["summary"].height
    assert "too few" in few["summary"]["note"][0]
    timeless = asked(ask, np.random.default_rng(0).standard_normal(2000), arrival_s=[None] * 2000)
    assert timeless["windows"]["start_s"].null_count() == timeless["windows"].height
    assert timeless["estimate"].is_empty()
