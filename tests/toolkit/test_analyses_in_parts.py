"""A trace in parts of time has the tables, to the last bit, that it has in one piece."""

import pickle
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from toolkit.analyses import analyse
from toolkit.analyses_in_parts import analyse_parts
from toolkit.analysis import arrivals
from toolkit.analysis.tallies import Tally
from toolkit.analysis_json import as_json
from toolkit.errors import Failure
from toolkit.executors import Executor, InProcess
from toolkit.parts import open_parts
from toolkit.traces import read_trace, write_trace

READING: dict[str, Any] = {"format": None, "columns": {}, "time_unit": None}


class Pickling(InProcess):
    """Here, but through what another process would be sent."""

    def map(self, work: Any, items: Any) -> Any:
        for item in items:
            sent = pickle.loads(pickle.dumps((work, [item])))
            yield from ((item, pickle.loads(pickle.dumps(result))) for _, result in super().map(*sent))


def made(rng: np.random.Generator, n: int, *, step_s: float, measured: bool, sessions: bool) -> pl.DataFrame:
    arrival_s = 1_000 + np.cumsum(rng.exponential(1.0, n) * rng.choice([0, 1, 1, 40], n))
    if step_s:
        arrival_s = np.floor(arrival_s / step_s) * step_s
    models = pl.Series(["a", "b", "<c>", None])
    frame = pl.DataFrame(
        {
            "arrival_s": arrival_s,
            "model": models.gather(rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05])),
            "tenant": rng.choice(["x", "y"], n),
            "prompt_tokens": rng.integers(0, 900, n),
            "output_tokens": rng.integers(1, 300, n),
        }
    )
    drawn = pl.Series(rng.random(n))
    frame = frame.with_columns(prompt_tokens=pl.when(drawn > 0.05).then("prompt_tokens"))
    if measured:
        frame = frame.with_columns(finish_s=pl.when(drawn > 0.2).then(pl.col("arrival_s") + 20 * drawn))
    if sessions:
        blocks = [rng.integers(0, 20, k).tolist() for k in rng.integers(0, 4, n)]
        frame = frame.with_columns(
            session_id=pl.Series(rng.integers(0, n // 3 + 1, n)).cast(pl.String),
            prefix_blocks=pl.Series(blocks, dtype=pl.List(pl.UInt64)),
        )
    return frame


def written(frame: pl.DataFrame, cuts: list[int], folder: Path) -> str:
    edges = sorted({0, len(frame), *(min(cut, len(frame)) for cut in cuts)})
    for k, (low, high) in enumerate(pairwise(edges)):
        frame[low:high].write_parquet(folder / f"part-{k}.parquet")
    return str(folder / "*.parquet")


def assert_same(named: str, executor: Executor, asked: Any = None) -> None:
    trace = read_trace([named])
    parted = open_parts([named], executor, READING)
    assert parted.info == trace.info
    here, there = analyse(trace, asked=asked), analyse_parts(parted, executor, asked=asked)
    for name, tables in here.items():
        for table, frame in tables.items():
            assert_frame_equal(there[name][table], frame, check_exact=True, categorical_as_str=True)
    assert as_json(there, parted.info) == as_json(here, trace.info)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    seed=st.integers(0, 99), cuts=st.lists(st.integers(1, 299), max_size=5), step_s=st.sampled_from([0.0, 3.0]),
    measured=st.booleans(), sessions=st.booleans(), exact=st.booleans(),
)  # fmt: skip
def test_the_tables_do_not_depend_on_the_parts(
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    cuts: list[int],
    step_s: float,
    measured: bool,
    sessions: bool,
    exact: bool,
) -> None:
    monkeypatch.setattr(arrivals, "EXACT", 2**21 if exact else 10)
    frame = made(np.random.default_rng(seed), 300, step_s=step_s, measured=measured, sessions=sessions)
    with TemporaryDirectory() as folder:
        assert_same(written(frame, [*cuts, 150], Path(folder)), InProcess())


def test_days_of_hours_repeats_and_drops_and_what_is_asked_for(tmp_path: Path) -> None:
    """Three days of dates; rows dropped; a row repeated across a border; --groups and --drift; pickled."""
    rng = np.random.default_rng(5)
    frame = made(rng, 4_000, step_s=0, measured=False, sessions=False)
    frame = frame.with_columns(arrival_s=pl.col("arrival_s") * 7).with_columns(
        output_tokens=pl.when(pl.int_range(pl.len()) % 500 == 7).then(-1).otherwise("output_tokens")
    )
    frame = pl.concat([frame[:2_000], frame[1_999:]])
    named = written(frame, [1_000, 2_000, 3_000], tmp_path)
    assert_same(named, Pickling(), asked={"groups": {"by": "model"}, "drift": {}, "clients": {}})
    info = open_parts([named], InProcess(), READING).info
    assert info.duplicates == 1
    assert info.dropped == {"negative tokens": 8}
    assert info.span_s is not None
    assert info.span_s > 2 * 86_400


def test_one_canonical_file_is_read_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workloads import parts

    monkeypatch.setattr(parts, "SLICES_ROWS", 70)
    frame = made(np.random.default_rng(1), 300, step_s=0, measured=False, sessions=True)
    written(frame, [], tmp_path)
    write_trace(read_trace([tmp_path / "part-0.parquet"]), tmp_path / "whole.parquet")
    assert len(open_parts([str(tmp_path / "whole.parquet")], InProcess(), READING).parts) == 5
    assert_same(str(tmp_path / "whole.parquet"), InProcess())


def refusal(named: str) -> str:
    with pytest.raises(Failure) as failure:
        open_parts([named], InProcess(), READING)
    return str(failure.value)


def test_what_cannot_be_shared_out_is_refused_in_one_line(tmp_path: Path) -> None:
    frame = made(np.random.default_rng(1), 30, step_s=0, measured=False, sessions=False)
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens\n1,2\n")
    assert "is not Parquet; convert it first" in refusal(str(tmp_path / "t.csv"))
    frame.write_parquet(tmp_path / "one.parquet")
    assert "give a folder of several" in refusal(str(tmp_path / "one.parquet"))
    frame.reverse().write_parquet(tmp_path / "two.parquet")
    assert "two.parquet: is not in order of arrival" in refusal(str(tmp_path / "*.parquet"))
    frame[10:].write_parquet(tmp_path / "two.parquet")
    assert "two.parquet: begins before the file before it ends" in refusal(str(tmp_path / "*.parquet"))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 6), min_size=1), st.lists(st.integers(0, 40), max_size=4))
