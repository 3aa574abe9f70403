"""Qwen-Bailian traces: conversations by parent pointers."""

from pathlib import Path

import loader_samples
import polars as pl

from toolkit.traces import read_trace
from workloads.loaders.qwen_bailian import _roots


def test_fields_and_conversations(tmp_path: Path) -> None:
    trace = read_trace([loader_samples.write("qwen-bailian", tmp_path)])
    frame = trace.frame.collect()
    assert (trace.info.format, trace.info.time_unit, trace.info.block_tokens) == ("qwen-bailian", "s", 16)
    assert frame["arrival_s"].to_list() == [0.0, 1.25, 2.5, 8.75, 9.25]
    assert frame["kind"].to_list() == ["text", "search", "text", "text", "image"]
    assert frame["turn"].to_list() == [1, 1, 2, 3, 2]
    assert frame["parent_id"].to_list() == [None, None, 0, 2, None]
    # the last one's parent was cut off with the start of the trace: its session bears the parent's name
    assert frame["session_id"].to_list() == ["11", "12", "11", "11", "3"]


def test_a_long_conversation_has_one_root_whatever_the_order() -> None:
    ids = list(range(1000))
    chats = pl.DataFrame({"chat_id": ids, "parent_chat_id": [-1, *ids[:-1]]}).sample(fraction=1, shuffle=True, seed=3)
    assert _roots(chats)["root"].unique().to_list() == [0]


def test_parents_in_a_circle_end_the_search() -> None:
    chats = pl.DataFrame({"chat_id": [1, 2, 3], "parent_chat_id": [2, 1, None]})
    assert _roots(chats).height == 3
