"""The line that a terminal shows while it sends."""

import io
import sys

from hypothesis import given
from hypothesis import strategies as st

from replay.http.live import CLEAR, Live, line

STATE = {
    "sent": 1_234_567, "in_flight": 12_345, "waiting": 1_234, "errors": 12, "retries": 3,
    "lag_p99_s": 0.0123, "ttft_p50_s": 1.5, "ttft_p99_s": 66.5,
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.integers(20, 200))
def test_it_stays_one_line_of_the_terminal(columns):
    """What wraps is not wiped out by the next."""
    screen, usual = Terminal(), sys.stderr
    sys.stderr = screen
    try:
        with Live(9_999_999, lambda: columns) as live:
            live.show([STATE])
    finally:
        sys.stderr = usual
    shown = screen.getvalue().split(CLEAR)[1]
    assert 0 < len(shown) < columns
    assert line([STATE], 9_999_999).startswith(shown)


def test_it_says_how_far_it_is_and_how_it_goes():
    said = line([STATE, {}], 9_999_999)
    assert said.startswith("sent 1,234,567 of 9,999,999, 12,345 in flight, 1,234 waiting, 12 errors, 3 again, ")
    assert said.endswith("lag P99 12.3 ms, TTFT P50 1500.0 ms P99 66500.0 ms")
    assert "again" not in line([{**STATE, "retries": 0}], 5)
