"""vLLM's own scheduler (V1), with one of ours in charge of who runs first and who loses its place."""

import time
from collections.abc import Mapping
from typing import Any

from vllm.logger import init_logger
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import SchedulingPolicy
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from replay.planning.jobs import Job
from replay.vllm import hints
from replay.vllm.charge import Charge
from replay.vllm.waiting import Ranked
from toolkit.errors import printable

logger = init_logger(__name__)
SERVED = (RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED)


class TraceScheduler(Scheduler):
    """Plans a step once the one before has ended. Whoever vLLM preempts for memory is who ranks last, by `priority`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.policy = SchedulingPolicy.PRIORITY
        self._charge = Charge()
        self._answers: dict[str, dict[str, Any]] = {}
        self.waiting = Ranked(self._charge)

    def add_request(self, request: Request) -> None:
        if request.request_id not in self.requests:
            said = _said(request)
            if hints.SCHEDULER in said or hints.ASK in said:
                self._answers[request.request_id] = self._hear(said)
            output = request.max_tokens or 1
            came, priority = request.arrival_time, request.priority
            cached = self.kv_cache_manager.get_computed_blocks(request)[1]
            self._charge.meet(request.request_id, said, request.num_prompt_tokens, output, came, priority, cached)
        super().add_request(request)

    def _hear(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """What a replay has to say, or to ask; nothing that it says may end the engine."""
        try:
            answer = self._charge.hear(said)
        except Exception as error:
            logger.warning("A replay's announcement is refused: %s", printable(str(error)))
            return {hints.ERROR: printable(str(error))}
        self.waiting.rename()
        return answer

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        self._charge.tick()
        self.waiting.begin_step()
        if self.waiting and self._charge.rules.displace:
            self._displace()
        for request in self.running:
            request.priority = self._charge.lateness(self._job(request))
        planned = super().schedule(*args, **kwargs)
        for request in self.waiting.popped:
            if request.status == RequestStatus.RUNNING:
                self._charge.starts_to_run(self._job(request))
        return planned

    def update_from_output(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().update_from_output(*args, **kwargs)
        for request in self.running:
            self._charge.served(self._job(request), request.num_output_tokens, request.num_computed_tokens)
        return outputs

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self._charge.loses(self._job(request))
        super()._preempt_request(request, *args, **kwargs)

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """The answer to an announcement travels where vLLM tells of KV transfers."""
        job = self._job(request)
        self._charge.served(job, request.num_output_tokens, job.computed)
        self._charge.ended(request.request_id, ok=request.status in SERVED)
        transfer, other = super()._free_request(request, *args, **kwargs)
        return self._answers.pop(request.request_id, transfer), other

    def _job(self, request: Request) -> Job:
        return self._charge.jobs[request.request_id]

    def _displace(self) -> None:
        """Preempt whom those that wait rank before, as many as get a place and memory by that."""
        free = self.kv_cache_manager.block_pool.get_num_free_blocks()
        places = self.max_num_active_reqs - len(self.running)
        late = sorted(self.running, key=lambda r: self._charge.lateness(self._job(r)))
        for request in list(self.waiting)[: len(self.running)]:
            need = -(-request.num_tokens // self.block_size)
            gone: list[Request] = []
            while (places + len(gone) < 1 or free < need) and late and self._before(request, late[-1]):
                gone.append(late.pop())
                free += self._blocks(gone[-1])
            if places + len(gone) < 1 or free < need:
                return
            for victim in gone:
                self._displaced(victim)
            places, free = places + len(gone) - 1, free - need

    def _before(self, request: Request, running: Request) -> bool:
        """Whether a request that waits may take the place of one that decodes."""
        job = self._job(running)
        order = self._job(request).order + self._charge.rules.hysteresis
        return job.produced > 0 and self._charge.lateness(job) > order and self._request_blocks_can_be_freed(running)

    def _blocks(self, request: Request) -> int:
        return sum(len(ids) for ids in self.kv_cache_manager.get_block_ids(request.request_id))

    def _displaced(self, victim: Request) -> None:
        self.running.remove(victim)
        self._preempt_request(victim, time.monotonic())
        self.prev_step_scheduled_req_ids.discard(victim.request_id)


def _said(request: Request) -> Mapping[str, Any]:
    return (request.sampling_params.extra_args if request.sampling_params else None) or {}


class AsyncTraceScheduler(TraceScheduler, AsyncScheduler):
    """Plans a step while the one before runs, as vLLM does by default."""
