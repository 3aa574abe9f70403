"""aiperf's per-request export."""

from pathlib import Path
from typing import Any

import loader_samples
import pytest

from toolkit.errors import InputFailure
from toolkit.traces import Trace, read_trace


def read(records: list[Any], folder: Path) -> Trace:
    path = folder / "profile_export.jsonl"
    path.write_bytes(loader_samples.lines(records))
    return read_trace([path])


def test_records_are_a_trace_and_a_measured_run(tmp_path: Path) -> None:
    trace = read(loader_samples.aiperf_records(), tmp_path)
    assert trace.info.dropped == {"not in the profiling phase": 1}
    assert trace.info.epoch == "2025-10-07T05:00:07.999"
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert outcomes["arrival_s"].to_list() == [0.0, 1.001, 2.001]
    assert outcomes["sent_s"].to_list() == [0.001, 1.001, 2.001]
    assert outcomes["first_token_s"].to_list() == pytest.approx([0.251, 1.101, None])
    assert outcomes["finish_s"].to_list() == [0.301, 1.401, None]
    assert outcomes["status"].to_list() == ["ok", "ok", "cancelled"]
    assert outcomes["error"].to_list() == [None, None, "RequestCancellationError: cancelled"]
    assert outcomes["prompt_tokens"].to_list() == [55, 55, 77]
    assert outcomes["token_s"].to_list()[0] == pytest.approx([0.251, 0.271, 0.301])
    assert outcomes["token_s"].to_list()[1:] == [None, None]  # seven tokens in two chunks
    frame = trace.frame.collect()
    assert frame["parent_id"].to_list() == [None, 0, None]
    assert frame["turn"].to_list() == [0, 1, 0]


def test_units_are_read_from_the_record(tmp_path: Path) -> None:
    record = loader_samples.aiperf_records()[1]
    record["metrics"]["time_to_first_token"] = {"value": 0.25, "unit": "s"}
    assert read([record], tmp_path).frame.collect()["source_ttft_s"].to_list() == pytest.approx([0.251])
    record["metrics"]["time_to_first_token"]["unit"] = "fortnights"
    with pytest.raises(InputFailure, match="line 1: 'time_to_first_token' has the unit text 'fortnights'; known: "):
        read([record], tmp_path)


@pytest.mark.parametrize("metric", ["time_to_first_token", "inter_chunk_latency"])
@pytest.mark.parametrize("wrong", [True, "5", {}, [1]])
def test_a_time_that_is_no_number_is_told(metric: str, wrong: Any, tmp_path: Path) -> None:
    record = loader_samples.aiperf_records()[1]
    record["metrics"][metric]["value"] = [20, wrong] if metric == "inter_chunk_latency" else wrong
    with pytest.raises(InputFailure, match=f"line 1: '{metric}' is .*, not a number"):
        read([record], tmp_path)


@pytest.mark.parametrize("unit", [[], {}, 5, None])
def test_a_unit_that_is_no_text_is_told(unit: Any, tmp_path: Path) -> None:
    record = loader_samples.aiperf_records()[1]
    record["metrics"]["inter_chunk_latency"]["unit"] = unit
    with pytest.raises(InputFailure, match="line 1: 'inter_chunk_latency' has the unit "):
        read([record], tmp_path)


def test_a_timeout_is_told_from_other_errors(tmp_path: Path) -> None:
    record = loader_samples.aiperf_records()[1]
    record["error"] = {"type": "TimeoutError", "message": "late"}
    trace = read([record, {**record, "error": {"type": "Other", "message": None}}], tmp_path)
    assert trace.outcomes is not None
    assert trace.outcomes.collect()["status"].to_list() == ["timeout", "error"]
