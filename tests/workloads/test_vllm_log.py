"""vLLM engine logs: two clocks become one."""

import json
from pathlib import Path

import loader_samples

from toolkit.traces import read_trace


def test_the_quickest_way_into_the_queue_counts_as_no_time(tmp_path: Path) -> None:
    trace = read_trace([loader_samples.write("vllm-log", tmp_path)])
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    # queued - arrival is 50.5 - T and 50.25 - T: the second request sets the offset
    assert outcomes["arrival_s"].to_list() == [0.0, 2.0]
    assert outcomes["start_s"].to_list() == [0.75, 2.0]
    assert outcomes["first_token_s"].to_list() == [1.25, 2.25]
    assert outcomes["finish_s"].to_list() == [2.75, 3.75]
    assert "aligned by the smallest queued_ts - arrival_time" in trace.info.notes[0]


def test_the_engines_limits_come_from_the_file_beside(tmp_path: Path) -> None:
    meta = {
        "model": "some/model",
        "vllm_version": "0.19.0",
        "engine_kwargs": {"max_num_seqs": 64, "max_model_len": None},
        "kv_cache": {"num_gpu_blocks": 99},
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    trace = read_trace([loader_samples.write("vllm-log", tmp_path)])
    assert trace.outcomes is not None
    assert trace.info.notes[1] == "engine limits: max_num_seqs=64, num_gpu_blocks=99"
    assert trace.outcomes.collect()["engine"].unique().to_list() == ["vllm 0.19.0"]
    assert trace.frame.collect()["model"].unique().to_list() == ["some/model"]


def test_a_request_without_an_end_is_unfinished(tmp_path: Path) -> None:
    path = loader_samples.write("vllm-log", tmp_path)
    path.write_text(path.read_text().replace("54.0", "null"))
    trace = read_trace([path])
    assert trace.outcomes is not None
    assert trace.outcomes.collect()["status"].to_list() == ["ok", "unfinished"]
