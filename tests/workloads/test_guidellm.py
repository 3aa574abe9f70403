"""guidellm's benchmarks report."""

import json
from pathlib import Path

import loader_samples
import pytest

from toolkit.errors import InputFailure
from toolkit.traces import read_trace


def test_a_report_is_a_trace_and_a_measured_run(tmp_path: Path) -> None:
    trace = read_trace([loader_samples.write("guidellm", tmp_path)])
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert outcomes["arrival_s"].to_list() == [0.0, 1.875, 2.875, 3.875]  # targeted start: 0.125 s before the sending
    assert outcomes["sent_s"].to_list() == [0.125, 2.0, 3.0, 4.0]
    assert outcomes["first_token_s"].to_list() == [0.375, 2.5, None, 4.25]
    assert outcomes["finish_s"].to_list() == [2.125, 5.0, None, None]
    assert outcomes["status"].to_list() == ["ok", "ok", "error", "unfinished"]
    assert outcomes["cached_tokens"].to_list() == [None, 32, None, None]
    assert outcomes["error"].to_list() == [None, None, "connection refused", None]
    frame = trace.frame.collect()
    assert frame["model"].unique().to_list() == ["some/model"]
    assert frame["kind"].unique().to_list() == ["benchmark 1: constant"]


def test_an_earlier_layout_has_its_times_beside_the_numbers(tmp_path: Path) -> None:
    request = {"start_time": 5.0, "end_time": 7.0, "first_token_time": 5.5, "prompt_tokens": 3, "output_tokens": 4}
    requests = {"successful": [request], "errored": None}
    report = {"benchmarks": [{"type_": "generative_benchmark", "args": {}, "requests": requests}]}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(report))
    outcomes = read_trace([path]).outcomes
    assert outcomes is not None
    assert outcomes.select("first_token_s", "finish_s").collect().rows() == [(0.5, 2.0)]


def test_a_report_without_requests_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"metadata": {"guidellm_version": "1"}, "benchmarks": [{"metrics": {}}]}))
    with pytest.raises(InputFailure, match=r"b\.json: no key 'requests'"):
        read_trace([path])
