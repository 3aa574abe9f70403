"""KV blocks: those that requests hold, and those that they have left for whoever asks again.

A full block that is computed has a name, which stands for its tokens and all before them. Requests with the same
beginning share such blocks; when nobody holds one it is kept, until the room is needed, the least recently used first.
A request leaves its last blocks first, so that what others may begin with stays longest.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from replay.planning.jobs import Job


class Pool(Protocol):
    """Blocks by number; below 0 `free` says how many too many are taken."""

    @property
    def free(self) -> int: ...
    @property
    def held(self) -> int: ...
    def take(self, count: int) -> list[int]: ...
    def give(self, blocks: Sequence[int]) -> None: ...


class Numbers:
    """So many blocks without anything in them: a pool for an engine that computes nothing."""

    def __init__(self, count: int):
        self.count, self._spare = count, list(range(count))

    @property
    def free(self) -> int:
        return len(self._spare)

    @property
    def held(self) -> int:
        return self.count - len(self._spare)

    def take(self, count: int) -> list[int]:
        taken = self._spare[len(self._spare) - count :]
        del self._spare[len(self._spare) - count :]
        return taken

    def give(self, blocks: Sequence[int]) -> None:
        self._spare += blocks


class Memory:
    """The blocks of one engine's requests. `ask` is told how many are lacking, and may get others to give way."""

    def __init__(self, pool: Pool, block_tokens: int, *, caching: bool):
        self._pool, self.block_tokens, self._caching = pool, block_tokens, caching
        self._at: dict[int, int] = {}  # block by name
        self._users: dict[int, int] = {}  # by name, of those that are held
        self._kept: OrderedDict[int, None] = OrderedDict()  # names of those that nobody holds
        self.ask: Callable[[int], None] = lambda blocks: None

    @property
    def kept(self) -> int:
        """Blocks that nobody holds, and that may yet be found."""
        return len(self._kept)

    @property
    def free(self) -> int:
        """Blocks that could be had now, the kept ones included."""
        return self._pool.free + self.kept

    @property
    def used(self) -> int:
        """Blocks that somebody holds."""
        return self._pool.held - self.kept

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    def has(self, blocks: int) -> bool:
        """Whether so many could be had, perhaps after others have given way."""
        if blocks > self.free:
            self.ask(blocks - self.free)
        return blocks <= self.free

    def missing(self, job: Job, tokens: int) -> int:
        """Blocks that a request with a place needs for so many tokens more."""
        return max(0, self.blocks_for(job.computed + tokens) - len(job.blocks))

    def needs(self, job: Job) -> int:
        """Blocks that must be free for all of a request so far to have memory."""
        need = self.blocks_for(job.prompt + job.produced)
        if job.computed:  # what comes back from the host comes back as its own
            return need
        return need - sum(name in self._users for name in job.names[: self.found(job)])

    def found(self, job: Job) -> int:
        """How many leading blocks are here for a request that waits; at least one token is left to compute."""
        if not self._caching:
            return 0
        most, count = (job.prompt + job.produced - 1) // self.block_tokens, 0
        while count < most and self._name(job, count) in self._at:
            count += 1
        return count

    def begin(self, job: Job) -> None:
        """Give a request what is here of it: its leading blocks, or room for what comes back from the host."""
        if job.computed:
            job.blocks = self._take(self.blocks_for(job.computed))
            return
        job.named = self.found(job)
        for name in job.names[: job.named]:
            self._kept.pop(name, None)
            self._users[name] = self._users.get(name, 0) + 1
        job.blocks = [self._at[name] for name in job.names[: job.named]]
        job.computed = job.named * self.block_tokens

    def grow(self, job: Job, tokens: int) -> None:
        """Room for so many tokens more, which must be there."""
        if missing := self.missing(job, tokens):
            job.blocks += self._take(missing)

    def share(self, job: Job) -> None:
        """Let others find a request's blocks that are full; not from one on that somebody else has computed, too."""
        if not self._caching:
            return
        while job.named < job.computed // self.block_tokens:
            name = self._name(job, job.named)
            if name in self._at:
                return
            self._at[name], self._users[name] = job.blocks[job.named], 1
            job.named += 1

    def freed_by(self, job: Job) -> int:
        """Blocks that `release` would free: those nobody else holds."""
        return len(job.blocks) - sum(self._users[name] > 1 for name in job.names[: job.named])

    def release(self, job: Job) -> None:
        """Take everything back; what has a name is kept."""
        self._pool.give(job.blocks[job.named :])
        for name in reversed(job.names[: job.named]):
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                self._kept[name] = None
        job.blocks, job.named = [], 0

    def drop(self) -> bool:
        """Give back the kept block that was used least recently; whether there was one."""
        if not self._kept:
            return False
        self._pool.give([self._at.pop(self._kept.popitem(last=False)[0])])
        return True

    def _take(self, count: int) -> list[int]:
        while self._pool.free < count and self.drop():
            pass
        return self._pool.take(count)

    def _name(self, job: Job, block: int) -> int:
        size = self.block_tokens
        for n in range(len(job.names), block + 1):
            before = job.names[n - 1] if n else 0
            job.names.append(hash((before, job.tokens[n * size : (n + 1) * size].tobytes())))
        return job.names[block]
