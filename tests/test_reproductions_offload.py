"""The offload paper's reproduction: the page is what is written now, and its tables and figures are whole."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.reproductions import offload, offload_costs, offload_curves
from benchmarks.reproductions.offload_claims import claims

PAPERS = Path(__file__).parents[1] / "docs" / "papers"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("papers")
    offload.main(["--out", str(folder)])
    return folder


def without_versions(text: str) -> str:
    return re.sub(r"(This page is written by `[^`]*`).*", r"\1", text)


def test_the_page_in_docs_is_the_one_that_is_written(out: Path) -> None:
    assert without_versions((out / "offload.md").read_text()) == without_versions((PAPERS / "offload.md").read_text())


def test_tables_are_whole_and_figures_well_formed(out: Path) -> None:
    text = (out / "offload.md").read_text()
    blocks = re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)
    assert len(blocks) == 14
    for block in blocks:
        rows = [row.split(" | ") for row in block.strip().splitlines()]
        assert {len(row) for row in rows} == {len(rows[0])}
        assert "nan" not in block
    shown = re.findall(r"\]\(figures/([^)]+)\)", text)
    assert len(shown) == 3
    for name in shown:
        assert ElementTree.fromstring((out / "figures" / name).read_text()).tag.endswith("svg")


def test_every_claim_has_a_verdict() -> None:
    assert len(claims()) == 10
    assert [row["claim of the paper"] for row in claims() if str(row["verdict"]).startswith("does not hold")] == []
    assert sum(str(row["verdict"]).startswith("holds only") for row in claims()) == 2


def test_the_measured_sweep_is_met_between_its_ends() -> None:
    off = [float(str(row["off, %"])) for row in offload_curves.public_sweep()]
    assert max(map(abs, off)) <= 5
    assert off[0] == off[-1] == 0


def test_faster_reloads_are_faster_at_every_size() -> None:
    machine = offload_costs.machine_preset("rtxa6000")
    fast = offload_costs.hastened(machine, 10)
    for size in (1e9, 10e9, 100e9):
        assert fast.load_s(size, 1, "naive") == pytest.approx(machine.load_s(size, 1, "naive") / 10)
