"""What a scheduler says, as numbers and a few questions: toolkit.protocols without its tables. By default FCFS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from replay.planning.jobs import Job

Order = Callable[[list[Job], float], Sequence[int]]
Ranks = Callable[[list[Job], float], None]
Observe = Callable[[list[Job], float], bool]


@dataclass
class Rules:
    """The members of a scheduler by their names there; `offsets` is [curve, level]."""

    boundaries: Sequence[int] = ()
    offsets: NDArray[np.float64] = field(default_factory=lambda: np.zeros((1, 1)))
    slope: float = 0.0
    prompt_work: float = 0.0
    displace: bool = False  # preemption by rank
    hysteresis: float = 0.0
    context_cost: float = 0.0
    min_run: bool = False
    latest: bool = False  # the victim is the latest to start
    since_place: bool = False  # patience counts from when a place was lost
    hold_tokens: int = 0
    lanes: int = 1
    cycle: Sequence[int] = ()
    prompt_weight: float = 1.0
    output_weight: float = 2.0
    window: int | None = None
    order: Order | None = None  # positions of those that wait, first to run first
    arrived: Ranks | None = None  # ranks what has come, where ranks depend on what was learnt
    observe: Observe | None = None  # is shown what ended; whether all ranks are to be asked again, by `arrived`
    observe_every_s: float = float("inf")

    def waiting_rank(self, job: Job) -> float:
        """Where a request that does not decode stands."""
        return self._moved(job, job.produced) + (job.shift if job.turned else 0.0)

    def running_rank(self, job: Job) -> float:
        """Where a request that decodes stands."""
        return self._moved(job, job.produced)

    def _moved(self, job: Job, served: int) -> float:
        work = max(served, job.work)
        while job.level < len(self.boundaries) and work >= self.boundaries[job.level]:
            job.level += 1
        return job.rank + self.slope * served + float(self.offsets[job.curve, job.level])

    def holds(self, job: Job) -> bool:
        """Whether a request keeps its place while there is another victim."""
        return job.produced >= job.hold_at or job.produced < job.guard

    def guard(self, job: Job) -> None:
        """Note until when a request that starts to decode keeps its place."""
        self._moved(job, job.produced)
        if self.min_run:
            job.guard = self.boundaries[job.level] if job.level < len(self.boundaries) else job.output
        if self.hold_tokens and job.turned:
            job.guard = max(job.guard, job.produced + self.hold_tokens)
