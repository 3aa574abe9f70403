"""DriftSched's token budgets: a base by class, factors, and a bias that follows what was really produced.

2606.02982 and its code. A budget is the prompt plus int(base·bias·safety·input factor); on completion the class's bias
moves by α towards actual/base, clamped. The feedback knows neither the safety nor the input factor, as in the code.
"""

from bisect import bisect_right
from math import floor, isfinite
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.request_classes import RequestClasses
from toolkit.errors import SettingFailure, nearest

BASE_TOKENS = {"short_qa": 64, "summary": 256, "technical": 384, "report": 512}
KEYWORDS = {
    "summary": ("summarize", "summary"),
    "report": ("detailed", "report", "comprehensive"),
    "technical": ("architecture", "code", "technical"),
}
SAFETY = {"premium": 1.2, "standard": 1.0, "batch": 0.8}
ALPHA, LOWEST, HIGHEST = 0.1, 0.25, 3.0
INPUT_TOKENS, MOST_INPUT = 1000, 1.5
CLASS_BASE = 256.0  # of a class of which nothing has ended, where nothing has at all
Tokens = NDArray[np.float64]


class DriftEstimator:
    """Estimates output tokens at arrival from what had ended by then, whenever it is asked.

    `preset` paper: the four categories of the paper, by the trace's `kind` or else by its prompt's keywords, with the
    paper's bases. `trace`: classes `by` columns, their base the mean of what has ended in them (of all, where nothing
    has), the same safety, input factor and bias. `unit` is what a length is counted in: `tokens`, or `words`, of which
    a token is `words_per_token`; budgets stay in tokens either way, which is most of the paper's drift. `adaptive` off
    keeps every bias at 1.
    """

    def __init__(self, preset: str, unit: str, adaptive: bool, words_per_token: float, by: str):
        if preset not in ("paper", "trace"):
            raise SettingFailure(f"no preset '{preset}'", hint=nearest(preset, ("paper", "trace")))
        if unit not in ("tokens", "words"):
            raise SettingFailure(f"no unit '{unit}'", hint=nearest(unit, ("tokens", "words")))
        self.preset, self.adaptive = preset, adaptive
        self.counted = words_per_token if unit == "words" else 1.0
        self.classes = RequestClasses(by)
        self._class: NDArray[np.int64] = np.zeros(0, np.int64)  # this and the next three: by request_id
        self._factor = self._prompt = self._estimate = np.zeros(0)
        self._calibrations: list[Calibration] = []  # by class
        self._all = Calibration(CLASS_BASE)  # what a class without an end of its own goes by, for `preset` trace

    def estimate(self, requests: pl.DataFrame) -> Tokens:
        """Output tokens expected of `requests`, by what had ended when each arrived as far as that is known."""
        if not len(self._class):
            self._start(requests)
        ids, arrival_s = requests["request_id"].to_numpy(), requests["arrival_s"].to_numpy()
        scale = np.fromiter(map(self._scale, self._class[ids].tolist(), arrival_s.tolist()), np.float64, len(ids))
        expected: Tokens = np.floor(scale * self._factor[ids])
        self._estimate[ids] = expected
        return expected

    def budget(self, requests: pl.DataFrame) -> Tokens:
        """Prompt, in the unit that lengths are counted in, and expected output."""
        expected = self.estimate(requests)
        tokens: Tokens = self._prompt[requests["request_id"].to_numpy()] + expected
        return tokens

    def predicted(self, request_ids: NDArray[np.int64]) -> Tokens:
        """What was expected of these requests."""
        expected: Tokens = self._estimate[request_ids]
        return expected

    def learn(self, outcomes: pl.DataFrame) -> None:
        """Take in what has ended, in the order in which it ended."""
        # Lists: of a handful at a time NumPy's calls would take longer than the work.
        rows = zip(*(outcomes[name].to_list() for name in ("finish_s", "request_id", "output_tokens")), strict=True)
        by_end = sorted(row for row in rows if row[0] is not None and isfinite(row[0]))  # what was rejected has none
        of_trace = self.preset == "trace"
        for finish_s, request_id, tokens in by_end:
            actual, own = floor(self.counted * tokens), self._calibrations[self._class[request_id]]
            if of_trace and not own.ended:
                own.base = self._all.base
            own.learn(actual, finish_s, follow=self.adaptive, mean=of_trace)
            if of_trace:
                self._all.learn(actual, finish_s, follow=False, mean=True)

    def paths(self) -> dict[str, tuple[list[float], list[float]]]:
        """When each category's bias changed and what to, for `preset` paper."""
        named = zip(BASE_TOKENS, self._calibrations, strict=True)
        return {name: (one.when, [scale / one.base for scale in one.scales]) for name, one in named}

    def _scale(self, number: int, arrival_s: float) -> float:
        """Base times bias as they were at `arrival_s`."""
        own = self._calibrations[number].at(arrival_s)
        if own is not None:
            return own
        known = self._all.at(arrival_s) if self.preset == "trace" else None
        return self._calibrations[number].first if known is None else known

    def _start(self, requests: pl.DataFrame) -> None:
        ids = requests["request_id"].to_numpy()
        size = int(ids.max(initial=-1)) + 1
        self._class = np.zeros(size, np.int64)
        self._factor, self._prompt, self._estimate = np.zeros(size), np.zeros(size), np.full(size, np.nan)
        self._class[ids] = categories(requests) if self.preset == "paper" else self.classes.of(requests)
        self._prompt[ids] = np.floor(self.counted * requests["prompt_tokens"].fill_null(0).to_numpy())
        safety = requests["tier"].replace_strict(SAFETY, default=1.0, return_dtype=pl.Float64).to_numpy()
        self._factor[ids] = safety * np.minimum(MOST_INPUT, 1 + self._prompt[ids] / INPUT_TOKENS)
        bases = [*BASE_TOKENS.values()] if self.preset == "paper" else [CLASS_BASE] * len(self.classes)
        self._calibrations = [Calibration(float(base)) for base in bases]


