"""The page as text: it is self-contained, its numbers are the JSON's, hostile text stays text."""

import gzip
import json
import re
from base64 import b64decode
from html import unescape
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest
from click.testing import CliRunner
from synthetic_runs import HOSTILE, Recipe, make_run, outcomes

from reports import answer, words
from reports.attainment import Objectives
from reports.page import Chart, csv
from reports.run_page import Report, compute, draw, render
from reports.run_tables import metric_unit
from reports.trace_page import render as render_trace
from toolkit.cli import main
from toolkit.runs import RunWriter, find_runs
from toolkit.traces import TraceInfo

BLOCK = re.compile(r'<script type="application/(\w+)" id="([\w-]+)">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def page(two_page: str) -> str:
    return two_page


def cells(page: str) -> list[str]:
    """The text of every table cell."""
    return [
        unescape(re.sub(r"<[^>]+>", " ", c)).strip() for c in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", page, re.DOTALL)
    ]


def test_a_metric_is_told_in_seconds_where_its_tail_is_long() -> None:
    def told(p50: float, p99: float) -> str:
        return metric_unit([{"metrics": {"ttft_s": {"p50": {"value": p50}, "p99": {"value": p99}}}}], "ttft_s").name

    assert (told(0.05, 202), told(0.05, 0.3)) == ("s", "ms")


def test_the_page_holds_the_numbers_of_the_json(page: str, two: Report) -> None:
    shown = " ".join(cells(page))
    for metric in ("ttft_s", "tpot_s", "e2e_s", "queueing_delay_s", "slowdown"):
        unit = metric_unit(two.numbers, metric)
        for run in two.numbers:
            for name in ("p50", "p90", "p95", "p99", "mean"):
                assert unit.show(run["metrics"][metric][name]["value"]) in shown
    for row in two.differences["runs"][0]["differences"]:
        if row["shown"]:
            assert words.percent(row["relative"], signed=True) in shown


def test_the_headline_is_made_from_the_numbers(page: str, two: Report) -> None:
    headline = unescape(re.search(r"<h1>(.*?)</h1>", page)[1])
    row = next(
        r for r in two.differences["runs"][0]["differences"] if (r["metric"], r["statistic"]) == ("e2e_s", "p99")
    )
    assert headline.startswith("sjf raises P99 E2E from")
    for part in (row["relative"], row["relative_low"], row["relative_high"]):
        assert words.percent(part, signed=True) in headline
    assert "against fcfs at ρ = 0.900" in headline


def test_nothing_is_asked_of_the_network(page: str) -> None:
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1])
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "unsafe-eval" not in policy
    assert re.search(r"script-src 'sha256-[^ ]+' 'sha256-[^ ]+';", policy)
    without_data = BLOCK.sub("", page)
    assert not re.search(r'(src|href)="(?!#)', without_data)
    assert not re.search(r"url\((?!#)", without_data)


def test_every_chart_is_json_with_a_note_and_its_rows(page: str) -> None:
    blocks = {name: (kind, body) for kind, name, body in BLOCK.findall(page)}
    figures = re.findall(r'data-figure="([\w-]+)"', page)
    assert len(figures) == len(set(figures)) > 20
    for name in figures:
        figure = json.loads(blocks[name][1])
        assert figure["data"]
        rows = gzip.decompress(b64decode(blocks["d" + name[1:]][1])).decode().splitlines()
        assert len(rows) > 1
    assert all(re.findall(r'class="plot" role="img" aria-label="([^"]+)"', page))


def test_hostile_text_is_never_markup(hostile_page: str) -> None:
    page, text = hostile_page, BLOCK.sub("", hostile_page)
    for name in HOSTILE:
        if "<" in name:
            assert name not in text
    for _, _, body in BLOCK.findall(page):
        assert "<" not in body
    assert "\u202e" not in page
    assert "\\u202e" in page
    scripts = re.findall(r"<script[^>]*>", page)
    assert [s for s in scripts if "application/" not in s] == ["<script>"]


def test_a_group_that_only_one_run_has_leaves_a_gap(tmp_path: Path) -> None:
    for i, models in enumerate((("shared", "only here"), ("shared", "only there"))):
        make_run(tmp_path, Recipe(f"r{i}", requests=200, seed=i, models=models))
    page = render(find_runs([tmp_path]))
    assert "only here" in page
    assert "only there" in page


def test_an_unfinished_run_says_so_in_the_headline(hostile_page: str) -> None:
    assert "1 of 2 runs are unfinished" in re.search(r"<h1>(.*?)</h1>", hostile_page)[1]


