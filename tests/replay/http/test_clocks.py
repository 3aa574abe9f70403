"""The stated error of an alignment bounds the true one, however uneven the ways are and however the clocks drift."""

import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.http.clock_wire import ClockServer, ask
from replay.http.clocks import MOST_DRIFT, Aligned, Exchange, aligned, drift
from replay.http.verdict import BOUND, VALID, with_clocks

delays = st.floats(0, 0.05)


def exchanges(begin_s: float, offset_s: float, per_s: float, ways: list[tuple[float, float]]) -> list[Exchange]:
    """What a host whose clock gains `per_s` would answer."""
    found, now_s = [], begin_s
    for there_s, back_s in ways:
        asked_s, read_s = now_s, now_s + there_s
        now_s = read_s + back_s
        found.append(Exchange(asked_s, read_s + offset_s + per_s * read_s, now_s))
    return found


ways = st.lists(st.tuples(delays, delays), min_size=1, max_size=20)


@given(st.floats(-1e6, 1e6), st.floats(-MOST_DRIFT, MOST_DRIFT), ways, ways, st.floats(0, 600), st.floats(0, 2))
def test_the_stated_error_bounds_the_true_one(
    offset_s: float, per_s: float, first: list, later: list, after_s: float, lead_s: float
) -> None:
    rounding = 1e-8  # of doubles as large as a million seconds
    asked = exchanges(10.0, offset_s, per_s, first)
    at_s = asked[-1].answered_s + lead_s
    begin = aligned(asked, at_s)
    assert abs(begin.offset_s - (offset_s + per_s * at_s)) <= begin.error_s + rounding
    much_later_s = at_s + after_s
    assert abs(begin.theirs(much_later_s) - (much_later_s + offset_s + per_s * much_later_s)) <= (
        begin.error_at(much_later_s) + rounding
    )
    again = exchanges(much_later_s, offset_s, per_s, later)
    end = aligned(again, again[-1].answered_s)
    found = drift(begin, end)
    if found is not None:
        assert abs(found.per_s - per_s) <= found.error_per_s + rounding / (end.at_s - begin.at_s)


def test_the_quickest_exchange_decides() -> None:
    slow, quick = Exchange(0.0, 105.0, 1.0), Exchange(1.0, 105.5, 1.001)
    found = aligned([slow, quick], 1.001)
    assert found.offset_s == pytest.approx(104.4995, abs=1e-6)
    assert found.error_s == pytest.approx(0.0005, abs=3e-7)
    assert drift(found, found) is None


def test_another_clock_is_asked_over_tcp() -> None:
    server = ClockServer("127.0.0.1", lambda: time.monotonic() + 1234.5)
    found = ask(("127.0.0.1", server.port), 32)
    server.close()
    seen = aligned(found, found[-1].answered_s)
    assert len(found) == 32
    assert abs(seen.offset_s - 1234.5) <= seen.error_s < 0.05


def test_a_clock_that_hangs_up_is_an_error() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        listening.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(OSError, match=r"gone|reset|pipe"):
        ask(listening.getsockname(), 1)
    thread.join()
    listening.close()


def test_lateness_and_clocks_add_up_to_the_verdict() -> None:
    found = {"verdict": VALID, "validity": {"reasons": []}}
    clock = {"host": "a", "start_error_s": 0.001, "moved_s": -0.002, "moved_error_s": 0.001}
    judged = with_clocks(found, [{"lag_p99_s": 0.003}, {"lag_p99_s": None}], [clock, clock], 0.005)
    assert judged["verdict"] == BOUND
    assert [w["verdict"] for w in judged["validity"]["workers"]] == [BOUND, VALID]
    assert judged["validity"]["send_error_s"] == pytest.approx(0.007)
    assert judged["validity"]["reasons"] == ["send error with clocks is up to 7.0 ms, and may be 5 ms"]
    assert Aligned(0.0, 5.0, 0.1).error_at(1_000.0) == pytest.approx(0.3)
