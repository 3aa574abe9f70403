"""Groups that were planted come back, traffic without any gives none, and the null is what it says it is."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from toolkit import groups_json
from toolkit.analysis.groups_activity import Scale, above, background, finest_window_s, scales
from toolkit.analysis.groups_communities import communities, upper_pairs
from toolkit.analysis.groups_membership import likeliest
from toolkit.analysis.groups_null import draws, expected, in_blocks, packed, part_edges, run, turned

Ask = Callable[..., dict[str, pl.DataFrame]]
HOUR = 3600.0


def traffic(
    groups: list[list[tuple[int, float, float]]], models: int, hours: float, seed: int
) -> dict[str, list[object]]:
    """Each group: (model, from, to) in shares of the trace; bursts of two minutes, 4 an hour, over a Poisson ground."""
    rng = np.random.default_rng(seed)
    span_s = hours * HOUR
    own = [rng.random(rng.poisson(12 * hours)) * span_s for _ in range(models)]
    for group in groups:
        starts = np.sort(rng.random(rng.poisson(4 * hours)) * span_s)
        for model, begin, end in group:
            joined = starts[(starts >= begin * span_s) & (starts < end * span_s) & (rng.random(len(starts)) < 0.85)]
            burst = np.repeat(joined + rng.normal(0, 10, len(joined)), 10) + rng.random(10 * len(joined)) * 120
            own[model] = np.concatenate([own[model], burst])
    model = np.repeat(np.arange(models), [len(t) for t in own])
    arrival_s = np.clip(np.concatenate(own), 0, span_s)
    order = np.argsort(arrival_s, kind="stable")
    return {"arrival_s": arrival_s[order].tolist(), "model": [f"m{i}" for i in model[order]]}


def always(*models: int) -> list[tuple[int, float, float]]:
    return [(model, 0.0, 1.0) for model in models]


def members(tables: dict[str, pl.DataFrame]) -> list[list[str]]:
    return sorted(sorted(names) for names in tables["groups"]["names"].to_list())


def test_planted_groups_come_back_with_their_evidence(ask: Ask) -> None:
    tables = ask("groups", **traffic([always(0, 1, 2), always(3, 4, 5, 6)], models=10, hours=12, seed=1))
    assert members(tables) == [["m0", "m1", "m2"], ["m3", "m4", "m5", "m6"]]
    for row in tables["groups"].to_dicts():
        assert row["p_value"] <= 0.01
        assert row["stability"] > 0.7
        assert row["lift"] > 2
    assert tables["summary"]["verdict"][0] == "groups"
    throughout = (pytest.approx(0, abs=60), pytest.approx(12 * HOUR, abs=60))
    assert tables["intervals"].select("start_s", "end_s").rows() == [throughout] * 2
    assert set(tables["members"]["persistence"]) == {"persistent"}
    assert tables["members"]["participation"].min() > 0.7


def test_two_models_alone_may_be_a_group(ask: Ask) -> None:
    assert members(ask("groups", **traffic([always(0, 1)], models=2, hours=12, seed=2))) == [["m0", "m1"]]


def test_a_large_group_of_which_a_quarter_of_the_trace_shows_a_part_is_whole(ask: Ask) -> None:
    tables = ask("groups", **traffic([always(*range(12)), always(*range(12, 20))], models=30, hours=6, seed=0))
    assert members(tables) == [sorted(f"m{i}" for i in range(12)), [f"m{i}" for i in range(12, 20)]]


def test_a_member_that_leaves_for_another_group(ask: Ask) -> None:
    first = [*always(0, 1, 2), (3, 0.0, 0.5)]
    second = [*always(4, 5, 6), (3, 0.5, 1.0)]
    tables = ask("groups", **traffic([first, second], models=8, hours=24, seed=3))
    stays = tables["members"].filter(pl.col("name") == "m3").sort("start_s").to_dicts()
    assert len(stays) == 2
    assert stays[0]["group"] != stays[1]["group"]
    assert stays[0]["end_s"] == pytest.approx(12 * HOUR, abs=1.5 * HOUR)
    assert stays[1]["start_s"] == pytest.approx(12 * HOUR, abs=1.5 * HOUR)
    answer = groups_json.shape(tables)
    at = [sorted(g["models"]) for g in answer["groups"] if any(a <= 20 * HOUR < b for a, b in g["intervals"])]
    assert sorted(at) == [["m0", "m1", "m2"], ["m3", "m4", "m5", "m6"]]


def test_a_group_that_forms_late(ask: Ask) -> None:
    late = [(model, 0.5, 1.0) for model in (0, 1, 2)]
    tables = ask("groups", **traffic([late], models=6, hours=24, seed=5))
    assert members(tables) == [["m0", "m1", "m2"]]
    assert tables["groups"]["start_s"][0] == pytest.approx(12 * HOUR, abs=1.5 * HOUR)


def by_night_and_day(made: dict[str, list[object]], days: int) -> dict[str, list[object]]:
    """The same traffic of whole days where the night has a fortieth of the day's load: its time runs as fast."""
    grid = np.linspace(0, days * 24 * HOUR, 2_000 * days + 1)
    load = np.cumsum(np.append(0, 1 + 0.95 * np.sin(2 * np.pi * grid[1:] / (24 * HOUR))))
    moved = np.interp(np.array(made["arrival_s"]) / grid[-1], load / load[-1], grid)
    return {"arrival_s": moved.tolist(), "model": made["model"]}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_group_outlives_deep_nights(ask: Ask, seed: int) -> None:
    made = traffic([always(0, 1, 2), always(3, 4, 5)], models=10, hours=96, seed=seed)
    tables = ask("groups", **by_night_and_day(made, 4))
    assert members(tables) == [["m0", "m1", "m2"], ["m3", "m4", "m5"]]
    throughout = (pytest.approx(0, abs=600), pytest.approx(96 * HOUR, abs=600))
    assert tables["intervals"].select("start_s", "end_s").rows() == [throughout] * 2


