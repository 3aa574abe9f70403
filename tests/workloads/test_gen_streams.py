"""What a stream lays over its arrivals: lengths, drift, sessions, prefixes, tiers, popularity."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from toolkit.errors import InputFailure, SettingFailure
from toolkit.specs import parse
from workloads.generate import Windows
from workloads.generate_spec import workload
from workloads.generators.lengths import Lengths


def made(streams: str, span_s: float = 20_000, seed: int = 5, **more: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The trace and its truth."""
    top = "".join(f"{key}: {value}\n" for key, value in {"span_s": span_s, **more}.items())
    windows = Windows(workload(parse(f"{top}streams:\n{streams}", Path("w.yaml")), "w", ""), seed)
    frame = pl.concat(list(windows))
    return frame, windows.truth


BASE = "- rate_per_s: 2\n  output_tokens: {median: 200, sigma: 0.6}\n"


@pytest.mark.parametrize(
    ("given", "mean", "cv"),
    [
        (Lengths(median=500, sigma=0.5), 500 * np.exp(0.125), (np.exp(0.25) - 1) ** 0.5),
        (Lengths("gamma", mean=400, cv=0.7), 400, 0.7),
        (Lengths("weibull", mean=400, cv=1.2), 400, 1.2),
        (Lengths("quantiles", quantiles=(0, 100)), 50, 12**-0.5 * 2),
    ],
)
def test_lengths_have_their_mean_and_spread(given: Lengths, mean: float, cv: float) -> None:
    drawn = given.at(np.random.default_rng(1).standard_normal(200_000))
    assert drawn.mean() == pytest.approx(mean, rel=0.015)
    assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=0.03)


def test_a_spread_keeps_the_mean() -> None:
    drawn = Lengths(median=500, sigma=0.5).at(np.random.default_rng(1).standard_normal(400_000), 1.8)
    assert drawn.mean() == pytest.approx(500 * np.exp(0.125), rel=0.01)
    assert np.log(drawn).std() == pytest.approx(0.9, rel=0.01)


def test_prompt_and_output_are_correlated_as_asked() -> None:
    frame, _ = made(BASE + "  prompt_tokens: {median: 900, sigma: 0.8}\n  correlation: 0.6\n")
    logs = frame.select(pl.col("prompt_tokens", "output_tokens").log()).to_numpy()
    assert np.corrcoef(logs.T)[0, 1] == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(
    ("drift", "before", "middle", "after"),
    [
        ("at_s: 8000, factor: 2", 1, 2, 2),
        ("at_s: 4000, factor: 3, shape: ramp, for_s: 12000", 1, 2, 3),
        ("at_s: 8000, factor: 2, shape: pulse, for_s: 4000", 1, 2, 1),
    ],
)
def test_output_drift_has_its_size_time_and_shape(drift: str, before: float, middle: float, after: float) -> None:
    frame, truth = made(BASE + f"  drift: [{{column: output_tokens, {drift}}}]\n  prediction: {{sigma: 0.2}}\n")
    at = pl.col("arrival_s")
    parts = {before: at < 4_000, middle: at.is_between(9_500, 10_500), after: at > 16_000}
    for factor, part in parts.items():
        mean = frame.filter(part)["output_tokens"].mean()
        assert mean == pytest.approx(factor * 200 * np.exp(0.18), rel=0.06)
        predicted = frame.filter(part)["predicted_output_tokens"].mean()
        assert predicted == pytest.approx(200 * np.exp(0.18 + 0.02), rel=0.06), "the estimator knows of no drift"
    told = truth.filter(pl.col("what") == "drift", pl.col("parameter") == "factor")
    assert (told["name"].item(), told["value"].item()) == ("output_tokens", max(middle, after))


def test_estimator_drift_and_drift_of_one_tenant() -> None:
    frame, _ = made(
        BASE + "  tenants: {shares: {a: 1, b: 1}}\n  prediction: {sigma: 0.1, bias: 1.5}\n  drift:\n"
        "  - {column: predicted_output_tokens, at_s: 10000, factor: 0.5}\n"
        "  - {column: output_tokens, at_s: 10000, factor: 4, tenant: b}\n"
    )
    late = (pl.col("arrival_s") > 10_000).alias("late")
    found = frame.group_by("tenant", late).agg(
        pl.col("output_tokens").median().alias("output"), pl.col("predicted_output_tokens").median().alias("predicted")
    )
    rows = {(tenant, is_late): (output, predicted) for tenant, is_late, output, predicted in found.iter_rows()}
    assert rows["b", True][0] / rows["b", False][0] == pytest.approx(4, rel=0.1)
    assert rows["a", True][0] / rows["a", False][0] == pytest.approx(1, rel=0.1)
    for tenant in "ab":
        assert rows[tenant, False][1] == pytest.approx(300, rel=0.1)
        assert rows[tenant, True][1] == pytest.approx(150, rel=0.1)


