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

from toolkit import analyses_in_parts
from toolkit.analyses import analyse
from toolkit.analyses_in_parts import analyse_parts
from toolkit.analysis import arrivals, client_plan, clients, gaps, samples
from toolkit.analysis.tallies import Tally
from toolkit.analysis_json import as_json
from toolkit.errors import Failure
from toolkit.executors import Executor, InProcess
from toolkit.parts import open_parts
from toolkit.traces import read_trace, write_trace
from workloads import parts

READING: dict[str, Any] = {"format": None, "columns": {}, "time_unit": None}


class Pickling(InProcess):
    """Here, but through what another process would be sent."""

    def map(self, work: Any, items: Any) -> Any:
        for item in items:
            sent = pickle.loads(pickle.dumps((work, [item])))
            yield from ((item, pickle.loads(pickle.dumps(result))) for _, result in super().map(*sent))

    def begin(self, work: Any, *given: Any, results: int = 1) -> list[Any]:
        sent, received = pickle.loads(pickle.dumps((work, given)))
        return pickle.loads(pickle.dumps(super().begin(sent, *received, results=results)))


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


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    seed=st.integers(0, 99), cuts=st.lists(st.integers(1, 299), max_size=5), step_s=st.sampled_from([0.0, 3.0]),
    measured=st.booleans(), sessions=st.booleans(), exact=st.booleans(), share_rows=st.sampled_from([100, 10**6]),
    part_rows=st.sampled_from([1, 130]),
)  # fmt: skip
def test_the_tables_do_not_depend_on_the_parts(
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    cuts: list[int],
    step_s: float,
    measured: bool,
    sessions: bool,
    exact: bool,
    share_rows: int,
    part_rows: int,
) -> None:
    for holder in (arrivals, samples):
        monkeypatch.setattr(holder, "EXACT", 2**21 if exact else 10)
    monkeypatch.setattr(analyses_in_parts, "SHARE_ROWS", share_rows)
    monkeypatch.setattr(parts, "SLICES_ROWS", part_rows)
    frame = made(np.random.default_rng(seed), 300, step_s=step_s, measured=measured, sessions=sessions)
    with TemporaryDirectory() as folder:
        assert_same(written(frame, [*cuts, 150], Path(folder)), InProcess())


def test_days_of_hours_repeats_and_drops_and_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three days; rows dropped; a row repeated across a border; --groups, and --drift that is there; pickled."""
    monkeypatch.setattr(parts, "SLICES_ROWS", 1)
    rng = np.random.default_rng(5)
    frame = made(rng, 4_000, step_s=0, measured=False, sessions=False)
    frame = frame.with_columns(arrival_s=pl.col("arrival_s") * 7).with_columns(
        output_tokens=pl.when(pl.int_range(pl.len()) % 500 == 7).then(-1).otherwise("output_tokens"),
        prompt_tokens=pl.col("prompt_tokens") * pl.when(pl.int_range(pl.len()) > 2_500).then(4).otherwise(1),
    )
    frame = pl.concat([frame[:2_000], frame[1_999:]])
    named = written(frame, [1_000, 2_000, 3_000], tmp_path)
    assert_same(named, Pickling(), asked={"groups": {"by": "model"}, "drift": {}, "clients": {}})
    info = open_parts([named], InProcess(), READING).info
    assert info.duplicates == 1
    assert info.dropped == {"negative tokens": 8}
    assert info.span_s is not None
    assert info.span_s > 2 * 86_400


def test_a_change_is_found_at_its_request_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SLICES_ROWS", 1)
    frame = made(np.random.default_rng(6), 3_000, step_s=0, measured=False, sessions=False)
    longer = pl.when(pl.int_range(pl.len()) >= 2_000).then(5).otherwise(1)
    named = written(frame.with_columns(pl.col("output_tokens") * longer), [700, 1_500], tmp_path)
    tables = analyse_parts(open_parts([named], InProcess(), READING), InProcess(), asked={"drift": {}})
    points = tables["drift"]["change_points"].filter(pl.col("column") == "output_tokens")
    assert points["request_id"].to_list() == [pytest.approx(2_000, abs=20)]


def test_parts_may_be_empty_or_of_any_size_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the first, one request in another, all of a part dropped, one arrival over three parts' borders."""
    monkeypatch.setattr(parts, "SLICES_ROWS", 1)
    frame = made(np.random.default_rng(8), 900, step_s=50.0, measured=True, sessions=True)
    lacking = pl.int_range(pl.len()).is_in([3, 200, 201, 202, 203, 850])
    frame = frame.with_columns(output_tokens=pl.when(lacking).then(-1).otherwise("output_tokens"))
    frame = frame.with_columns(prompt_tokens=pl.when(pl.int_range(pl.len()) == 7).then(1.5).otherwise("prompt_tokens"))
    at = frame["arrival_s"].to_list()
    same = next(i for i in range(300, 890) if len(set(at[i : i + 3])) == 1)
    cuts = [0, 0, 1, 200, 204, 204, same + 1, same + 2, 899, 900, 900]
    for k, (low, high) in enumerate(pairwise(cuts)):
        frame[low:high].write_parquet(tmp_path / f"{k:02d} [ü] %s{{}}'.parquet")
    assert_same(str(tmp_path), Pickling(), asked={"groups": {}, "clients": {}, "drift": {}})
    info = open_parts([str(tmp_path)], InProcess(), READING).info
    assert list(info.dropped.items()) == [("negative tokens", 6), ("fractional tokens", 1)]


