"""What is learned while a replay goes on: DriftSched's budgets and γ-Ada, computed by hand."""

import numpy as np
import polars as pl
import pytest

from replay.schedulers.gamma_ada import ENOUGH, WINDOW, GammaAda
from replay.simulation.feedback import Feedback
from replay.simulation.setup import Limits
from tests.replay.simulations import make_trace, simulate
from toolkit import plugins
from toolkit.errors import SettingFailure

FOUR = [
    {"arrival_s": 0.0, "tier": "premium", "kind": "summary", "prompt_tokens": 200, "output_tokens": 128},
    {"arrival_s": 0.5, "tier": "batch", "kind": "report", "prompt_tokens": 2000, "output_tokens": 10},
    {"arrival_s": 1.0, "tier": None, "kind": None, "prompt_tokens": 10, "output_tokens": 64},
    {"arrival_s": 2.0, "tier": "standard", "kind": "technical", "prompt_tokens": 500, "output_tokens": 384},
    {"arrival_s": 4.0, "tier": "standard", "kind": "summary", "prompt_tokens": 300, "output_tokens": 256},
    {"arrival_s": 6.0, "tier": "standard", "kind": "summary", "prompt_tokens": 300, "output_tokens": 256},
]


def policy(settings: str = "preset=paper"):
    return plugins.create("scheduler", f"driftsched-sjf:{settings}")


def ended(*rows: tuple[int, float, int]) -> pl.DataFrame:
    """OUTCOMES rows (request, end, tokens)."""
    frame = pl.DataFrame(rows, schema=["request_id", "finish_s", "output_tokens"], orient="row")
    return frame.with_columns(status=pl.lit("ok"))


def test_a_budget_is_prompt_and_base_times_safety_and_input_factor():
    budgets = policy().rank(make_trace(FOUR), 0.0)
    assert budgets[:4].tolist() == [
        200 + int(256 * 1.2 * 1.2),
        2000 + int(512 * 0.8 * 1.5),  # the input factor ends at 1.5
        10 + int(64 * 1.0 * 1.01),
        500 + int(384 * 1.0 * 1.5),
    ]


def test_words_are_counted_for_tokens_in_prompts_and_in_what_comes_back():
    words = policy("unit=words,words_per_token=0.75")
    assert words.rank(make_trace(FOUR), 0.0)[0] == 150 + int(256 * 1.2 * 1.15)
    words.observe(ended((0, 1.5, 256)), 2.0)  # 192 words: a ratio of 0.75
    assert words.rank(make_trace(FOUR), 2.0)[4] == 225 + int(256 * (0.9 + 0.1 * 0.75) * 1.225)


def test_a_bias_follows_actual_over_base_within_its_clamp_in_order_of_ends():
    drift = policy()
    trace = make_trace([*FOUR, {**FOUR[3], "arrival_s": 7.0}])
    drift.rank(trace, 0.0)
    drift.observe(ended((4, 3.0, 10_000), (0, 2.0, 10)), 5.0)  # clamped to 0.25, then to 3
    bias = 0.9 * (0.9 + 0.1 * 0.25) + 0.1 * 3
    assert drift.rank(trace, 5.0)[5] == 300 + int(256 * bias * 1.3)
    drift.observe(ended((3, float("nan"), 10)).with_columns(status=pl.lit("rejected")), 6.0)
    assert drift.rank(trace, 7.0)[6] == 500 + int(384 * 1.5)  # what failed teaches nothing


def test_an_estimate_uses_nothing_that_ended_after_the_arrival():
    drift = policy()
    trace = make_trace(FOUR)
    before = drift.rank(trace, 0.0)
    drift.observe(ended((0, 5.0, 128)), 7.0)
    after = drift.rank(trace, 7.0)
    assert after[4] == before[4]  # arrived at 4 s
    assert after[5] == 300 + int(256 * 0.95 * 1.3)  # arrived at 6 s
    assert drift.predicted(np.array([4, 5])).tolist() == [int(256 * 1.3), int(256 * 0.95 * 1.3)]


def test_without_adaptation_nothing_is_learned():
    static = policy("adaptive=false")
    trace = make_trace(FOUR)
    before = static.rank(trace, 0.0)
    static.observe(ended((0, 1.0, 10)), 2.0)
    assert static.rank(trace, 2.0).tolist() == before.tolist()