def test_mix_drift_moves_the_shares() -> None:
    frame, truth = made(
        "- rate_per_s: 2\n  models: {shares: {a: 3, b: 1}}\n"
        "  drift: [{column: models, at_s: 5000, shape: ramp, for_s: 10000, to: {b: 1, c: 1}}]\n"
    )
    share = {
        low: dict(part["model"].value_counts(normalize=True).iter_rows())
        for low in (0, 15_000)
        if len(part := frame.filter(pl.col("arrival_s").is_between(low, low + 5_000)))
    }
    assert share[0] == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.03)
    assert share[15_000] == pytest.approx({"b": 0.5, "c": 0.5}, abs=0.03)
    told = truth.filter(pl.col("parameter") == "share", pl.col("what") == "drift")
    assert dict(told.select("model", "value").iter_rows()) == {"b": 0.5, "c": 0.5}


def test_popularity_is_zipf_and_tiers_carry_their_objectives() -> None:
    frame, _ = made(
        "- rate_per_s: 2\n  models: {count: 10, zipf: 1.2}\n"
        "  tiers: {gold: {share: 1, slo_ttft_s: 0.5, slo_tpot_s: 0.05}, none: {share: 3}}\n"
    )
    weights = np.arange(1, 11) ** -1.2
    shares = dict(frame["model"].value_counts(normalize=True).iter_rows())
    for rank, expected in enumerate(weights / weights.sum()):
        assert shares[f"model-{rank}"] == pytest.approx(expected, abs=4.5 * (expected / len(frame)) ** 0.5)
    tiers = frame.group_by("tier").agg(pl.len(), pl.col("slo_ttft_s").unique(), pl.col("slo_tpot_s").unique())
    found = {tier: (n / len(frame), ttft, tpot) for tier, n, ttft, tpot in tiers.iter_rows()}
    assert found["gold"] == (pytest.approx(0.25, abs=0.02), [0.5], [0.05])
    assert found["none"][1:] == ([None], [None])


SESSIONS = (
    "- name: talk\n  rate_per_s: 0.2\n  models: m\n  prompt_tokens: {median: 60, sigma: 1}\n"
    "  output_tokens: {median: 150, sigma: 0.8}\n"
    "  sessions: {turns: 3, turns_max: 9, think_s: {median: 20, sigma: 0.5}, answer_s: 1, answer_s_per_token: 0.02}\n"
)


def with_parents(frame: pl.DataFrame) -> pl.DataFrame:
    parents = frame.select(pl.all().name.prefix("p_"))
    return frame.join(parents, left_on="parent_id", right_on="p_request_id")


def test_a_turn_follows_its_parent_after_answer_and_thought_and_holds_all_before_it() -> None:
    frame, _ = made(SESSIONS + BASE.replace("- rate", "- name: noise\n  rate"), span_s=8_000)
    turns = with_parents(frame)
    assert len(turns) == frame.filter(pl.col("turn") > 0).height > 500
    assert (turns["session_id"] == turns["p_session_id"]).all()
    assert (turns["turn"] == turns["p_turn"] + 1).all()
    answer_s = 1 + 0.02 * turns["p_output_tokens"]
    assert (turns["arrival_s"] - turns["p_arrival_s"] - answer_s - turns["think_s"]).abs().max() < 1e-6
    assert (turns["prompt_tokens"] > turns["p_prompt_tokens"] + turns["p_output_tokens"]).all()
    assert frame["request_id"].to_list() == list(range(len(frame)))
    assert frame["arrival_s"].is_sorted()
    first = frame.filter(pl.col("turn") == 0, pl.col("arrival_s") < 6_000)
    complete = frame.filter(pl.col("session_id").is_in(first["session_id"].implode())).group_by("session_id").len()
    assert complete["len"].min() == 2, "a session of one turn is none"
    assert complete["len"].max() <= 9
    assert turns["think_s"].median() == pytest.approx(20, rel=0.1)


