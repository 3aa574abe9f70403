"""What other step times would do: the band's numbers, its lines and sentences, and its absence."""

import json
import re
from html import unescape
from pathlib import Path

import polars as pl
import pytest
from synthetic_runs import HOSTILE, Recipe, make_run

from reports import run_charts, sensitivity
from reports.attainment import Objectives
from reports.measured import measure
from reports.numbers import PERCENTILES
from reports.page import Chart
from reports.run_page import Report, compute, draw
from reports.words import unit_for
from toolkit.runs import Run, RunWriter, find_runs

METRICS = ("ttft_s", "tpot_s", "e2e_s", "queueing_delay_s", "slowdown")


@pytest.fixture(scope="module")
def page(two_page: str) -> str:
    return unescape(two_page).replace("\u202f", " ")


def tails(report: Report) -> dict[str, Chart]:
    units = {m: unit_for(m, [1.0]) for m in METRICS}
    return {c.tab: c for c in run_charts.tails(report.stats, units, report.objectives)}


def dashes(chart: Chart) -> list[str]:
    return [t["line"]["dash"] for t in chart.figure.to_dict()["data"] if t.get("line", {}).get("width") == 1]


def numbers(name: str, moved: float | None, metric: str = "e2e_s") -> dict:
    """As much of a run's numbers as the warning reads: P99 is 10 s, and `moved` of it more with slower steps."""
    empty = {"p99": None, "step_time": None}
    steps = None if moved is None else {"0.95": {"p99": 10 * (1 - moved / 2)}, "1.05": {"p99": 10 * (1 + moved)}}
    found = {"p99": {"value": 10.0}, "step_time": steps}
    return {"name": name, "metrics": dict.fromkeys(METRICS, empty) | {metric: found}}


def test_the_numbers_hold_the_percentiles_under_other_step_times(two: Report) -> None:
    plain, moved = two.numbers
    assert plain["near_saturation"] is None
    assert moved["near_saturation"] is True
    assert all(plain["metrics"][m]["step_time"] is None for m in METRICS)
    found = moved["metrics"]["e2e_s"]
    assert found["step_time"].keys() == {"0.9", "0.95", "1.05", "1.1"}
    for scale, factor in {"0.9": 0.6, "0.95": 0.8, "1.05": 1.4, "1.1": 1.8}.items():
        for name in ("p50", "p90", "p95", "p99"):
            assert found["step_time"][scale][name] == pytest.approx(factor * found[name]["value"])
        assert "p99_9" not in found["step_time"][scale]  # 3,000 requests
    assert sensitivity.p99_range(found) == pytest.approx((0.8 * found["p99"]["value"], 1.4 * found["p99"]["value"]))
    assert moved["metrics"]["slowdown"]["step_time"] is None
    assert (moved["utilisation"], moved["limits"]["kv_blocks"]) == (0.9, 4096)


def test_the_tail_has_four_thin_lines_for_a_run_with_the_table_and_none_for_one_without(two: Report) -> None:
    charts = tails(two)
    assert dashes(charts["E2E"]) == ["1px,3px", "4px,3px", "4px,3px", "1px,3px"]
    assert dashes(charts["Slowdown"]) == []
    rows = charts["E2E"].data
    assert rows.filter(run="fcfs")["step_time_scale"].unique().to_list() == [1.0]
    other = rows.filter(pl.col("run") == "sjf", pl.col("step_time_scale") != 1)
    assert sorted(other["step_time_scale"].unique()) == [0.9, 0.95, 1.05, 1.1]
    assert other["low"].null_count() == other.height
    assert other["level"].max() <= 1 - 1 / two.stats[1].tallies["e2e_s"].n


def test_the_note_says_what_the_lines_are(two: Report) -> None:
    charts = tails(two)
    note = charts["E2E"].note.replace("\u202f", " ")
    own = two.numbers[1]["metrics"]["e2e_s"]["p99"]["value"]
    unit = unit_for("e2e_s", [1.0])
    would = rf"Were every step 5 % slower, P99 E2E would be ([\d.]+) s instead of {unit.spell(own)} in sjf\."
    assert float(re.search(would, note)[1]) == pytest.approx(1.4 * own, rel=0.02)
    assert note.count("Dashed: every step 5 % faster and slower; dotted: 10 %.") == 1
    assert "Dashed" not in charts["Slowdown"].note


