"""The sweep behind docs/which-scheduler.md in small: its structure, and how a cell is judged."""

from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from benchmarks.reproductions import which_runs, which_scheduler
from benchmarks.reproductions.map_drawing import grid


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a sweep of 40 requests a cell writes, without real traces."""
    out = tmp_path_factory.mktemp("which")
    given = ["--seeds", "2", "--requests", "20", "--workers", "1", "--out", str(out), "--traces", str(out / "absent")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(which_runs, "LOADS", (0.9,))
        patch.setattr(which_runs, "MEMORY", {"tight": 0.15})
        which_scheduler.main(given)
    return out


def test_every_cell_has_fcfs_and_its_load(written: Path) -> None:
    text = (written / which_scheduler.PAGE).read_text()
    cells = [line for line in text.splitlines() if line.startswith("| generated")]
    assert len(cells) == 3 * 3 + 2 * 2  # aims × traffics, and traffics × loads of the errors
    assert text.count("against fcfs |") == 3
    assert text.count("(fcfs ") == 4


def test_the_maps_are_drawn(written: Path) -> None:
    for aim in which_scheduler.AIMS:
        root = ElementTree.parse(written / which_scheduler.FIGURES / f"which-{aim}.svg").getroot()
        assert root.tag.endswith("svg")


def _cell(**e2e_s: list[float]) -> pl.DataFrame:
    rows = [
        {"policy": name, "seed": seed, "e2e_mean": value, "e2e_p99": 2 * value, "ttft_p99": 1.0}
        for name, values in e2e_s.items()
        for seed, value in enumerate(values)
    ]
    return pl.DataFrame(rows)


def test_a_cell_is_judged_by_pairs_and_fcfs_is_kept_where_nothing_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(which_runs, "ORACLES", ("oracle",))
    cell = _cell(fcfs=[10.0, 20.0, 30.0], sjf=[8.0, 16.0, 24.0], las=[8.1, 15.9, 24.1], oracle=[5.0, 10.0, 15.0])
    found = which_scheduler.verdict(cell, "e2e_mean")
    assert (found.winner, found.runner_up, found.ties) == ("sjf", "las", ("las",))
    assert found.against_fcfs == pytest.approx(-0.2)
    assert found.oracle == pytest.approx(-0.375)
    assert found.choice[0] == "sjf"
    close = which_scheduler.verdict(_cell(fcfs=[10.0, 20.0], sjf=[9.9, 19.9], oracle=[9.0, 9.0]), "e2e_mean")
    assert close.winner == "sjf"
    assert close.choice == ("fcfs", "nobody gains 2 %")


def test_names_never_become_markup() -> None:
    text = grid("t", ["<script>"], {"a & b": [("<b>", "x")]}, ["<b>"])
    assert "<script>" not in text
    ElementTree.fromstring(text)
