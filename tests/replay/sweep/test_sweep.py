"""`trace sweep` from its specification to tables: the grid, a stop and a resume, workers, failures, a search."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from click.testing import CliRunner, Result
from polars.testing import assert_frame_equal

from replay.engines.cluster import ClusterEngine
from replay.sweep import session
from replay.sweep.source import Source, requests
from replay.sweep.spec import load_sweep
from tests.replay.simulations import Unwatched
from toolkit import plugins
from toolkit.cli import main
from toolkit.executors import InProcess
from toolkit.runs import RunWriter
from toolkit.schema import SWEEP
from toolkit.sql import database
from toolkit.sweeps import SweepFolder
from toolkit.traces import read_trace

HEAD = "trace: t.parquet\ncluster: cluster.yaml\n"
GRID = HEAD + "schedulers: [fcfs, srpt]\ngpus: [1, 2]\nload: [1, 1.5]\nslo_scale: [[4, 2]]\nseeds: [0, 1]\n"


def sweep(spec: Path, text: str, *more: str) -> Result:
    spec.write_text(text)
    return CliRunner().invoke(main, ["sweep", str(spec), "--out", str(spec.parent / "out"), *more])


def rows(spec: Path) -> pl.DataFrame:
    """The table without what depends on the machine."""
    return SweepFolder.open(spec.parent / "out").table().drop("simulation_cpu_s")


@pytest.fixture(scope="module")
def gridded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRID, swept by one worker."""
    folder = tmp_path_factory.mktemp("gridded")
    for name in ("t.parquet", "cluster.yaml"):
        (folder / name).symlink_to(tiny / name)
    done = sweep(folder / "sweep.yaml", GRID, "--workers", "1")
    assert done.exit_code == 0, done.output
    return folder / "sweep.yaml"


def test_every_combination_has_a_row_and_the_numbers_hold_together(gridded: Path) -> None:
    table = rows(gridded)
    assert table.schema == {k: v for k, v in SWEEP.items() if k != "simulation_cpu_s"}
    assert len(table) == 16
    assert table["error"].null_count() == 16
    assert table.select("scheduler", "gpus", "load", "seed").is_unique().all()
    each = table.select(
        counted=pl.col("ok") + pl.col("rejected") == pl.col("requests"),
        joint=pl.col("attainment") <= pl.min_horizontal("attainment_ttft", "attainment_tpot"),
        ordered=pl.col("ttft_p50_s") <= pl.col("ttft_p99_s"),
        few=pl.col("ttft_p999_s").is_null(),
    )
    assert all(each[name].all() for name in each.columns), each
    by_load = dict(table.group_by("load").agg(pl.col("requests").mean()).iter_rows())
    assert 200 < by_load[1.0] < 230
    assert by_load[1.5] / by_load[1.0] == pytest.approx(1.5, abs=0.1)
    halved = table.filter(pl.col("scheduler") == "fcfs").sort("seed", "load", "gpus")["utilisation"].to_list()
    assert [a / b for a, b in zip(halved[::2], halved[1::2], strict=True)] == pytest.approx([2.0] * 4)


