"""`trace convert --as mooncake`: what is written is read again as it was."""

from pathlib import Path

import loader_samples
import orjson
import polars as pl
import pytest
from click.testing import CliRunner, Result

from toolkit.cli import main
from toolkit.schema import TRACE, conform
from toolkit.traces import Trace, TraceInfo, read_trace, write_trace


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def stored(folder: Path, rows: list[dict], **known: object) -> Path:
    frame = conform(pl.DataFrame(rows, infer_schema_length=None).with_row_index("request_id"), TRACE, source="test")
    info = TraceInfo("t", "canonical", "0" * 64, len(rows), len(rows), **known)
    write_trace(Trace(frame.lazy(), info), folder / "t.parquet")
    return folder / "t.parquet"


def lines(path: Path) -> list[dict]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_what_was_read_is_written_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(loader_samples.mooncake())
    done = convert(source, tmp_path / "out.jsonl", "--as", "mooncake")
    assert done.exit_code == 0, done.output
    assert "note" not in done.output
    assert lines(tmp_path / "out.jsonl") == sorted(lines(source), key=lambda line: line["timestamp"])
    before, after = (read_trace([path]) for path in (source, tmp_path / "out.jsonl"))
    assert before.frame.collect().equals(after.frame.collect())
    assert (after.info.format, after.info.block_tokens) == ("mooncake", 512)


def test_smaller_blocks_are_joined_to_those_of_the_format(tmp_path: Path) -> None:
    rows = [
        {"arrival_s": 0.0, "prompt_tokens": 1100, "output_tokens": 1, "prefix_blocks": [1, 2, 3, 4, 5]},
        {"arrival_s": 1.0, "prompt_tokens": 1100, "output_tokens": 1, "prefix_blocks": [1, 2, 3, 4, 6]},
        {"arrival_s": 2.0, "prompt_tokens": 1100, "output_tokens": 1, "prefix_blocks": [1, 9, 3, 4, 5]},
    ]
    file = stored(tmp_path, rows, block_tokens=256, block_scope="global")
    assert convert(file, tmp_path / "out.jsonl", "--as", "mooncake").exit_code == 0
    assert [line["hash_ids"] for line in lines(tmp_path / "out.jsonl")] == [[0, 1, 2], [0, 1, 3], [4, 1, 2]]


def test_blocks_of_two_sessions_are_not_the_same(tmp_path: Path) -> None:
    same = {"prompt_tokens": 600, "output_tokens": 1, "prefix_blocks": [7, 8]}
    rows = [{"arrival_s": float(n), "session_id": session, **same} for n, session in enumerate("aba")]
    file = stored(tmp_path, rows, block_tokens=512, block_scope="session")
    done = convert(file, tmp_path / "out.jsonl", "--as", "mooncake")
    assert "note     left out, for the format has no place for them: session_id\n" in done.output
    assert [line["hash_ids"] for line in lines(tmp_path / "out.jsonl")] == [[0, 1], [2, 3], [0, 1]]


def test_nothing_is_left_out_in_silence(tmp_path: Path) -> None:
    rows = [
        {"arrival_s": 0.0, "prompt": "Why?", "model": "a", "slo_ttft_s": 1.0},
        {
            "arrival_s": 0.00134,
            "prompt_tokens": 5,
            "output_tokens": 2,
            "model": "b",
            "prompt": "five words are these here",
        },
    ]
    done = convert(stored(tmp_path, rows), tmp_path / "out.jsonl", "--as", "mooncake")
    assert "left out, for the format has no place for them: model, slo_ttft_s" in done.output
    assert "arrivals are rounded to the millisecond, by 0.34 ms at most" in done.output
    assert lines(tmp_path / "out.jsonl") == [
        {"timestamp": 0, "text_input": "Why?"},
        {"timestamp": 1, "input_length": 5, "output_length": 2},
    ]


@pytest.mark.parametrize(
    ("row", "known", "said"),
    [
        ({"prompt_tokens": 5}, {}, "1 requests have no arrival, which the format needs"),
        ({"arrival_s": 0.0}, {}, "1 requests have neither a prompt's length nor its text"),
        ({"arrival_s": 0.0, "prompt_tokens": 9}, {"block_tokens": 24}, "has prefix blocks of 24 tokens"),
    ],
)
def test_what_the_format_cannot_say_is_refused(row: dict, known: dict, said: str, tmp_path: Path) -> None:
    refused = convert(stored(tmp_path, [row], **known), tmp_path / "out.jsonl", "--as", "mooncake")
    assert refused.exit_code == 1
    assert said in refused.output
    assert not list(tmp_path.glob("out*"))


def test_a_name_that_is_taken_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = stored(tmp_path, [{"arrival_s": 0.0, "prompt_tokens": 9, "output_tokens": 1}])
    assert "must end in .jsonl" in convert(file, tmp_path / "out.parquet", "--as", "mooncake").output
    assert convert(file, tmp_path / "out.jsonl", "--as", "mooncake").exit_code == 0
    assert "is there already" in convert(file, tmp_path / "out.jsonl", "--as", "mooncake").output
    assert convert(file, tmp_path / "run", "--as", "mooncake", "--run").exit_code == 2
