"""docs/findings.md speaks of every public trace, its figures are there, and a page of our own data is right."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.findings import look
from benchmarks.findings_cause import split, strata
from benchmarks.findings_page import page

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "findings.md").read_text()


def test_every_folder_of_traces_is_named(shared_traces: Path) -> None:
    folders = sorted(p.name for p in shared_traces.iterdir() if p.is_dir())
    assert folders
    assert [name for name in folders if name not in PAGE] == []


def test_every_figure_is_there_and_shown() -> None:
    shown = set(re.findall(r"\(figures/(findings-[\w-]+\.svg)\)", PAGE))
    assert shown == {file.name for file in (DOCS / "figures").glob("findings-*.svg")}


def test_links_into_the_page_meet_headings() -> None:
    headings = {
        "".join(c for c in line[3:].lower() if c.isalnum() or c in " -_").replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("## ")
    }
    links = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert links
    assert links <= headings


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A trace whose outputs are short for the middle third, only because short prompts are asked then; and a text."""
    rng = np.random.default_rng(5)
    n = 6_000
    low = np.arange(n) // 2_000 == 1
    long = rng.random(n) < np.where(low, 0.2, 0.8)
    lines = ["arrival_s,prompt_tokens,output_tokens,model,tenant"]
    for i, is_long in enumerate(long):
        prompt, output = rng.integers(900, 1_100) if is_long else rng.integers(90, 110), rng.integers(80, 120)
        lines.append(f"{i / 10},{prompt},{output * (4 if is_long else 1)},m{i % 2},t{rng.integers(3)}")
    for name in ("first", "again"):
        (tmp_path / "ours").mkdir(exist_ok=True)
        (tmp_path / "ours" / f"{name}.csv").write_text("\n".join(lines))
    (tmp_path / "ours" / "words.csv").write_text("hello\nworld\n")
    return tmp_path


def test_a_page_of_our_own_tells_the_drift_the_repeat_and_the_refused(own: Path) -> None:
    text, figures = page(look(own), np.random.default_rng(0))
    assert "## ours / again.csv" in text
    assert "- ours/first.csv has the lengths of ours/again.csv" in text
    assert "- ours/words.csv: " in text
    assert re.search(r"\| output \| \*\*drift\*\*, 2 changes \|", text)
    assert "findings-ours-again-output" in figures
    assert "none** among the 2 models tested" in text


def test_a_mix_is_told_as_a_mix_and_own_change_as_own(own: Path) -> None:
    frame = (
        pl.read_csv(own / "ours" / "first.csv")
        .with_row_index("request_id")
        .with_columns(pl.col("request_id").cast(pl.Int64))
    )
    inside = np.arange(frame.height) // 2_000 == 1
    by = strata(frame, "prompt_tokens", 32)
    assert by is not None
    mixed = split(frame, ~inside, inside, by, np.random.default_rng(0))
    assert mixed.low < mixed.mix < mixed.high
    assert mixed.mix > 0.9
    halved = frame.with_columns(output_tokens=pl.col("output_tokens") // (1 + pl.lit(inside)).cast(pl.Int64))
    scrambled = frame["prompt_tokens"].sample(fraction=1, shuffle=True, seed=2)
    unrelated = strata(halved.with_columns(scrambled), "prompt_tokens", 32)
    assert unrelated is not None
    assert split(halved, ~inside, inside, unrelated, np.random.default_rng(0)).mix < 0.1