def test_a_trace_of_nothing_is_refused_as_on_one_machine(tmp_path: Path) -> None:
    frame = made(np.random.default_rng(8), 9, step_s=0.0, measured=False, sessions=False)
    written(frame[:0], [], tmp_path)
    frame[:0].write_parquet(tmp_path / "part-0.parquet")
    frame[:0].write_parquet(tmp_path / "part-1.parquet")
    assert "it holds no rows" in refusal(str(tmp_path))


def test_one_canonical_file_is_read_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SLICES_ROWS", 70)
    frame = made(np.random.default_rng(1), 300, step_s=0, measured=False, sessions=True)
    written(frame, [], tmp_path)
    write_trace(read_trace([tmp_path / "part-0.parquet"]), tmp_path / "whole.parquet")
    assert len(open_parts([str(tmp_path / "whole.parquet")], InProcess(), READING).parts) == 5
    assert_same(str(tmp_path / "whole.parquet"), InProcess())


class Weighing(InProcess):
    """Counts the bytes that come here."""

    came = 0

    def map(self, work: Any, items: Any) -> Any:
        for item, result in super().map(work, items):
            self.came += len(pickle.dumps(result))
            yield item, result

    def end(self, begun: Any) -> Any:
        self.came += len(pickle.dumps(begun))
        return super().end(begun)


def test_what_comes_here_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times the requests of the same time, models, lengths and latencies; every bound is small enough to bind."""
    for holder in (arrivals, samples):
        monkeypatch.setattr(holder, "EXACT", 10)
    monkeypatch.setattr(gaps, "DROPPED", np.uint64(49))
    monkeypatch.setattr(samples, "DROPPED", 49)
    monkeypatch.setattr(clients, "MOST_LENGTHS", 1_000)
    monkeypatch.setattr(client_plan, "MOST_GAPS", 60)
    came = []
    for n in (8_000, 64_000):
        frame = made(np.random.default_rng(3), n, step_s=0, measured=False, sessions=True)
        rng, first_s, last_s = np.random.default_rng(4), *frame["arrival_s"].to_numpy()[[0, -1]]
        arrival_s = (frame["arrival_s"] - first_s) / (last_s - first_s) * 40_000
        ends = {"finish_s": arrival_s + rng.integers(1, 9, n), "prompt_tokens": rng.integers(0, 50, n)}
        (folder := tmp_path / str(n)).mkdir()
        lengths = {"output_tokens": rng.integers(1, 50, n)}
        named = written(frame.with_columns(arrival_s=arrival_s, **ends, **lengths), [n // 4, n // 2], folder)
        weighing = Weighing()
        analyse_parts(open_parts([named], InProcess(), READING), weighing, asked={"groups": {}, "clients": {}})
        came.append(weighing.came)
    assert came[1] < 1.5 * came[0], came


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
    frame[29:].with_columns(pl.col("output_tokens").cast(pl.Int16), tier=pl.lit("x")).write_parquet(
        tmp_path / "two.parquet"
    )
    assert "one.parquet (output_tokens, tier differ)" in refusal(str(tmp_path / "*.parquet"))


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
        Questions({"parents": Parents()}, {})  # type: ignore[dict-item]


@pytest.mark.parametrize("sessions", [False, True])
def test_a_trace_asked_some_rows_at_a_time_has_the_same_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: bool
) -> None:
    """From memory, and while it is read from a canonical file."""
    asked: Any = {"groups": {"by": "model"}, "drift": {}, "clients": {}}
    frame = made(np.random.default_rng(4), 400, step_s=0.0, measured=False, sessions=sessions)
    frame = frame.with_columns(
        output_tokens=pl.when(pl.int_range(pl.len()) % 90 == 0).then(20_000).otherwise("output_tokens")
    )
    rest = pl.col("arrival_s") + pl.col("output_tokens") / 50
    frame = frame.with_columns(source_e2e_s=pl.when(pl.int_range(pl.len()) % 7 > 0).then(rest) - pl.col("arrival_s"))
    frame.write_parquet(tmp_path / "t.parquet")
    write_trace(read_trace([tmp_path / "t.parquet"]), tmp_path / "stored.parquet")
    read = {name: read_trace([tmp_path / name]) for name in ("t.parquet", "stored.parquet")}
    whole = analyse(read["t.parquet"], asked=asked)
    monkeypatch.setattr("toolkit.survey.PART_ROWS", 70)
    monkeypatch.setattr("toolkit.analyses.MANY", 1)
    for trace in read.values():
        for name, tables in analyse(trace, asked=asked).items():
            for table, found in tables.items():
                assert_frame_equal(found, whole[name][table], check_exact=True, categorical_as_str=True)
