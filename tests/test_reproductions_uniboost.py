"""UniBoost's reproduction, small: what is in its page, and what must be true of its figures."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.reproductions import uniboost
from benchmarks.reproductions.replaying import rows_of_all
from benchmarks.reproductions.tables import Estimate
from benchmarks.reproductions.uniboost_claims import FULL
from benchmarks.reproductions.uniboost_mixes import MIXES, at_load, rows
from benchmarks.reproductions.uniboost_page import write_page
from benchmarks.reproductions.uniboost_readings import squarely
from benchmarks.reproductions.uniboost_runs import run
from benchmarks.reproductions.uniboost_saturation import knee
from benchmarks.reproductions.uniboost_tables import above, below, change
from toolkit.protocols import ServiceCosts

SMALL = uniboost.Size(40, 40, 1, (0.9, 1.05))
NOWHERE = Path("no traces here")


@pytest.fixture(scope="module")
def found() -> pl.DataFrame:
    return rows_of_all(run, uniboost.cases(SMALL, NOWHERE), 1, lambda done, total: None)


@pytest.fixture(scope="module")
def page(found: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("papers")
    write_page(found, folder, "make reproduce-uniboost QUICK=--quick")
    text = (folder / "uniboost.md").read_text()
    figures = {line.split("(")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")}
    assert figures
    assert figures == {f"figures/{path.name}" for path in (folder / "figures").iterdir()}
    return text


def test_every_part_has_every_seed_and_fcfs(found: pl.DataFrame) -> None:
    cells = found.group_by("part", "workload", "engine", "rho").agg(pl.col("policy"), pl.col("seed").n_unique())
    assert {"loads", "detail", "gamma", "wrong", "open", "recompute", "prefill-first"} == set(cells["part"])
    assert all("FCFS" in policies for policies in cells["policy"])
    assert set(found["workload"]) == set(MIXES)  # the Azure traces are not there


def test_without_a_boost_it_is_fcfs(found: pl.DataFrame) -> None:
    figures = [name for name in found.columns if name.startswith(("ttlt", "ttft", "tpot", "tokens", "preempt"))]
    fcfs, unboosted = (found.filter(part="gamma", policy=name).select(figures) for name in ("FCFS", "base inf"))
    assert len(fcfs)
    assert fcfs.equals(unboosted)


def test_the_page_says_how_it_was_made(page: str) -> None:
    assert "make reproduce-uniboost QUICK=--quick" in page
    assert "polars" in page
    assert "seeds 0 to 0" in page
    assert "holds" in page
    assert "−35 … −50 %" in page


def test_every_table_has_fcfs_and_every_place_its_load(page: str) -> None:
    tables = [part for part in page.split("\n\n") if part.lstrip().startswith("| policy")]
    assert len(tables) > 20
    assert all("| FCFS |" in table for table in tables)
    for title in [line for line in page.splitlines() if line.startswith("### mix")]:
        after = page.split(title, 1)[1].split("###")[0]
        assert "ρ = " in title or "ρ = " in after


def test_the_same_seed_gives_the_same_figures(found: pl.DataFrame) -> None:
    case = next(case for case in uniboost.cases(SMALL, NOWHERE) if case.part == "loads")
    again = pl.DataFrame(run(case), infer_schema_length=None)
    first = found.filter(part="loads", workload=case.workload, engine=case.engine, rho=case.rho)
    assert first.select(again.columns).equals(again.cast(dict(first.select(again.columns).schema)))


def test_the_load_is_the_work_over_the_span() -> None:
    costs = ServiceCosts(0.001, 0.01, 0.02, 0.001)
    trace, info = at_load(rows("mix-1", 50, 0, NOWHERE), 0.8, costs, "mix-1")
    work_s = 0.001 * trace["prompt_tokens"].sum() + 0.01 * trace["output_tokens"].sum()
    assert info.span_s is not None
    assert work_s / info.span_s == pytest.approx(0.8)


def test_saturation_lies_between_the_loads_around_it() -> None:
    curve = pl.DataFrame({"policy": "FCFS", "seed": 0, "rho": [0.5, 0.9, 1.0], "ttlt_mean": [10.0, 15.0, 25.0]})
    assert knee(curve, "FCFS") == pytest.approx(0.95)
    assert np.isnan(knee(curve.filter(pl.col("rho") < 1), "FCFS"))


def test_a_change_counts_when_its_interval_leaves_one_out() -> None:
    assert below(Estimate(0.8, 0.7, 0.9))
    assert not below(Estimate(0.8, 0.6, 1.01))
    assert above(Estimate(1.2, np.nan, np.nan))
    assert not above(Estimate(1.2, 0.9, 1.5))
    assert change(Estimate(0.65, 0.6, 0.7)) == "-35 % [-40, -30]"
    assert change(Estimate(20.0, 10.0, 40.0)) == "20.0×"


def test_a_mean_is_higher_where_its_interval_is() -> None:
    def replays(rho: float, means: list[float]) -> list[dict[str, object]]:
        where = {"part": "loads", "workload": "mix-1", "engine": "memory-rich", "rho": rho}
        figures = {"ttlt_p99": 1.0, "ttft_p99": 1.0}
        return [
            {**where, **figures, "policy": policy, "seed": seed, "ttlt_mean": mean if policy == FULL else 1.0}
            for seed, mean in enumerate(means)
            for policy in (FULL, "TRAIL+", "FCFS")
        ]

    loads = pl.DataFrame([*replays(0.9, [1.1, 1.11]), *replays(1.0, [0.9, 1.2])])
    assert squarely(loads)["costlier"] == "1"
