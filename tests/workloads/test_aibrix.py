"""AIBrix workloads: several requests a line."""

import json
from pathlib import Path

import loader_samples
import pytest

from toolkit.errors import InputFailure
from toolkit.traces import read_trace


def test_every_request_of_a_line_is_a_row(tmp_path: Path) -> None:
    trace = read_trace([loader_samples.write("aibrix", tmp_path)])
    frame = trace.frame.collect()
    assert (trace.info.rows_read, trace.info.time_unit) == (3, "ms")
    assert frame["arrival_s"].to_list() == [0.0, 0.0, 3.979]
    assert frame["prompt_tokens"].to_list() == [5, 6, 7]
    assert frame["output_tokens"].to_list() == [2, 3, 4]
    assert frame["prompt"].to_list() == ["a", "b", "c"]


def test_the_later_spelling_of_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    request = {"prompt_length": 8, "output_length": 2, "prompt": "x", "model": "m", "session_id": 4}
    path.write_bytes(loader_samples.lines([{"timestamp": 3, "requests": [request]}]))
    frame = read_trace([path]).frame.collect()
    assert frame.select("prompt_tokens", "output_tokens", "model", "session_id").rows() == [(8, 2, "m", "4")]


def test_a_wrong_request_names_its_line_and_place(tmp_path: Path) -> None:
    path = loader_samples.write("aibrix", tmp_path)
    first = json.loads(path.read_text().splitlines()[0])
    del first["requests"][1]["Output Length"]
    path.write_bytes(loader_samples.lines([first]))
    with pytest.raises(InputFailure, match="line 1, item 2: no key 'Output Length'"):
        read_trace([path])
