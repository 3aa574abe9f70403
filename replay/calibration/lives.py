"""What a run's requests say of step times: rows of a linear equation, and the seconds that each took.

A row counts steps, Σ sequences, Σ KV tokens, prefill tokens, prefill pairs (of a token and one before it), and whether
the time was taken from outside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Values = NDArray[np.float64]
Clock = Callable[[Any], Values]  # from times to steps
COLUMNS = 6
MOST, MOST_PAIRS = 4_000, 400_000_000  # requests looked at; pairs of one with another
PIECES = 4  # of a decode whose token times are known


@dataclass(frozen=True)
class Observed:
    """`rows @ coefficients` should be `seconds`."""

    rows: Values  # (n, COLUMNS)
    seconds: Values

    def some(self, which: NDArray[np.bool_]) -> "Observed":
        return Observed(self.rows[which], self.seconds[which])


@dataclass(frozen=True)
class Lives:
    """Requests that ended well, by when they came. Times are seconds; NaN is unknown."""

    came: Values  # sent, or got its place where the engine tells
    start: Values
    first: Values
    finish: Values
    prompt: Values  # tokens, of which …
    cached: Values  # … so many were not computed
    output: Values
    undisturbed: NDArray[np.bool_]  # never preempted
    token_s: pl.Series  # token times after `arrival`, null where unknown
    arrival: Values

    @property
    def seen_from_outside(self) -> bool:
        return bool(np.isnan(self.start).any())

    @property
    def computed(self) -> Values:
        return self.prompt - self.cached

    @property
    def pairs(self) -> Values:
        """Pairs of a computed prompt token and one at or before it."""
        return self.computed * (self.cached + self.computed / 2)


def lives_of(outcomes: pl.LazyFrame) -> Lives:
    """The requests of a run whose times and lengths are all known."""
    needed = ("first_token_s", "finish_s", "prompt_tokens", "output_tokens")
    came = pl.coalesce("start_s", "sent_s", "arrival_s")
    known = outcomes.filter(pl.col("status") == "ok", pl.all_horizontal(pl.col(*needed, "arrival_s").is_not_null()))
    frame = known.sort(came, "request_id").collect()

    def column(expression: pl.Expr) -> Values:
        return frame.select(expression.cast(pl.Float64).fill_null(float("nan"))).to_series().to_numpy()

    cached = pl.min_horizontal(pl.col("cached_tokens").fill_null(0), pl.col("prompt_tokens") - 1)
    return Lives(
        came=column(came),
        start=column(pl.col("start_s")),
        first=column(pl.col("first_token_s")),
        finish=column(pl.col("finish_s")),
        prompt=column(pl.col("prompt_tokens")),
        cached=column(cached),
        output=column(pl.col("output_tokens")),
        undisturbed=frame["preemptions"].fill_null(0).to_numpy() == 0,
        token_s=frame["token_s"],
        arrival=column(pl.col("arrival_s")),
    )


def decoding(lives: Lives, begun: Values, clock: Clock, instances: int) -> Observed:
    """A row for each decode, or for each piece of one whose token times are known. Prefills began at `begun`."""
    spans = _spans(lives)
    during = During(lives, clock(begun), clock(lives.first), clock(lives.finish), instances)
    rows = np.empty((len(spans), COLUMNS))
    for row, (request, begin, end, steps) in zip(rows, spans, strict=True):
        reach = int(np.searchsorted(lives.came, end, side="right"))  # the others come later
        row[:] = during.row(request, clock(begin), clock(end), steps, reach)
    return Observed(rows, np.array([end - begin for _, begin, end, _ in spans]))


def _spans(lives: Lives) -> list[tuple[int, float, float, float]]:
    """(request, begin, end, steps) of what is looked at."""
    able = np.flatnonzero((lives.output > 1) & (lives.finish > lives.first) & lives.undisturbed)
    most = max(1, min(MOST, MOST_PAIRS // max(1, len(lives.came))))
    found: list[tuple[int, float, float, float]] = []
    for request in able[:: max(1, -(-len(able) // most))]:
        tokens = lives.token_s[int(request)]
        if tokens is None or len(tokens) != lives.output[request] or len(tokens) <= PIECES:
            found.append((request, lives.first[request], lives.finish[request], lives.output[request] - 1))
            continue
        times = tokens.cast(pl.Float64).to_numpy() + lives.arrival[request]
        cuts = np.linspace(0, len(times) - 1, PIECES + 1).astype(int)
        found += [(request, times[a], times[b], float(b - a)) for a, b in pairwise(cuts) if times[b] > times[a]]
    return found


@dataclass(frozen=True)
class During:
    """What was computed while a request took some steps. `begun`, `first` and `finish` are by the clock of steps."""

    lives: Lives
    begun: Values
    first: Values
    finish: Values
    instances: int

    def row(self, request: int, begin: Values, end: Values, steps: float, reach: int) -> list[float]:
        """The request's own, and an instance's share of the others'; of these, the first `reach` that came."""
        lives = self.lives
        begun, first, finish, prompt, computed, pairs, output = (
            values[:reach]
            for values in (
                self.begun, self.first, self.finish, lives.prompt, lives.computed, lives.pairs, lives.output - 1
            )
        )  # fmt: skip
        before, after = (_share(first, finish, at) * output for at in (begin, end))
        after[request] = before[request] + steps
        share = np.full(reach, 1 / self.instances)
        share[request] = 1.0
        made = (after - before) * share
        contexts = made @ prompt + share @ (after**2 - before**2) / 2
        filled = (_share(begun, first, end) - _share(begun, first, begin)) * share
        filled[request] = 0.0
        return [steps, made.sum(), contexts, filled @ computed, filled @ pairs, 0.0]


def alone(lives: Lives, budget: int) -> Observed:
    """A row for each prompt of one step, of at most `budget` tokens, that nobody else was served beside."""
    before = np.concatenate([[-np.inf], np.maximum.accumulate(lives.finish)[:-1]])
    after = np.concatenate([lives.came[1:], [np.inf]])
    short = (lives.computed <= budget) & (lives.first > lives.came)
    which = np.flatnonzero((before <= lives.came) & (after >= lives.first) & short & lives.undisturbed)
    ones, none = np.ones(which.size), np.zeros(which.size)
    outside = np.isnan(lives.start[which]).astype(float)
    rows = np.column_stack([ones, none, none, lives.computed[which], lives.pairs[which], outside])
    return Observed(rows, (lives.first - lives.came)[which])


def _share(begin: Values, end: Values, time: Values) -> Values:
    """How much of [begin, end] has passed at `time`."""
    passed: Values = np.clip((time - begin) / np.maximum(end - begin, 1e-12), 0.0, 1.0)
    return passed
