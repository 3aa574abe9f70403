"""Weka's agentic sessions: think time, sub-agents, blocks that only a session can name."""

import json
from pathlib import Path

import loader_samples
import pytest

from toolkit.errors import InputFailure
from toolkit.traces import read_trace


def write(folder: Path, name: str, **changes: object) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**loader_samples.weka_session(), "id": name, **changes}))
    return path


def test_turns_wait_for_the_turn_before_and_sub_agents_for_their_launcher(tmp_path: Path) -> None:
    trace = read_trace([write(tmp_path, "s")])
    frame = trace.frame.collect()
    assert (trace.info.format, trace.info.rows_kept, trace.info.span_s) == ("weka", 6, None)
    assert (trace.info.block_tokens, trace.info.block_scope) == (64, "session")
    assert frame["arrival_s"].null_count() == 6
    assert frame["kind"].to_list() == ["main", "Explore", "Explore", "main", "Explore", "main"]
    assert frame["model"].to_list() == ["big", "small", "small", "big", "big", "big"]
    assert frame["turn"].to_list() == [0, 0, 1, 1, 0, 2]
    assert frame["parent_id"].to_list() == [None, 0, 1, 0, 3, 3]
    # the first agent ended at 10 s after 7.5 s: it began at 2.5 s, 0.5 s after its launcher ended;
    # the second was launched at 13 s, when its launcher ended, and asked 0.5 s later
    assert frame["think_s"].to_list() == [None, 0.5, 1.0, 9.0, 0.5, 7.0]
    assert frame["source_e2e_s"].to_list() == [2.0, 2.0, 2.0, 2.0, 2.0, None]
    assert frame["source_ttft_s"].to_list() == [0.4, None, None, None, None, None]
    assert trace.outcomes is None


def test_equal_block_names_are_equal_blocks_within_a_session_only(tmp_path: Path) -> None:
    frame = read_trace([write(tmp_path, "s"), write(tmp_path, "t")]).frame.collect()
    first, second = frame.filter(session_id="s")["prefix_blocks"], frame.filter(session_id="t")["prefix_blocks"]
    assert first[0].to_list() == first[3].to_list()[:2] == first[5].to_list()[:2]
    assert not set(first.explode()) & set(second.explode())
    assert first.explode().n_unique() == 6  # 1 2 3 4 8 9


def test_blocks_are_the_same_whatever_else_is_read(tmp_path: Path) -> None:
    alone = read_trace([write(tmp_path, "t")]).frame.collect()["prefix_blocks"]
    both = read_trace([write(tmp_path, "s"), tmp_path / "t.json"]).frame.collect()
    assert both.filter(session_id="t")["prefix_blocks"].to_list() == alone.to_list()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"block_size": 128}, "'block_size' is 128, not 64"),
        ({"requests": {}}, "'requests' is an object, not a list"),
        ({"requests": [{"t": "soon"}]}, "'t' is text 'soon', not a number of seconds"),
        ({"requests": [{"t": 1, "in": 1, "model": "m"}]}, "item 1: no key 'out'"),
        ({"requests": [{"type": "subagent", "t": 3}]}, "no key 'requests'"),
        ({"requests": [5]}, "5 stands where an object belongs"),
    ],
)
def test_what_is_wrong_names_the_file(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputFailure, match=r"s\.json") as caught:
        read_trace([write(tmp_path, "s", **changes)], format="weka")
    assert said in str(caught.value)


def test_a_session_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "s")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputFailure, match=r"s\.json: not JSON \(column"):
        read_trace([path])
