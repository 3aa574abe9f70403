"""vLLM's waiting queue, in the order of the scheduler in charge."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from replay.planning.jobs import Job
from replay.vllm.charge import Charge

Request: TypeAlias = Any  # vllm.v1.request.Request, of which only `request_id` is read


class Ranked:
    """Requests that wait, all of whom the charge has met; its line names the first. The methods are RequestQueue's."""

    def __init__(self, charge: Charge):
        self._charge = charge
        self._requests: dict[str, Request] = {}
        self._jobs: dict[str, Job] = {}  # kept here, too: the charge forgets who ends before it leaves
        self._names: dict[int, str] = {}  # by the number of the job
        self.popped: list[Request] = []  # in this step
        self._first: Request | None = None  # as it was named in this step

    def begin_step(self) -> None:
        self.popped.clear()
        self._first = None

    def rename(self) -> None:
        """The jobs are others: a replay was announced."""
        self._jobs = {name: self._charge.jobs[name] for name in self._requests}
        self._names = {job.number: name for name, job in self._jobs.items()}

    def add_request(self, request: Request) -> None:
        job = self._jobs[request.request_id] = self._charge.jobs[request.request_id]
        self._requests[request.request_id] = request
        self._names[job.number] = request.request_id
        self._charge.line.put(job, self._charge.now_s)
        self._first = None

    def peek_request(self) -> Request:
        """The first; vLLM gives memory to whom it sees here, so until somebody comes or goes it stays the first."""
        if self._first is None:
            self._first = self._head()
        return self._first

    def _head(self) -> Request:
        job = self._charge.line.head(self._charge.now_s)
        if job is None:
            raise IndexError("nobody waits")
        return self._requests[self._names[job.number]]

    def pop_request(self) -> Request:
        request = self.peek_request()
        self.remove_request(request)
        self.popped.append(request)
        return request

    def prepend_request(self, request: Request) -> None:
        self.add_request(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.add_request(request)

    def remove_request(self, request: Request) -> None:
        job = self._jobs.pop(request.request_id)
        self._charge.line.take(job)
        del self._requests[request.request_id], self._names[job.number]
        self._first = None

    def remove_requests(self, requests: Iterable[Request]) -> None:
        for request in list(requests):
            if request.request_id in self._requests:
                self.remove_request(request)

    def __bool__(self) -> bool:
        return bool(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        """As they rank, the first of each lane before the others of the next."""
        return iter([self._requests[self._names[job.number]] for job in self._charge.line])
