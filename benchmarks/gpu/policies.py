"""Schedulers as numbers for the engine: FCFS, SJF and SRPT with the true lengths, and UniBoost's third phase.

The same as replay.schedulers has them, without its tables: so they run where there is no polars.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.planning.jobs import Job
from replay.planning.rules import Rules
from replay.torch_engine.costs import Costs

QUANTUM, DOUBLINGS = 256, 14  # tokens up to which all boosts are alike, and how often they fall off
FULLEST = 0.98  # of a server: the decay rate is 0 at 1


@dataclass(frozen=True)
class Policy:
    """How it ranks, and by which rules."""

    rank: Callable[[Job], float]
    rules: Rules


def policies(jobs: Sequence[Job], costs: Costs, per_s: float) -> dict[str, Policy]:
    """By name; UniBoost's γ is the decay rate of these jobs at that rate."""
    by_arrival, by_output = (lambda job: job.arrival_s), (lambda job: float(job.output))
    return {
        "fcfs": Policy(by_arrival, Rules()),
        "sjf": Policy(by_output, Rules()),
        "srpt": Policy(by_output, Rules(slope=-1.0, displace=True)),
        "uniboost": Policy(by_arrival, uniboost(decay_rate(sizes_s(jobs, costs), per_s), costs)),
    }


def sizes_s(jobs: Sequence[Job], costs: Costs) -> NDArray[np.float64]:
    """Seconds of exclusive service of each job, in full steps."""
    tokens = np.array([(job.prompt, job.output) for job in jobs], float)
    return tokens @ np.array([costs.prefill_s_per_token, costs.decode_s_per_token])


def uniboost(gamma: float, costs: Costs) -> Rules:
    """Ranks that change at k, 2k, 4k … tokens, a minimum run to the next, victims by rank and by what they hold."""
    work = QUANTUM * 2 ** np.arange(DOUBLINGS)
    attained = costs.decode_s_per_token * np.concatenate([work[:1], work])
    return Rules(
        boundaries=work.tolist(),
        offsets=np.log(-np.expm1(-gamma * attained))[None] / gamma,
        prompt_work=costs.prefill_s_per_token / costs.decode_s_per_token,
        displace=True,
        min_run=True,
        context_cost=costs.restore_s_per_token,
    )


def decay_rate(sizes: NDArray[np.float64], per_s: float) -> float:
    """The γ > 0 with λ(E[e^{γS}] − 1) = γ, by halving."""
    per_s = min(per_s, FULLEST / float(sizes.mean()))

    def excess(gamma: float) -> float:
        return float(per_s * np.expm1(gamma * sizes).mean() - gamma)

    low, high = 0.0, 1.0 / float(sizes.max())
    while excess(high) < 0:
        low, high = high, 1.5 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return high
