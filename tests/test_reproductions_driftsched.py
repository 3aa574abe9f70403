"""DriftSched's reproduction in small: the page's structure, and what must hold at any size."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from benchmarks.reproductions import driftsched
from benchmarks.reproductions.drawing import Bars, Line, bars, lines
from benchmarks.reproductions.driftsched_claims import judged
from benchmarks.reproductions.driftsched_runs import REST_S, Setting, case, replay, settings
from benchmarks.reproductions.driftsched_workload import LEARNING, STRESS, TEMPLATES, TOPICS, Phase, requests
from benchmarks.reproductions.replaying import trace_of
from benchmarks.reproductions.tables import Estimate, change, over_seeds
from replay.schedulers.drift_estimator import BASE_TOKENS, categories

SMALL = (LEARNING.sized(100), STRESS.sized(200))
SAFETY = {"premium": 1.2, "standard": 1.0, "batch": 0.8}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the quick variant writes."""
    out = tmp_path_factory.mktemp("papers")
    driftsched.main(["--quick", "--workers", "1", "--out", str(out), "--traces", str(out / "absent")])
    return (out / "driftsched.md").read_text(), out


def tables(text: str) -> list[list[list[str]]]:
    """The page's tables as rows of cells."""
    blocks = re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)
    return [[[c.strip() for c in row.strip("|").split(" | ")] for row in b.strip().splitlines()] for b in blocks]


def test_every_table_is_whole_and_names_its_load(page: tuple[str, Path]) -> None:
    found = tables(page[0])
    assert len(found) >= 18
    for table in found:
        assert {len(row) for row in table} == {len(table[0])}
        assert not any(cell == "nan" or "{" in cell for row in table for cell in row)
        if "gaps, s" not in table[0]:
            assert any("ρ" in name for name in table[0]), table[0]


def test_the_page_tells_command_seeds_and_versions(page: tuple[str, Path]) -> None:
    head = page[0].split("## The claims")[0]
    assert "make reproduce-driftsched" in head
    assert "seeds 0 to 1" in head
    assert re.search(r"polars \d.*numpy \d.*numba \d", head)
    assert "Left out: the public traces were not there" in page[0]


def test_every_figure_the_page_shows_is_there_and_well_formed(page: tuple[str, Path]) -> None:
    shown = re.findall(r"\]\((figures/[^)]+)\)", page[0])
    assert len(shown) == 8
    for name in shown:
        root = ElementTree.fromstring((page[1] / name).read_text())
        assert root.tag.endswith("svg")
        assert "nan" not in (page[1] / name).read_text()


def test_aging_is_priority_and_fifo_is_fcfs_in_every_table(page: tuple[str, Path]) -> None:
    compared = 0
    for table in tables(page[0]):
        rows = {row[0]: row[1:] for row in table if table[0][0] == "policy"}
        if "Aging" in rows:
            assert rows["Aging"] == rows["Priority"]
            compared += 1
        if "FCFS" in rows:
            assert rows["FIFO"] == rows["FCFS"]
    assert compared == 8
    assert "0 requests of the learning phase and 0 requests of the stress phase" in page[0]


def test_budgets_are_what_the_published_formula_gives_and_nothing_later() -> None:
    """Every estimate of a synchronous FIFO replay, worked out again from what had ended when its request arrived."""
    on = case("synchronous", "30 ms", 3, SMALL)
    found, _ = replay(Setting("synchronous", "FIFO", 3), on)
    names = list(BASE_TOKENS)
    kind = [names[number] for number in categories(on.trace)]
    ended = found.sort("finish_s", "request_id").select("request_id", "finish_s", "output_tokens").rows()
    expected = []
    for row in on.trace.iter_rows(named=True):
        category, base = kind[row["request_id"]], BASE_TOKENS[kind[row["request_id"]]]
        bias = 1.0
        for other, finish_s, tokens in ended:
            if finish_s <= row["arrival_s"] and kind[other] == category:
                bias = 0.9 * bias + 0.1 * min(max(int(0.75 * tokens) / base, 0.25), 3.0)
        words = int(0.75 * row["prompt_tokens"])
        expected.append(int(base * bias * SAFETY[row["tier"]] * min(1.5, 1 + words / 1000)))
    off = found["predicted_output_tokens"].to_numpy() - np.array(expected)
    assert np.abs(off).max() <= 1  # where a product lies on a whole number, the order of factors decides
    assert (off == 0).mean() > 0.99
    assert len(set(expected)) > 20  # biases did move


