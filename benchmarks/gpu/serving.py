"""Serving requests in real time, and what was seen of each."""

from collections.abc import Sequence
from typing import Any

from replay.planning.jobs import Job
from replay.torch_engine.costs import Costs
from replay.torch_engine.house import House

COLUMNS = ("model", "arrival_s", "prompt", "output", "start_s", "first_token_s", "finish_s", "preemptions", "status")


def served(house: House, jobs: Sequence[Job]) -> dict[str, Any]:
    """What happened, once all of them have ended."""
    house.run(jobs)
    steps = house.notes.steps
    return {
        "columns": COLUMNS,
        "requests": [_row(job) for job in jobs],
        "span_s": max(job.finish_s or 0.0 for job in jobs),
        "steps": len(steps),
        "busy_s": sum(step.step_s for step in steps),
        "halved": house.notes.halved,
    }


def _row(job: Job) -> list[Any]:
    first = job.times[0] if job.times else None
    times = (job.start_s, first, job.finish_s)
    ends = [None if t is None else round(t, 4) for t in times]
    return [job.model, round(job.arrival_s, 4), job.prompt, job.output, *ends, job.preemptions, job.status]


def told(costs: Costs) -> dict[str, float]:
    """Costs under the names of their fields, for a record."""
    return {name: float(value) for name, value in vars(costs).items()}
