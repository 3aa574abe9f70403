"""Tables with canonical names or a mapping: CSV, JSON lines and Parquet alike."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from toolkit.errors import InputFailure, SettingFailure
from toolkit.schema import OUTCOMES, TRACE
from toolkit.selection import Selection
from toolkit.traces import NAMES, Trace, footer, read_trace, write_trace

FRAME = pl.DataFrame(
    {
        "request_id": [7, 8, 9],
        "parent_id": [None, 7, 8],
        "arrival_s": [10.0, 10.5, 12.25],
        "model": ["a", None, "b"],
        "session_id": [1, 1, 2],
        "prompt_tokens": [5, 0, 2_000_000],
        "prefix_blocks": [[1, 2], None, [2**63]],
        "slo_ttft_s": [0.5, None, 1.0],
    },
    schema_overrides={"prefix_blocks": pl.List(pl.UInt64)},
)


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        lists = [
            pl.format("[{}]", pl.col(n).cast(pl.List(pl.String)).list.join(",")).alias(n)
            for n, t in frame.schema.items()
            if t == pl.List
        ]
        frame.with_columns(lists).write_csv(path)
    return path


def read(path: Path, **options) -> Trace:
    trace = read_trace([path], **options)
    frame = trace.frame.collect()
    assert frame.schema == TRACE
    assert trace.info.rows_read == trace.info.rows_kept + sum(trace.info.dropped.values())
    assert frame.height == trace.info.rows_kept
    return trace


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_parents_without_names_of_requests_are_refused(tmp_path: Path, suffix: str):
    path = write(FRAME.drop("request_id"), tmp_path / f"t.{suffix}")
    with pytest.raises(InputFailure, match=r"has parent_id and no request_id.*--map request_id=COLUMN"):
        read_trace([path])


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_canonical_names_need_no_option(tmp_path: Path, suffix: str):
    frame = read(write(FRAME, tmp_path / f"t.{suffix}")).frame.collect()
    assert frame["request_id"].to_list() == [0, 1, 2]
    assert frame["parent_id"].to_list() == [None, 0, 1]
    assert frame["arrival_s"].to_list() == [0.0, 0.5, 2.25]
    assert frame["model"].to_list() == ["a", None, "b"]
    assert frame["session_id"].to_list() == ["1", "1", "2"]
    assert frame["prompt_tokens"].to_list() == [5, 0, 2_000_000]
    assert frame["prefix_blocks"].to_list() == [[1, 2], None, [2**63]]
    assert frame["slo_ttft_s"].to_list() == [0.5, None, 1.0]
    assert frame["output_tokens"].null_count() == 3


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("unit", "per_s"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_a_mapping_reads_other_names_in_the_unit_given(tmp_path: Path, suffix: str, unit: str, per_s: float):
    table = pl.DataFrame({"when": [int(s * per_s) for s in (1, 3, 8)], "in": [1, 2, 3], "who": ["x", "y", "z"]})
    path = write(table, tmp_path / f"t.{suffix}")
    columns = {"arrival_s": "when", "prompt_tokens": "in", "tenant": "who"}
    trace = read(path, columns=columns, time_unit=unit)
    assert trace.frame.collect()["arrival_s"].to_list() == [0.0, 2.0, 7.0]
    assert trace.frame.collect()["tenant"].to_list() == ["x", "y", "z"]
    assert (trace.info.time_unit, trace.info.time_unit_reason) == (unit, "given with --time-unit")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_dates_are_recognised_and_the_zone_applied(tmp_path: Path, suffix: str):
    stamps = ["2024-05-10T02:00:00.25+02:00", "2024-05-10T00:00:01Z"]
    path = write(pl.DataFrame({"arrival_s": stamps, "prompt_tokens": [1, 2]}), tmp_path / f"t.{suffix}")
    info = read(path).info
    assert (info.time_unit, info.span_s, info.epoch) == ("datetime", 0.75, "2024-05-10T00:00:00.25")


def test_a_parquet_datetime_keeps_its_zone(tmp_path: Path):
    stamps = [datetime(2024, 5, 10, tzinfo=UTC) + timedelta(seconds=s) for s in (0, 2)]
    info = read(write(pl.DataFrame({"arrival_s": stamps, "prompt_tokens": [1, 2]}), tmp_path / "t.parquet")).info
    assert (info.time_unit, info.span_s, info.epoch) == ("datetime", 2.0, "2024-05-10T00:00:00")


def test_the_column_s_name_or_its_values_give_the_unit(tmp_path: Path):
    table = pl.DataFrame({"ts_ms": [0, 1000, 2000], "prompt_tokens": [1, 2, 3], "ts": [0, 1000, 2000]})
    path = write(table, tmp_path / "t.csv")
    named = read(path, columns={"arrival_s": "ts_ms"}).info
    assert (named.time_unit, named.span_s) == ("ms", 2.0)
    guessed = read(path, columns={"arrival_s": "ts"}).info
    assert guessed.time_unit_reason is not None
    assert guessed.time_unit_reason.startswith("guessed")


def test_a_unit_that_does_not_fit_the_values_is_refused(tmp_path: Path):
    path = write(pl.DataFrame({"arrival_s": [0, 1], "prompt_tokens": [1, 2]}), tmp_path / "t.csv")
    with pytest.raises(InputFailure, match="its times are numbers, which cannot be read as 'datetime'"):
        read_trace([path], time_unit="datetime")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_mapped_column_that_is_absent_names_the_nearest(tmp_path: Path, suffix: str):
    path = write(pl.DataFrame({"timestamp": [0, 1], "in": [1, 2]}), tmp_path / f"t.{suffix}")
    with pytest.raises(InputFailure, match=r"no column 'timestamps' for arrival_s; did you mean 'timestamp'\?"):
        read_trace([path], columns={"arrival_s": "timestamps"})


def test_a_table_without_any_canonical_name_says_so(tmp_path: Path):
    path = write(pl.DataFrame({"a": [0, 1], "b": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(InputFailure, match=r"no column bears a canonical name \(it has a, b\); use --map"):
        read_trace([path])


def test_measured_times_become_outcomes(tmp_path: Path):
    table = pl.DataFrame(
        {
            "begin": [100, 200, 300, 400],
            "first": [150, 260, None, None],
            "end": [250, 460, 700, None],
            "prompt_tokens": [1, 2, 3, 4],
            "output_tokens": [11, 21, 0, None],
            "source_status": ["ok", "SUCCEED", "boom", None],
        }
    )
    columns = {"arrival_s": "begin", "first_token_s": "first", "finish_s": "end"}
    trace = read(write(table, tmp_path / "run7.csv"), columns=columns, time_unit="ms")
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert outcomes.schema == OUTCOMES
    assert outcomes["status"].to_list() == ["ok", "ok", "error", "unfinished"]
    assert outcomes["finish_s"].to_list() == [0.15, 0.36, 0.6, None]
    assert outcomes["run_id"].unique().to_list() == ["run7"]
    frame = trace.frame.collect()
    assert frame["source_ttft_s"].to_list() == [0.05, 0.06, None, None]
    assert frame["source_e2e_s"].to_list() == pytest.approx([0.15, 0.26, 0.4, None])


def test_bad_json_is_named_with_file_and_line(tmp_path: Path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"arrival_s":0,"prompt_tokens":1}\n{"arrival_s":1,"prompt_tokens":"many"}\n{"arrival_s":2}\n')
    with pytest.raises(InputFailure, match=r"t\.jsonl, line 2: 'prompt_tokens' is text 'many'"):
        read_trace([path])


def test_a_value_of_the_wrong_type_in_parquet_is_one_line(tmp_path: Path):
    path = write(pl.DataFrame({"arrival_s": [0, 1], "prompt_tokens": ["1", "many"]}), tmp_path / "t.parquet")
    with pytest.raises(InputFailure, match=r"t\.parquet, column 'prompt_tokens': it holds String, not numbers"):
        read_trace([path])


def test_counts_stored_as_doubles_are_counts_unless_they_have_fractions(tmp_path: Path):
    table = pl.DataFrame({"arrival_s": [0, 1, 2], "prompt_tokens": [5.0, float("nan"), 1.5]})
    trace = read(write(table, tmp_path / "t.parquet"))
    assert trace.frame.collect()["prompt_tokens"].to_list() == [5, None]
    assert trace.info.dropped == {"fractional tokens": 1}


def test_converted_parquet_comes_back_with_all_that_was_known(tmp_path: Path):
    path = write(pl.DataFrame({"arrival_s": [5.0, 3.0, None], "prompt_tokens": [1, 2, 3]}), tmp_path / "t.csv")
    trace = read(path)
    write_trace(trace, tmp_path / "t.parquet")
    again = read_trace([tmp_path / "t.parquet"])
    assert again.info == trace.info
    assert again.info.dropped == {"no arrival time": 1}
    assert again.frame.collect().equals(trace.frame.collect())


def test_a_footer_that_no_longer_fits_is_not_believed(tmp_path: Path):
    path = write(pl.DataFrame({"arrival_s": [5.0, 3.0], "prompt_tokens": [1, 2]}), tmp_path / "t.csv")
    write_trace(read(path), tmp_path / "t.parquet")
    metadata = pl.read_parquet_metadata(tmp_path / "t.parquet")
    own = {k: v for k, v in metadata.items() if k.startswith("trace")}
    pl.read_parquet(tmp_path / "t.parquet").head(1).write_parquet(tmp_path / "cut.parquet", metadata=own)
    assert read(tmp_path / "cut.parquet").info.rows_read == 1


def test_canonical_parts_are_read_as_one_trace(tmp_path: Path):
    path = write(pl.DataFrame({"arrival_s": [0.0, 4.0], "prompt_tokens": [1, 2]}), tmp_path / "t.csv")
    (tmp_path / "parts").mkdir()
    for number in range(2):
        write_trace(read(path), tmp_path / "parts" / f"part-{number}.parquet")
    trace = read(tmp_path / "parts")
    assert trace.info.rows_kept == 4
    assert trace.info.sorted is False


def test_parts_keep_how_prefix_blocks_are_counted(tmp_path: Path):
    trace = read(write(FRAME, tmp_path / "t.csv"))
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, tokens in enumerate((64, 64, 16)):
        info = replace(trace.info, block_tokens=tokens, block_scope="global")
        write_trace(Trace(trace.frame, info), parts / f"part-{number}.parquet")
    whole = read_trace([parts / "part-0.parquet", parts / "part-1.parquet"]).info
    assert (whole.block_tokens, whole.block_scope, whole.rows_kept) == (64, "global", 6)
    with pytest.raises(InputFailure, match="count prefix blocks or lengths in different units"):
        read_trace([parts])


def test_parts_without_prefix_blocks_have_no_scope_unless_another_file_brings_some(tmp_path: Path):
    trace = read(write(FRAME.drop("prefix_blocks"), tmp_path / "t.csv"))
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in range(2):
        write_trace(trace, parts / f"part-{number}.parquet")
    assert read_trace([parts]).info.block_scope is None
    blocks = pl.Series("prefix_blocks", [[1, 2]] * trace.info.rows_kept, dtype=pl.List(pl.UInt64))
    trace.frame.collect().with_columns(blocks).write_parquet(parts / "part-2.parquet")  # by another tool: no footer
    whole = read_trace([parts])
    assert whole.info.block_scope == "global"
    assert whole.frame.collect()["prefix_blocks"].drop_nulls().len() == trace.info.rows_kept


def test_a_damaged_parquet_is_one_line(tmp_path: Path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + b"\0" * 100)
    with pytest.raises(InputFailure, match="cannot be read"):
        read_trace([path])


def test_a_format_that_does_not_exist_is_a_setting(tmp_path: Path):
    path = write(FRAME, tmp_path / "t.csv")
    with pytest.raises(SettingFailure, match="no loader"):
        read_trace([path], format="column")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "arrival_s,prompt_tokens\n0,1\n0.5,1\n1.25,1\n"),
        ("t.jsonl", '{"arrival_s": 0}\n{"arrival_s": 0.5}\n{"arrival_s": 1.25}\n'),
    ],
)
def test_a_trace_may_begin_at_a_whole_second(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    assert read(tmp_path / name).frame.collect()["arrival_s"].to_list() == [0.0, 0.5, 1.25]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_columns_that_are_not_read_are_named(tmp_path: Path, suffix: str):
    frame = pl.DataFrame({"arrival_s": [0.0], "prompt_token": [5], "model": ["m"]})
    told = read(write(frame, tmp_path / f"t.{suffix}")).info.notes
    assert told == ("Not read: 'prompt_token'; --map binds a column to a name.",)
    mapped = read(tmp_path / f"t.{suffix}", columns={"prompt_tokens": "prompt_token"})
    assert mapped.info.notes == ()


def test_think_times_that_nobody_waits_by_are_told(tmp_path: Path):
    frame = pl.DataFrame({"arrival_s": [0.0, 1.0], "session_id": ["s", "s"], "think_s": [None, 2.0]})
    assert "no parent_id is here, so none waits" in read(write(frame, tmp_path / "t.csv")).info.notes[0]
    whole = frame.with_columns(request_id=pl.Series(["a", "b"]), parent_id=pl.Series([None, "a"]))
    assert read(write(whole, tmp_path / "u.csv")).info.notes == ()


def test_a_column_that_only_a_later_file_has_is_named(tmp_path: Path):
    (tmp_path / "a.csv").write_text("arrival_s,prompt_tokens\n0,1\n")
    (tmp_path / "b.csv").write_text("arrival_s,prompt_tokens,model\n1,1,m\n")
    assert "'model'" in read_trace([tmp_path]).info.notes[0]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_objective_that_is_no_number_is_unknown(tmp_path: Path, suffix: str):
    frame = pl.DataFrame({"arrival_s": [0.0, 1.0], "slo_tpot_s": [float("nan"), 0.5]})
    assert read(write(frame, tmp_path / f"t.{suffix}")).frame.collect()["slo_tpot_s"].to_list() == [None, 0.5]


def test_a_canonical_trace_keeps_its_seconds(tmp_path: Path):
    trace = read(write(FRAME, tmp_path / "t.csv"))
    write_trace(trace, tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", time_unit="s").info == trace.info
    with pytest.raises(SettingFailure, match="--time-unit: a canonical trace is in seconds"):
        read(tmp_path / "t.parquet", time_unit="ms")


@pytest.mark.parametrize("wrong", [["a"], [-1]])
def test_blocks_that_are_no_whole_numbers_from_0_are_one_line(tmp_path: Path, wrong: list[int | str]):
    frame = pl.DataFrame({"arrival_s": [0.0, 1.0], "prefix_blocks": [wrong, wrong]})
    with pytest.raises(InputFailure, match=r"conversion from .* to `u64` failed"):
        read(write(frame, tmp_path / "t.parquet"))


@pytest.mark.parametrize("wrong", ["[-1]", "[1.5]", "[a]", "{}"])
def test_blocks_in_a_cell_are_not_guessed(tmp_path: Path, wrong: str):
    (tmp_path / "t.csv").write_text(f'arrival_s,prefix_blocks\n0,"[1,18446744073709551615]"\n1,"{wrong}"\n2,\n')
    with pytest.raises(InputFailure):
        read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text('arrival_s,prefix_blocks\n0,"[1,18446744073709551615]"\n2,\n')
    assert read(tmp_path / "t.csv").frame.collect()["prefix_blocks"].to_list() == [[1, 2**64 - 1], None]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_turn_that_no_table_holds_is_dropped_with_its_reason(tmp_path: Path, suffix: str):
    frame = pl.DataFrame({"arrival_s": [0.0, 1.0], "prompt_tokens": [1, 2], "turn": [0, 2**40]})
    assert read(write(frame, tmp_path / f"t{suffix}")).info.dropped == {"impossible turn": 1}


@pytest.mark.parametrize("found", [b'"name"', b'"rows_kept"'])
def test_a_damaged_footer_is_one_line(tmp_path: Path, found: bytes):
    write_trace(
        read_trace([write(pl.DataFrame({"arrival_s": [0.0, 1.0]}), tmp_path / "t.csv")]), tmp_path / "t.parquet"
    )
    whole = (tmp_path / "t.parquet").read_bytes()
    assert found in whole
    for damaged in (b"\x01" * len(found), found[:-2] + b'x"'):
        (tmp_path / "t.parquet").write_bytes(whole.replace(found, damaged))
        with pytest.raises(InputFailure, match=r"what its footer says of the trace cannot be read"):
            read_trace([tmp_path / "t.parquet"])


def test_names_are_stored_as_categories_and_read_as_texts(tmp_path: Path):
    table = pl.DataFrame({"arrival_s": [0.0, 1.0, 2.0], "model": ["b", None, "a"], "tenant": ["x", "x", "<y>"]})
    trace = read(write(table, tmp_path / "t.csv"))
    write_trace(trace, tmp_path / "t.parquet")
    again = read(tmp_path / "t.parquet")
    assert again.frame.collect().equals(trace.frame.collect())
    assert again.numbered is not None
    stored = again.numbered.collect()
    assert stored.schema == {**TRACE, **dict.fromkeys(NAMES, pl.Categorical())}
    assert stored.cast(TRACE).equals(trace.frame.collect())
    assert Selection(models=("a",)).apply(again).numbered is None  # what was selected is in `frame`
    others = stored.with_columns(pl.col("session_id").cast(pl.Categorical))
    others.write_parquet(tmp_path / "others.parquet", metadata=footer(again.info))
    numbered = read(tmp_path / "others.parquet").numbered
    assert numbered is not None
    assert numbered.collect_schema() == stored.schema
    write_trace(again, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "t.parquet").read_bytes()


def test_parquet_with_dictionaries_is_read_as_texts(tmp_path: Path):
    table = pl.DataFrame({"arrival_s": [0.0, 1.0], "model": ["b", "a"], "prompt_tokens": [1, 2]})
    write(table.with_columns(pl.col("model").cast(pl.Categorical)), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").frame.collect()["model"].to_list() == ["b", "a"]


def test_files_written_differently_are_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_text("arrival_s,prompt_tokens\n0,1\n")
    (tmp_path / "b.jsonl").write_text('{"arrival_s": 1, "prompt_tokens": 2}\n')
    with pytest.raises(InputFailure, match=r"b\.jsonl: is JSON lines, and .*a\.csv is CSV; read files of one kind"):
        read_trace([tmp_path / "a.csv", tmp_path / "b.jsonl"])


def test_names_stored_as_bytes_are_text_or_told(tmp_path: Path) -> None:
    times = pl.DataFrame({"arrival_s": [0.0, 1.0]})
    times.with_columns(model=pl.Series(["é".encode(), b"b"])).write_parquet(tmp_path / "good.parquet")
    assert read_trace([tmp_path / "good.parquet"]).frame.collect()["model"].to_list() == ["é", "b"]
    times.with_columns(model=pl.Series([b"\xff", b"b"])).write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(InputFailure, match="bad: invalid utf8"):
        read_trace([tmp_path / "bad.parquet"])
