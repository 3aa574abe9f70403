"""Every way a CSV goes wrong has one defined behaviour: a reason a row was dropped for, or a line that says where."""

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.errors import InputFailure
from toolkit.traces import Trace, read_trace

HEADER = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
ROWS = ("5,ChatGPT,472,18,490,Conversation log", "45,GPT-4,1087,230,1317,API log", "118,ChatGPT,417,276,693,API log")

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write lines (or bytes) as a CSV file and return its path."""

    def write(*lines: str, content: bytes | None = None, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if content is not None else "\n".join((HEADER, *lines, "")).encode())
        return path

    return write


def read(path: Path, **options) -> Trace:
    trace = read_trace([path], **options)
    info = trace.info
    assert info.rows_read == info.rows_kept + sum(info.dropped.values())
    assert trace.frame.collect().height == info.rows_kept
    return trace


def arrivals(trace: Trace) -> list[float]:
    return trace.frame.collect()["arrival_s"].to_list()


def test_clean_rows_are_all_kept(write: Write):
    trace = read(write(*ROWS))
    assert trace.info.dropped == {}
    assert (trace.info.rows_read, trace.info.span_s, trace.info.sorted, trace.info.duplicates) == (3, 113.0, True, 0)
    assert arrivals(trace) == [0.0, 40.0, 113.0]


def test_blank_lines_are_dropped_with_their_reason(write: Write):
    trace = read(write(ROWS[0], "", ROWS[1], "   ", ROWS[2], ""))
    assert trace.info.dropped == {"blank line": 3}
    assert arrivals(trace) == [0.0, 40.0, 113.0]


@pytest.mark.parametrize("missing", ["", "NaN", "nan", "null", "inf"])
def test_rows_without_a_time_are_dropped_with_their_reason(write: Write, missing: str):
    trace = read(write(ROWS[0], f"{missing},ChatGPT,1,1,2,API log", ROWS[1]))
    assert trace.info.dropped == {"no arrival time": 1}
    assert arrivals(trace) == [0.0, 40.0]


def test_a_missing_count_is_null_even_when_it_is_written_as_nan(write: Write):
    trace = read(write(ROWS[0], "6,ChatGPT,NaN,,2,API log", "7,ChatGPT,12.0,3,15,API log"))
    frame = trace.frame.collect()
    assert frame["prompt_tokens"].to_list() == [472, None, 12]
    assert frame["output_tokens"].to_list() == [18, None, 3]


def test_rows_out_of_order_are_sorted_and_said_to_be(write: Write):
    trace = read(write(ROWS[1], ROWS[2], ROWS[0], "45,later,7,7,14,API log"))
    frame = trace.frame.collect()
    assert trace.info.sorted is False
    assert frame["arrival_s"].to_list() == [0.0, 40.0, 40.0, 113.0]
    assert frame["model"].to_list() == ["ChatGPT", "GPT-4", "later", "ChatGPT"]  # ties in source order
    assert frame["request_id"].to_list() == [0, 1, 2, 3]


def test_zero_tokens_are_kept(write: Write):
    frame = read(write(ROWS[0], "6,ChatGPT,0,0,0,API log")).frame.collect()
    assert frame["prompt_tokens"].to_list() == [472, 0]
    assert frame["source_status"].to_list() == ["ok", "failed"]


@pytest.mark.parametrize("order", [(0, 0, 1, 1, 1, 2), (2, 0, 1, 0, 1, 1)])
def test_duplicate_rows_are_kept_and_counted(write: Write, order: tuple[int, ...]):
    trace = read(write(*(ROWS[i] for i in order)))
    assert (trace.info.rows_kept, trace.info.duplicates) == (6, 3)


@pytest.mark.parametrize(("cell", "reason"), [("-5", "negative tokens"), ("99999999999", "impossible tokens")])
def test_impossible_counts_are_dropped_with_their_reason(write: Write, cell: str, reason: str):
    trace = read(write(ROWS[0], f"6,ChatGPT,{cell},1,1,API log"))
    assert trace.info.dropped == {reason: 1}


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(write: Write):
    plain = read(write(*ROWS)).frame.collect()
    content = b"\xef\xbb\xbf" + "\r\n".join((HEADER, *ROWS, "")).encode()
    assert read(write(content=content)).frame.collect().equals(plain)


@pytest.mark.parametrize("cut", ["6,Chat", "6,ChatGPT,47", "6,ChatGPT,47,"])
def test_a_truncated_last_line_is_dropped_with_its_reason(write: Write, cut: str):
    trace = read(write(content="\n".join((HEADER, *ROWS, cut)).encode()))
    assert trace.info.dropped == {"truncated last line": 1}
    assert arrivals(trace) == [0.0, 40.0, 113.0]


def test_a_truncated_last_line_is_found_beside_other_trouble(write: Write):
    lines = (HEADER, ROWS[0], "", "NaN,x,NaN,1,1,API log", ROWS[1], "6,Chat")
    trace = read(write(content="\n".join(lines).encode()))
    assert trace.info.dropped == {"blank line": 1, "no arrival time": 1, "truncated last line": 1}


def test_a_last_line_without_a_newline_is_whole(write: Write):
    assert read(write(content="\n".join((HEADER, *ROWS)).encode())).info.rows_kept == 3


def test_a_missing_column_names_the_nearest(write: Write):
    path = write(content=(b"Timestamp,Model,Request token,Response tokens,Log Type\n1,a,1,1,x\n"))
    with pytest.raises(InputFailure, match=r"trace.csv: no column 'Request tokens'; did you mean 'Request token'\?"):
        read_trace([path], format="burstgpt")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("soon,a,1,1,2,x", r"line 4, column 'Timestamp': 'soon' is not a number"),
        ("6,a,many,1,2,x", r"line 4, column 'Request tokens': 'many' is not a whole number"),
        ("6,a,1.5,1,2,x", r"line 4, column 'Request tokens': '1.5' is not a whole number"),
        ("6,a,1,1,2,x,y", r"line 4: has 7 fields where the header has 6"),
    ],
)
def test_a_cell_of_the_wrong_type_is_named_with_file_line_and_column(write: Write, cell: str, said: str):
    with pytest.raises(InputFailure, match=r"trace\.csv, " + said):
        read_trace([write(ROWS[0], "", cell, ROWS[1])])


def test_the_line_of_a_bad_cell_counts_lines_inside_quotes(write: Write):
    with pytest.raises(InputFailure, match="line 4, column 'Timestamp'"):
        read_trace([write('5,"two\nlines",1,1,2,x', "bad,a,1,1,2,x")])


def test_control_characters_of_a_bad_cell_cannot_reach_the_terminal(write: Write):
    with pytest.raises(InputFailure) as failure:
        read_trace([write("\x1b[31mred,a,1,1,2,x")])
    assert "\x1b" not in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_stamp_of_the_wrong_type_is_named(tmp_path: Path):
    path = tmp_path / "azure.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\nyesterday,1,1\n")
    with pytest.raises(InputFailure, match="line 3, column 'TIMESTAMP': 'yesterday' is not a date and time"):
        read_trace([path])


def test_an_empty_file_and_a_header_alone_are_refused(write: Write):
    with pytest.raises(InputFailure, match=r"trace\.csv: the file is empty"):
        read_trace([write(content=b"")])
    with pytest.raises(InputFailure, match="it holds no rows"):
        read_trace([write()])


def test_a_file_of_which_no_row_is_usable_says_why(write: Write):
    with pytest.raises(InputFailure, match=r"none of 2 rows can be used \(1 blank line, 1 no arrival time\)"):
        read_trace([write("", ",a,1,1,2,x")])


def test_a_binary_file_is_refused(write: Write):
    path = write(content=bytes(range(256)) * 300)
    with pytest.raises(InputFailure, match=r"no known trace format \(a binary file\)"):
        read_trace([path])
    with pytest.raises(InputFailure, match="it is a binary file, not a table"):
        read_trace([path], format="burstgpt")


def test_a_single_line_of_ten_megabytes_is_refused(write: Write):
    path = write(content=b"x" * 10_000_000)
    with pytest.raises(InputFailure, match="its first line is longer than 65,536 bytes"):
        read_trace([path])
    with pytest.raises(InputFailure, match="line 1: its first line is longer than 1,048,576 bytes"):
        read_trace([path], format="azure-llm")


def test_a_cell_of_ten_megabytes_is_read_or_named_shortly(write: Write):
    long = "m" * 10_000_000
    assert read(write(ROWS[0], f"6,{long},1,1,2,x")).frame.collect()["model"][1] == long
    with pytest.raises(InputFailure, match="line 3, column 'Timestamp'") as failure:
        read_trace([write(ROWS[0], f"{long},a,1,1,2,x")])
    assert len(str(failure.value)) < 300


def test_text_that_is_not_utf8_is_replaced_not_refused(write: Write):
    content = (HEADER + "\n5,caf\xe9,1,1,2,x\n6,b,1,1,2,x\n").encode("latin-1")
    trace = read(path := write(content=content))
    assert trace.frame.collect()["model"].to_list() == ["caf\ufffd", "b"]
    assert trace.info.notes[-1].startswith(f"{path.name} is not UTF-8: ")
    assert read(write(ROWS[0], "6,café,NaN,1,2,x")).info.notes == trace.info.notes[:-1]


def test_a_column_that_occurs_twice_is_refused(write: Write):
    with pytest.raises(InputFailure, match="column 'Model' occurs twice"):
        read_trace([write(content=(HEADER + ",Model\n").encode())], format="burstgpt")


def test_trouble_in_the_second_file_names_it(write: Write):
    first, second = write(*ROWS), write("x,a,1,1,2,x", name="second.csv")
    with pytest.raises(InputFailure, match=r"second\.csv, line 2, column 'Timestamp'"):
        read_trace([first, second])


def test_the_tolerant_reading_gives_what_the_fast_one_gives(write: Write):
    lines = [f"{i // 3},m{i % 5},{i * 7},{i % 11},0,API log" for i in range(1000)]
    fast = read(write(*lines)).frame.collect()
    tolerant = read(write(*lines, "400,m,NaN,1,1,x")).frame.collect()
    assert tolerant.head(1000).equals(fast)
    assert tolerant.schema == fast.schema
    assert tolerant.row(1000, named=True)["prompt_tokens"] is None


def test_a_quote_that_is_not_closed_is_one_line(tmp_path: Path):
    (tmp_path / "t.csv").write_text('arrival_s,model,prompt_tokens\n0,m,1\n1,"m,1\n2,m,1\n')
    with pytest.raises(InputFailure, match="look for a quote that is opened and not closed"):
        read_trace([tmp_path / "t.csv"])


@pytest.mark.parametrize("format", [None, "burstgpt", "columns"])
def test_lines_that_end_in_carriage_returns_alone_are_told(write: Write, format: str | None):
    path = write(content="\r".join((HEADER, *ROWS, "")).encode())
    with pytest.raises(InputFailure, match="its lines end in carriage returns alone"):
        read_trace([path], format=format)


@pytest.mark.parametrize("end", ["", "\n"])
def test_rows_that_a_carriage_return_parts_are_not_lost(write: Write, end: str):
    path = write(content="\n".join((HEADER, ROWS[0], "\r".join(ROWS[1:]) + end)).encode())
    with pytest.raises(InputFailure, match="line 3: its lines end in carriage returns alone"):
        read_trace([path])