def test_a_row_is_what_a_replay_says(gridded: Path, tmp_path: Path) -> None:
    """With the whole trace and the same objectives, to the last digit."""
    text = HEAD.replace("t.parquet", str(gridded.parent / "t.parquet"))
    text = text.replace("cluster.yaml", str(gridded.parent / "cluster.yaml")) + "slo_scale: [[3, 1.5]]\n"
    assert sweep(tmp_path / "sweep.yaml", text, "--workers", "1").exit_code == 0
    row = rows(tmp_path / "sweep.yaml").row(0, named=True)
    cluster = load_sweep(tmp_path / "sweep.yaml")[1]
    engine = ClusterEngine(cluster, "static", band=False, slo_scale=(3.0, 1.5))
    trace = read_trace([gridded.parent / "t.parquet"])
    writer = RunWriter.create(tmp_path / "run", {"run_id": "r"})
    engine.replay(trace.frame.collect(), trace.info, plugins.create("scheduler", "fcfs"), writer, Unwatched())
    asked = (
        "SELECT count(*), attainment(ttft_met), attainment(tpot_met), attainment(slo_met), p99(ttft_s), p95(tpot_s), "
        "p50(e2e_s), sum(preemptions)::INT, goodput(slo_met, arrival_s, finish_s) FROM outcomes"
    )
    names = ["requests", "attainment_ttft", "attainment_tpot", "attainment", "ttft_p99_s", "tpot_p95_s", "e2e_p50_s"]
    with database(runs=[tmp_path / "run"]) as connection:
        said = connection.execute(asked).fetchall()[0]
    assert [row[n] for n in (*names, "preemptions", "goodput_per_s")] == pytest.approx(list(said), rel=1e-12)
    assert row["utilisation"] == pytest.approx(writer.info["utilisation"])


def test_two_workers_give_the_same_bytes(gridded: Path, spec: Path) -> None:
    done = sweep(spec, GRID, "--workers", "2")
    assert done.exit_code == 0, done.output
    one, two = rows(gridded), rows(spec)
    assert_frame_equal(one.drop("point"), two.drop("point"), check_exact=True)