def test_spreadsheets_see_no_formula() -> None:
    table = pl.DataFrame({"model": ["=cmd()", "+1", "-1", "@x", "\tx", "plain", None], "value": [1.23456789] * 7})
    lines = csv(table).decode().splitlines()
    assert [line.split(",")[0].strip('"') for line in lines[1:]] == [
        "'=cmd()",
        "'+1",
        "'-1",
        "'@x",
        "'\tx",
        "plain",
        "",
    ]
    assert lines[1].endswith("1.23457")


def test_a_figures_text_cannot_end_its_block() -> None:
    figure = go.Figure(go.Scatter(x=[1], y=[1], text=["</script>\u2028"]))
    made = Chart("x", "x", "x", figure, pl.DataFrame()).json
    assert "<" not in made
    assert json.loads(made)["data"][0]["text"] == ["</script>\u2028"]


def test_a_bare_run_is_reported_with_unknowns(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"request_id": [0, 1, 2], "status": ["ok", "error", "unfinished"], "arrival_s": [0.0, 1.0, 2.0]}
    )
    writer = RunWriter.create(tmp_path / "run", {"run_id": "x"})
    writer.append("outcomes", frame.with_columns(finish_s=pl.lit(3.0)))
    page = render(find_runs([tmp_path]))
    assert "unknown" in page
    assert "P99.9 needs" in page
    assert "No service-level objective is known" in page


def test_a_run_in_which_all_failed_is_reported(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"request_id": range(50), "status": ["error"] * 50, "arrival_s": [float(i) for i in range(50)]}
    )
    writer = RunWriter.create(tmp_path / "run", {"run_id": "x"})
    writer.append("outcomes", frame)
    page = render(find_runs([tmp_path]))
    assert "This run is unfinished: so far, none of 50 requests completed" in page


def test_one_and_two_requests_have_numbers_and_no_intervals(tmp_path: Path) -> None:
    make_run(tmp_path / "one", Recipe("one", 1, failed=0.0, saturated=0.4))
    make_run(tmp_path / "two", Recipe("two", 2, failed=0.0, saturated=0.4))
    report = compute(find_runs([tmp_path / "one", tmp_path / "two"]), Objectives())
    for run in report.numbers:
        assert run["metrics"]["e2e_s"]["p99"]["value"] > 0
        assert run["metrics"]["e2e_s"]["p99"]["low"] is None
    assert not any(row["shown"] for row in report.differences["runs"][0]["differences"])
    assert "No difference in P99 E2E is shown" in draw(report)
    assert "too few requests for an interval" in render(find_runs([tmp_path / "one"]))


def test_what_to_know_before_the_numbers_stands_above_them(tmp_path: Path) -> None:
    well = make_run(tmp_path, Recipe("well", 200, failed=0.0))
    ill = make_run(tmp_path, Recipe("ill", 200, failed=0.4))
    said = {"verdict": "CLIENT-BOUND", "validity": {"reasons": ["P99 send lag is 50 ms, and may be 10 ms"]}}
    RunWriter(ill, find_runs([ill])[0].info).update(**said)
    report = compute(find_runs([well, ill]), Objectives())
    above = unescape(draw(report)).partition('<div class="tiles">')[0].replace("\u202f", " ")
    above = above.replace("<bdi>", "").replace("</bdi>", "")
    ok = report.numbers[1]["ok"]
    share = words.percent(1 - ok / 200)
    assert f"ill failed to serve {share} of its requests".replace("\u202f", " ") in above
    assert f"its latencies are of the {ok} that completed" in above
    assert "ill is CLIENT-BOUND: P99 send lag is 50 ms, and may be 10 ms. Its numbers are of the sender" in above
    assert "well failed" not in above


def test_runs_of_other_requests_are_not_compared_without_a_word(tmp_path: Path) -> None:
    first, again = make_run(tmp_path, Recipe("first", 200)), make_run(tmp_path, Recipe("again", 200, short_first=True))
    other = make_run(tmp_path, Recipe("other", 150, seed=8))
    said = "(150 of synthetic <day>, not 200 of synthetic <day>): they differ by their traffic too."
    assert f"<bdi>other</bdi> was offered other requests than first {said}" in unescape(
        render(find_runs([first, again, other]))
    )
    assert "was offered other requests" not in render(find_runs([first, again]))


def test_a_group_in_which_all_failed_has_no_tail_and_keeps_its_row(tmp_path: Path) -> None:
    frame = outcomes(Recipe(requests=300, failed=0.0))
    lost = pl.col("tier") == "paid"
    times = [pl.when(~lost).then(c).alias(c) for c in ("start_s", "first_token_s", "finish_s", "alone_s")]
    frame = frame.with_columns(*times, status=pl.when(lost).then(pl.lit("rejected")).otherwise("status"))
    RunWriter.create(tmp_path / "run", {"run_id": "x"}).append("outcomes", frame)
    page = render(find_runs([tmp_path]))
    panels = [name for _, name, _ in BLOCK.findall(page) if name.startswith("f-panel-tier")]
    assert panels == ["f-panel-tier-0"]
    assert "paid" in cells(page)