def test_the_page_warns_and_shows_the_range_of_p99(page: str, two: Report) -> None:
    assert re.search(
        r'<p class="warn">Near saturation: were every step 5 % slower, P99 E2E would be .* in sjf \(\+40.0 %\)', page
    )
    assert page.index("Near saturation") < page.index('class="tiles"')
    assert page.count("<small>±5 %: ") == 4  # the metrics of the table, of one run
    assert "same replay again with every step" in page
    assert "Engine limits: <bdi>kv_blocks 4096, block_tokens 16, max_num_seqs 256" in page
    assert "; load ρ 0.900</bdi>" in page


def test_a_run_far_from_saturation_has_its_range_and_no_warning(tmp_path: Path) -> None:
    report = compute([Run.open(make_run(tmp_path, Recipe(requests=400, saturated=0.06)))])
    page = draw(report)
    assert report.numbers[0]["near_saturation"] is False
    assert "Near saturation" not in page
    assert page.count("<p>steps ±5 %: ") == 3


def test_a_page_without_the_table_says_nothing_of_step_times(tmp_path: Path) -> None:
    page = draw(compute([Run.open(make_run(tmp_path, Recipe(requests=300)))]))
    for word in ("±5", "Dashed", "Near saturation", "same replay again"):
        assert word not in page


def test_the_warning_names_the_runs_that_move_most_and_counts_the_rest() -> None:
    some = [numbers(f"r{i}", 0.3 + i / 10) for i in range(5)]
    said = sensitivity.warning([*some, numbers("calm", 0.24), numbers("unknown", None)]).replace("\u202f", " ")
    assert re.findall(r"in (\w+) \(", said) == ["r4", "r3", "r2"]
    assert "; and so for 2 more." in said
    assert sensitivity.warning([numbers("calm", 0.25), numbers("unknown", None)]) == ""


def test_the_warning_of_one_run_takes_the_first_metric_that_moves_too_far_in_either_direction() -> None:
    said = sensitivity.warning([numbers("r", -0.4, "ttft_s")]).replace("\u202f", " ")
    assert said.startswith(
        "Near saturation: were every step 5 % slower, P99 TTFT would be 6.00 s instead of 10.0 s (−40"
    )
    both = numbers("r", 0.9, "ttft_s")
    both["metrics"]["e2e_s"] = numbers("r", 0.3)["metrics"]["e2e_s"]
    assert "P99 E2E would be 13.0 s instead of 10.0 s" in sensitivity.warning([both])


def test_a_table_in_part_gives_what_it_holds(tmp_path: Path) -> None:
    path = make_run(tmp_path, Recipe(requests=300))
    rows = {"step_time_scale": [0.95, 0.95, 1.2, 1.1], "metric": ["e2e_s"] * 4, "quantile": [0.5, 0.99, 0.99, 0.9]}
    part = pl.DataFrame(rows | {"value": [1.0, 2.0, 3.0, float("nan")]})
    RunWriter(path, Run.open(path).info).append("sensitivity", part)
    run = measure(Run.open(path), "r")
    found = sensitivity.percentiles(sensitivity.curves(run, "e2e_s"), PERCENTILES)
    assert found == {"0.95": {"p50": 1.0, "p90": None, "p95": None, "p99": 2.0, "p99_9": None}}
    page = draw(compute([run.run], Objectives()))
    assert "Dashed" in page
    assert "Were every step" not in page


def test_above_three_runs_the_chart_keeps_the_inner_lines_alone(tmp_path: Path) -> None:
    for i in range(4):
        make_run(tmp_path, Recipe(f"r{i}", requests=200, seed=3, saturated=0.1))
    chart = tails(compute(find_runs([tmp_path])))["TTFT"]
    assert set(dashes(chart)) == {"4px,3px"}
    assert len(dashes(chart)) == 8
    assert "dotted" not in chart.note


def test_a_hostile_name_stays_text_in_the_warning_and_the_lines(tmp_path: Path) -> None:
    for i, name in enumerate(HOSTILE[:2]):
        make_run(tmp_path, Recipe(name, requests=300, seed=i, saturated=0.5))
    report = compute(find_runs([tmp_path]))
    assert "in &lt;script&gt;" in re.search(r'<p class="warn">(.*?)</p>', draw(report))[1]
    assert "<script" not in json.dumps([t.hovertemplate for c in tails(report).values() for t in c.figure.data])
