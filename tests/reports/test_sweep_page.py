"""A sweep's page: its answer is the table's, hostile text stays text, and a browser draws it quietly."""

import re
from html import unescape
from pathlib import Path

import polars as pl
import pytest
from browser import Browser
from synthetic_sweeps import make_sweep

from reports.sweep_charts import attainment_charts, policies, scale_axes
from reports.sweep_page import render
from toolkit.sweeps import SweepFolder, over_seeds


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return SweepFolder.open(make_sweep(tmp_path_factory.mktemp("sweep") / "s"))


@pytest.fixture(scope="module")
def page(swept: SweepFolder) -> str:
    return render(swept)


def headline(page: str) -> str:
    return unescape(re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)[1])


def test_the_answer_is_what_the_search_found(page: str) -> None:
    said = headline(page).replace("\u202f", " ")
    assert said == "prism:tau=1.2, fcfs serves it with 2 GPUs at 99 % attainment (load 1); static, fcfs needs 3."


def test_without_a_search_the_answer_is_where_policies_differ_most(tmp_path: Path) -> None:
    folder = SweepFolder.open(make_sweep(tmp_path / "s", search=False))
    page = render(folder)
    assert "How much is enough?" not in page
    assert re.match(r"prism:tau=1\.2, \w+ meets .* of objectives at .*, static, \w+ .*differ most\.", headline(page))


def test_policies_that_may_be_alike_are_not_ranked(tmp_path: Path) -> None:
    page = render(SweepFolder.open(make_sweep(tmp_path / "s", search=False, alike=True)))
    assert re.match(r"No difference between the policies is shown: .*, may be alike\.", headline(page))


def test_every_line_is_the_mean_over_seeds(swept: SweepFolder) -> None:
    means = over_seeds(swept.table())
    x, other = scale_axes(means)
    assert (x, other) == ("slo_scale_ttft", None)
    charts = attainment_charts(
        means, policies(means), "load", ("gpus", "slo_scale_ttft", "slo_scale_tpot"), "attainment", 0.99
    )
    assert [c.tab for c in charts] == [
        f"{g}, SLO × {s}" for g in ("1 GPU", "2 GPUs", "4 GPUs") for s in ("3", "5 / 2", "8 / 4")
    ]
    lines = [trace for trace in charts[3].figure.data if trace.mode == "lines+markers"]
    for policy, drawn in zip(policies(means), lines, strict=True):
        mine = swept.table().filter(
            (pl.col("placement") == policy.placement) & (pl.col("scheduler") == policy.scheduler)
            & (pl.col("gpus") == 2) & (pl.col("slo_scale_ttft") == 3)
        )  # fmt: skip
        assert list(drawn.y) == pytest.approx(
            mine.group_by("load").agg(pl.col("attainment").mean()).sort("load")["attainment"]
        )


def test_a_failed_point_is_said_and_its_combination_is_shown_without_it(page: str, swept: SweepFolder) -> None:
    assert "1 point failed: <bdi>not all models fit</bdi>" in page
    first = over_seeds(swept.table()).row(0, named=True)
    assert (first["seeds"], first["failed"]) == (2, 1)
    assert first["attainment"] is not None


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    page = render(SweepFolder.open(make_sweep(tmp_path / "s", hostile=True)))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_a_browser_draws_every_chart_without_a_word(
    browser: Browser, page: str, tmp_path: Path, width: int, dark: bool
) -> None:
    file = tmp_path / "index.html"
    file.write_text(page, encoding="utf-8")
    browser.open(file, width=width, dark=dark)
    browser.draw_all()
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('.plot svg .trace').length") >= 4 * 4
    assert browser.problems == []
    assert len([url for url in browser.requests if url.startswith(("file:", "http"))]) == 1


@pytest.mark.browser
def test_a_browser_finds_no_script_in_hostile_names(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text(render(SweepFolder.open(make_sweep(tmp_path / "s", hostile=True))), encoding="utf-8")
    browser.open(file, width=400)
    browser.draw_all()
    assert browser.evaluate("document.querySelectorAll('main script:not([type]), img, iframe').length") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
    assert browser.problems == []
