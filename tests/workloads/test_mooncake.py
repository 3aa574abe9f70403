"""Mooncake's traces, and the variants that replay tools write."""

from pathlib import Path

import loader_samples
import pytest

from toolkit.traces import Trace, read_trace


def read(content: bytes, folder: Path) -> Trace:
    path = folder / "trace.jsonl"
    path.write_bytes(content)
    return read_trace([path])


def test_the_original_form(tmp_path: Path) -> None:
    trace = read(loader_samples.mooncake(), tmp_path)
    frame = trace.frame.collect()
    assert (trace.info.format, trace.info.time_unit, trace.info.span_s) == ("mooncake", "ms", 1.5)
    assert (trace.info.block_tokens, trace.info.block_scope) == (512, "global")
    assert frame["arrival_s"].to_list() == [0.0, 1.5, 1.5]
    assert frame["prompt_tokens"].to_list() == [700, 1100, 30]
    assert frame["prefix_blocks"].to_list() == [[1, 2], [1, 3, 4], [5]]


def test_the_time_unit_can_be_overridden_delays_included(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [{"timestamp": 4, "session_id": "a", "input_length": 1}, {"session_id": "a", "delay": 3, "input_length": 1}]
    path.write_bytes(loader_samples.lines(rows))
    frame = read_trace([path], time_unit="s").frame.collect()
    assert frame["arrival_s"].to_list() == [0.0, 3.0]
    assert frame["think_s"].to_list() == [None, 3.0]


def test_turns_of_a_session_follow_each_other(tmp_path: Path) -> None:
    rows = [
        {"session_id": "a", "timestamp": 1000, "input_length": 10, "output_length": 1},
        {"session_id": "b", "timestamp": 1500, "input_length": 20, "output_length": 2},
        {"session_id": "a", "delay": 2000, "input_length": 11, "output_length": 3},
        {"session_id": "a", "delay": 500, "input_length": 12, "output_length": 4},
        {"timestamp": 9000, "input_length": 13, "output_length": 5},
    ]
    trace = read(loader_samples.lines(rows), tmp_path)
    frame = trace.frame.collect()
    assert frame["session_id"].to_list() == ["a", "b", "a", "a", None]
    assert frame["arrival_s"].to_list() == [0.0, 0.5, 2.0, 2.5, 8.0]  # a later turn's earliest
    assert frame["turn"].to_list() == [0, 0, 1, 2, None]
    assert frame["parent_id"].to_list() == [None, None, 0, 2, None]
    assert frame["think_s"].to_list() == [None, None, 2.0, 0.5, None]
    assert "earliest" in trace.info.notes[0]


def test_sessions_without_any_time_have_no_arrivals(tmp_path: Path) -> None:
    rows = [{"session_id": 7, "input_length": 10}, {"session_id": 7, "delay": 250, "input_length": 20}]
    trace = read(loader_samples.lines(rows), tmp_path)
    frame = trace.frame.collect()
    assert trace.info.span_s is None
    assert frame["arrival_s"].to_list() == [None, None]
    assert frame["session_id"].to_list() == ["7", "7"]
    assert frame["parent_id"].to_list() == [None, 0]


def test_texts_become_prompts_with_unknown_length(tmp_path: Path) -> None:
    rows = [{"timestamp": 0, "text_input": "Why?", "output_length": 4}, {"timestamp": 1, "text_input": "How?"}]
    frame = read(loader_samples.lines(rows), tmp_path).frame.collect()
    assert frame["prompt"].to_list() == ["Why?", "How?"]
    assert frame["prompt_tokens"].to_list() == [None, None]
    assert frame["output_tokens"].to_list() == [4, None]


@pytest.mark.parametrize("blocks", [[2**64 - 1, 0], []])
def test_block_hashes_use_all_64_bits(blocks: list[int], tmp_path: Path) -> None:
    row = {"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": blocks}
    assert read(loader_samples.lines([row]), tmp_path).frame.collect()["prefix_blocks"].to_list() == [blocks]
