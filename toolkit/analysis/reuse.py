"""Which blocks of prompts were used before: of prompts that follow each other, and of two such stretches together.

What an earlier prompt may have left in a cache is open until the stretch before is known: the first use of each block.
Joining two stretches settles those of the later one whose block the earlier one used.
"""

from dataclasses import astuple, dataclass, fields, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.samples import Floats, Sample
from toolkit.counted import Counted
from toolkit.grouping import Groups, grouped

Ints = NDArray[np.int64]
Places = NDArray[np.integer]


@dataclass(frozen=True)
class References:
    """Every block of every prompt in order of use; prompt p has the references `starts[p]` to `starts[p + 1]`."""

    starts: Ints
    keys: NDArray[np.uint64]
    groups: Groups

    @classmethod
    def of(cls, blocks: pl.Series, owners: NDArray[np.uint64] | None) -> "References":
        """Of the prompts' blocks; equal hashes of different `owners`, one a prompt, are different blocks."""
        lengths = blocks.list.len().cast(pl.Int64).to_numpy()
        keys = blocks.explode(empty_as_null=False).to_numpy()
        keys = keys if owners is None else keys + np.repeat(owners, lengths)
        return cls(np.concatenate([[0], np.cumsum(lengths)]), keys, grouped(keys))

    @property
    def lengths(self) -> Ints:
        return np.diff(self.starts)

    @cached_property
    def previous(self) -> Places:
        """The last reference to the same block, −1 where there is none."""
        order, again = self.groups.order, ~self.groups.first[1:]
        found = np.full(len(order), -1, dtype=order.dtype)
        found[order[1:][again]] = order[:-1][again]
        return found

    def own_repeat(self) -> Ints:
        """Where each prompt first repeats a block of its own; its length where it does not."""
        begin = np.repeat(self.starts[:-1].astype(self.previous.dtype), self.lengths)
        repeats = np.flatnonzero(self.previous >= begin)
        following = np.append(repeats, self.starts[-1])[np.searchsorted(repeats, self.starts[:-1])]
        found: Ints = np.minimum(following, self.starts[1:]) - self.starts[:-1]
        return found


