"""vLLM's bench serve results."""

import json
from pathlib import Path
from typing import Any

import loader_samples
import pytest

from toolkit.errors import InputFailure
from toolkit.traces import Trace, read_trace


def read(folder: Path, **changes: Any) -> Trace:
    path = folder / "result.json"
    result = {**loader_samples.vllm_bench_result(), **changes}
    path.write_text(json.dumps({name: value for name, value in result.items() if value is not ...}))
    return read_trace([path])


def test_a_result_is_a_trace_and_a_measured_run(tmp_path: Path) -> None:
    trace = read(tmp_path)
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert trace.frame.collect()["model"].to_list() == ["some/model"] * 3
    assert outcomes["arrival_s"].to_list() == [0.0, 1.5, 2.0]
    assert outcomes["first_token_s"].to_list() == [0.5, 1.75, None]
    assert outcomes["finish_s"].to_list() == [0.875, 2.25, None]
    assert outcomes["status"].to_list() == ["ok", "ok", "error"]
    assert outcomes["error"].to_list() == [None, None, "Bad Gateway"]
    # the second reply's four tokens came in two chunks: their times are unknown
    assert outcomes["token_s"].to_list() == [[0.5, 0.625, 0.875], None, None]


def test_what_a_request_waited_inside_the_client_counts(tmp_path: Path) -> None:
    trace = read(tmp_path, queue_times=[0.0, 0.5, 0.0])
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert outcomes["arrival_s"].to_list() == [0.0, 1.0, 2.0]
    assert outcomes["sent_s"].to_list() == [0.0, 1.5, 2.0]
    assert outcomes["first_token_s"].to_list() == [0.5, 1.75, None]
    assert outcomes["token_s"].to_list() == [[0.5, 0.625, 0.875], None, None]
    late = read(tmp_path, queue_times=[0.25, 0.5, 0.0]).outcomes
    assert late is not None
    assert late.collect()["token_s"].to_list()[0] == [0.75, 0.875, 1.125]


def test_without_start_times_there_are_latencies_but_no_arrivals(tmp_path: Path) -> None:
    trace = read(tmp_path, start_times=...)
    frame = trace.frame.collect()
    assert trace.outcomes is None
    assert frame["arrival_s"].null_count() == 3
    assert frame["source_ttft_s"].to_list() == [0.5, 0.25, None]
    assert frame["source_e2e_s"].to_list() == [0.875, 0.75, None]
    assert "no start_times" in trace.info.notes[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ttfts": ..., "itls": ...}, "no key 'ttfts'; save it with --save-detailed"),
        ({"ttfts": [0.5]}, "arrays of different lengths"),
        ({"ttfts": 0.5}, "'ttfts' is 0.5, not a list"),
        ({"ttfts": ["x", 1, 2]}, "'ttfts' or 'itls' holds something that is no number"),
        ({"queue_times": [0.5]}, "arrays of different lengths"),
        ({"queue_times": [0, 0, "x"]}, "item 3: 'queue_times' is text 'x'"),
        ({"input_lens": [1, 2, "x"]}, "item 3: 'input_lens' is text 'x'"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputFailure, match=r"result\.json") as caught:
        read(tmp_path, **changes)
    assert said in str(caught.value)