class Interrupted(InProcess):
    """Ctrl-C after three points."""

    def map(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for number, (item, result) in enumerate(super().map(work, items)):
            if number == 3 and hasattr(item, "point"):
                raise KeyboardInterrupt
            yield item, result


class Counting(InProcess):
    """Remembers what it was given."""

    given: list[Any] = []  # noqa: RUF012

    def map(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        self.given.extend(items)
        return super().map(work, items)


def test_a_stopped_sweep_says_how_it_goes_on_and_repeats_nothing(
    gridded: Path, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "local", lambda workers: Interrupted())
    stopped = sweep(spec, GRID)
    assert stopped.exit_code == 130
    assert f"stopped; continue with: trace sweep {spec} --out {spec.parent / 'out'}" in stopped.output
    assert len(rows(spec)) == 3
    monkeypatch.setattr(Counting, "given", [])
    monkeypatch.setattr(session, "local", lambda workers: Counting())
    assert sweep(spec, GRID).exit_code == 0
    assert sum(hasattr(item, "point") for item in Counting.given) == 13
    assert_frame_equal(rows(spec).drop("point"), rows(gridded).drop("point"), check_exact=True)
    Counting.given.clear()
    assert sweep(spec, GRID).exit_code == 0
    assert Counting.given == []


def test_another_specification_or_trace_is_refused_with_what_changed(gridded: Path) -> None:
    before = rows(gridded)
    refused = sweep(gridded, GRID.replace("load: [1, 1.5]", "load: [1, 2]"))
    assert refused.exit_code == 1
    assert "was begun with other settings: spec_load was [1,1.5] and is [1,2]; choose another --out" in refused.output
    refused = sweep(gridded, GRID + "limit: 100\n")
    assert "source_rows_kept was 240 and is 100" in refused.output
    gridded.write_text(GRID)
    assert_frame_equal(rows(gridded), before)


def test_a_point_that_fails_costs_no_other_and_is_tried_again(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = HEAD + "gpus: [1, 2]\n"
    big = "".join(f"  - {{name: {m}, preset: llama-3.1-8b, replicas: 2}}\n" for m in "abc")
    (spec.parent / "large.yaml").write_text(f"gpus: [{{type: h100}}]\nmodels:\n{big}")
    done = sweep(spec, text.replace("cluster.yaml", "large.yaml"), "--workers", "1")
    assert done.exit_code == 0, done.output
    table = rows(spec).sort("gpus")
    assert table["error"].is_null().to_list() == [False, True]
    assert "not all models fit" in table["error"][0]
    assert "1 failed: placement: not all models fit" in done.output
    monkeypatch.setattr(Counting, "given", [])
    monkeypatch.setattr(session, "local", lambda workers: Counting())
    assert sweep(spec, text.replace("cluster.yaml", "large.yaml")).exit_code == 0
    assert [item.point.gpus for item in Counting.given if hasattr(item, "point")] == [1]


def test_what_fails_every_point_is_said_at_once(spec: Path) -> None:
    (spec.parent / "other.yaml").write_text(
        "gpus: [{type: h100}]\nmodels: [{name: a, preset: llama-3.1-8b, serves: [a]}]\n"
    )
    failed = sweep(spec, HEAD.replace("cluster.yaml", "other.yaml"), "--workers", "1")
    assert failed.exit_code == 1
    assert "requests are for models that nobody serves, as 'b'" in failed.output
    failed = sweep(spec, HEAD + "search: {over: load, from: 1, to: 2}\n", "--workers", "1")
    assert failed.exit_code == 1


SEARCH = HEAD + "slo_scale: [4]\nseeds: [0, 1]\nload: [2]\nsearch: {over: gpus, from: 1, to: 4, attainment: 0.9}\n"


def test_a_search_ends_in_a_capacity_that_its_own_rows_bear_out(spec: Path) -> None:
    done = sweep(spec, SEARCH, "--workers", "1", "--json")
    assert done.exit_code == 0, done.output
    printed = orjson.loads(done.output)
    (found,) = printed["capacity"]
    means = {row["gpus"]: row["attainment"] for row in printed["means"]}
    fewest = found["capacity"]
    assert means[fewest] >= 0.9
    assert fewest == 1 or means[fewest - 1] < 0.9
    assert found["attainment"] == pytest.approx(means[fewest])
    assert len(printed["points"]) == 2 * found["tried"]
    query = CliRunner().invoke(
        main, ["query", "SELECT scheduler, capacity, monotone FROM capacity", "--sweep", str(spec.parent / "out")]
    )
    assert query.output.splitlines()[-1].split() == ["fcfs", f"{fewest:g}", str(found["monotone"])]


def test_the_query_of_the_readme_works(gridded: Path) -> None:
    sql = "SELECT placement, gpus, attainment_ttft, attainment_tpot FROM sweep ORDER BY point LIMIT 2"
    done = CliRunner().invoke(main, ["query", sql, "--sweep", str(gridded.parent / "out"), "--format", "json"])
    assert done.exit_code == 0, done.output
    assert set(orjson.loads(done.output)[0]) == {"placement", "gpus", "attainment_ttft", "attainment_tpot"}
    none = CliRunner().invoke(main, ["query", sql, "--sweep", str(gridded.parent)])
    assert "no sweep.json in it; name a folder that `trace sweep --out` made" in none.output


WORKLOAD = """
span_s: 20
streams:
  - {rate_per_s: 10, models: {shares: {a: 0.6, b: 0.3, c: 0.1}}, prompt_tokens: 100, output_tokens: 20}
"""


def test_a_workload_is_generated_anew_by_each_seed_at_the_load_that_is_asked_for(spec: Path) -> None:
    (spec.parent / "w.yaml").write_text(WORKLOAD)
    spec.write_text("workload: w.yaml\ncluster: cluster.yaml\nseeds: [0, 1]\n")
    source = Source(*load_sweep(spec))
    one, other, more = (requests(source, *at)[0] for at in ((0, 1.0), (1, 1.0), (0, 3.0)))
    assert not one.equals(other)
    assert len(one) == pytest.approx(200, abs=60)
    assert len(more) / len(one) == pytest.approx(3, abs=0.7)
    assert requests(source, 0, 1.0)[0].equals(one)


def test_seeds_keep_other_requests_and_whole_sessions(tiny: Path, spec: Path) -> None:
    spec.write_text(HEAD + "seeds: [0, 1]\nsample: 0.5\n")
    source = Source(*load_sweep(spec))
    kept = [set(requests(source, seed, 1.0)[0]["arrival_s"].diff().round(9).to_list()) for seed in (0, 1)]
    assert kept[0] != kept[1]
    assert all(90 < len(k) < 150 for k in kept)
