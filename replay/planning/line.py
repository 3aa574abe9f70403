"""Who waits for one model, and who of them is next."""

import heapq
from bisect import bisect_left, insort
from typing import Any

from replay.planning.jobs import INFINITE, Job
from replay.planning.rules import Rules
from replay.planning.turns import Turns
from toolkit.errors import SettingFailure

Entry = tuple[float, int, Job]


class Line:
    """Lanes of requests by rank, ties by number; or in the order that the scheduler gives when it is asked."""

    def __init__(self, rules: Rules):
        self._rules = rules
        self._lanes: list[list[Entry]] = [[] for _ in range(rules.lanes)]
        self._turns = Turns(rules.lanes, rules.cycle, rules.prompt_weight, rules.output_weight)
        self._count = 0
        self._due: list[tuple[float, int, Job]] = []
        self._asked: list[Job] | None = None  # who is next last; null once the queue has changed

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Any:
        return (job for lane in self._lanes for _, _, job in lane)

    def put(self, job: Job, now_s: float) -> None:
        rules = self._rules
        if job.start_s is None:
            self._turns.join(job.lane, self._lanes)
        since_s = now_s if rules.since_place else job.arrival_s
        job.turned = job.turned and not rules.since_place
        if job.after_s < INFINITE and not job.turned:
            job.due_s = since_s + job.after_s
            heapq.heappush(self._due, (job.due_s, job.number, job))
        self._insert(job)
        self._count += 1

    def _insert(self, job: Job) -> None:
        job.order = self._rules.waiting_rank(job)
        insort(self._lanes[job.lane], (job.order, job.number, job))
        self._asked = None

    def _remove(self, job: Job) -> None:
        lane = self._lanes[job.lane]
        del lane[bisect_left(lane, (job.order, job.number))]
        self._asked = None

    def rank_anew(self) -> None:
        """Sort again: ranks have changed."""
        for number, lane in enumerate(self._lanes):
            jobs = [job for _, _, job in lane]
            self._lanes[number] = []
            for job in jobs:
                self._insert(job)

    def head(self, now_s: float) -> Job | None:
        """Who is next."""
        if not self._count:
            return None
        self._lose_patience(now_s)
        if self._rules.order is not None:
            return self._ordered(now_s)[-1]
        return self._lanes[self._turns.next(self._lanes)][0][2]

    def take(self, job: Job) -> None:
        """It gets a place, or ends."""
        asked = self._asked
        self._turns.take(job.lane, job.prompt if job.start_s is None else 0, self._lanes)
        self._remove(job)
        if asked and asked[-1] is job:
            self._asked = asked[:-1] or None  # the others stand as they were told
        self._count -= 1
        if self._rules.since_place:
            job.due_s = INFINITE

    def served(self, job: Job, tokens: int) -> None:
        """A request has produced tokens."""
        self._turns.served(job.lane, tokens)

    def _ordered(self, now_s: float) -> list[Job]:
        if self._asked is None:
            jobs = [job for _, _, job in self._lanes[0]]
            window = min(self._rules.window or len(jobs), len(jobs))
            assert self._rules.order is not None
            answer = list(self._rules.order(jobs[:window], now_s))
            if sorted(answer) != list(range(window)):
                raise SettingFailure(f"order() gave no permutation of {window} requests", where="--scheduler")
            self._asked = [*(jobs[n] for n in answer), *jobs[window:]][::-1]
        return self._asked

    def _lose_patience(self, now_s: float) -> None:
        while self._due and self._due[0][0] <= now_s:
            due_s, _, job = heapq.heappop(self._due)
            if job.due_s == due_s and not job.turned and job.status is None and self._waits(job):
                self._remove(job)
                job.turned = True
                self._insert(job)

    def _waits(self, job: Job) -> bool:
        lane = self._lanes[job.lane]
        at = bisect_left(lane, (job.order, job.number))
        return at < len(lane) and lane[at][2] is job
