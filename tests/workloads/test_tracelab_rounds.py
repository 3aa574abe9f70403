"""TraceLab's rounds: what the events of a session log say about arrival and end."""

import json
from pathlib import Path

import loader_samples
import pytest

from toolkit.errors import InputFailure
from toolkit.traces import read_trace


def test_a_round_lasts_from_its_last_input_to_its_last_output(tmp_path: Path) -> None:
    trace = read_trace([loader_samples.write("tracelab-rounds", tmp_path)])
    frame = trace.frame.collect()
    assert trace.outcomes is not None
    assert (trace.info.time_unit, trace.info.epoch) == ("datetime", "2026-02-03T04:05:01")
    assert frame["arrival_s"].to_list() == [0.0, 5.25]
    assert frame["source_e2e_s"].to_list() == [3.5, 1.75]
    assert frame["think_s"].to_list() == [None, 1.75]
    assert frame["parent_id"].to_list() == [None, 0]
    assert frame["kind"].to_list() == ["user_message", "tool_result"]
    outcomes = trace.outcomes.collect()
    assert outcomes["cached_tokens"].to_list() == [300, 300]
    assert outcomes["first_token_s"].null_count() == 2
    assert outcomes["status"].to_list() == ["ok", "ok"]


def test_a_round_without_input_events_has_no_arrival(tmp_path: Path) -> None:
    path = loader_samples.write("tracelab-rounds", tmp_path)
    path.write_text(path.read_text().replace('"tool_result", "timestamp"', '"unknown", "timestamp"'))
    assert read_trace([path]).info.dropped == {"no arrival time": 1}


@pytest.mark.parametrize("stamp", ["yesterday", "2026-02-03T04:05:01", 5])
def test_a_stamp_must_be_a_moment(stamp: object, tmp_path: Path) -> None:
    path = loader_samples.write("tracelab-rounds", tmp_path)
    record = json.loads(path.read_text().splitlines()[0])
    record["timing_events"][0]["timestamp"] = stamp
    path.write_text(json.dumps(record))
    with pytest.raises(InputFailure, match=r"line 1: 'timestamp' is .*(not an ISO 8601 time|names no time zone)"):
        read_trace([path])
