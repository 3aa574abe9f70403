"""Sessions: turns that follow each other, each with all that was said before as its context."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Wait:
    """Seconds, lognormal: median and sigma of the log."""

    median: float = 12.0
    sigma: float = 0.6

    def __post_init__(self) -> None:
        if self.median <= 0 or self.sigma < 0:
            raise ValueError("median must be above 0 and sigma 0 or more")


@dataclass(frozen=True)
class Sessions:
    """Each arrival of the stream is a session of `turns` turns on average (geometric, cut at `turns_max`).

    The next turn comes after an answer (`answer_s` and `answer_s_per_token` for each output token) and `think_s`. With
    `context` a turn's prompt holds all prompts and answers before it. What lies beyond the trace's end is not in it.
    """

    turns: float
    turns_max: int = 32
    think_s: Wait = field(default_factory=Wait)
    answer_s: float = 0.5
    answer_s_per_token: float = 0.015
    context: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.turns < np.inf or self.turns_max < 1 or min(self.answer_s, self.answer_s_per_token) < 0:
            raise ValueError("turns and turns_max must be 1 or more, answer_s and answer_s_per_token 0 or more")

    def unroll(
        self, starts: pl.DataFrame, draw: Callable[[pl.DataFrame], pl.DataFrame], rng: np.random.Generator
    ) -> pl.DataFrame:
        """All turns of sessions that begin with `starts`, turn by turn; `draw` gives requests their lengths.

        What a turn's prompt holds before it is `_context`, on the first turn `_opening`.
        A session of one turn is no session: its turn and think_s are null. `_turns` is how many turns there are.
        """
        turns = np.minimum(rng.geometric(1 / self.turns, len(starts)), self.turns_max)
        now = starts.with_columns(
            _turns=pl.Series(turns), turn=pl.lit(0, pl.Int32), think_s=pl.lit(None, pl.Float64)
        )  # fmt: skip
        parts = [draw(now)]
        while not (now := self._next(now, parts[-1], rng)).is_empty():
            parts.append(draw(now))
        many = pl.col("_turns") > 1
        return pl.concat(parts).with_columns(turn=pl.when(many).then("turn"))

    def _next(self, now: pl.DataFrame, asked: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        """The turns after `asked`, where there are any."""
        going = asked.filter(pl.col("turn") + 1 < pl.col("_turns"))
        think_s = np.exp(np.log(self.think_s.median) + self.think_s.sigma * rng.standard_normal(len(going)))
        answer_s = self.answer_s + self.answer_s_per_token * pl.col("output_tokens")
        said = pl.col("prompt_tokens") + pl.col("output_tokens")
        following = going.with_columns(
            arrival_s=pl.col("arrival_s") + answer_s + pl.Series(think_s),
            turn=pl.col("turn") + 1,
            think_s=pl.Series(think_s),
            _context=said.cast(pl.Int64) if self.context else pl.col("_opening"),
        )
        return following.select(now.columns)