def test_shared_prefixes_are_shared_by_whom_they_should() -> None:
    prefixes = "  prefixes: {block_tokens: 16, system_tokens: 64, documents: 5, document_tokens: 160}\n"
    frame, _ = made(SESSIONS + "  tenants: {shares: {a: 1, b: 1}}\n" + prefixes, span_s=4_000)
    blocks = frame["prefix_blocks"]
    assert (blocks.list.len() == -(-frame["prompt_tokens"] // 16)).all()
    system = frame.group_by("tenant").agg(pl.col("prefix_blocks").list.head(4).n_unique())
    assert system["prefix_blocks"].to_list() == [1, 1]
    documents = frame.group_by("tenant").agg(pl.col("prefix_blocks").list.slice(4, 10).n_unique())
    assert documents["prefix_blocks"].to_list() == [5, 5]
    own = frame.filter(pl.col("turn").fill_null(0) == 0)["prefix_blocks"].list.slice(14).explode().drop_nulls()
    assert own.n_unique() == len(own), "what a session adds is its own"
    turns = with_parents(frame)
    whole = turns["p_prompt_tokens"] // 16
    for now, before, shared in zip(turns["prefix_blocks"], turns["p_prefix_blocks"], whole, strict=True):
        assert now[:shared].to_list() == before[:shared].to_list(), "a turn begins with all whole blocks before it"


def test_a_length_of_nothing_and_a_drift_of_a_name_that_comes_later() -> None:
    frame = made(
        "- {rate_per_s: 50, prompt_tokens: 0, output_tokens: 10, models: a, drift: ["
        "{column: models, at_s: 50, to: {b: 1}}, {column: output_tokens, at_s: 0, factor: 3, model: b}]}\n"
    )[0]
    assert frame["prompt_tokens"].unique().to_list() == [0]
    assert frame.group_by("model").agg(pl.col("output_tokens").unique().sum()).sort("model").rows() == [
        ("a", 10),
        ("b", 30),
    ]


@pytest.mark.parametrize(
    ("stream", "line", "said"),
    [
        ("- rate_per_s: 2\n  modles: a\n", 4, "no key 'modles' here; did you mean 'models'?"),
        ("- generator: poison\n  rate_per_s: 2\n", 3, "no generator is called 'poison'; did you mean 'poisson'?"),
        ("- {}\n", 3, "'rate_per_s' is missing"),
        ("- rate_per_s: 2\n  sessions: {turns: 2}\n", 3, "sessions need prompt_tokens and output_tokens"),
        ("- rate_per_s: 2\n  output_tokens: {median: 4}\n", 4, "a lognormal length needs median and sigma"),
        ("- rate_per_s: 2\n  drift:\n  - {column: models, at_s: 1, to: {a: 1}}\n", 3, "a drift of models needs models"),
        ("- rate_per_s: 2\n  drift:\n  - {column: output_tokens, at_s: 1, shape: ramp}\n", 5, "a ramp needs for_s"),
        ("- rate_per_s: 2\n  name: a\n- rate_per_s: 2\n  name: a\n", 5, "two streams are called 'a'"),
        ("- rate_per_s: 2\n  prompt_tokens: -4\n", 3, "-4 tokens: a length must be from 0 to 2147483647"),
        ("- rate_per_s: 2\n  output_tokens: 99999999999\n", 3, "99999999999 tokens: a length must be from 0 to"),
        ("- rate_per_s: 2\n  output_tokens: {median: none, sigma: 1}\n", 4, "'none' is not a number"),
        ("- rate_per_s: 2\n  changes:\n  - {at_s: 1, factor: .inf}\n", 5, "factor must be 0 or more"),
        ("- {rate_per_s: 2, prompt_tokens: 1, output_tokens: 1, sessions: {turns: .inf}}\n", 3, "turns and turns_max"),
        ("- rate_per_s: 2\n  prefixes: {block_tokens: 16}\n", 3, "prefixes need prompt_tokens"),
        ("- rate_per_s: 2\n  prompt_tokens: 1\n  prefixes: {document_tokens: -1}\n", 5, "-1 tokens: a length must"),
        ("- rate_per_s: 2\n  prediction: {}\n", 3, "prediction needs output_tokens"),
        ("- rate_per_s: 2\n  drift:\n  - {column: output_tokens, at_s: 1, factor: 2}\n", 3,
         "a drift of output_tokens needs output_tokens"),
        ("- rate_per_s: 2\n  output_tokens: 9\n  models: {count: 2, name: 'm{}'}\n  drift:\n"
         "  - {column: output_tokens, at_s: 1, factor: 2, model: n1}\n", 3, "no model 'n1'; known: m0, m1"),
        ("- rate_per_s: 2\n  output_tokens: 9\n  drift:\n"
         "  - {column: output_tokens, at_s: 1, factor: 2, tenant: a}\n", 3, "no tenant 'a'; none is known"),
        ("- generator: groups\n  models: {count: 3}\n  background_per_s: 1\n  groups:\n  - {size: 4, rate_per_s: 1, "
         "every_s: 99, for_s: 9}\n", 3, "the groups' sizes add up to 4, and 3 models are in no group"),
        ("- generator: groups\n  models: {count: 3}\n  background_per_s: 1\n  groups:\n  - {members: [a, a], "
         "rate_per_s: 1, every_s: 99, for_s: 9}\n", 7, "a member is named twice in [a, a]"),
        ("- generator: groups\n  models: {count: 3}\n  background_per_s: 1\n  groups:\n  - {size: 2, rate_per_s: 1, "
         "every_s: 99, for_s: 9, from_s: 9, to_s: 3}\n", 7, "from_s, the at_s of shifts and to_s must follow"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_specification_is_told_with_its_line(stream: str, line: int, said: str) -> None:
    with pytest.raises(InputFailure) as caught:
        made(stream)
    assert str(caught.value).startswith(f"w.yaml:{line}: {said}")


def test_more_episodes_than_can_be_kept_are_refused() -> None:
    group = "{size: 1, rate_per_s: 1, every_s: 1.0e-5, for_s: 1.0e-6}"
    stream = f"- generator: groups\n  models: {{count: 2}}\n  background_per_s: 1\n  groups: [{group}]\n"
    with pytest.raises(SettingFailure, match="groups would have 2,000,000,000 episodes in 20000 s; raise every_s"):
        made(stream)
