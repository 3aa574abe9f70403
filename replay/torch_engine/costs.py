"""What service takes, measured before the replay: loads, prefills and full decode steps of each model."""

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from replay.planning.jobs import Job, Part
from replay.torch_engine.engine import Engine
from replay.torch_engine.forward import Forward
from replay.torch_engine.prompts import made_up
from toolkit.placing import Evict, Load

if TYPE_CHECKING:
    from replay.torch_engine.house import House

REPEATS = 3


@dataclass(frozen=True)
class Costs:
    """Seconds; a token's are its share of a full step."""

    load_s: float
    prefill_s_per_token: float
    decode_s_per_token: float
    step_s: float
    restore_s_per_token: float


def measured(house: "House", prompt: int, context: float) -> list[Costs]:
    """The costs of each model, loaded by itself: prompts of `prompt` tokens, decoding at a mean `context`.

    It warms the device up, too. Leaves nothing loaded and nothing written down.
    """
    found = [_of(house, m, max(1, prompt), max(2, round(context))) for m in range(len(house.models))]
    house.notes.steps.clear()
    house.notes.events.clear()
    house.hosting.loads = 0
    return found


def _of(house: "House", m: int, prompt: int, context: int) -> Costs:
    engine = house.engines[m]
    loads = []
    for _ in range(REPEATS):
        house.hosting.apply([Load(m, (0,))])
        house.hosting.settle()
        loads.append(house.notes.events[-1]["duration_s"])
        if len(loads) < REPEATS:
            house.hosting.apply([Evict(m)])
    prefill = _timed(engine, _prompts(engine, prompt))
    decode = _timed(engine, _decoding(engine, context))
    swap = _swapped(engine, context) if house.limits.swap else None
    house.hosting.apply([Evict(m)])
    return Costs(statistics.median(loads), prefill[0], decode[0], decode[1], prefill[0] if swap is None else swap)


def _timed(engine: Engine, parts: list[Part]) -> tuple[float, float]:
    """(Seconds a token, seconds a step) of a batch that is repeated; its memory is free again afterwards."""
    forward, took = Forward(engine.model, engine.kv), []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        forward(parts)
        took.append(time.perf_counter() - began)
    for job, _ in parts:
        engine.kv.give(job.blocks)
    step_s = statistics.median(took[1:])
    return step_s / sum(count for _, count in parts), step_s


def _prompts(engine: Engine, prompt: int) -> list[Part]:
    """A full step of prompts."""
    budget = min(engine.limits.max_num_batched_tokens, engine.kv.free * engine.kv.block_tokens // 2)
    prompt = min(prompt, budget, engine.longest - 1)
    return [(_job(engine, n, prompt), prompt) for n in range(max(1, budget // prompt))]


def _decoding(engine: Engine, context: int) -> list[Part]:
    """As many requests as decode in a full step; what their KV holds does not matter."""
    context = min(context, engine.longest - 1, engine.kv.free * engine.kv.block_tokens - 1)
    fitting = engine.kv.free // engine.kv.blocks_for(context + 1)
    parts = [(_job(engine, n, context), 1) for n in range(max(1, min(engine.limits.max_num_seqs, fitting)))]
    for job, _ in parts:
        job.computed = context - 1
    return parts


def _job(engine: Engine, number: int, prompt: int) -> Job:
    job = Job(number, prompt, 1, 0.0, tokens=made_up(number, prompt, 1, engine.model.config.vocab_size))
    job.blocks = engine.kv.take(engine.kv.blocks_for(prompt))
    return job


def _swapped(engine: Engine, context: int) -> float:
    """Seconds a token to the host and back."""
    blocks = engine.kv.take(min(engine.kv.blocks_for(context), engine.kv.free))
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        engine.kv.back(engine.kv.out(blocks), blocks)
        took.append(time.perf_counter() - began)
    tokens = len(blocks) * engine.kv.block_tokens
    engine.kv.give(blocks)
    return float(np.median(took)) / tokens
