"""The recipes of CONTRIBUTING.md, run as they stand there: one file and one line each."""

import re
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from toolkit import plugins
from toolkit.analyses import analyse
from toolkit.traces import Trace, read_trace

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
RECIPE = re.compile(r"`(\w+/\w+/\w+\.py)`:\n```python\n(.+?)```.+?```python\n\"(\w+)\": \"(.+?)\",\n```", re.DOTALL)
RECIPES = {name: (file, code, target) for file, code, name, target in RECIPE.findall(TEXT)}


def follow(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what the recipe says: the module at its place, its line in the table."""
    file, code, target = RECIPES[name]
    path = file.removesuffix(".py").replace("/", ".")
    module = ModuleType(path)
    exec(compile(code, file, "exec"), vars(module))
    monkeypatch.setitem(sys.modules, path, module)
    monkeypatch.setitem(plugins.BUILTIN[kind], name, target)


@pytest.fixture
def ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trace:
    follow("ticks", "loader", monkeypatch)
    path = tmp_path / "gateway.log"
    path.write_text("when_ms;model;in;out\n1000;a;10;3\n1500;b;20;4\n4000;a;30;5\n")
    return read_trace([path])


def test_there_are_three_recipes() -> None:
    assert sorted(RECIPES) == ["aging", "bursts", "ticks"]


def test_the_loader_is_detected_and_reads(ticks: Trace) -> None:
    assert (ticks.info.format, ticks.info.time_unit, ticks.info.span_s) == ("ticks", "ms", 3.0)
    assert ticks.frame.select("arrival_s", "model", "prompt_tokens", "output_tokens").collect().rows() == [
        (0.0, "a", 10, 3),
        (0.5, "b", 20, 4),
        (3.0, "a", 30, 5),
    ]


def test_the_scheduler_takes_its_parameter_and_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    follow("aging", "scheduler", monkeypatch)
    scheduler = plugins.create("scheduler", "aging:patience_s=30")
    waiting = pl.DataFrame({"arrival_s": [0.0, 10.0, 31.0], "tier": ["batch", "premium", "standard"]})
    assert scheduler.rank(waiting, 40.0).tolist() == [60.0, 10.0, 61.0]


def test_the_analysis_is_asked(ticks: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    follow("bursts", "analysis", monkeypatch)
    assert analyse(ticks)["bursts"]["models"].select("model", "requests").rows() == [("a", 2), ("b", 1)]
