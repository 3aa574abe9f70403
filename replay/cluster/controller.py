"""Does what a placement says: gives and takes memory, lets time pass for what moves, and writes it down as events.

Loads to one GPU share its link: one after the other. Memory for weights is taken when a load begins, and KV memory
gives way to it: caches first, then the requests of the engine that holds most. What a placement may not do (load a
model twice, or where it does not fit) is its error, and said with the arithmetic.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from replay.cluster.changes import CLEAR, MAKE_ROOM, MOVE_QUEUE, ROUSE, SQUEEZE, change
from replay.cluster.events import EventLog
from replay.cluster.glance import Glance
from replay.cluster.hosting import Hosting
from replay.cluster.machine import Method
from replay.cluster.state import Pool
from replay.cluster.tables import TableBook
from replay.simulation.calling import bound
from replay.simulation.state import F64, NEVER, PS, Records, State
from toolkit.errors import SettingFailure
from toolkit.placing import ABSENT, LEAVING, LOADING, READY, Action, Evict, Load, Migrate, Offload, Resize


class Stay(NamedTuple):
    """A model on its GPUs, from when it came until it went or lost or gained layers."""

    model: int
    gpus: tuple[int, ...]
    resident_bytes: int  # of weights on each


@dataclass
class Controller:
    """Who lives where, in bytes and seconds; `pending` are loads under way: (when it ends, number, engine)."""

    hosting: Hosting
    settings: Records
    state: State
    pool: Pool
    tables: TableBook
    log: EventLog
    who: str  # the placement, as errors name it
    method: Method
    least_kv_share: float
    pending: list[tuple[int, int, int]] = field(default_factory=list)
    loads: int = 0

    def __post_init__(self) -> None:
        gpus, engines = len(self.hosting.gpu_types), len(self.pool.engines)
        # The same memory as plain arrays: a record array's columns take ten times as long to reach.
        self.engines, self.models = self.pool.engines.view(np.ndarray), self.pool.models.view(np.ndarray)
        self.gpus, self.cluster = self.pool.gpus.view(np.ndarray), self.pool.cluster.view(np.ndarray)
        self.instances, self.world = self.state.instances.view(np.ndarray), self.state.world.view(np.ndarray)
        self.weights = np.zeros(gpus)  # bytes on each GPU, those that are coming included
        self.resident = np.zeros(engines)  # share of its layers on its GPUs
        self.ready = np.full(engines, np.nan)  # when it became so, in seconds
        self.kv_limit = np.full(engines, np.inf)
        self.link_free = np.zeros(gpus, np.int64)  # when the last load to a GPU ends
        self.stays: list[Stay] = []
        self.glance = Glance(self.settings, self.state, self.hosting.model_of, len(self.hosting.replicas))

    @property
    def next_event(self) -> int:
        return self.pending[0][0] if self.pending else int(NEVER)

    def gpus_of(self, e: int) -> tuple[int, ...]:
        return tuple(self.pool.places[e, : self.engines["width"][e]].tolist())

    def engine_of(self, m: int) -> int:
        return int(self.models["engine"][m])

    def moving_to(self, m: int) -> int | None:
        """The engine that a model migrates to, while it does."""
        other = self.engine_of(m) ^ 1
        return other if self.engines["status"][other] == LOADING else None

    def apply(self, actions: Sequence[Action], now: int, *, at_once: bool = False) -> None:
        """Do `actions` in their order; `at_once`: before the replay begins, when nothing takes time."""
        for action in actions:
            if isinstance(action, Load):
                self._load(action, now, at_once)
            elif isinstance(action, Evict):
                self._evict(action, now)
            elif isinstance(action, Migrate):
                self._migrate(action, now)
            elif isinstance(action, Resize):
                self._resize(action, now)
            elif isinstance(action, Offload):
                self._offload(action, now)
        self.change(ROUSE, 0, 0, now)

    def finish_loads(self, now: int) -> list[int]:
        """Let engines serve whose loads have ended by `now`; the models that became ready."""
        ready = []
        while self.pending and self.pending[0][0] <= now:
            _, _, e = heapq.heappop(self.pending)
            ready.append(self._ready(e, now))
        return ready

    def retire(self, now: int) -> None:
        """Take off engines that were left and have nothing to do any more."""
        for e in np.flatnonzero(self.engines["status"] == LEAVING):
            here = self.state.instances[e]
            if here.running + here.waiting == 0 and here.clock <= now:
                self._leave(int(e), now)
        self.change(ROUSE, 0, 0, now)

    def change(self, what: int, a: int, b: int, now: int) -> int:
        """Do one thing to the state (cluster.changes.change)."""
        return int(self._to_the_state(what, a, b, now))

    @cached_property
    def _to_the_state(self) -> Callable[[int, int, int, int], int]:
        return bound(change, self.settings, self.state, self.pool)

    def _wrong(self, m: int, what: str, hint: str | None = None) -> SettingFailure:
        return SettingFailure(f"{what} {self.hosting.replicas[m].name}", where=f"placement {self.who}", hint=hint)

    def _load(self, action: Load, now: int, at_once: bool) -> None:
        e = self.engine_of(action.model)
        if self.engines["status"][e] != ABSENT:
            raise self._wrong(action.model, "loads what is there already, model")
        seconds = 0.0 if at_once else self.hosting.load_s(action.model, self.method, action.resident)
        limit = np.inf if action.kv_bytes is None else action.kv_bytes
        self._bring(e, action.gpus, action.resident, limit)
        begins, ends = self._transfer(action.gpus, now, seconds)
        size = self.hosting.weight_bytes[action.model] * action.resident * len(action.gpus)
        how = "before the replay" if at_once else self.method
        self.log.add(begins, "load", action.gpus, action.model, size, ends - begins, how)
        self._await(e, now if at_once else ends)
        self.loads += not at_once

    def _await(self, e: int, ends: int) -> None:
        if ends == 0:
            self._ready(e, 0)
            return
        self.engines["status"][e] = LOADING
        heapq.heappush(self.pending, (ends, self.log.count, e))

    def _transfer(self, gpus: tuple[int, ...], now: int, seconds: float) -> tuple[int, int]:
        """When bytes begin and end to flow over the links of `gpus`."""
        begins = max([now, *(int(self.link_free[g]) for g in gpus)])
        ends = begins + round(seconds * PS)
        self.link_free[list(gpus)] = ends
        return begins, ends

    def _bring(self, e: int, gpus: tuple[int, ...], resident: float, kv_limit: float) -> None:
        """Give an engine its place and its weights' memory on `gpus`."""
        it, m = self.pool.engines[e], int(self.engines["model"][e])
        if len(set(gpus)) != self.hosting.replicas[m].width or not all(0 <= g < len(self.weights) for g in gpus):
            raise self._wrong(m, f"places on GPUs {gpus}, not on {self.hosting.replicas[m].width} of them, model")
        for g in gpus:
            self._check_room(m, g, resident)
        it.width = len(gpus)
        self.pool.places[e, : len(gpus)] = gpus
        for g in gpus:
            count = int(self.gpus["engines"][g])
            self.pool.hosted[g, count] = e
            self.gpus["engines"][g] = count + 1
        self._keep(e, resident)
        self._limit(e, kv_limit)
        self._weigh(gpus, self.hosting.weight_bytes[m] * resident)
        self._stay(e, gpus)
        it.table = self.tables.row(m, gpus, resident)

    def _keep(self, e: int, resident: float) -> None:
        """Have a share of an engine's layers on its GPUs, and the KV of as many."""
        it, m = self.pool.engines[e], int(self.engines["model"][e])
        self.resident[e] = resident
        it.block_bytes = max(1, round(self.hosting.block_bytes[m] * resident))
        pages = -(-int((it.held + it.cached) * it.block_bytes) // int(self.hosting.cluster.sharing.page_bytes))
        self.gpus["free"][list(self.gpus_of(e))] -= pages - it.pages
        it.pages = pages

    def _stay(self, e: int, gpus: tuple[int, ...]) -> None:
        """Number the time that an engine spends somewhere, so that what is written later knows where that was."""
        m = int(self.engines["model"][e])
        self.engines["stay"][e] = len(self.stays)
        self.stays.append(Stay(m, gpus, round(self.hosting.weight_bytes[m] * self.resident[e])))

    def _check_room(self, m: int, g: int, resident: float) -> None:
        need = self.hosting.weight_bytes[m] * resident
        have = self.hosting.memory_bytes[g] * (1 - self.least_kv_share) - self.weights[g]
        if need > have:
            raise self._wrong(
                m, f"puts {need / 2**30:.1f} GiB on GPU {g}, where {max(have, 0) / 2**30:.1f} GiB are free, model"
            )

    def _weigh(self, gpus: tuple[int, ...], more: float) -> None:
        """Let weights take `more` bytes of each of `gpus`, and KV memory give way."""
        size = self.hosting.cluster.sharing.page_bytes
        for g in gpus:
            before = (self.hosting.memory_bytes[g] - self.weights[g]) // size
            self.weights[g] += more
            self.gpus["free"][g] += int((self.hosting.memory_bytes[g] - self.weights[g]) // size - before)
            self.change(MAKE_ROOM, g, 0, 0)

    def _limit(self, e: int, kv_bytes: float) -> None:
        self.kv_limit[e] = kv_bytes
        size = self.hosting.cluster.sharing.page_bytes
        self.engines["limit"][e] = int(kv_bytes // size) if np.isfinite(kv_bytes) else NEVER

    def _ready(self, e: int, now: int) -> int:
        """An engine's weights are there: it serves, and takes over from the one that its model migrates from."""
        m = int(self.engines["model"][e])
        self.engines["status"][e] = READY
        self.ready[e] = now / PS
        self.instances["clock"][e] = max(int(self.instances["clock"][e]), now)
        before = self.engine_of(m)
        if before != e:
            self.models["engine"][m] = e
            self.change(MOVE_QUEUE, before, e, now)
            self.engines["status"][before] = LEAVING
            if self.instances["running"][before] == 0:
                self._leave(before, now)
        self.change(ROUSE, 0, 0, now)
        return m

    def _leave(self, e: int, now: int) -> None:
        """Free what a model has migrated from."""
        gpus, m = self.gpus_of(e), int(self.engines["model"][e])
        size = self.hosting.weight_bytes[m] * self.resident[e]
        self._take_off(e)
        self.log.add(now, "leave", gpus, m, size * len(gpus), 0, "after it has migrated")

    def _take_off(self, e: int) -> int:
        """Free an engine's place and memory; the tokens of KV that its running requests take along."""
        gpus, m = self.gpus_of(e), int(self.engines["model"][e])
        moved = self.change(CLEAR, e, 0, 0)
        lost = self.state.event[: self.state.world[0].events]
        lost[lost[:, 1] == e, 1] = -1 - self.engines["stay"][e]
        for g in gpus:
            count = int(self.gpus["engines"][g])
            others = [o for o in self.pool.hosted[g, :count] if o != e]
            self.pool.hosted[g, : len(others)] = others
            self.gpus["engines"][g] = len(others)
        self._weigh(gpus, -self.hosting.weight_bytes[m] * self.resident[e])
        self.engines["width"][e] = 0
        self.resident[e], self.ready[e] = 0.0, np.nan
        return moved

    def _evict(self, action: Evict, now: int) -> None:
        e, m = self.engine_of(action.model), action.model
        if self.engines["status"][e] != READY or self.moving_to(m) is not None:
            raise self._wrong(m, "evicts what is not ready, or is moving, model")
        gpus, freed = self.gpus_of(e), self.hosting.weight_bytes[m] * self.resident[e]
        starts = max(now, int(self.instances["clock"][e])) if self.instances["running"][e] else now
        lost = int(self.instances["running"][e])
        mapped_s = int(self.engines["pages"][e]) * float(self.instances["unmap_page"][e]) / PS
        moved = self._take_off(e)
        seconds = self.hosting.machine.unload_s(freed) + mapped_s + self._kv_out_s(m, moved)
        begins, ends = self._transfer(gpus, starts, seconds)
        self.log.add(begins, "evict", gpus, m, freed * len(gpus), ends - begins, f"{lost} requests lost their place")
        if self.instances["waiting"][e]:
            self.cluster["starving"][0] = 1

    def _kv_out_s(self, m: int, tokens: int) -> float:
        if not tokens:
            return 0.0
        return self.hosting.machine.kv_out_s(tokens * self.hosting.replicas[m].hosted.kv_bytes_per_gpu)

    def _migrate(self, action: Migrate, now: int) -> None:
        m = action.model
        source = self.engine_of(m)
        if self.engines["status"][source] != READY or self.engines["status"][source ^ 1] != ABSENT:
            raise self._wrong(m, "migrates what is not ready, or is moving, model")
        if set(action.gpus) & set(self.gpus_of(source)):
            raise self._wrong(m, "migrates to a GPU that it is on, model")
        size = self.hosting.weight_bytes[m] * self.resident[source]
        self._bring(source ^ 1, action.gpus, float(self.resident[source]), float(self.kv_limit[source]))
        seconds = self.hosting.machine.migrate_s(size, self._same_host(self.gpus_of(source), action.gpus))
        begins, ends = self._transfer(action.gpus, now, seconds)
        came = ", ".join(self.hosting.gpu_names[g] for g in self.gpus_of(source))
        self.log.add(begins, "migrate", action.gpus, m, size * len(action.gpus), ends - begins, f"from GPU {came}")
        self._await(source ^ 1, max(ends, 1))

    def _same_host(self, a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return len({g // self.hosting.cluster.gpus_per_host for g in (*a, *b)}) == 1

    def _resize(self, action: Resize, now: int) -> None:
        e = self.engine_of(action.model)
        if self.engines["status"][e] == ABSENT:
            raise self._wrong(action.model, "resizes what is nowhere, model")
        self._limit(e, np.inf if action.kv_bytes is None else action.kv_bytes)
        self.change(SQUEEZE, e, 0, now)
        cap = "no cap" if action.kv_bytes is None else f"cap {action.kv_bytes / 2**30:.2f} GiB"
        self.log.add(now, "resize", self.gpus_of(e), action.model, action.kv_bytes, 0, cap)

    def _offload(self, action: Offload, now: int) -> None:
        e, m = self.engine_of(action.model), action.model
        if self.engines["status"][e] != READY or self.moving_to(m) is not None:
            raise self._wrong(m, "offloads what is not ready, or is moving, model")
        gpus = self.gpus_of(e)
        more = self.hosting.weight_bytes[m] * (action.resident - self.resident[e])
        if more > 0:
            for g in gpus:
                self._check_room(m, g, action.resident - self.resident[e])
        self._keep(e, action.resident)
        self._weigh(gpus, more)
        self.change(SQUEEZE, e, 0, now)
        self._stay(e, gpus)
        self.engines["table"][e] = self.tables.row(m, gpus, action.resident)
        machine = self.hosting.machine  # layers that go are on the host already: only their memory is freed
        seconds = machine.load_s(more, len(gpus), "dram") if more > 0 else machine.unload_s(-more)
        begins, ends = self._transfer(gpus, max(now, int(self.instances["clock"][e])), seconds)
        self.instances["clock"][e] = ends  # it does not serve while its layers move
        self.change(ROUSE, 0, 0, now)
        share = f"{action.resident:.0%} of its layers stay on the GPU"
        self.log.add(begins, "offload", gpus, m, abs(more) * len(gpus), ends - begins, share)

    def kv_bytes(self) -> F64:
        """[engine] mapped on each of its GPUs."""
        pages: Any = self.engines["pages"]
        return np.asarray(pages * float(self.hosting.cluster.sharing.page_bytes))