def test_a_longer_span_than_a_tier_is_worth_parts_aging_from_priority() -> None:
    from benchmarks.reproductions.driftsched_runs import engine
    from benchmarks.reproductions.driftsched_studies import moved

    phase, served = STRESS.sized(300), engine("synchronous")
    span = moved(phase, 0, served)["span"]
    assert moved(phase, 0, served, patience_s=span)["moved"] == 0
    assert moved(phase, 0, served, patience_s=span / 4)["moved"] > 0


def test_the_same_seed_gives_the_same_replay_and_the_phases_do_not_meet() -> None:
    first, second = (case("synchronous", "30 ms", 1, SMALL) for _ in range(2))
    assert first.trace.equals(second.trace)
    assert first.rho == second.rho
    setting = Setting("synchronous", "SJF", 1)
    made = [replay(setting, on)[0] for on in (first, second)]
    assert made[0].equals(made[1])
    learnt = made[0].filter(pl.col("phase") == "learning")["finish_s"].max()
    assert learnt + REST_S <= first.trace["arrival_s"][SMALL[0].requests]


def test_all_policies_are_replayed_on_the_papers_engine_by_both_units() -> None:
    specs = {setting.spec for setting in settings("synchronous", "30 ms", 0)}
    assert len(specs) == 14
    assert {"fcfs", "sjf", "driftsched-aging:unit=tokens,adaptive=true"} <= specs


def test_templates_have_their_categorys_keywords() -> None:
    for place, (kind, texts) in enumerate(TEMPLATES.items()):
        assert kind == list(BASE_TOKENS)[place]
        prompts = [text.format(topic) for text in texts for topic in TOPICS]
        rows = pl.DataFrame({"arrival_s": 0.0, "prompt": prompts})
        assert set(categories(trace_of(rows, "test")[0])) == {place}
    assert len(TOPICS) == 59


def test_the_workload_is_the_protocols() -> None:
    phase = Phase("test", 20_000, (0.005, 0.030), (0.10, 0.20, 0.40, 0.30))
    made = requests(phase, np.random.default_rng(0))
    gaps = made["arrival_s"].diff().drop_nulls()
    assert 0.005 <= gaps.min() < gaps.max() <= 0.030
    numbers = categories(trace_of(made, "test")[0])
    assert np.abs(np.bincount(numbers) / len(made) - phase.mix).max() < 0.02
    cap = np.array([*BASE_TOKENS.values()])[numbers]
    output = made["output_tokens"].to_numpy()
    assert (output <= cap).all()
    assert abs((output < cap).mean() - 0.25) < 0.02
    assert (output / cap).min() >= 0.1


def test_intervals_and_verdicts() -> None:
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.mean, round(found.high - found.mean, 3)) == (2.0, 2.484)
    assert change([2.0, 3.0], [4.0, 4.0]).mean == -0.375
    assert judged(Estimate(-0.45, -0.5, -0.4), -0.42) == "holds"
    assert judged(Estimate(-0.8, -0.9, -0.7), -0.4) == "holds in direction, larger here"
    assert judged(Estimate(0.1, 0.05, 0.15), -0.4) == "does not hold"
    assert judged(Estimate(-0.1, -0.9, 0.7), -0.4) == "cannot be told with so few seeds"


def test_figures_escape_names_and_leave_out_what_is_not_there() -> None:
    drawn = lines("a < b", "x & y", "y", [Line("<script>", [1, 2, 3], [1, float("nan"), 3])], log_x=True)
    assert "<script>" not in drawn
    assert len(ElementTree.fromstring(drawn).find(".//{*}polyline").get("points").split()) == 2
    drawn = bars("t", ["a", "b"], "y", [Bars("n", [1.0, float("nan")], [0.5, 0.5], [1.5, 1.5])])
    assert len(ElementTree.fromstring(drawn).findall(".//{*}rect")) == 3  # the ground, the legend, one bar
