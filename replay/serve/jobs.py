"""A request as the served engine knows it."""

from collections.abc import Callable
from dataclasses import dataclass, field

Emit = Callable[["Job"], None]


@dataclass(slots=True, eq=False)
class Job:
    """What was asked, what was done of it, and who hears of each token."""

    number: int
    prompt: int  # tokens
    output: int  # tokens to produce
    priority: int
    arrival_s: float
    blocks: list[int]  # hashes of the prompt's full blocks
    emit: Emit
    start_s: float | None = None
    first_token_s: float | None = None
    computed: int = 0  # tokens whose KV is there
    produced: int = 0
    cached: int = 0  # prompt tokens found in the cache when it first got a place
    preemptions: int = 0
    shared: list[int] = field(default_factory=list)  # hashes of the blocks it holds together with others
    own: int = 0  # blocks it holds alone

    @property
    def rank(self) -> tuple[int, float, int]:
        """Who runs first: as vLLM's priority scheduling has it, the smallest priority and then the first to come."""
        return self.priority, self.arrival_s, self.number

    @property
    def to_compute(self) -> int:
        """Tokens without KV: the prompt's and, after a preemption, its own output's; one while it decodes."""
        return self.prompt + self.produced - self.computed

    @property
    def decodes(self) -> bool:
        return self.produced > 0 and self.to_compute == 1

    @property
    def ended(self) -> bool:
        return self.produced >= self.output