@pytest.mark.parametrize("seed", [0, 1])
def test_a_group_that_is_not_there_for_two_days_is_not_there(ask: Ask, seed: int) -> None:
    there = [(model, begin, end) for model in (0, 1, 2) for begin, end in ((0.0, 0.4), (0.8, 1.0))]
    made = traffic([there, always(3, 4, 5)], models=10, hours=120, seed=seed)
    tables = ask("groups", **by_night_and_day(made, 5))
    assert members(tables) == [["m0", "m1", "m2"], ["m3", "m4", "m5"]]
    own = tables["groups"].filter(pl.col("names").list.contains("m0"))["id"][0]
    stays = tables["intervals"].filter(pl.col("id") == own).sort("start_s")
    assert [stays["end_s"][0], stays["start_s"][1]] == pytest.approx([48 * HOUR, 96 * HOUR], abs=12 * HOUR)
    assert stays.height == 2


@pytest.mark.parametrize("seed", range(4))
def test_models_that_burst_alone_under_a_shared_day_are_no_group(ask: Ask, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = np.linspace(0, 48 * HOUR, 2881)
    load = (1 + 0.9 * np.sin(grid[1:] / HOUR / 24 * 2 * np.pi)) * np.where(grid[1:] < 24 * HOUR, 1, 3)
    total = np.concatenate([[0], np.cumsum(load)]) / load.sum()
    own = []
    for model in range(10):
        starts = np.interp(rng.random(rng.poisson(60 + 40 * model)), total, grid)
        own.append(np.repeat(starts, 6) + rng.random(6 * len(starts)) * 90)
    model = np.repeat(np.arange(10), [len(t) for t in own])
    arrival_s = np.concatenate(own)
    order = np.argsort(arrival_s)
    tables = ask("groups", arrival_s=arrival_s[order].tolist(), model=[str(i) for i in model[order]])
    assert tables["summary"]["verdict"][0] == "none"
    assert tables["summary"]["power_group"][0] > 0.5
    assert tables["groups"].is_empty()


def test_what_nearly_all_do_at_once_is_load(ask: Ask) -> None:
    tables = ask("groups", **traffic([always(*range(10))], models=10, hours=12, seed=5))
    assert tables["summary"]["verdict"][0] == "none"
    assert "load" in tables["summary"]["note"][0]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_seed_gives_the_same_answer(ask: Ask, seed: int) -> None:
    made = traffic([always(0, 1, 2)], models=5, hours=6, seed=seed)
    one, two = ask("groups", **made), ask("groups", **made)
    assert all(one[name].equals(two[name]) for name in one)


def test_too_little_to_test_says_so(ask: Ask) -> None:
    few = ask("groups", arrival_s=[float(i) for i in range(40)], model=["a", "b"] * 20)
    assert few["summary"].select("verdict", "tested").row(0) == ("none", 0)
    assert "too short" in few["summary"]["note"][0]
    alone = ask("groups", arrival_s=[float(i) for i in range(4000)], model=["a"] * 4000)
    assert "fewer than two" in alone["summary"]["note"][0]
    nameless = ask("groups", arrival_s=[0.0, 1.0], model=[None, None])
    assert "no request names its model" in nameless["summary"]["note"][0]
    timeless = ask("groups", arrival_s=[None, None], model=["a", "b"])
    assert timeless["summary"]["note"][0] == "no request has an arrival time"
    together = ask("groups", arrival_s=[3.0, 3.0], model=["a", "b"])
    assert together["summary"]["note"][0] == "all requests that name a model arrive at once"
    answer = groups_json.shape(nameless)
    assert (answer["verdict"], answer["groups"], answer["prism"]) == ("none", [], None)


def test_windows_span_two_steps_of_the_clock() -> None:
    assert finest_window_s(3600, 3.0) == 10
    assert finest_window_s(600, None) == 1
    assert finest_window_s(30 * 86_400, None) == 300


def test_a_step_of_the_load_is_no_burst_and_a_burst_is() -> None:
    counts = np.full((1, 400), 20, dtype=np.float32)
    counts[0, 200:] = 80
    assert not above(counts, background(counts, 60)).any()
    counts[0, 100:103] = 60
    assert np.flatnonzero(above(counts, background(counts, 60))).tolist() == [100, 101, 102]


@pytest.fixture
def scale() -> Scale:
    rng = np.random.default_rng(7)
    active = rng.random((6, 24 * 16)) < 0.15
    return Scale(60.0, 24, active | np.roll(active, 1, axis=1), np.zeros(len(active)))


def test_mean_and_variance_of_the_null_are_those_of_all_turns(scale: Scale) -> None:
    blocks, edges = in_blocks(scale, scale.active), part_edges(scale)
    mean = expected(blocks, blocks, edges).sum(axis=0)
    a, b = blocks[0].astype(float), blocks[1].astype(float)
    each = np.array([[(a[k] * np.roll(b[k], s)).sum() for s in range(24)] for k in range(len(a))])
    assert mean[0, 1] == pytest.approx(each.mean(axis=1).sum())
    usual = run(blocks, blocks, mean)[0, 1] * (mean[0, 1] + 1) - each.var(axis=1).sum()
    assert 1 <= usual < 2  # what is added for pairs that hardly meet: the ratio of all pairs, once


def test_draws_keep_each_names_windows_in_each_block_and_meet_the_mean(scale: Scale) -> None:
    words = packed(in_blocks(scale, scale.active))
    moved = turned(words, 24, np.random.default_rng(0))
    assert np.array_equal(np.bitwise_count(moved), np.bitwise_count(words))
    assert not np.array_equal(moved, words)
    found = draws(scale, 400, seed=1)
    ratio = found.drawn.sum(axis=1).mean(axis=0) / found.expected.sum(axis=0)
    assert ratio == pytest.approx(np.ones(15), abs=0.05)
    pairs = upper_pairs(6)
    together = (scale.active[pairs[0]] & scale.active[pairs[1]]).sum(axis=1)
    assert np.array_equal(found.observed.sum(axis=0), together)


def test_a_single_link_does_not_join_two_communities() -> None:
    names = 7
    links: NDArray[np.bool_] = np.zeros((names, names), dtype=bool)
    for a, b in [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3)]:
        links[a, b] = True
    assert communities(np.flatnonzero(links[upper_pairs(names)]), names) == [(0, 1, 2), (3, 4, 5)]


