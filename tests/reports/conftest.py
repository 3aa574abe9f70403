"""Runs, pages and a browser for the report's tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from synthetic_runs import HOSTILE, Recipe, make_run

from reports.attainment import Objectives
from reports.run_page import Report, compute, draw, render
from toolkit.runs import find_runs

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs of the same 3,000 requests; the second was replayed with other step times too."""
    folder = tmp_path_factory.mktemp("two")
    make_run(folder / "a", Recipe("fcfs"))
    make_run(folder / "b", Recipe("sjf", short_first=True, saturated=0.4))
    return folder


@pytest.fixture(scope="session")
def two(two_runs: Path) -> Report:
    return compute(find_runs([two_runs / "a", two_runs / "b"]), Objectives(e2e_s=20.0))


@pytest.fixture(scope="session")
def hostile_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs whose names, models and tenants are hostile; one is unfinished."""
    folder = tmp_path_factory.mktemp("hostile")
    make_run(folder, Recipe(HOSTILE[0], 600, models=HOSTILE, state="running"))
    make_run(folder, Recipe(HOSTILE[5], 700, seed=8, models=HOSTILE))
    return folder


@pytest.fixture(scope="session")
def two_page(two: Report) -> str:
    return draw(two)


@pytest.fixture(scope="session")
def hostile_page(hostile_runs: Path) -> str:
    return render(find_runs([hostile_runs]))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = next((found for name in NAMES if (found := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed")
    opened = Browser(chromium, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
