"""A model's KV memory: blocks on pages of the arena, and the copies that go to the host and back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from replay.torch_engine.arena import Arena

Blocks = NDArray[np.int64]
AT_ONCE = 64 * 2**20  # bytes that a copy to or from the host takes on the device beside the arena


@dataclass(frozen=True)
class Shape:
    """What one token leaves in the cache."""

    layers: int
    heads: int
    dim: int
    dtype: Any

    @property
    def token_bytes(self) -> int:
        return int(2 * self.layers * self.heads * self.dim * self.dtype.itemsize)


class KV:
    """Blocks of `block_tokens` tokens, each with all layers' keys and values; at most `limit` of them.

    A block's number stays while its page moves. Pages that are in use already are filled before others are taken.
    """

    def __init__(self, arena: Arena, shape: Shape, block_tokens: int, limit: int | None = None):
        self.arena, self.shape, self.block_tokens, self.limit = arena, shape, block_tokens, limit
        self.block_bytes = shape.token_bytes * block_tokens
        self.per_page = arena.page_bytes // self.block_bytes
        self.held = self._unused = 0  # blocks, of pages that are held
        self._page = np.full(arena.pages, -1, np.int64)  # by number
        self._spare = list(range(arena.pages - 1, -1, -1))  # numbers without a page
        self._open: dict[int, list[int]] = {}  # blocks nobody holds, of pages that are held
        self._used: dict[int, int] = {}  # blocks held of each page
        self._view = self._strided()

    def _strided(self) -> Any:
        """The arena as [page, block, layer, key or value, token, head, dim]."""
        s, elements = self.shape, self.arena.bytes.view(self.shape.dtype)
        inner = [s.layers, 2, self.block_tokens, s.heads, s.dim]
        strides = [int(np.prod(inner[i + 1 :])) for i in range(len(inner))]
        block = self.block_bytes // s.dtype.itemsize
        page = self.arena.page_bytes // s.dtype.itemsize
        return elements.as_strided([self.arena.pages, self.per_page, *inner], [page, block, *strides])

    @property
    def pages(self) -> int:
        return len(self._used)

    @property
    def free(self) -> int:
        """Blocks that could be taken now."""
        room = self._unused + self.arena.free * self.per_page
        return room if self.limit is None else min(room, self.limit - self.held)

    @property
    def most(self) -> int:
        """Blocks that there would be if no other model had KV."""
        room = (self.arena.pages - self.arena.top) * self.per_page
        return room if self.limit is None else min(room, self.limit)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    def take(self, count: int) -> list[int]:
        """So many blocks, which must be free."""
        assert count <= self.free
        taken: list[int] = []
        while len(taken) < count:
            number = next(iter(self._open)) if self._open else self._grow()
            left = self._open[number]
            some = left[len(left) - min(len(left), count - len(taken)) :]
            del left[len(left) - len(some) :]
            if not left:
                del self._open[number]
            self._used[number] += len(some)
            taken += some
        self.held += count
        self._unused -= count
        return taken

    def _grow(self) -> int:
        number = self._spare.pop()
        self._page[number] = self.arena.take(self, number)
        first = number * self.per_page
        self._open[number], self._used[number] = list(range(first + self.per_page - 1, first - 1, -1)), 0
        self._unused += self.per_page
        return number

    def give(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            number = block // self.per_page
            self._used[number] -= 1
            self._open.setdefault(number, []).append(block)
            self._unused += 1
            if not self._used[number]:
                self._shrink(number)
        self.held -= len(blocks)

    def _shrink(self, number: int) -> None:
        del self._open[number], self._used[number]
        self._unused -= self.per_page
        self.arena.give(int(self._page[number]))
        self._page[number] = -1
        self._spare.append(number)

    def moved(self, number: int, page: int) -> None:
        self._page[number] = page

    def where(self, blocks: Blocks) -> tuple[Blocks, Blocks]:
        """(Page, place in it) of each block."""
        return self._page[blocks // self.per_page], blocks % self.per_page

    def layer(self, number: int) -> tuple[Any, Any]:
        """Keys and values of one layer as [page, block, token, head, dim]."""
        return self._view[:, :, number, 0], self._view[:, :, number, 1]

    def out(self, blocks: Sequence[int]) -> Any:
        """A copy of the blocks on the host."""
        shape = (len(blocks), *self._view.shape[2:])
        host = torch.empty(shape, dtype=self.shape.dtype, pin_memory=self.arena.device.is_gpu)
        for some, here in self._parts(blocks):
            host[some].copy_(self._view[here], non_blocking=True)
        self.arena.device.wait()
        return host

    def back(self, host: Any, blocks: Sequence[int]) -> None:
        """Put a copy into blocks."""
        for some, here in self._parts(blocks):
            self._view[here] = host[some].to(self.arena.device.at, non_blocking=True)
        self.arena.device.wait()

    def _parts(self, blocks: Sequence[int]) -> Iterator[tuple[slice, tuple[Any, Any]]]:
        """Blocks that are copied together, and where they are: long contexts are as large as what the arena left."""
        page, place = self._index(blocks)
        step = max(1, AT_ONCE // self.block_bytes)
        for begin in range(0, len(blocks), step):
            some = slice(begin, begin + step)
            yield some, (page[some], place[some])

    def _index(self, blocks: Sequence[int]) -> tuple[Any, Any]:
        page, place = self.where(np.array(blocks, np.int64))
        at = self.arena.device.at
        return torch.from_numpy(page).to(at), torch.from_numpy(place).to(at)
