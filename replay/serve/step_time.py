"""How long a step takes: the lowered latency model, by the simulation's own functions run uncompiled."""

from replay.serve.batching import Parts
from replay.simulation import latency as times
from replay.simulation.latency import Latency
from replay.simulation.state import PS


class StepTime:
    """Seconds of a step, from what it computes. Needs NUMBA_DISABLE_JIT, for it calls what else is only compiled."""

    def __init__(self, table: Latency):
        self._table = table

    def __call__(self, parts: Parts) -> float:
        table = self._table
        contexts = [job.computed + 1 for job, _ in parts if job.decodes]
        prefills = [(tokens, job.computed) for job, tokens in parts if not job.decodes]
        sampled = len(contexts) + sum(tokens == job.to_compute for job, tokens in parts if not job.decodes)
        chunks, tokens = sum(c for c, _ in prefills), sum(t for _, t in parts)
        time = int(table.dense[tokens]) + int(table.head[sampled])
        time += sum(int(times.prefill_attention(table, chunk, prior)) for chunk, prior in prefills)
        priors = sum(chunk * prior for chunk, prior in prefills)
        low, high = (min(contexts), max(contexts)) if contexts else (0, 0)
        time += int(times.mixed_attention(table, chunks, priors, len(contexts), sum(contexts), low, high))
        return time / PS
