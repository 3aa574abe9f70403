"""How long a step of the engine takes, by what is in its batch: prefills, decodes, both."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.setting import Point, Setting
from benchmarks.gpu.shapes import fitting, made
from benchmarks.gpu.timing import seconds
from replay.planning.jobs import Job, Part
from replay.torch_engine.forward import Forward
from replay.torch_engine.house import House
from replay.torch_engine.limits import Limits
from replay.torch_engine.prompts import made_up
from toolkit.placing import Load

ROOM = 36 * 2**30  # of KV memory, where there is as much
PREFILLS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
CHUNKS = ((512, 2048), (512, 8192), (2048, 2048), (2048, 8192), (512, 16384))  # tokens, and tokens before them
SEQUENCES, CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256), (16, 256, 1024, 4096, 16384)
MIXED = ((512, 8, 1024), (512, 32, 1024), (512, 128, 512), (2048, 32, 1024))  # prefill, sequences, context of each


def points(at: Setting) -> Iterator[Point]:
    """[(tokens, tokens before them), …] of each batch: a decode is one token."""
    names = [n for n in fitting(at, 0.3) if n in ("1b", "8b")] or fitting(at, 0.3)[:1]
    for name in names:
        bench = Bench(at, name)
        for batch in _batches(at.smoke):
            what = {"model": name, **_counted(batch)}
            yield Point(what, lambda b=batch, bench=bench: bench.timed(b), 25)
        bench.close()


Batch = list[tuple[int, int]]


def _batches(smoke: bool) -> list[Batch]:
    prefills, contexts, sequences = PREFILLS, CONTEXTS, SEQUENCES
    chunks, mixed = CHUNKS, MIXED
    if smoke:
        prefills, contexts, sequences = (16, 64), (16, 64), (1, 4)
        chunks, mixed = ((16, 64),), ((16, 2, 32),)
    return [
        *([(tokens, 0)] for tokens in prefills),
        *([chunk] for chunk in chunks),
        *([(1, context)] * n for context in contexts for n in sequences),
        *([(1, context)] * n + [(tokens, 0)] for tokens, n, context in mixed),
    ]


def _counted(batch: Batch) -> dict[str, int]:
    """What a latency model knows of a batch."""
    decodes = [(tokens, before) for tokens, before in batch if tokens == 1 and before]
    prefills = [part for part in batch if part not in decodes]
    return {
        "decodes": len(decodes),
        "kv_tokens": sum(before + 1 for _, before in decodes),
        "prefill_tokens": sum(tokens for tokens, _ in prefills),
        "prior_tokens": sum(before for _, before in prefills),
        "pairs": sum(tokens * before + tokens * tokens // 2 for tokens, before in prefills),
    }


class Bench:
    """A loaded model and its KV memory, there when the first batch is timed."""

    def __init__(self, at: Setting, name: str):
        self.at, self.name, self._house = at, name, None

    def close(self) -> None:
        self._house = None
        if self.at.device.is_gpu:
            torch.cuda.empty_cache()

    @property
    def house(self) -> House:
        if self._house is None:
            model = made(self.at, self.name, 0)
            self.close()
            free = self.at.device.free_bytes()
            room = 2**24 if self.at.smoke else int(min(ROOM, 0.7 * free - model.size))
            page = 2**16 if self.at.smoke else 2**21
            self._house = House(self.at.device, [model], Limits(), model.size + room, page_bytes=page)
            self._house.start([Load(0, (0,))])
        return self._house

    def timed(self, batch: Batch) -> dict[str, Any]:
        """Seconds of the step; nothing where the KV memory is too small for it."""
        engine = self.house.engines[0]
        need = sum(engine.kv.blocks_for(tokens + before) for tokens, before in batch)
        if need > engine.kv.free:
            return {"too_large": True}
        forward = Forward(engine.model, engine.kv)
        parts: list[Part] = []
        for n, (tokens, before) in enumerate(batch):
            job = Job(n, before + tokens, 1, 0.0, computed=before)
            job.tokens = made_up(n, before + tokens, 1, engine.model.config.vocab_size)
            job.blocks = engine.kv.take(engine.kv.blocks_for(before + tokens))
            parts.append((job, tokens))
        try:
            took = seconds(self.at.device, lambda: forward(parts), self.at.repeats, warm=2)
        finally:
            for job, _ in parts:
                engine.kv.give(job.blocks)
        return {"step_s": took}