@dataclass(frozen=True)
class Settled:
    """What no earlier stretch can change; a prompt lacks what its last block is short of a full one, in tokens."""

    requests: int
    blocks: int
    lacking: int
    hits_lacking: int  # of hits on last blocks
    prefix_hits: int  # hits before a prompt's first miss
    prefix_lacking: int  # of prompts that are hit as a whole
    distances: Counted  # of hits: how many distinct blocks were used since the block's last use, itself included
    ages: Sample  # of hits: seconds since the block's last use; none where an arrival is unknown
    timed: bool  # whether all arrivals are known

    def and_(self, other: "Settled") -> "Settled":
        """Both together."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.type is int}
        return Settled(
            **sums,
            distances=Counted.merged([self.distances, other.distances]),
            ages=Sample.merged([self.ages, other.ages]),
            timed=self.timed and other.timed,
        )


@dataclass(frozen=True)
class Prompts:
    """Prompts whose run of hits is open: it ends at `limit` at the latest."""

    limit: Ints
    length: Ints
    lacking: Ints

    def __getitem__(self, which: Places) -> "Prompts":
        return Prompts(self.limit[which], self.length[which], self.lacking[which])

    def and_(self, other: "Prompts") -> "Prompts":
        """Both, one after the other."""
        return Prompts(*(np.concatenate(pair) for pair in zip(astuple(self), astuple(other), strict=True)))

    def hit_to(self, end: Places) -> tuple[int, int]:
        """Hits of runs that end there, and what prompts lack that are hit as a whole."""
        return int(end.sum()), int(self.lacking[end == self.length].sum())


@dataclass(frozen=True)
class Stretch:
    """Prompts that follow each other. Arrays have an entry a block, in order of its first use, which is open."""

    settled: Settled
    exact: bool  # seconds
    key: NDArray[np.uint64]
    uses: Ints
    first_s: Floats
    last_s: Floats
    used: Places  # the blocks in order of their last use
    prompt: Places  # of `prompts`: where it is used first
    place: Places  # among the blocks of that prompt
    prompts: Prompts

    @classmethod
    def of(cls, found: References, lacking: Ints, arrival_s: Floats, *, exact: bool) -> "Stretch":
        """Of prompts, by what each lacks and when it arrived (NaN: unknown)."""
        groups, at_s = found.groups, np.repeat(arrival_s, found.lengths)
        first, last = groups.order[groups.starts[:-1]], groups.order[groups.starts[1:] - 1]
        in_order = _ascending(first, len(found.keys))
        first, last = first[in_order], last[in_order]
        prompt = np.searchsorted(found.starts, first, side="right") - 1
        undecided, of_prompt = _distinct(prompt)
        prompts = Prompts(found.own_repeat(), found.lengths, lacking)
        return cls(
            _settled(found, prompts, undecided, at_s, exact),
            exact,
            found.keys[first],
            groups.sizes[in_order].astype(np.int64),
            at_s[first],
            at_s[last],
            _ascending(last, len(found.keys)),
            of_prompt,
            first - found.starts[prompt],
            prompts[undecided],
        )

    def joined(self, later: "Stretch") -> "Stretch":
        """Both, one after the other."""
        mine, theirs = _same(self.key, later.key)
        once, new = np.ones(len(self.key), dtype=bool), np.ones(len(later.key), dtype=bool)
        once[mine], new[theirs] = False, False
        place = np.empty(len(later.key), dtype=np.int64)  # of each later block among all
        place[theirs], place[new] = mine, len(self.key) + np.arange(np.count_nonzero(new))
        undecided, of_prompt = _distinct(later.prompt[new])
        uses, last_s = self.uses.copy(), self.last_s.copy()
        uses[mine] += later.uses[theirs]
        last_s[mine] = later.last_s[theirs]
        return Stretch(
            self._settled_with(later, mine, theirs, undecided),
            self.exact,
            np.concatenate([self.key, later.key[new]]),
            np.concatenate([uses, later.uses[new]]),
            np.concatenate([self.first_s, later.first_s[new]]),
            np.concatenate([last_s, later.last_s[new]]),
            np.concatenate([self.used[once[self.used]], place[later.used]]),
            np.concatenate([self.prompt, len(self.prompts.limit) + of_prompt]),
            np.concatenate([self.place, later.place[new]]),
            self.prompts.and_(later.prompts[undecided]),
        )

    def _settled_with(self, later: "Stretch", mine: Places, theirs: Places, undecided: Places) -> Settled:
        """What is settled in either, and by their meeting: first uses of the later one whose block the other has."""
        since = np.empty(len(self.key), dtype=np.int64)
        since[self.used] = np.arange(len(self.key))
        blocks = len(self.key) + len(later.key)
        previous: Places = np.full(blocks, -1, np.int32) if blocks < 2**31 else np.full(blocks, -1, np.int64)
        previous[len(self.key) + theirs] = since[mine]
        prompt = later.prompt[theirs]
        last = later.place[theirs] == later.prompts.length[prompt] - 1
        decided = np.delete(np.arange(len(later.prompts.limit)), undecided)
        both = self.settled.and_(later.settled)
        ages_s = later.first_s[theirs] - self.last_s[mine] if both.timed else np.zeros(0)
        met = Settled(
            0, 0, 0,
            int(later.prompts.lacking[prompt[last]].sum()),
            *later.prompts[decided].hit_to(later.prompts.limit[decided]),
            _distances(previous, blocks - len(mine)),
            Sample.of(ages_s, exact=self.exact),
            True,
        )  # fmt: skip
        return both.and_(met)

    @property
    def whole(self) -> Settled:
        """Where nothing came before: what is open misses."""
        prompts, at = np.unique(self.prompt, return_index=True)
        end = np.minimum(self.prompts.limit[prompts], self.place[at])
        hits, lacking = self.prompts[prompts].hit_to(end)
        settled = self.settled
        return replace(settled, prefix_hits=settled.prefix_hits + hits, prefix_lacking=settled.prefix_lacking + lacking)


def _settled(found: References, prompts: Prompts, undecided: Places, at_s: Floats, exact: bool) -> Settled:
    """What a stretch says by itself."""
    hit, timed = found.previous >= 0, not np.isnan(at_s).any()
    decided = np.delete(np.arange(len(prompts.length)), undecided)
    return Settled(
        len(prompts.length),
        len(found.keys),
        int(prompts.lacking.sum()),
        int(prompts.lacking[hit[found.starts[1:] - 1]].sum()),
        *prompts[decided].hit_to(prompts.limit[decided]),
        _distances(found.previous, len(found.groups.sizes)),
        Sample.of(at_s[hit] - at_s[found.previous[hit]] if timed else np.zeros(0), exact=exact),
        timed,
    )


def _distances(previous: Places, distinct: int) -> Counted:
    """How often a block is used again after so many distinct ones."""
    from toolkit.analysis.stack_distances import hits_by_distance

    counts = hits_by_distance(previous, distinct)
    again = np.flatnonzero(counts[1:]) + 1
    return Counted(again.astype(np.float64), counts[again])


def _ascending(places: Places, most: int) -> Places:
    """What sorts distinct places below `most`."""
    which = np.full(most, -1, dtype=places.dtype)
    which[places] = np.arange(len(places))
    return which[which >= 0]


def _distinct(ascending: Places) -> tuple[Places, Places]:
    """Each number once, and which of them each is."""
    first = np.diff(ascending, prepend=-1) > 0
    return ascending[first], np.cumsum(first) - 1


def _same(mine: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> tuple[Places, Places]:
    """Where the same key is in either; neither has one twice."""
    groups = grouped(np.concatenate([mine, theirs]))
    again = np.flatnonzero(~groups.first)
    return groups.order[again - 1], groups.order[again] - len(mine)
