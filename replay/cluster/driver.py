"""Drives a cluster's compiled core, and asks the placement when there is something to decide."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.cluster import setup
from replay.cluster.changes import GIVE_UP, ROUSE
from replay.cluster.controller import Controller
from replay.cluster.events import EventLog
from replay.cluster.hosting import Hosting
from replay.cluster.machine import METHODS, Method
from replay.cluster.moves import advance
from replay.cluster.outcomes import outcomes_frame, preemptions_frame, timeline_frame
from replay.cluster.state import EMPTIED, MISSED, STUCK
from replay.cluster.tables import TableBook
from replay.cluster.views import facts_of, view_of
from replay.simulation.calling import bound
from replay.simulation.driver import BITE, CHECKPOINT_EVERY_S, MOVES_A_QUESTION, OUTCOMES_A_PART
from replay.simulation.feedback import Feedback
from replay.simulation.horizon import FAR_S, HORIZON, over_long
from replay.simulation.latency import Latency
from replay.simulation.policies import Policy, tell
from replay.simulation.sessions import think_times
from replay.simulation.state import ASKS, EVENT_ROWS, MORE, NEVER, NEVER_PLACED, NO_ROOM_BESIDE, NONE, PAUSED, PS
from replay.simulation.warming import announced
from toolkit.errors import SettingFailure, nearest
from toolkit.placing import ABSENT, LOADING, Action, Placement, Wait, Why
from toolkit.protocols import Scheduler, ServiceCosts, Watch
from toolkit.runs import RunWriter
from toolkit.traces import TraceInfo

CLOSE = PS // 1_000_000  # sums of seconds in another order may differ by less
IDLE_TICKS = 1_000  # ticks at which a placement may do nothing for those that wait before they are given up


@dataclass
class ClusterDriver:
    """One replay on a cluster."""

    hosting: Hosting
    controller: Controller
    placement: Placement
    feedback: Feedback
    every: int  # picoseconds between ticks; NEVER: none
    tick: int = 0
    idle_ticks: int = 0
    steps: int = 0  # taken by all engines up to the last tick
    moves: tuple[Latency, Callable[[int, int], int]] | None = None  # the core's entry, for the tables in use
    cpu_s: float = 0.0
    decisions: int = 0
    deciding_s: float = 0.0

    @classmethod
    def prepare(
        cls,
        hosting: Hosting,
        info: TraceInfo,
        scheduler: Scheduler,
        placement: Placement,
        who: str,
        *,
        closed: bool,
        jump: bool = True,
        scale: float = 1.0,
    ) -> "ClusterDriver":
        """A replay that has not begun; every step takes `scale` times its time."""
        trace = hosting.trace
        think = think_times(trace) if closed else np.full(len(trace), -1, np.int64)
        hash_tokens = info.block_tokens or 0
        blocks = setup.shared_blocks(hosting, hash_tokens)
        tables = TableBook(hosting, scale)
        costs = [hosting.costs(m, tables.first(m)) for m in range(len(hosting.replicas))]
        tell(scheduler, _together(hosting, costs))
        policy = Policy.of(scheduler, trace, think)
        span_s = float(info.span_s or 1.0)
        waits = bool((think >= 0).any())
        settings = setup.settings_of(hosting, policy, span_s, (hash_tokens, blocks[2]), jump=jump, closed=waits)
        elastic = bool(getattr(placement, "elastic", True))
        state = setup.first_state(hosting, policy, think, blocks, elastic=elastic)
        pool = setup.first_pool(hosting, think, arbitrates=bool(getattr(placement, "arbitrates", False)))
        method = _loading(placement, who) or hosting.cluster.loading
        controller = Controller(
            hosting=hosting,
            settings=settings,
            state=state,
            pool=pool,
            tables=tables,
            log=EventLog(hosting.gpu_names, [r.name for r in hosting.replicas]),
            who=who,
            method=method,
            least_kv_share=float(getattr(placement, "least_kv_share", 0.05)),
        )
        interval_s = getattr(placement, "interval_s", None)
        every = int(NEVER) if not interval_s else max(1, round(float(interval_s) * PS))
        made = cls(hosting, controller, placement, Feedback(scheduler, trace, settings[0], state), every)
        facts = facts_of(hosting, costs, method)
        made._compile()
        controller.apply(placement.begin(facts), 0, at_once=True)
        made.tick = every
        return made

    @property
    def finished(self) -> bool:
        return int(self.controller.world["done"][0]) == len(self.hosting.trace)

    def run(self, writer: RunWriter | None, watch: Watch | None, save: Callable[[], None] | None = None) -> bool:
        """Go on until the end, or until `watch` says stop. True when finished; nothing is written without a writer.

        `save` is called when it is stopped, and now and then, with all written that there is.
        """
        more, saved = True, time.monotonic()
        while more:
            stopped = watch is not None and watch.stopped()
            if writer is not None and save is not None and (stopped or time.monotonic() - saved > CHECKPOINT_EVERY_S):
                self._write(writer, at_least=1)
                save()
                saved = time.monotonic()
            if stopped:
                return False
            began = time.thread_time()
            more = self._advance(writer)
            self.cpu_s += time.thread_time() - began
            if writer is not None:
                self._write(writer, at_least=OUTCOMES_A_PART if more else 1)
            if watch is not None:
                watch.progress(int(self.controller.state.world[0].done), len(self.hosting.trace))
        return True

    def _compile(self) -> None:
        c = self.controller
        with announced():
            self._move(c.tables.stacked)(NEVER, 0)
            c.change(ROUSE, 0, 0, 0)
            c.glance()
            self.feedback.compile()

    def _advance(self, writer: RunWriter | None) -> bool:
        """Move on for a while. False when nothing is left to do."""
        c, left = self.controller, BITE
        while left > 0:
            left -= MOVES_A_QUESTION
            pause = min(self.feedback.pause, c.next_event, self.tick, HORIZON)
            why = self._move(c.tables.stacked)(pause, max(left, 1))
            if why == ASKS:
                self.feedback.order()
            elif why == MORE:
                self._empty(writer)
                return True
            elif self.finished or not self._react(why, pause):
                return False
            self._make_space(writer)
        return True

    def _move(self, tables: Latency) -> Callable[[int, int], int]:
        """Up to so many moves, none that begins at or after the first; why it stopped."""
        if self.moves is None or self.moves[0] is not tables:
            c = self.controller
            self.moves = tables, bound(advance, c.settings, tables, c.state, c.pool)
        return self.moves[1]

    def _react(self, why: int, pause: int) -> bool:
        """Do what the core stopped for. False when nothing more can happen."""
        c = self.controller
        about, now = int(c.cluster["about"][0]), int(c.cluster["when"][0])
        if why == MISSED:
            self._decide("miss", about, now)
        elif why == STUCK:
            self._stuck(about, now)
        elif why == EMPTIED:
            self._emptied(int(c.cluster["notice"][0]))
        elif why == PAUSED and pause < HORIZON:
            self._paused(pause)
        elif c.cluster["awake"][0] or c.world["released"][0] != NONE:
            raise over_long()
        else:
            return self._starved()
        self._note_starving()
        return True

    def _decide(self, why: Why, model: int, now: int) -> int:
        """Ask the placement and do what it says; how many things that were."""
        actions = self._answer(why, model, now)
        self.controller.apply(actions, now)
        return len(actions)

    def _answer(self, why: Why, model: int, now: int) -> list[Action]:
        began = time.perf_counter()
        actions = list(self.placement.decide(view_of(self.controller, now, why, model)))
        self.deciding_s += time.perf_counter() - began
        self.decisions += 1
        return actions

    def _paused(self, now: int) -> None:
        c = self.controller
        if self.feedback.pause <= now:
            self.feedback.observe()
            c.apply([], now)
        for m in c.finish_loads(now):
            self._decide("loaded", m, now)
        if self.tick <= now:
            moved = self._has_moved(now)
            acted = self._decide("tick", NONE, now)
            self.tick = now + self.every
            if not acted and self._all_rest():
                self.tick += self._left_out(now) * self.every
            waits_only = not (acted or moved or c.pending or self._next_arrival() < NEVER)
            self.idle_ticks = self.idle_ticks + 1 if waits_only else 0
            if self.idle_ticks > IDLE_TICKS:
                self._give_up_all(now)

    def _all_rest(self) -> bool:
        """Whether nobody asks for anything now, and somebody will by the trace's clock."""
        c = self.controller
        world, here = c.state.world[0], c.instances["waiting"] + c.instances["running"]
        return not c.pending and world.released == NONE and not here.any() and self._next_arrival() < NEVER

    def _next_arrival(self) -> int:
        """When the next request comes by the trace's clock."""
        world, requests = self.controller.state.world[0], self.controller.state.requests.view(np.ndarray)
        at = int(world.next_open)
        while at < len(requests) and requests["think"][at] >= 0:
            at += 1
        return int(requests["arrival"][at]) if at < len(requests) else int(NEVER)

    def _left_out(self, now: int) -> int:
        """Ticks after `now` that would change nothing: all before the placement's next, and the last before the next
        request comes, so that it has seen what is left behind.
        """
        rests = getattr(self.placement, "rests", None)
        if rests is None:
            return 0
        until_s = float(rests(view_of(self.controller, now, "tick", NONE)))
        until = min(self._next_arrival(), round(min(until_s, FAR_S) * PS) - CLOSE)
        return max(0, (until - now) // self.every - 1)

    def _has_moved(self, now: int) -> bool:
        """Whether an engine has stepped since the last tick or is in the middle of a step, or a turn is to come."""
        c, before = self.controller, self.steps
        self.steps = int(c.instances["steps"].sum())
        world = c.state.world[0]
        return self.steps > before or world.released != NONE or bool((c.instances["clock"] > now).any())

    def _emptied(self, now: int) -> None:
        c = self.controller
        c.cluster["notice"][0] = NEVER
        c.retire(now)
        if c.cluster["starving"][0]:
            self._decide("idle", NONE, now)

    def _stuck(self, e: int, now: int) -> None:
        """Nobody at an engine can go on: it waits until something is done, or the first of its queue is given up."""
        c = self.controller
        actions = self._answer("memory", int(c.engines["model"][e]), now)
        if actions and all(isinstance(action, Wait) for action in actions):
            return
        c.apply(actions, now)
        if not actions and c.instances["waiting"][e]:
            c.change(GIVE_UP, e, NO_ROOM_BESIDE, now)
        c.apply([], now)

    def _starved(self) -> bool:
        """Nothing moves, and requests wait for models that are nowhere: ask for each, then give up."""
        c = self.controller
        # All that wait have come by the last miss; engines that never ran stand at 0.
        now = max(int(c.instances["clock"].max()), int(c.cluster["when"][0]))
        for m in self._starving():
            self._decide("miss", m, now)
        if not c.pending and c.cluster["awake"][0] == 0:
            self._give_up_all(now)
        return True

    def _starving(self) -> list[int]:
        """Models that have requests and are neither on a GPU nor on their way."""
        starving: list[int] = np.flatnonzero(self._nowhere()).tolist()
        return starving

    def _note_starving(self) -> None:
        self.controller.cluster["starving"][0] = self._nowhere().any()

    def _nowhere(self) -> NDArray[np.bool_]:
        """[m] models that have requests and are neither on a GPU nor on their way."""
        c = self.controller
        at = c.models["engine"]
        nowhere: NDArray[np.bool_] = (c.engines["status"][at] == ABSENT) & (c.instances["waiting"][at] > 0)
        return nowhere

    def _give_up_all(self, now: int) -> None:
        c = self.controller
        for e in np.flatnonzero(c.instances["waiting"] > 0):
            reason = NEVER_PLACED if c.engines["status"][e] in (ABSENT, LOADING) else NO_ROOM_BESIDE
            while c.instances["waiting"][e]:
                c.change(GIVE_UP, int(e), reason, now)

    def _make_space(self, writer: RunWriter | None) -> None:
        """Keep room in the buffers for what the next decision may leave."""
        if self.controller.world["events"][0] > EVENT_ROWS // 2:
            self._empty(writer)

    def _empty(self, writer: RunWriter | None) -> None:
        if writer is not None:
            self._write(writer)
        world = self.controller.state.world[0]
        world.samples = world.events = 0

    def _write(self, writer: RunWriter, at_least: int = OUTCOMES_A_PART) -> None:
        """Empty the buffers into the run folder; outcomes once there are `at_least` new ones."""
        c = self.controller
        state, world = c.state, c.state.world[0]
        writer.append("timeline", timeline_frame(c, state.sample[: world.samples]))
        writer.append(
            "events", pl.concat([c.log.take(), preemptions_frame(c, state.event[: world.events])], how="diagonal")
        )
        world.samples = world.events = 0
        if world.done - world.written >= at_least:
            frame = outcomes_frame(self.hosting, state, state.done[world.written : world.done], self._alone())
            writer.append("outcomes", self.feedback.with_predictions(frame))
            world.written = world.done

    def _alone(self) -> list[Latency]:
        return [self.controller.tables.first(m) for m in range(len(self.hosting.replicas))]

    def summary(self) -> dict[str, Any]:
        """What run.json says of a finished replay."""
        state, c = self.controller.state, self.controller
        return {
            "requests": len(self.hosting.trace),
            "steps": int(state.instances["steps"].sum()),
            "preemptions": int(state.requests["preemptions"].sum()),
            "busy_s": float(state.instances["busy"].sum() / PS),
            "loads": c.loads,
            "decisions": self.decisions,
            "simulation_cpu_s": round(self.cpu_s, 6),
        }


def _loading(placement: Placement, who: str) -> Method | None:
    """How a placement brings weights, where it says so."""
    said = getattr(placement, "loading", None)
    if said is not None and said not in METHODS:
        raise SettingFailure(f"loads by '{said}'", where=f"placement {who}", hint=nearest(str(said), METHODS))
    method: Method | None = said
    return method


def _together(hosting: Hosting, each: Sequence[ServiceCosts]) -> ServiceCosts:
    """What service takes of each model, and of all together: the mean over requests."""
    weight = np.bincount(hosting.model_of, minlength=len(each)).astype(float)
    names = ("prefill_s_per_token", "decode_s_per_token", "step_s", "restore_s_per_token")
    mean = {n: float(np.average([getattr(c, n) for c in each], weights=weight)) for n in names}
    served = pl.DataFrame({"name": hosting.trace["model"], "m": hosting.model_of}).unique("name", keep="first")
    models = {str(name): each[m] for name, m in served.iter_rows()}
    return ServiceCosts(**mean, models=models)