def test_one_missed_burst_is_no_departure() -> None:
    gain = np.full((60, 1), 1.5)
    gain[30] = -2
    group = np.zeros(60, dtype=np.int64)
    assert (likeliest(gain, group, 1) == 0).all()
    gain[40:] = -1.5
    assert np.flatnonzero(likeliest(gain, group, 1)[:, 0] == -1).tolist() == list(range(40, 60))


def test_names_that_are_left_out_are_counted_and_said(ask: Ask) -> None:
    rng = np.random.default_rng(3)
    names = [*rng.choice(["a", "b", "c"], 6000), *(f"rare-{i}" for i in range(5))]
    about = ask("groups", arrival_s=np.sort(rng.random(6005) * 40_000), model=names)["summary"].row(0, named=True)
    assert (about["names"], about["tested"], about["left_out"]) == (8, 3, 5)
    assert about["note"].startswith("5 of 8 models are left out: 5 with too few requests")


def test_power_does_not_count_windows_that_noise_alone_would_mark(ask: Ask) -> None:
    counts = np.random.default_rng(1).poisson(4, (3, 4800)).astype(np.float32)
    (finest, *_) = scales(counts, 5.0)
    assert finest.noise == pytest.approx(finest.active.sum(axis=1), rel=0.3)
    few = traffic([always(0, 1), always(2, 3)], 4, 1.0, 5)
    assert ask("groups", **few)["summary"]["power_pair"][0] < 0.5
