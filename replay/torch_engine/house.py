"""Real time: requests arrive at their instants, loaded models take steps in turn, and a placement is asked."""

import heapq
import time
from collections.abc import Callable, Sequence

import numpy as np

from replay.planning.jobs import INFINITE, Job, Tokens
from replay.planning.rules import Rules
from replay.torch_engine import placed
from replay.torch_engine.arena import PAGE_BYTES, Arena
from replay.torch_engine.device import Device
from replay.torch_engine.engine import Engine
from replay.torch_engine.hosting import Hosting
from replay.torch_engine.kv import KV
from replay.torch_engine.limits import Limits
from replay.torch_engine.model import Model
from replay.torch_engine.notes import Notes
from replay.torch_engine.prompts import NO_TOKENS, asked, said_before
from toolkit.placing import ABSENT, READY, Action, Facts, Placement, Why

LOOK_S = 2.0
NAP_S, POLL_S = 0.05, 0.0005  # how long it sleeps at most, and between looks at a load
GIVE_UP_S = 120.0  # in which a placement may do nothing for those that wait while nothing else happens
NEVER_PLACED = "the placement brought its model to no GPU"
NO_ROOM_BESIDE = "needs more KV blocks than other models' weights leave"


class House:
    """One device, the models that are served on it, and its clock: seconds from `begin`'s instant."""

    def __init__(
        self,
        device: Device,
        models: Sequence[Model],
        limits: Limits,
        memory_bytes: int,
        *,
        rules: Rules | None = None,
        page_bytes: int = PAGE_BYTES,
        least_kv_share: float = 0.05,
        keep_tokens: bool = False,
    ):
        """Weights and KV together take `memory_bytes`. What was produced is kept in the jobs with `keep_tokens`."""
        self.keep_tokens = keep_tokens
        self.device, self.models, self.limits = device, models, limits
        self.rules = rules or Rules()
        block_bytes = max(m.shape.token_bytes for m in models) * limits.block_tokens
        self.arena = Arena(device, memory_bytes, max(page_bytes, -(-block_bytes // 256) * 256))
        self.notes = Notes()
        self._zero = time.perf_counter()
        kvs = [KV(self.arena, m.shape, limits.block_tokens, limits.kv_blocks) for m in models]
        self.engines = [
            Engine(m, kv, limits, self.rules, self.notes, self.now_s) for m, kv in zip(models, kvs, strict=True)
        ]
        self.hosting = Hosting(self.engines, self.notes, self.now_s, least_kv_share)
        self.placement: Placement | None = None
        self._forget()

    def _forget(self) -> None:
        models = len(self.models)
        self.arrived, self.last_active_s = np.zeros(models, np.int64), np.full(models, -np.inf)
        self.ended: list[Job] = []  # whoever reads it may empty it
        self.done = 0
        self._turns: dict[int, list[Job]] = {}
        self._said: dict[int, Tokens] = {}  # what turns begin with, by their number
        self._prefix_tokens = 0
        self._coming: list[tuple[float, int, Job]] = []
        self._shown: list[Job] = []
        self._observe_s = self._tick_s = INFINITE
        self._moved_s = self._ran_s = 0.0  # when anything last happened, and the last step ended
        self._stuck: set[int] = set()

    def rule(self, rules: Rules) -> None:
        """Let another scheduler decide; nobody may be waiting."""
        self.rules = rules
        for engine in self.engines:
            engine.planner.rule(rules)

    def now_s(self) -> float:
        return time.perf_counter() - self._zero

    def start(self, actions: Sequence[Action]) -> None:
        """Load what is there before the first request."""
        self.hosting.apply(actions)
        self.hosting.settle()

    def place(self, placement: Placement, facts: Facts) -> None:
        """Let `placement` decide, from its beginning on."""
        self.placement = placement
        self.start(placement.begin(facts))

    def run(
        self,
        jobs: Sequence[Job],
        *,
        stopped: Callable[[], bool] = lambda: False,
        look: Callable[[], None] = lambda: None,
        from_s: float = 0.0,
        prefix_tokens: int = 0,
    ) -> bool:
        """Serve `jobs`, the clock beginning at `from_s`. `look` is called every two seconds. False when `stopped`.

        Where jobs have a `prefix`, each of its blocks is `prefix_tokens` long.
        """
        self._expect(jobs)
        self._prefix_tokens = prefix_tokens
        self._zero = time.perf_counter() - from_s
        self._observe_s = from_s + self.rules.observe_every_s
        self._tick_s = from_s + (getattr(self.placement, "interval_s", None) or INFINITE)
        self._moved_s = self._ran_s = from_s
        next_look_s = from_s + LOOK_S
        while self.done < len(jobs):
            if stopped():
                return False
            if self.now_s() >= next_look_s:
                look()
                next_look_s = self.now_s() + LOOK_S
            if not self._turn():
                self._rest()
        look()
        return True

    def _expect(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.parent >= 0:
                self._turns.setdefault(job.parent, []).append(job)
            else:
                heapq.heappush(self._coming, (job.arrival_s, job.number, job))

    def _turn(self) -> bool:
        """One round: who has come, what is loaded, what is asked, a step of each model. Whether anything ran."""
        self._take_arrivals()
        for m in self.hosting.arrivals():
            self._decide("loaded", m)
        self._ask_by_the_clock()
        ran = [self._step(m) for m in np.flatnonzero(self.hosting.state == READY).tolist()]
        if any(ran):
            self._moved_s = self._ran_s = self.now_s()
            self._stuck.clear()
        return any(ran)

    def _step(self, m: int) -> bool:
        engine = self.engines[m]
        if not engine.running and not len(engine.line):
            return False
        ended = engine.step(self._allowed(m))
        if ended is None:
            self._relieve(m)
            return False
        for job in ended:
            self._end(job)
        if ended and not engine.running and not len(engine.line):
            self._emptied()
        return True

    def _allowed(self, m: int) -> Callable[[Job], bool]:
        """Whether a request may be admitted: where models share one queue, only if no other model's ranks before."""
        if not getattr(self.placement, "arbitrates", False):
            return lambda job: True
        now_s = self.now_s()
        ready = [e for o, e in enumerate(self.engines) if o != m and self.hosting.state[o] == READY]
        heads = [(job.order, job.number) for e in ready if (job := e.planner.can_admit(now_s)) is not None]
        first = min(heads, default=(INFINITE, 0))
        return lambda job: (job.order, job.number) <= first

    def _take_arrivals(self) -> None:
        fresh = []
        while self._coming and self._coming[0][0] <= self.now_s():
            fresh.append(heapq.heappop(self._coming)[2])
        if fresh and self.rules.arrived is not None:
            self.rules.arrived(fresh, self.now_s())
        for job in fresh:
            self._take(job)

    def _take(self, job: Job) -> None:
        engine, now_s = self.engines[job.model], self.now_s()
        job.taken_s, job.late_s = now_s, now_s - max(job.arrival_s, self._ran_s)
        if self.rules.arrived is None:
            job.rank += job.rise * job.arrival_s
            job.rise = 0.0
        if not job.tokens.size and job.error is None:
            said = self._said.pop(job.number, NO_TOKENS)
            job.tokens = asked(job, engine.model.config.vocab_size, self._prefix_tokens, said)
        self.arrived[job.model] += 1
        job.error = job.error or engine.refusal(job, self.most_blocks(job.model))
        if job.error is not None:
            job.status, job.finish_s = "rejected", now_s
            self._end(job)
            return
        engine.planner.arrive(job, now_s)
        if self.hosting.state[job.model] == ABSENT:
            self._decide("miss", job.model)

    def most_blocks(self, m: int) -> int:
        """KV blocks that a model could have if it were alone."""
        kv = self.engines[m].kv
        alone = (self.arena.pages - self.hosting.weight_pages(m)) * kv.per_page
        return min(alone, self.limits.kv_blocks or alone)

    def _end(self, job: Job) -> None:
        self.done += 1
        self.ended.append(job)
        if self.rules.observe is not None:
            self._shown.append(job)
        self.last_active_s[job.model] = self.now_s()
        for turn in self._turns.pop(job.number, ()):
            self._said[turn.number] = said_before(job, turn, self._prefix_tokens)
            turn.arrival_s = (self.now_s() if job.finish_s is None else job.finish_s) + turn.think_s
            heapq.heappush(self._coming, (turn.arrival_s, turn.number, turn))
        if not self.keep_tokens:
            job.tokens = NO_TOKENS

    def _ask_by_the_clock(self) -> None:
        now_s = self.now_s()
        if now_s >= self._observe_s:
            self._observe(now_s)
        if now_s >= self._tick_s and self.placement is not None:
            self._tick_s = now_s + float(self.placement.interval_s)  # type: ignore[attr-defined]
            self._decide("tick", -1)

    def _observe(self, now_s: float) -> None:
        """Show the scheduler what has ended, and rank again where it says so."""
        self._observe_s = now_s + self.rules.observe_every_s
        if not self._shown or self.rules.observe is None:
            return
        shown, self._shown = self._shown, []
        if self.rules.observe(shown, now_s) and self.rules.arrived is not None:
            live = [job for e in self.engines for job in (*e.line, *e.running)]
            if live:
                self.rules.arrived(live, now_s)
            for engine in self.engines:
                engine.line.rank_anew()

    def _decide(self, why: Why, model: int) -> bool:
        """Ask the placement and do what it says; whether it did anything."""
        if self.placement is None:
            return False
        actions = list(self.placement.decide(placed.view_of(self, why, model)))
        self.hosting.apply(actions)
        if actions:
            self._moved_s = self.now_s()
        return bool(actions)

    def _emptied(self) -> None:
        """A model has nothing left to do: others may be waiting for its memory."""
        if any(len(e.line) and self.hosting.state[m] == ABSENT for m, e in enumerate(self.engines)):
            self._decide("idle", -1)

    def _relieve(self, m: int) -> None:
        """A model cannot serve its next request, and runs none: what else is here is in its way."""
        engine = self.engines[m]
        if engine.running or m in self._stuck or not len(engine.line):
            return
        self._stuck.add(m)
        if not self._decide("memory", m) and self._all_quiet():
            job = engine.line.head(self.now_s())
            if job is not None and engine.planner.can_admit(self.now_s()) is None:
                self._end(engine.give_up(job, NO_ROOM_BESIDE))
                self._stuck.clear()

    def _all_quiet(self) -> bool:
        return not self.hosting.loading and not any(e.running for e in self.engines)

    def _rest(self) -> None:
        """Sleep until something can have changed; give up on whom nobody ever does anything for."""
        now_s = self.now_s()
        if self.hosting.loading:
            time.sleep(POLL_S)
            return
        if self._all_quiet() and now_s > self._moved_s + self._patience_s():
            self._give_up()
            return
        next_s = min(self._coming[0][0] if self._coming else INFINITE, self._tick_s, self._observe_s)
        time.sleep(min(max(0.0, next_s - now_s), NAP_S))

    def _patience_s(self) -> float:
        """Until those that wait for a model are given up; a placement without ticks has been asked already."""
        return GIVE_UP_S if self._tick_s < INFINITE or self._coming else 0.0

    def _give_up(self) -> None:
        for m, engine in enumerate(self.engines):
            why = NEVER_PLACED if self.hosting.state[m] == ABSENT else NO_ROOM_BESIDE
            for job in list(engine.line):
                self._end(engine.give_up(job, why))
        self._moved_s = self.now_s()