def test_tallies_join_over_any_border(steps: list[int], cuts: list[int]) -> None:
    windows = np.cumsum(steps)
    parts = np.split(windows, sorted(min(cut, len(windows)) for cut in cuts))
    found = Tally()
    for part in parts:
        found = found.joined(Tally.of(*(a.astype(np.int64) for a in np.unique(part, return_counts=True))))
    counts = np.unique(windows, return_counts=True)[1]
    assert (found.total, found.all_squares) == (len(windows), int(counts @ counts))


def test_a_plugin_that_follows_parents_is_refused() -> None:
    from toolkit.analyses_in_parts import Questions

    class Parents:
        table, columns = "trace", ("parent_id",)

    with pytest.raises(Failure, match="leads out of a part"):
        Questions({"parents": Parents()})  # type: ignore[dict-item]


def test_a_trace_asked_some_rows_at_a_time_has_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = made(np.random.default_rng(4), 400, step_s=0.0, measured=True, sessions=True)
    frame = frame.with_columns(
        output_tokens=pl.when(pl.int_range(pl.len()) % 90 == 0).then(20_000).otherwise("output_tokens")
    )
    frame.write_parquet(tmp_path / "t.parquet")
    whole = analyse(read_trace([tmp_path / "t.parquet"]))
    monkeypatch.setattr("toolkit.analyses.SLICE_ROWS", 70)
    for name, tables in analyse(read_trace([tmp_path / "t.parquet"])).items():
        for table, found in tables.items():
            assert_frame_equal(found, whole[name][table], check_exact=True, categorical_as_str=True)