def test_categories_are_read_from_prompts_where_the_kind_is_unknown():
    prompts = ["Summarize this report", "a detailed and comprehensive note", "CODE", "why?", None, "code of a summary"]
    rows = [{"arrival_s": 0.0, "prompt_tokens": 1, "output_tokens": 1, "prompt": text} for text in prompts]
    bases = policy().rank(make_trace(rows), 0.0) - 1
    assert bases.tolist() == [256, 512, 384, 64, 64, 256]


def test_a_replay_never_estimates_from_the_future():
    """Each estimate is what is made of the ends before its arrival; or before the last time that ends were heard of."""
    rng = np.random.default_rng(9)
    rows = [
        {
            "arrival_s": round(0.05 * n, 3), "kind": str(rng.choice(["summary", "report"])), "prompt_tokens": 20,
            "output_tokens": int(rng.integers(20, 200)),
        }
        for n in range(300)
    ]  # fmt: skip
    trace = make_trace(rows)
    limits = Limits(kv_blocks=10_000, max_num_seqs=16)
    found = simulate(trace, policy("feedback_s=1.0"), limits).outcomes
    ends = found.join(trace.select("request_id", "kind"), on="request_id").sort("finish_s", "request_id")

    def expected(kind: str, until_s: float) -> int:
        base, bias = {"summary": 256, "report": 512}[kind], 1.0
        for actual in ends.filter((pl.col("kind") == kind) & (pl.col("finish_s") <= until_s))["output_tokens"]:
            bias = 0.9 * bias + 0.1 * min(max(actual / base, 0.25), 3.0)
        return int(base * bias * 1.02)

    biased = 0
    for row, said in zip(rows, found["predicted_output_tokens"], strict=True):
        arrival_s = float(row["arrival_s"])  # type: ignore[arg-type]
        known = {expected(str(row["kind"]), until_s) for until_s in (arrival_s, np.floor(arrival_s))}
        assert said in known
        biased += said not in (int(256 * 1.02), int(512 * 1.02))
    assert biased > 200


