"""What every loader of JSON does with lines that are odd, wrong or cut off."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import Failure, InputFailure, SettingFailure
from toolkit.traces import read_trace
from workloads import records
from workloads.fields import BLOCKS, NAME, TEXT, TOKENS, optional
from workloads.outline import outline
from workloads.records import Batch, line_frame

GOOD = {"timestamp": 0, "input_length": 600, "output_length": 2, "hash_ids": [1, 2]}


def line(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode() + b"\n"


def trace_of(content: bytes, folder: Path, format: str | None = None) -> Any:
    path = folder / "trace.jsonl"
    path.write_bytes(content)
    return read_trace([path], format=format)


def failure(content: bytes, folder: Path, format: str | None = "mooncake") -> str:
    with pytest.raises(Failure) as caught:
        trace_of(content, folder, format).frame.collect()
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(folder), "")


def test_blank_lines_and_a_truncated_last_line_are_dropped_with_their_reasons(tmp_path: Path) -> None:
    trace = trace_of(line() + b"\n  \r\n" + line(timestamp=5) + line(timestamp=9)[:-9], tmp_path)
    assert (trace.info.rows_read, trace.info.rows_kept) == (5, 2)
    assert trace.info.dropped == {"blank line": 2, "truncated last line": 1}


def test_a_last_line_without_newline_is_whole(tmp_path: Path) -> None:
    assert trace_of(line() + line(timestamp=5).rstrip(), tmp_path).info.rows_kept == 2


def test_a_byte_order_mark_and_crlf_are_no_part_of_the_data(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + (line() + line(timestamp=1500)).replace(b"\n", b"\r\n")
    trace = trace_of(content, tmp_path)
    assert trace.info.dropped == {}
    assert trace.frame.collect()["arrival_s"].to_list() == [0.0, 1.5]


def test_times_that_are_no_numbers_are_dropped(tmp_path: Path) -> None:
    content = line() + line(timestamp=float("nan")) + line(timestamp=None) + line(timestamp=float("inf"))
    assert trace_of(content, tmp_path).info.dropped == {"no arrival time": 3}


def test_times_out_of_order_are_sorted_and_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    trace = trace_of(line(timestamp=9, input_length=1) + line(input_length=2) + line(input_length=3), tmp_path)
    assert trace.info.sorted is False
    assert trace.frame.collect()["prompt_tokens"].to_list() == [2, 3, 1]


def test_counts_that_cannot_be_are_dropped(tmp_path: Path) -> None:
    dropped = trace_of(line() + line(input_length=-1) + line(output_length=2**31), tmp_path).info.dropped
    assert dropped == {"negative tokens": 1, "impossible tokens": 1}


def test_zero_tokens_are_kept_and_null_stays_unknown(tmp_path: Path) -> None:
    frame = trace_of(line(output_length=0) + line(output_length=None, hash_ids=None), tmp_path).frame.collect()
    assert frame["output_tokens"].to_list() == [0, None]
    assert frame["prefix_blocks"].to_list() == [[1, 2], None]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"input_length": "many"}, "line 2: 'input_length' is text 'many', not a whole number"),
        ({"input_length": 2.5}, "line 2: 'input_length' is 2.5, not a whole number"),
        ({"input_length": 2**80}, "line 2: 'input_length' is 1208925819614629174706176, not a whole number"),
        ({"input_length": True}, "line 2: 'input_length' is True, not a whole number"),
        ({"input_length": {}}, "line 2: 'input_length' is an object, not a whole number"),
        ({"timestamp": "noon"}, "line 2: 'timestamp' is text 'noon', not a number"),
        ({"hash_ids": [1, "a"]}, "line 2: 'hash_ids' is a list with text 'a', not a list of whole numbers from 0"),
        ({"hash_ids": 7}, "line 2: 'hash_ids' is 7, not a list of whole numbers from 0"),
        ({"hash_ids": [-1]}, "line 2: 'hash_ids' is a list, not a list of whole numbers from 0"),
    ],
)
def test_a_wrong_type_names_line_and_key(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert failure(line() + line(**wrong), tmp_path).startswith(f"/trace.jsonl, {said}")


def test_a_missing_key_names_the_nearest_one(tmp_path: Path) -> None:
    other = {"timestamp": 1, "input_lenght": 2, "output_length": 3, "hash_ids": []}
    said = failure(line() + json.dumps(other).encode(), tmp_path)
    assert said == "/trace.jsonl, line 2: no key 'input_length'; did you mean 'input_lenght'?"


def test_a_whole_number_written_with_a_point_is_a_whole_number(tmp_path: Path) -> None:
    assert trace_of(line(input_length=512.0), tmp_path).frame.collect()["prompt_tokens"].to_list() == [512]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "/trace.jsonl: the file is empty"),
        (b"PK\x03\x04\0\0\0\0" * 9, "/trace.jsonl: the file is binary, not JSON"),
        (line() + b"{broken}\n" + line(), "/trace.jsonl, line 2: not JSON (column 2"),
        (line() + b"[1, 2]\n", "/trace.jsonl, line 2: a list stands where an object belongs"),
        (b"hello\n" + line(), "/trace.jsonl, line 1: not JSON"),
        (b'{"timestamp": 1', "/trace.jsonl, line 1: not JSON"),
        (b"\n\n", "trace: none of 2 rows can be used (2 blank line)"),
    ],
)
def test_a_file_that_is_no_such_file_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    assert failure(content, tmp_path).startswith(said)


def test_an_empty_or_binary_file_is_refused_without_a_format_too(tmp_path: Path) -> None:
    assert failure(b"", tmp_path, format=None).startswith("/trace.jsonl: the file is empty")
    assert "binary" in failure(b"\x7fELF\0\0\0" * 99, tmp_path, format=None)


def test_control_characters_of_a_record_do_not_reach_the_terminal(tmp_path: Path) -> None:
    assert "\x1b" not in failure(line() + line(input_length="\x1b[31mred"), tmp_path)


def test_a_ten_megabyte_line_is_read(tmp_path: Path) -> None:
    long = {"timestamp": 1, "session_id": "s", "input_length": 9, "output_length": 1, "text_input": "word " * 2_000_000}
    content = (
        b'{"timestamp": 0, "session_id": "r", "input_length": 4, "output_length": 2}\n' + json.dumps(long).encode()
    )
    frame = trace_of(content, tmp_path).frame.collect()
    assert frame["prompt"].str.len_bytes().to_list() == [None, 10_000_000]


def test_names_that_are_fixed_cannot_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(line())
    with pytest.raises(SettingFailure, match="--map: this format's names are fixed"):
        read_trace([path], format="mooncake", columns={"prompt_tokens": "x"})


def test_several_files_are_one_trace_and_lines_are_counted_in_each(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line() + line(timestamp=1))
    (tmp_path / "b.jsonl").write_bytes(line(timestamp=2) + line(input_length="x"))
    with pytest.raises(InputFailure, match=r"b\.jsonl, line 2: 'input_length'"):
        read_trace([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    (tmp_path / "b.jsonl").write_bytes(line(timestamp=2))
    assert read_trace([str(tmp_path / "*.jsonl")]).info.rows_kept == 3


FIELDS = {"size": TOKENS, "name": optional(TEXT), "key": optional(NAME), "blocks": optional(BLOCKS)}
SIZES = st.one_of(st.integers(0, 2**31 - 1), st.none(), st.integers(0, 9).map(float))
NAMES = st.one_of(st.none(), st.text(max_size=5))
LISTS = st.one_of(st.none(), st.lists(st.integers(0, 2**64 - 1), max_size=4))
KEYS = st.one_of(NAMES, st.integers(-9, 9))
RECORDS = st.fixed_dictionaries(
    {"size": SIZES}, optional={"name": NAMES, "key": KEYS, "blocks": LISTS, "other": st.booleans()}
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(RECORDS, st.just("")), min_size=1, max_size=9))
def test_lines_parsed_together_and_one_by_one_give_the_same(rows: list[Any]) -> None:
    texts = [b"\n" if row == "" else json.dumps(row).encode() + b"\n" for row in rows]
    batch = Batch(Path("x"), 1, texts, ends_file=True)
    together, singly = records._flat_frame(batch, FIELDS), records._line_frame(batch, FIELDS, None)
    assert together.equals(singly)
    assert together["drop_reason"].null_count() == sum(row != "" for row in rows)


@pytest.mark.parametrize("value", [True, 5, 2.5, [1], {"a": 1}])
@pytest.mark.parametrize("key", ["name", "key"])
def test_no_other_type_passes_for_text(key: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"size": 1, key: "5"}) + "\n" + json.dumps({"size": 1, key: value}))
    if (key, value) == ("key", 5) and value is not True:
        assert line_frame([path], FIELDS).collect()["key"].to_list() == ["5", "5"]
    else:
        with pytest.raises(InputFailure, match=f"line 2: '{key}' is "):
            line_frame([path], FIELDS).collect()


@pytest.mark.parametrize("key", ["size", "name", "key", "blocks"])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_costs_nothing(key: str, opening: bytes, closing: bytes, tmp_path: Path) -> None:
    deep = opening * 1000 + b"1" + closing * 1000
    path = tmp_path / "x.jsonl"
    size = b"" if key == "size" else b'"size": 1, '
    path.write_bytes(b"{" + size + b'"' + key.encode() + b'": ' + deep + b"}\n")
    with pytest.raises(InputFailure, match=f"line 1: '{key}' is a"):
        line_frame([path], FIELDS).collect()


def test_only_wanted_columns_are_built_and_a_limit_stops_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"size": 1, "blocks": [1]}\n' * 50)
    frame = line_frame([path], FIELDS)
    assert frame.select("name").collect().height == 50
    assert frame.head(3).collect()["size"].to_list() == [1, 1, 1]
    assert frame.filter(pl.col("size") > 1).collect().height == 0


def test_batches_hold_whole_lines_and_count_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BATCH_BYTES", 64)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(b'{"size": %d}\n' % n for n in range(100)) + b'{"size": "x"}\n')
    found = list(records.batches([path]))
    assert [batch.first_line for batch in found][:2] == [1, 1 + len(found[0].lines)]
    assert [batch.ends_file for batch in found] == [False] * (len(found) - 1) + [True]
    with pytest.raises(InputFailure, match="line 101: 'size' is text 'x'"):
        line_frame([path], FIELDS).collect()


@pytest.mark.parametrize(
    ("head", "keys"),
    [
        (b'{"a": {"b": [{"c": 1}, {"d": [1, 2', {"a", "a.b", "a.b.c", "a.b.d"}),
        (b'{"a": 1}\n{"b": "x{\\"y\\": 2}"}', {"a", "b"}),
        (b'{"a": "cut {"', {"a"}),
        (b'{"a": "' + b'\\"' * 30_000 + b"\\", {"a"}),
        (b'{"a": ' + b"[1," * 20_000, {"a"}),
        (b'{"a": [1, 2], "b": [[3], ["x"]], "c": {}}', {"a", "b", "c"}),
        (b"a,b,c\n1,2,3", set()),
        (b"[1, 2]", set()),
        (b"", set()),
    ],
)
def test_an_outline_has_the_paths_of_all_keys(head: bytes, keys: set[str]) -> None:
    assert outline(head) == keys
