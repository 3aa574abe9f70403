"""The first of many rungs that is good enough, by trying few of them.

A rung is a number of GPUs, or a load, the hardest first; if serving only gets easier from rung to rung, bisection finds
the first that is good enough. Whether it does is looked at around the answer: the rung after it must be good enough
too, and the second before it must not. Nothing is kept between questions but what was tried, so a search can be cut
short, and several judgements can share what they tried.
"""

from collections.abc import Mapping


def next_rung(good: Mapping[int, bool], rungs: int, *, look_around: bool = False) -> int | None:
    """The next of 0 … rungs − 1 to try, None when the first good one is known (or that there is none)."""
    if rungs - 1 not in good:
        return rungs - 1
    first = first_good(good)
    if first is None:
        return None
    if 0 not in good:
        return 0
    before = max((r for r in good if r < first), default=first)
    if first - before > 1:
        return (before + first) // 2
    return _beside(good, first, rungs) if look_around else None


def first_good(good: Mapping[int, bool]) -> int | None:
    """The first rung of those tried that is good enough."""
    return min((r for r in good if good[r]), default=None)


def _beside(good: Mapping[int, bool], first: int, rungs: int) -> int | None:
    """A rung near the answer that would show that it is not the only change."""
    return next((r for r in (first + 1, first - 2) if 0 <= r < rungs and r not in good), None)


def monotone(good: Mapping[int, bool]) -> bool:
    """Whether no rung that was tried is worse than an earlier one."""
    tried = [good[r] for r in sorted(good)]
    return tried == sorted(tried)