def test_what_a_run_notes_of_itself_is_shown(tmp_path: Path) -> None:
    path = make_run(tmp_path, Recipe(requests=80))
    RunWriter(path, find_runs([path])[0].info).update(notes=["priority is ignored by http://<b>here</b>"])
    shown = render(find_runs([path]))
    assert "Noted by the run: <bdi>priority is ignored by http://&lt;b&gt;here&lt;/b&gt;</bdi>." in shown


def test_nine_runs_keep_their_colours_and_stay_small(tmp_path: Path) -> None:
    for i in range(9):
        make_run(tmp_path, Recipe(f"policy-{i}", requests=150, seed=3))
    page = render(find_runs([tmp_path]))
    assert len(page.encode()) < 5_000_000
    assert "var(--run-7)" in page


def test_the_command_writes_a_page_and_prints_the_numbers(two_runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    arguments = ["report", str(two_runs / "a"), str(two_runs / "b"), "--slo-e2e", "20", "--json", "--out", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    expected = compute(find_runs([two_runs / "a", two_runs / "b"]), Objectives(e2e_s=20.0)).to_dict()
    assert json.loads(result.stdout) == json.loads(json.dumps(expected))
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_command_fails_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "no run.json in it or below" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_page_that_cannot_be_written_is_one_line(two_runs: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(two_runs / "a"), "--out", str(tmp_path / "no" / "r.html")])
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1234.5, "1 230"),
        (0.012345, "0.0123"),
        (99.96, "100"),
        (-3.456, "−3.46"),
        (None, "–"),
        (9.999, "10.0"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, shown: str) -> None:
    assert words.number(value).replace("\u202f", " ") == shown


@pytest.mark.parametrize(("share", "shown"), [(1.0, "100 %"), (0.99999, "99.99 %"), (0.5, "50.0 %"), (0.0, "0 %")])
def test_a_hundred_percent_means_all(share: float, shown: str) -> None:
    assert words.percent(share).replace("\u202f", " ") == shown


def test_no_difference_is_said_when_none_is_shown(two_runs: Path) -> None:
    report = compute(find_runs([two_runs / "a"]))
    same = {"base": "a", "runs": [{"name": "b", "differences": [], "paired": True}]}
    found = {"metric": "e2e_s", "statistic": "p99", "shown": False, "relative": 0.1}
    same["runs"][0]["differences"] = [found]
    said = answer.answer([report.numbers[0]] * 2, same, None, "0.9")
    assert said == "no difference in P99 E2E is shown between a and b."


def test_the_trace_page_draws_what_there_is_and_escapes_it() -> None:
    info = TraceInfo(HOSTILE[0], "csv", "00", 12, 10, {HOSTILE[3]: 2}, span_s=90.0, notes=(HOSTILE[2],))
    rates = pl.DataFrame({"start_s": [0.0, 10.0], "window_s": [10.0] * 2, "requests": [4, 6], "rate_per_s": [0.4, 0.6]})
    models = pl.DataFrame({"rank": [1, 2], "model": list(HOSTILE[:2]), "requests": [6, 4], "share": [0.6, 0.4]})
    tables = {
        "arrivals": {"rate": rates, "summary": pl.DataFrame({"rate_per_s": [0.5], "span_s": [90.0], "note": ["odd"]})},
        "popularity": {"models": models, "tenants": models.clear()},
        "a third party's": {HOSTILE[1]: pl.DataFrame({HOSTILE[2]: [HOSTILE[3]] * 30})},
        "sessions": {"turns": pl.DataFrame()},
    }
    page = render_trace(tables, info)
    text = BLOCK.sub("", page)
    assert "10 requests over 90.0 s, 0.500 a second, to 2 models" in text
    assert not any(name in text for name in HOSTILE if "<" in name)
    assert "12 read = 10 kept + 2 dropped" in text
    assert len(re.findall('data-figure="', text)) == 2
    assert "10 more rows are in the data" in text


def test_a_file_that_is_no_page_is_not_written_over(two_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s\n0\n")
    words = ["report", str(two_runs / "a"), "--out"]
    for _ in range(2):  # a page may be written again
        assert CliRunner().invoke(main, [*words, str(tmp_path / "p.html")]).exit_code == 0
    refused = CliRunner().invoke(main, [*words, str(tmp_path / "t.csv")])
    assert "t.csv: is there already and is no page" in refused.output
    assert (tmp_path / "t.csv").read_text() == "arrival_s\n0\n"


def test_metrics_are_named_as_in_a_sentence() -> None:
    assert [words.named(metric) for metric in ("e2e_s", "queueing_delay_s", "slowdown")] == [
        "E2E",
        "queueing delay",
        "slowdown",
    ]
