"""Sessions by hand."""

import pytest


def test_turns_thinking_and_growth(ask) -> None:
    tables = ask(
        "sessions",
        arrival_s=[0.0, 1.0, 10.0, 12.0, 40.0, 50.0],
        session_id=["a", "b", "a", None, "a", "b"],
        prompt_tokens=[100, 10, 150, 7, 230, 15],
        output_tokens=[5, 6, 7, 8, 9, 10],
    )
    row = tables["summary"].row(0, named=True)
    assert (row["sessions"], row["requests"], row["max_turns"], row["turns_mean"]) == (2, 5, 3, 2.5)
    assert row["think_source"] == "arrival gap"
    assert row["think_p50_s"] == 30
    assert tables["turns"].rows() == [(2, 1, 0.5), (3, 1, 0.5)]
    assert tables["growth"]["added_p50"].to_list() == [None, 27.5, 80]
    assert tables["growth"]["prompt_p50"].to_list() == [55, 82.5, 230]


def test_measured_ends_shorten_the_wait_and_overlaps_do_not_wait(ask) -> None:
    tables = ask(
        "sessions",
        arrival_s=[0.0, 10.0, 12.0],
        session_id=["a"] * 3,
        source_e2e_s=[4.0, 5.0, 1.0],
    )
    assert tables["summary"]["think_source"][0] == "arrival − finish"
    assert tables["think"]["think_s"].unique().to_list() == [6]


def test_recorded_waits_are_taken_as_they_are(ask) -> None:
    tables = ask("sessions", session_id=["a", "a", "b"], think_s=[None, 2.0, None], turn=[1, 2, 1])
    row = tables["summary"].row(0, named=True)
    assert (row["think_source"], row["think_mean_s"]) == ("recorded", 2)
    assert row["single_turn_share"] == pytest.approx(0.5)


def test_a_session_without_times_or_lengths_still_has_turns(ask) -> None:
    tables = ask("sessions", session_id=["a", "a"])
    assert tables["summary"]["max_turns"][0] == 2
    assert tables["summary"]["think_source"][0] is None
    assert tables["growth"]["prompt_p50"].to_list() == [None, None]
