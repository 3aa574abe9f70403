"""Which models are on the device: does what a placement says (toolkit.placing), and writes down what it took.

A load is one copy from the host beside the steps of what is there already. KV memory gives way to weights: caches
first, then the requests of the engine that holds most. An engine's cache gives way to what another one's requests hold,
and ends when its model is evicted.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np

from replay.torch_engine.engine import Engine
from replay.torch_engine.notes import Notes
from toolkit.errors import SettingFailure
from toolkit.placing import ABSENT, LOADING, READY, Action, Evict, Load, Resize, Wait


class Hosting:
    """Loads and evicts; `state` is one of toolkit.placing's for each model."""

    def __init__(self, engines: Sequence[Engine], notes: Notes, clock: Any, least_kv_share: float = 0.05):
        self.engines, self._notes, self._clock = engines, notes, clock
        self.arena = engines[0].kv.arena
        self.least_kv_share = least_kv_share
        self.state = np.full(len(engines), ABSENT)
        self.ready_s = np.full(len(engines), np.nan)
        self.loads = 0
        self._coming: dict[int, tuple[float, float, Future[float]]] = {}  # since when, seconds to make room, the copy
        for engine in engines:
            engine.memory.ask = partial(self._lend, engine)

    @property
    def loading(self) -> bool:
        return bool(self._coming)

    def check(self, action: Action) -> None:
        """Refuse what one device with whole models cannot do."""
        whole = not isinstance(action, Load) or action.resident == 1.0
        if isinstance(action, Wait):
            return
        if not isinstance(action, Load | Evict | Resize) or not whole:
            kind = "keeps layers on the host" if isinstance(action, Load) else f"says {type(action).__name__.lower()}"
            raise self._wrong(action.model, f"{kind}, which --engine transformers does not do, of model")

    def apply(self, actions: Sequence[Action]) -> None:
        """Do `actions` in their order."""
        for action in actions:
            self.check(action)
            if isinstance(action, Load):
                self._load(action)
            elif isinstance(action, Evict):
                self._evict(action.model)
            elif isinstance(action, Resize):
                self._resize(action)

    def arrivals(self) -> list[int]:
        """The models whose copies have ended since the last call; they are ready now."""
        return [self._ready(m) for m, (_, _, copy) in list(self._coming.items()) if copy.done()]

    def settle(self) -> list[int]:
        """Wait until nothing is on its way."""
        return [self._ready(m) for m in list(self._coming)]

    def weight_pages(self, m: int) -> int:
        return self.arena.pages_of(self.engines[m].model.size)

    def _wrong(self, m: int, what: str, hint: str | None = None) -> SettingFailure:
        return SettingFailure(f"{what} {self.engines[m].model.name}", where="--placement", hint=hint)

    def _load(self, action: Load) -> None:
        m = action.model
        if self.state[m] != ABSENT:
            raise self._wrong(m, "loads what is there already, model")
        self._check_room(m)
        began_s, began = self._clock(), time.perf_counter()
        self._make_room(self.weight_pages(m))
        self._limit(m, action.kv_bytes)
        copy = self.engines[m].model.bring(self.arena)
        self._coming[m] = began_s, time.perf_counter() - began, copy
        self.state[m] = LOADING

    def _check_room(self, m: int) -> None:
        most = int(self.arena.pages * (1 - self.least_kv_share))
        need, have = self.weight_pages(m), most - self.arena.top
        if need > have:
            size = self.arena.page_bytes / 2**30
            room = f"puts {need * size:.2f} GiB where {max(have, 0) * size:.2f} GiB are free, model"
            raise self._wrong(m, room, "give more --memory-gib")

    def _make_room(self, pages: int) -> None:
        while not self._drop_caches(pages, self.engines):
            largest = max((e for e in self.engines if e.running), key=lambda e: e.kv.pages)
            largest.preempt(largest.planner.victim(), "weights come")

    def _lend(self, engine: Engine, blocks: int) -> None:
        """Give an engine that lacks `blocks` the room of other engines' caches, where that may be enough."""
        kv, others = engine.kv, [e for e in self.engines if e is not engine]
        if kv.limit is not None and kv.limit - kv.held < kv.free + blocks:
            return
        pages = self.arena.free - (-blocks // kv.per_page)
        if pages <= self.arena.free + sum(min(e.memory.kept, e.kv.pages) for e in others):
            self._drop_caches(pages, others)

    def _drop_caches(self, pages: int, engines: Sequence[Engine]) -> bool:
        """Take from the caches of `engines` until so many pages are free; whether they are."""
        for engine in engines:
            while self.arena.free < pages and engine.memory.drop():
                pass
        return self.arena.free >= pages

    def _ready(self, m: int) -> int:
        began_s, room_s, copy = self._coming.pop(m)
        seconds, model = copy.result(), self.engines[m].model
        model.point()
        self.state[m], self.ready_s[m] = READY, self._clock()
        self.loads += 1
        detail = f"from the host, after {room_s:.6f} s to make room"
        self._notes.event(began_s, "load", model.name, None, model.size, seconds, detail)
        return m

    def _evict(self, m: int) -> None:
        if self.state[m] != READY:
            raise self._wrong(m, "evicts what is not ready, model")
        for other in self.settle():  # weights that are on their way must not be moved
            self.state[other] = READY
        began_s, began, engine = self._clock(), time.perf_counter(), self.engines[m]
        lost = len(engine.running)
        engine.clear()
        engine.model.leave()
        self.state[m], self.ready_s[m] = ABSENT, np.nan
        seconds, said = time.perf_counter() - began, f"{lost} requests lost their place"
        self._notes.event(began_s, "evict", engine.model.name, None, engine.model.size, seconds, said)

    def _resize(self, action: Resize) -> None:
        if self.state[action.model] == ABSENT:
            raise self._wrong(action.model, "resizes what is nowhere, model")
        engine = self.engines[action.model]
        self._limit(action.model, action.kv_bytes)
        while engine.kv.free < 0:
            if not engine.memory.drop():
                engine.preempt(engine.planner.victim(), "its KV memory is capped")
        cap = None if action.kv_bytes is None else int(action.kv_bytes)
        said = "no cap" if cap is None else f"cap {cap / 2**30:.2f} GiB"
        self._notes.event(self._clock(), "resize", engine.model.name, None, cap, 0.0, said)

    def _limit(self, m: int, kv_bytes: float | None) -> None:
        """Cap a model's KV blocks by bytes, within what its engine's limits say."""
        engine, own = self.engines[m], self.engines[m].limits.kv_blocks
        cap = None if kv_bytes is None else int(kv_bytes // self.arena.page_bytes) * engine.kv.per_page
        engine.kv.limit = min((c for c in (own, cap) if c is not None), default=None)
