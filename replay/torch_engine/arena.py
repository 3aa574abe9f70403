"""One allocation on the device: weights from the bottom up without a gap, KV pages above them.

So what a load needs is always in one piece. KV pages that stand where weights come are copied to free ones further up;
when weights go, those above them slide down. Nothing else is allocated but a step's activations.
"""

import heapq
from typing import Any, Protocol

import torch

from replay.torch_engine.device import Device
from toolkit.errors import SettingFailure

PAGE_BYTES = 2 * 2**20


class Tenant(Protocol):
    """Weights in the arena."""

    first: int  # page
    pages: int

    def point(self) -> None:
        """The weights have come to stand at `first`."""
        ...


class Paged(Protocol):
    """Whoever has KV pages."""

    def moved(self, number: int, page: int) -> None:
        """Its page of that number stands elsewhere now."""
        ...


class Arena:
    """Pages of one size; `top` is the first that is not weights."""

    def __init__(self, device: Device, memory_bytes: int, page_bytes: int = PAGE_BYTES):
        self.device, self.page_bytes, self.pages, self.top = device, page_bytes, memory_bytes // page_bytes, 0
        try:
            self.bytes = torch.empty(self.pages * page_bytes, dtype=torch.uint8, device=device.at)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            have = device.free_bytes() / 2**30
            what = f"{memory_bytes / 2**30:.2f} GiB for weights and KV are not free on {device.at}, {have:.2f} GiB are"
            raise SettingFailure(what, where="--memory-gib", hint="take less") from error
        self._free = [-page for page in range(self.pages)]
        heapq.heapify(self._free)
        self._owner: dict[int, tuple[Paged, int]] = {}
        self._tenants: list[Tenant] = []

    @property
    def free(self) -> int:
        """Pages that nobody has."""
        return len(self._free)

    def pages_of(self, size: int) -> int:
        return -(-size // self.page_bytes)

    def span(self, first: int, size: int) -> Any:
        """`size` bytes from a page on."""
        return self.bytes[first * self.page_bytes : first * self.page_bytes + size]

    def take(self, owner: Paged, number: int) -> int:
        """The free page furthest up, cleared: what was there before may read as not-a-number."""
        page = -heapq.heappop(self._free)
        self.span(page, self.page_bytes).zero_()
        self._owner[page] = owner, number
        return page

    def give(self, page: int) -> None:
        del self._owner[page]
        heapq.heappush(self._free, -page)

    def settle(self, tenant: Tenant) -> None:
        """Give `tenant` its place above the other weights; as many pages must be free."""
        assert tenant.pages <= self.free
        first, self.top = self.top, self.top + tenant.pages
        self._free = [-page for page in sorted((-p for p in self._free), reverse=True) if page >= self.top]
        for page in range(first, self.top):
            if page in self._owner:
                self._move(page)
        tenant.first = first
        self._tenants.append(tenant)

    def _move(self, page: int) -> None:
        """Copy a KV page to the free page furthest up."""
        owner, number = self._owner.pop(page)
        to = -heapq.heappop(self._free)
        self.span(to, self.page_bytes).copy_(self.span(page, self.page_bytes))
        self._owner[to] = owner, number
        owner.moved(number, to)

    def leave(self, tenant: Tenant) -> None:
        """Take weights out; those above slide down."""
        at = self._tenants.index(tenant)
        del self._tenants[at]
        gap = tenant.pages
        for other in self._tenants[at:]:
            self._slide(other, other.first - gap)
        for page in range(self.top - gap, self.top):
            heapq.heappush(self._free, -page)
        self.top -= gap

    def _slide(self, tenant: Tenant, first: int) -> None:
        """Copy downwards in pieces that do not overlap."""
        step = (tenant.first - first) * self.page_bytes
        size = tenant.pages * self.page_bytes
        source, target = self.span(tenant.first, size), self.span(first, size)
        for begin in range(0, size, step):
            target[begin : begin + step].copy_(source[begin : begin + step])
        tenant.first = first
        tenant.point()
