"""How far apart two hosts' clocks are, and how sure that is, from questions and answers between them.

Of each exchange only this is used: the answer was given after it was asked for and before it came. So what is stated
is a bound and no estimate of one, however uneven the ways there and back: the true offset lies within `error_s` of
`offset_s`, as long as the clocks drift apart by less than MOST_DRIFT.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_DRIFT = 2e-4  # seconds a second; oscillators are within 1e-4, and NTP slews by as much on top


@dataclass(frozen=True)
class Exchange:
    """Asked and answered by our clock, and what theirs said in between."""

    asked_s: float
    theirs_s: float
    answered_s: float


@dataclass(frozen=True)
class Aligned:
    """At our `at_s`, their clock shows `offset_s` more, give or take `error_s`."""

    at_s: float
    offset_s: float
    error_s: float

    def theirs(self, our_s: float) -> float:
        """Their time at ours."""
        return our_s + self.offset_s

    def error_at(self, our_s: float) -> float:
        """The error at another moment: meanwhile the clocks may have drifted."""
        return self.error_s + abs(our_s - self.at_s) * MOST_DRIFT


@dataclass(frozen=True)
class Drift:
    """Seconds by which their clock gains on ours in each, and the error of that."""

    per_s: float
    error_per_s: float


def aligned(exchanges: Sequence[Exchange], at_s: float) -> Aligned:
    """The offset at our `at_s` by all exchanges: each says where it lies, and all of them must be right."""
    lows, highs = [], []
    for e in exchanges:
        drifted = MOST_DRIFT * max(abs(e.asked_s - at_s), abs(e.answered_s - at_s))
        lows.append(e.theirs_s - e.answered_s - drifted)
        highs.append(e.theirs_s - e.asked_s + drifted)
    low, high = max(lows), min(highs)
    return Aligned(at_s, (low + high) / 2, abs(high - low) / 2)


def drift(first: Aligned, last: Aligned) -> Drift | None:
    """How the clocks drifted between two moments; null where there is no time between them."""
    between_s = last.at_s - first.at_s
    if between_s <= 0:
        return None
    return Drift((last.offset_s - first.offset_s) / between_s, (last.error_s + first.error_s) / between_s)
