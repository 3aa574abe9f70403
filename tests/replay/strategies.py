"""Random traces, limits and schedulers for hypothesis."""

import copy

import numpy as np
import polars as pl
from hypothesis import strategies as st

from replay.schedulers.fcfs import FCFS
from replay.schedulers.sjf import SJF
from replay.simulation.setup import Limits
from tests.replay.simulations import BLOCK_TOKENS, make_trace
from toolkit import plugins
from toolkit.protocols import Curve, Lanes, Patience, Preemption


class Attained:
    """Least attained service, in steps: exercises a curve with boundaries and displacement."""

    curve = Curve(boundaries=(4, 16), offsets=(0.0, 1000.0, 2000.0))
    preemption = Preemption("rank")

    def rank(self, requests: pl.DataFrame, now_s: float):
        return requests["arrival_s"].to_numpy()


class Rising:
    """A rank that rises with every token: exercises the cut of a jump at a change of order."""

    curve = Curve(slope=0.25)
    preemption = Preemption("rank")

    def rank(self, requests: pl.DataFrame, now_s: float):
        return requests["arrival_s"].to_numpy()


class Learning:
    """Ranks by what has been observed: exercises re-ranking while requests run."""

    observe_every_s = 0.25
    preemption = Preemption("rank")

    def __init__(self) -> None:
        self.sign = 1.0

    def rank(self, requests: pl.DataFrame, now_s: float):
        return self.sign * requests["output_tokens"].fill_null(0).to_numpy() + 0.001 * now_s

    def observe(self, outcomes: pl.DataFrame, now_s: float) -> None:
        if len(outcomes) % 2:
            self.sign = -self.sign


class Shuffling:
    """Orders the queue as a set, longest prompt first and then every other one."""

    def rank(self, requests: pl.DataFrame, now_s: float):
        return requests["arrival_s"].to_numpy()

    def order(self, waiting, now_s: float):
        by_length = np.argsort(-waiting["prompt_tokens"] + waiting["tenant"] - waiting["served"], kind="stable")
        return np.concatenate([by_length[::2], by_length[1::2]])


class Windowed(Shuffling):
    """Orders only those of a queue that rank first."""

    window = 3


class Boosted:
    """A rank that moves with the work done, by kind: exercises every part of a curve and of a preemption rule."""

    curve = Curve(boundaries=(3, 6, 12, 24), offsets=((-4, -2, -1, -0.5, 0), (-2, -1, 0, 1, 2)), prompt_work=0.5)
    preemption = Preemption("rank", min_run=True, hysteresis=0.01, context_cost=0.001)

    def rank(self, requests: pl.DataFrame, now_s: float):
        return requests["arrival_s"].to_numpy()

    def curve_row(self, requests: pl.DataFrame):
        return (requests["tier"] == "premium").fill_null(False).cast(pl.Int32).to_numpy()


class Starving(SJF):
    """Who has waited too long since it lost its place comes first, and stays a while."""

    preemption = Preemption("rank")

    def patience(self, requests: pl.DataFrame):
        return Patience(after_s=0.5, shift=-1e12, since="place", hold_tokens=5)


class Lapsing(FCFS):
    """Who has waited too long since it arrived comes last; some never."""

    preemption = Preemption("rank")

    def patience(self, requests: pl.DataFrame):
        after_s = requests["output_tokens"].fill_null(0).to_numpy() * 0.1
        return Patience(after_s=np.where(after_s > 3, np.inf, after_s), shift=1e9)


class Cycle(FCFS):
    """Lanes that take turns, one of them in nobody's cycle but its own."""

    lanes = Lanes(cycle=(0, 0, 1, 2))

    def lane(self, requests: pl.DataFrame):
        return requests["tier"].replace_strict({"premium": 0, "batch": 1}, default=2, return_dtype=pl.Int32).to_numpy()


class Fair(Cycle):
    """The lane that has had the least service is next."""

    lanes = Lanes()


class Latest(SJF):
    """The latest to start loses its place first."""

    preemption = Preemption(victim="latest")


