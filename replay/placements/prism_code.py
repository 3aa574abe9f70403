"""The policy of Prism's released prototype, which is not that of the paper (Multi-LLM/prism-research)."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from replay.placements.plan import Plan, asked_for, idle, relieve
from replay.placements.starting import above_zero, checked, not_negative, refuse_misfits, start
from toolkit.placing import Action, Facts, Floats, View

ALIKE_BYTES = 5 * 2**30  # GPUs whose free memory differs by less are as good as each other
ARBITER = "least-slack:alpha_prefill=0.00048828125,least_s=0.2,most_s=2"  # 0.5 s for 1024 prompt tokens


class PrismCode:
    """Prism's prototype: GPUs are unstable in pairs, by memory for each request; nothing happens but every `cycle_s`.

    Then: models without a request for `idle_s` are evicted, whether or not others need the room. A GPU's memory per
    request is what weights leave, over the requests waiting or running there on average over `window_s`. Two GPUs are
    unstable where one has more than `ratio` times the other's, or where one or both have no requests. One model
    migrates, of those of the GPU with the least, if not alone there, the one with fewest requests first, to the GPU
    with the most where it fits, if that has more than `ratio` times as much (all that weights leave, where it has no
    requests) and it leaves fewer unstable pairs. Models that are asked for are loaded, the most overdue first, where
    most memory is free; among GPUs within 5 GiB, where requests have most of their objective left. Its arbiter is the
    scheduler `least-slack` with the prototype's constants, ARBITER.

    Ours: a model is idle since its last request has ended, not since it came; who is overdue goes by its longest wait,
    not by the share of late requests; a request's share of the objective that is left is half of the longest wait's for
    those that wait, and all of it for those that run, a view not having them one by one; a model over several GPUs
    takes the best of those. `start` = `rate` begins with what fits by average rate, `empty` with nothing. Weights leave
    `least_kv_share` of a GPU's memory to KV.
    """

    arbitrates = True

    def __init__(
        self,
        ratio: float = 15.0,
        window_s: float = 30.0,
        idle_s: float = 50.0,
        cycle_s: float = 5.0,
        start: str = "rate",
        least_kv_share: float = 0.05,
    ):
        checked(start, "prism-code")
        above_zero("prism-code", ratio=ratio, window_s=window_s, cycle_s=cycle_s)
        not_negative("prism-code", idle_s=idle_s, least_kv_share=least_kv_share)
        self.ratio, self.window_s, self.idle_s, self.interval_s = ratio, window_s, idle_s, cycle_s
        self.start, self.least_kv_share = start, least_kv_share

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts = facts
        refuse_misfits(facts, self.least_kv_share, "prism-code")
        self.objective_s = np.nan_to_num(facts.slo_ttft_s, nan=1.0)
        self.seen: deque[tuple[float, Floats]] = deque()
        plan = Plan(facts, least_kv_share=self.least_kv_share)
        start(plan, self.start)
        return plan.actions

    def decide(self, view: View) -> Sequence[Action]:
        plan = Plan(self.facts, view, self.least_kv_share)
        if view.why == "memory":
            relieve(plan, view)
        if view.why == "tick":
            since_s = np.maximum(view.last_active_s, 0.0)
            for m in np.flatnonzero(idle(plan, view) & (view.now_s - since_s > self.idle_s)).tolist():
                plan.evict(m)
            self._migrate(plan, self._requests(view))
            self._activate(plan, view)
        return plan.actions

    def _requests(self, view: View) -> Floats:
        """[m] waiting or running, on average over the window."""
        self.seen.append((view.now_s, (view.waiting + view.running).astype(float)))
        while self.seen[0][0] < view.now_s - self.window_s:
            self.seen.popleft()
        mean: Floats = np.mean([counts for _, counts in self.seen], axis=0)
        return mean

    def _migrate(self, plan: Plan, requests: Floats) -> None:
        """Plan the first move that leaves fewer unstable pairs."""
        here = plan.here.astype(float)
        memory, before = self._memory(here, requests), self._unstable(here, requests)
        if before == 0:
            return
        order = np.argsort(memory, kind="stable").tolist()
        for low in order:
            movable = np.flatnonzero(plan.here[low] & plan.evictable & (requests > 0))
            if plan.here[low].sum() <= 1:
                continue
            for high in reversed(order[order.index(low) + 1 :]):
                if memory[high] <= self.ratio * memory[low]:
                    break
                for m in movable[np.argsort(requests[movable], kind="stable")].tolist():
                    target = self._target(plan, m, high, memory)
                    if target is None:
                        continue
                    after = here.copy()
                    after[:, m] = np.isin(np.arange(len(here)), target)
                    if self._unstable(after, requests) < before:
                        plan.migrate(m, target)
                        return

    def _target(self, plan: Plan, m: int, high: int, memory: Floats) -> tuple[int, ...] | None:
        """GPUs to move to, `high` among them."""
        fitting = plan.fits(m)
        fitting[list(plan.gpus[m])] = False
        cost = -memory.copy()
        cost[high] = -np.inf
        chosen = plan.choose(m, cost, fitting)
        return chosen if chosen is not None and high in chosen else None

    def _memory(self, here: Floats, requests: Floats) -> Floats:
        """[g] for each request; all of it where there is none."""
        left, count = np.maximum(self.facts.memory_bytes - here @ self.facts.weight_bytes, 1.0), here @ requests
        per: Floats = left / np.where(count > 0, count, 1.0)
        return per

    def _unstable(self, here: Floats, requests: Floats) -> int:
        """Pairs of GPUs."""
        memory, empty = self._memory(here, requests), here @ requests == 0
        apart = np.maximum.outer(memory, memory) > self.ratio * np.minimum.outer(memory, memory)
        return int(np.triu(apart | np.logical_or.outer(empty, empty), 1).sum())

    def _activate(self, plan: Plan, view: View) -> None:
        late = np.nan_to_num(view.now_s - view.oldest_s) / self.objective_s
        left_s = view.waiting * (self.objective_s - np.nan_to_num(view.now_s - view.oldest_s) / 2)
        left_s = left_s + view.running * self.objective_s
        for m in sorted(asked_for(view), key=lambda m: (-late[m], m)):
            requests = plan.here @ (view.waiting + view.running)
            budget = np.where(requests > 0, plan.here @ left_s / np.maximum(requests, 1), np.inf)
            free = view.free_bytes - (plan.weights - view.weight_bytes)
            chosen = plan.choose(m, _ranked(free, budget))
            if chosen is not None:
                plan.load(m, chosen)


def _ranked(free: Floats, budget: Floats) -> Floats:
    """[g] a place in line: clusters of like free memory, the most first; within each, the largest budget first."""
    order = np.argsort(-free, kind="stable")
    cluster = np.zeros(len(free))
    top, number = free[order[0]], 0
    for g in order.tolist():
        if top - free[g] > ALIKE_BYTES:
            top, number = free[g], number + 1
        cluster[g] = number
    place = np.empty(len(free))
    place[np.lexsort((-budget, cluster))] = np.arange(len(free))
    return place