@pytest.mark.parametrize(
    ("settings", "message"), [("preset=papre", "paper"), ("unit=word", "words"), ("by=modle", "model")]
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(SettingFailure, match=message):
        policy(settings)


def latencies(seconds: np.ndarray, status: str = "ok") -> pl.DataFrame:
    return pl.DataFrame({"arrival_s": np.zeros(len(seconds)), "finish_s": seconds}).with_columns(status=pl.lit(status))


HUNDREDTHS = np.arange(1, 1001) / 100  # t95 = 9.5005, t99 = 9.9001


def test_the_slope_is_the_decay_between_two_quantiles_smoothed_and_within_its_bounds():
    target = np.log(5) / (9.9001 - 9.5005)
    assert GammaAda("slope").updated(2.0, 1.0, latencies(HUNDREDTHS)) == pytest.approx(0.7 * 2.0 + 0.3 * target)
    assert GammaAda("slope").updated(2.0, 0.5, latencies(HUNDREDTHS)) == pytest.approx(0.7 * 2.0 + 0.3 * 2.5)
    assert GammaAda("slope").updated(2.0, 40.0, latencies(HUNDREDTHS)) == pytest.approx(0.7 * 2.0 + 0.3 * 8.0)
    assert GammaAda("slope").updated(2.0, 1.0, latencies(np.ones(500))) == pytest.approx(0.7 * 2.0 + 0.3 * 5.0)


def test_the_ratio_is_that_of_the_authors_code():
    target = 200 / (1 + 4 * (9.9001 / 9.5005 - 1))
    assert GammaAda("ratio").updated(10.0, 1.0, latencies(HUNDREDTHS)) == pytest.approx(7.0 + 0.3 * target)
    assert GammaAda("ratio").updated(10.0, 1.0, latencies(np.ones(500))) == pytest.approx(7.0 + 0.3 * 200)
    spread = np.concatenate([np.ones(980), np.full(20, 1e6)])
    assert GammaAda("ratio").updated(10.0, 1.0, latencies(spread)) == pytest.approx(7.0 + 0.3 * 1.0)


def test_too_few_latencies_failures_and_no_boost_change_nothing():
    assert GammaAda("slope").updated(2.0, 1.0, latencies(HUNDREDTHS[: ENOUGH - 1])) == 2.0
    assert GammaAda("slope").updated(2.0, 1.0, latencies(HUNDREDTHS, "timeout")) == 2.0
    assert GammaAda("slope").updated(np.inf, np.inf, latencies(HUNDREDTHS)) == np.inf
    with pytest.raises(SettingFailure, match="slope"):
        GammaAda("slop")


def test_only_the_latest_latencies_count():
    ada = GammaAda("ratio")
    ada.updated(10.0, 1.0, latencies(HUNDREDTHS))
    assert ada.updated(10.0, 1.0, latencies(np.ones(WINDOW))) == pytest.approx(7.0 + 0.3 * 200)


SPARSE = make_trace(
    pl.DataFrame(
        {
            "arrival_s": [0.0, 0.1, 0.2, None, 90.0, 90.1, 400.0, None],
            "parent_id": [None, None, None, 2, None, None, None, 6],
            "session_id": [None, None, "a", "a", None, None, "b", "b"],
            "think_s": [None, None, None, 150.25, None, None, None, 40.0],
            "model": ["m"] * 8,
            "prompt_tokens": [400, 30, 90, 200, 800, 20, 60, 700],
            "output_tokens": [60, 300, 20, 90, 40, 200, 500, 10],
        }
    )
)


@pytest.mark.parametrize("spec", ["driftsched-sjf", "uniboost"])
def test_silences_are_passed_over_and_change_nothing(monkeypatch: pytest.MonkeyPatch, spec: str):
    times: list[int] = []
    limits = Limits(kv_blocks=200, max_num_seqs=2, max_num_batched_tokens=256)
    observe = Feedback.observe
    monkeypatch.setattr(Feedback, "observe", lambda self: (times.append(self.pause), observe(self))[1])

    def replayed() -> pl.DataFrame:
        times.clear()
        return simulate(SPARSE, plugins.create("scheduler", spec), limits).outcomes

    skipping = replayed()
    few = len(times)
    monkeypatch.setattr(Feedback, "_next_time", lambda self: self.pause + self._every)
    assert replayed().equals(skipping)
    assert len(times) > 4 * few


class Recording:
    """FCFS that notes whom it is asked to rank, and when."""

    observe_every_s = 1.0

    def __init__(self, everything: bool):
        self.everything = everything
        self.asked: list[tuple[float, dict[int, float]]] = []

    def rank(self, requests: pl.DataFrame, now_s: float) -> np.ndarray:
        self.asked.append((now_s, dict(zip(requests["request_id"], requests["arrival_s"], strict=True))))
        return requests["arrival_s"].to_numpy()

    def observe(self, outcomes: pl.DataFrame, now_s: float) -> bool:
        return self.everything


def sessions_of(turns: int, think_s: float, count: int = 40) -> pl.DataFrame:
    """Sessions of so many turns, a new one every two seconds, none at a time of observing."""
    rows = [
        {
            "arrival_s": 2.0 * session + 0.3, "prompt_tokens": 50, "output_tokens": 20,
            "parent_id": turns * session + turn - 1 if turn else None, "think_s": think_s if turn else None,
        }
        for session in range(count) for turn in range(turns)
    ]  # fmt: skip
    return make_trace(rows)


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("think_s", [0.0, 0.2, 5.0])
def test_a_turn_is_ranked_before_it_comes_and_not_before_it_can(everything, think_s, monkeypatch):
    observations: list[float] = []
    observe = Feedback.observe
    monkeypatch.setattr(Feedback, "observe", lambda self: (observations.append(self.pause / 1e12), observe(self))[1])
    trace, policy = sessions_of(4, think_s), Recording(everything)
    found = simulate(trace, policy, Limits(kv_blocks=10_000), closed=True).outcomes
    times = {row["request_id"]: (row["arrival_s"], row["finish_s"]) for row in found.iter_rows(named=True)}
    during = [(now_s, asked) for now_s, asked in policy.asked if now_s > 0]
    for request in range(len(trace)):
        arrival_s, finish_s = times[request]
        told = {now_s: asked[request] for now_s, asked in during if request in asked}
        observed = [now_s for now_s in observations if now_s < arrival_s]
        assert not observed or observed[-1] in told  # in time
        assert all(now_s < finish_s for now_s in told)
        for now_s, said_s in told.items():
            came = arrival_s < now_s or request % 4 == 0
            assert said_s == (pytest.approx(arrival_s) if came else 0.0)
        if request % 4 and think_s > 1:
            assert all(now_s + 1.0 > arrival_s for now_s in told)
        if not everything:
            assert len(told) <= 3


def test_sessions_that_have_not_begun_are_not_looked_at():
    few, many = Recording(everything=False), Recording(everything=False)
    for policy, count in ((few, 40), (many, 160)):
        simulate(sessions_of(4, 5.0, count), policy, Limits(kv_blocks=10_000), closed=True)
    asked = [sum(len(asked) for now_s, asked in policy.asked if now_s > 0) for policy in (few, many)]
    assert asked[1] < 4.5 * asked[0]
