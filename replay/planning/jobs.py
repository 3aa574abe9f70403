"""A request as an engine knows it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

INFINITE = float("inf")
Tokens = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Job:
    """What was asked, what its scheduler said of it, and what was done. Times are seconds on the engine's clock."""

    number: int
    prompt: int  # tokens
    output: int  # tokens to produce
    arrival_s: float
    model: int = 0
    parent: int = -1  # it arrives `think_s` after that one has ended
    think_s: float = 0.0
    prefix: Sequence[int] = ()  # hashes of the blocks it begins with, as the trace has them
    # the scheduler
    rank: float = 0.0
    rise: float = 0.0  # what a second of a waiting turn's arrival adds to its rank
    curve: int = 0
    lane: int = 0
    hold_at: float = INFINITE  # output tokens from which it keeps its place
    after_s: float = INFINITE  # of waiting, until its rank changes by `shift`
    shift: float = 0.0
    # the engine
    tokens: Tokens = field(default_factory=lambda: np.zeros(0, np.int64))  # the prompt's, and room for the output's
    produced: int = 0
    decodes: bool = False  # it has a place, and its prefill has ended
    computed: int = 0  # tokens whose KV is there, or on the host
    blocks: list[int] = field(default_factory=list)
    names: list[int] = field(default_factory=list)  # of its full blocks, as far as anybody has asked
    named: int = 0  # of its blocks, so many are found by others
    host: Any = None  # its KV, while that is swapped out
    order: float = 0.0  # where it stands while it waits
    level: int = 0  # boundaries of its curve that it has passed
    work: float = 0.0  # at least so much counts as done, for its prompt
    guard: int = 0  # output tokens up to which it keeps its place
    turned: bool = False
    due_s: float = INFINITE  # when its rank changes by `shift`
    # what happened
    taken_s: float | None = None  # when the engine noticed that it had come
    late_s: float = 0.0  # of that what no step is to blame for
    start_s: float | None = None
    cached: int = 0  # tokens that were found in the cache when it first got a place
    times: list[float] = field(default_factory=list)  # of each token
    finish_s: float | None = None
    started: float = 0.0  # when it last began to decode
    left_s: float = 0.0
    preemptions: int = 0
    preempted_s: float = 0.0
    error: str | None = None
    status: str | None = None  # ok, rejected, error, cancelled

    @property
    def to_compute(self) -> int:
        """Tokens without KV: the prompt's and, after a preemption, its own output's; one while it decodes."""
        return self.prompt + self.produced - self.computed

    @property
    def ended(self) -> bool:
        return self.produced >= self.output


Part = tuple[Job, int]  # who computes how many tokens in a step
