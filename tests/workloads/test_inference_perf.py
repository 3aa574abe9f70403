"""inference-perf's list of requests."""

import json
from pathlib import Path
from typing import Any

import loader_samples
import pytest

from toolkit.errors import InputFailure
from toolkit.traces import read_trace


def test_a_list_of_requests_is_a_trace_and_a_measured_run(tmp_path: Path) -> None:
    trace = read_trace([loader_samples.write("inference-perf", tmp_path)])
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert outcomes["arrival_s"].to_list() == outcomes["sent_s"].to_list() == [0.0, 2.0, 4.0]
    assert outcomes["first_token_s"].to_list() == [0.5, 2.25, None]
    assert outcomes["finish_s"].to_list() == [2.0, 4.0, None]
    assert outcomes["status"].to_list() == ["ok", "ok", "timeout"]
    assert outcomes["error"].to_list() == [None, None, "ServerTimeoutError: too late"]
    assert outcomes["cached_tokens"].to_list() == [16, None, None]
    # the second reply's three tokens came in two chunks: their times are unknown
    assert outcomes["token_s"].to_list() == [[0.5, 1.0], None, None]
    frame = trace.frame.collect()
    assert frame["prompt_tokens"].to_list() == [60, 64, 64]  # the server's count where there is one
    assert frame["output_tokens"].to_list() == [2, 3, 3]
    assert frame["model"].unique().to_list() == ["some/model"]
    assert frame["adapter"].to_list() == ["poems", None, None]


def test_an_earlier_layout_has_its_numbers_in_info(tmp_path: Path) -> None:
    info = {"input_tokens": 5, "output_tokens": 2, "output_token_times": [7.5, 8.0], "extra_info": {}}
    path = tmp_path / "per_request.json"
    path.write_text(json.dumps([{"start_time": 7.0, "end_time": 8.5, "response": None, "info": info, "error": None}]))
    trace = read_trace([path])
    assert trace.outcomes is not None
    outcomes = trace.outcomes.select("first_token_s", "finish_s", "token_s").collect()
    assert outcomes.rows() == [(0.5, 1.5, [0.5, 1.0])]
    assert trace.frame.select("prompt_tokens", "output_tokens", "model").collect().rows() == [(5, 2, None)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start_time": ...}, r"item 2: no key 'start_time'"),
        ({"start_time": "x"}, r"item 2: 'start_time' or a token's time"),
        ({"end_time": "x"}, r"item 2: 'end_time' is text 'x', not a number"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    requests = loader_samples.inference_perf_requests()
    answer = requests[1]["info"]["response_metrics"]
    answer["chunk_times"] = [*answer["chunk_times"], 103.5]
    requests[1] = {name: value for name, value in {**requests[1], **changes}.items() if value is not ...}
    path = tmp_path / "per_request.json"
    path.write_text(json.dumps(requests))
    with pytest.raises(InputFailure, match=rf"per_request\.json, {said}"):
        read_trace([path])


def test_something_else_than_a_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "per_request.json"
    path.write_text(json.dumps(loader_samples.inference_perf_requests()[0]))
    with pytest.raises(InputFailure, match=r"per_request\.json: .*where a list of requests belongs"):
        read_trace([path])
