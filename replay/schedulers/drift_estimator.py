"""DriftSched's token budgets: a base by class, factors, and a bias that follows what was really produced.

2606.02982 and its code. A budget is the prompt plus int(base·bias·safety·input factor); on completion the class's bias
moves by α towards actual/base, clamped. The feedback knows neither the safety nor the input factor, as in the code.
"""

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
    """Estimates output tokens at arrival, and learns when a request ends (never before).

    `preset` paper: the four categories of the paper, by the trace's `kind` or else by its prompt's keywords, with the
    paper's bases. `trace`: classes `by` columns, their base the mean of what has ended in them, the same safety, input
    factor and bias. `unit` is what a length is counted in: `tokens`, or `words`, of which a token is
    `words_per_token`; budgets stay in tokens either way, which is most of the paper's drift. `adaptive` off keeps every
    bias at 1.
    """

    def __init__(self, preset: str, unit: str, adaptive: bool, words_per_token: float, by: str):
        if preset not in ("paper", "trace"):
            raise SettingFailure(f"no preset '{preset}'", hint=nearest(preset, ("paper", "trace")))
        if unit not in ("tokens", "words"):
            raise SettingFailure(f"no unit '{unit}'", hint=nearest(unit, ("tokens", "words")))
        self.preset, self.adaptive = preset, adaptive
        self.counted = words_per_token if unit == "words" else 1.0
        self.classes = RequestClasses(by)
        self._class: NDArray[np.int64] = np.zeros(0, np.int64)  # this and the next four: by request_id
        self._factor = self._prompt = self._estimate = np.zeros(0)
        self._arrived = np.zeros(0, bool)
        self._bias = self._base = self._sum = self._ended = np.zeros(0)  # by class

    def estimate(self, requests: pl.DataFrame, now_s: float) -> Tokens:
        """Output tokens expected of `requests`; what had arrived by the last call keeps the estimate it had then."""
        if not len(self._class):
            self._start(requests)
        ids = requests["request_id"].to_numpy()
        fresh = ids[~self._arrived[ids]]
        numbers = self._class[fresh]
        self._estimate[fresh] = np.floor(self._base[numbers] * self._bias[numbers] * self._factor[fresh])
        self._arrived[ids] |= requests["arrival_s"].to_numpy() <= now_s
        expected: Tokens = self._estimate[ids]
        return expected

    def budget(self, requests: pl.DataFrame, now_s: float) -> Tokens:
        """Prompt, in the unit that lengths are counted in, and expected output."""
        expected = self.estimate(requests, now_s)
        tokens: Tokens = self._prompt[requests["request_id"].to_numpy()] + expected
        return tokens

    def predicted(self, request_ids: NDArray[np.int64]) -> Tokens:
        """What was expected of these requests."""
        expected: Tokens = self._estimate[request_ids]
        return expected

    def learn(self, outcomes: pl.DataFrame) -> None:
        """Take in what has ended, in the order in which it ended."""
        ended = outcomes.filter(pl.col("status") == "ok").sort("finish_s", "request_id")
        if not self.adaptive:
            return
        numbers = self._class[ended["request_id"].to_numpy()]
        for number, actual in zip(numbers, np.floor(self.counted * ended["output_tokens"].to_numpy()), strict=True):
            seen = min(max(actual / self._base[number], LOWEST), HIGHEST)
            self._bias[number] = (1 - ALPHA) * self._bias[number] + ALPHA * seen
            self._note_base(number, actual)

    def biases(self) -> dict[str, float]:
        """The bias of each category, for `preset` paper."""
        return dict(zip(BASE_TOKENS, self._bias.tolist(), strict=False))

    def _note_base(self, number: int, actual: float) -> None:
        self._sum[number] += actual
        self._ended[number] += 1
        if self.preset == "trace":
            self._base[number] = max(1.0, self._sum[number] / self._ended[number])

    def _start(self, requests: pl.DataFrame) -> None:
        ids = requests["request_id"].to_numpy()
        size = int(ids.max(initial=-1)) + 1
        self._class, self._arrived = np.zeros(size, np.int64), np.zeros(size, bool)
        self._factor, self._prompt, self._estimate = np.zeros(size), np.zeros(size), np.full(size, np.nan)
        self._class[ids] = categories(requests) if self.preset == "paper" else self.classes.of(requests)
        self._prompt[ids] = np.floor(self.counted * requests["prompt_tokens"].fill_null(0).to_numpy())
        safety = requests["tier"].replace_strict(SAFETY, default=1.0, return_dtype=pl.Float64).to_numpy()
        self._factor[ids] = safety * np.minimum(MOST_INPUT, 1 + self._prompt[ids] / INPUT_TOKENS)
        count = len(BASE_TOKENS) if self.preset == "paper" else len(self.classes)
        self._base = np.array([*BASE_TOKENS.values()], float) if self.preset == "paper" else np.full(count, CLASS_BASE)
        self._bias, self._sum, self._ended = np.ones(count), np.zeros(count), np.zeros(count)


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