BUILT_IN = (
    *plugins.BUILTIN["scheduler"],
    "priority:displace=true",
    "trail:hold_share=0.3",
    "sjf:predictor=noisy",
    "srpt:predictor=adversarial",
    "ltr:predictor=class-mean,starve_s=0.2,period=4",
    "mlfq:quantum_s=0.03,starve_s=0.3,levels=4",
    "las:quantum=3",
    "moore-hodgson:slo_ttft_s=0.1,window=3",
    "vtc:by=tenant+tier",
    "gittins:lengths=online,quantum=2",
    "gittins:lengths=trace,by=tenant,quantum=2",
    "gittins-boost:lengths=online,quantum=2,gamma=0.5",
    "gittins-boost:lengths=trace,by=tier,quantum=2",
    "distboost:gamma=0.2",
    "uniboost:phase=base",
    "uniboost:phase=base,delta=0.05,gamma=0.3",
    "uniboost:phase=memguard,k=8",
    "uniboost:rule=ratio,k=4",
    "driftsched-sjf:preset=trace,unit=words,feedback_s=0.1",
    "driftsched-priority:adaptive=false",
    "driftsched-aging:patience_s=0.1",
)
# Seconds of their own (periods, objectives, gaps), or tokens added to seconds: these do not scale with the clock.
CLOCKED = (
    "ltr",
    "mlfq",
    "edf",
    "least-slack",
    "moore-hodgson",
    "gittins",
    "uniboost",
    "driftsched-aging",
    "driftsched-sjf",
)
BY_THE_CLOCK = (Rising, Learning, Boosted, Starving, Lapsing)
OWN = (Attained, Rising, Learning, Shuffling, Windowed, Boosted, Starving, Lapsing, Cycle, Fair, Latest)


def fresh(scheduler):
    """A scheduler without memories: what a replay starts with."""
    return copy.deepcopy(scheduler)


def by_the_clock(scheduler) -> bool:
    """Whether a slower clock with slower hardware changes what the scheduler does."""
    clocked = (*BY_THE_CLOCK, *(plugins.load("scheduler", name) for name in CLOCKED))
    return isinstance(scheduler, clocked) or getattr(scheduler, "given", None) is not None  # γ per second


schedulers = st.sampled_from([*(plugins.create("scheduler", spec) for spec in BUILT_IN), *(own() for own in OWN)])


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    seqs = draw(st.integers(1, 6))
    return Limits(
        kv_blocks=draw(st.integers(3, 40)),
        block_tokens=draw(st.sampled_from([4, 8, 16])),
        max_num_seqs=seqs,
        max_num_batched_tokens=draw(st.integers(max(seqs, 8), 64)),
        max_model_len=draw(st.sampled_from([100, 400])),
        watermark_blocks=draw(st.integers(0, 1)),
        prefix_caching=draw(st.booleans()),
        swap_s_per_token=draw(st.sampled_from([0.0, 0.0, 0.0002])),
        instances=(instances := draw(st.sampled_from([1, 1, 1, 2, 3]))),
        routing=draw(st.sampled_from(["round-robin", "least-loaded", "prefix-aware", "vllm-dp"])),
        prefill_first=draw(st.sampled_from([False, False, True])),
        async_scheduling=draw(st.sampled_from([False, False, True])),
        lockstep=instances > 1 and draw(st.booleans()),
    )


@st.composite
def traces(draw: st.DrawFn, sessions: bool = True) -> pl.DataFrame:
    """Up to 25 requests, some alike in arrival, some turns of a session, some with a shared prefix, some impossible."""
    rows: list[dict[str, object]] = []
    arrival = 0.0
    for number in range(draw(st.integers(1, 25))):
        arrival = round(arrival + draw(st.sampled_from([0.0, 0.0, 0.013, 0.2, 1.7])), 3)  # alike to the last bit
        prompt = draw(st.one_of(st.integers(1, 60), st.just(300), st.none(), st.just(0)))
        shared = draw(st.integers(0, 3))
        parent = draw(st.one_of(st.none(), st.integers(0, number - 1))) if sessions and number else None
        family = draw(st.integers(0, 1))
        full = (prompt or 0) // BLOCK_TOKENS
        rows.append(
            {
                "arrival_s": arrival,
                "tenant": draw(st.sampled_from(["a", "b"])),
                "tier": draw(st.sampled_from(["premium", "batch", None])),
                "slo_ttft_s": draw(st.sampled_from([None, 0.05, 0.5])),
                "parent_id": parent,
                "think_s": None if parent is None else draw(st.sampled_from([None, 0.0, 0.05, 2.0])),
                "prompt_tokens": prompt,
                "output_tokens": draw(st.integers(1, 40)),
                "prefix_blocks": [family * 10 + b if b < shared else 100 * number + b for b in range(full)],
            }
        )
    return make_trace(rows)
