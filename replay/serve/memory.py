"""KV blocks of the served engine: some held alone, some shared by their hash, some kept for whoever asks again."""

from collections import OrderedDict
from collections.abc import Sequence

from replay.serve.jobs import Job


class Memory:
    """So many blocks. Those of ended requests stay until the room is needed, the least recently used going first."""

    def __init__(self, blocks: int, block_tokens: int, *, caching: bool = True):
        self.blocks, self.block_tokens, self._caching = blocks, block_tokens, caching
        self._own = 0
        self._users: dict[int, int] = {}  # of shared blocks that are in use
        self._kept: OrderedDict[int, None] = OrderedDict()

    @property
    def used(self) -> int:
        """Blocks that somebody holds."""
        return self._own + len(self._users)

    def find(self, hashes: Sequence[int]) -> int:
        """How many leading blocks are here."""
        if not self._caching:
            return 0
        return next((n for n, h in enumerate(hashes) if h not in self._users and h not in self._kept), len(hashes))

    def begin(self, job: Job) -> None:
        """Give `job` the leading blocks of its prompt that are here; at least one token is left to compute."""
        found = self.find(job.blocks[: (job.prompt + job.produced - 1) // self.block_tokens])
        job.shared = job.blocks[:found]
        for block in job.shared:
            self._kept.pop(block, None)
            self._users[block] = self._users.get(block, 0) + 1
        job.computed = found * self.block_tokens

    def grow(self, job: Job, tokens: int) -> bool:
        """Make room for `tokens` more of `job`'s KV; false, and nothing changed, where there is none."""
        need = -(-(job.computed + tokens) // self.block_tokens) - len(job.shared) - job.own
        if need <= 0:
            return True
        if self.used + need > self.blocks:
            return False
        self._own += need
        job.own += need
        while self.used + len(self._kept) > self.blocks:
            self._kept.popitem(last=False)
        return True

    def share(self, job: Job) -> None:
        """Name the prompt's full blocks, so that others find them."""
        if not self._caching:
            return
        for block in job.blocks[len(job.shared) : min(job.computed, job.prompt) // self.block_tokens]:
            self._kept.pop(block, None)
            self._users[block] = self._users.get(block, 0) + 1
            job.shared.append(block)
            job.own -= 1
            self._own -= 1

    def release(self, job: Job) -> None:
        """Take everything back; what has a name is kept."""
        for block in reversed(job.shared):
            self._users[block] -= 1
            if not self._users[block]:
                del self._users[block]
                self._kept[block] = None
        self._own -= job.own
        job.shared, job.own, job.computed = [], 0, 0