class Calibration:
    """What one class's estimates are multiplied out from, over the time in which its requests end."""

    def __init__(self, base: float):
        self.base = self.first = base
        self.bias = 1.0
        self.when: list[float] = []
        self.scales: list[float] = []  # base · bias from each time of `when` on
        self.ended, self._sum = 0, 0.0

    def at(self, time_s: float) -> float | None:
        """Base times bias at a time; None before anything had ended."""
        if self.when and time_s >= self.when[-1]:
            return self.scales[-1]
        place = bisect_right(self.when, time_s)
        return self.scales[place - 1] if place else None

    def learn(self, actual: float, finish_s: float, *, follow: bool, mean: bool) -> None:
        """Move the bias towards actual ∕ base if it is to `follow`; let the base be the `mean` if it is to."""
        if follow:
            seen = min(max(actual / self.base, LOWEST), HIGHEST)
            self.bias = (1 - ALPHA) * self.bias + ALPHA * seen
        self.ended, self._sum = self.ended + 1, self._sum + actual
        if mean:
            self.base = max(1.0, self._sum / self.ended)
        # Of several instances one may be told of late: it counts from then.
        self.when.append(max(finish_s, self.when[-1] if self.when else finish_s))
        self.scales.append(self.base * self.bias)


def categories(requests: pl.DataFrame) -> NDArray[np.int64]:
    """The paper's category of each request, by its place in BASE_TOKENS: its `kind`, else by keywords or short_qa."""
    names = list(BASE_TOKENS)
    known = pl.col("kind").replace_strict({n: i for i, n in enumerate(names)}, default=None, return_dtype=pl.Int64)
    found: Any = pl.lit(names.index("short_qa"), pl.Int64)
    if "prompt" in requests.columns:
        found = _by_keywords(names)
    return requests.select(pl.coalesce(known, found)).to_series().to_numpy()


def _by_keywords(names: list[str]) -> pl.Expr:
    """The category with most of its keywords in the prompt; the first of KEYWORDS among equals."""
    text = pl.col("prompt").str.to_lowercase().fill_null("")
    counts = {
        name: pl.sum_horizontal(text.str.contains(w, literal=True) for w in words) for name, words in KEYWORDS.items()
    }
    most = pl.max_horizontal(*counts.values())
    chosen: Any = pl.when(most == 0).then(names.index("short_qa"))
    for name, count in counts.items():
        chosen = chosen.when(count == most).then(names.index(name))
    decided: pl.Expr = chosen.otherwise(names.index("short_qa")).cast(pl.Int64)
    return decided
