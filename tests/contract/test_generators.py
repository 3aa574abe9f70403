"""Every registered generator keeps the contract."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from toolkit import plugins
from toolkit.contracts import check_generator
from workloads.generators.groups import Group
from workloads.generators.markov import State
from workloads.generators.names import Names


def settings(name: str, folder: Path) -> dict[str, Any]:
    """Small settings for a built-in generator."""
    if name == "servegen":
        (folder / "chunk-0-trace.csv").write_text("0,0.5,2,Gamma,0.25,8\n600,0,0,,0,0\n")
        (folder / "chunk-0-dataset.json").write_text('{"0": {"input_tokens": "{5: 1.0}", "output_tokens": "{7: 1}"}}')
        return {"folder": folder}
    if name == "like":
        pl.DataFrame({"arrival_s": [float(i * i % 599) for i in range(300)], "prompt_tokens": 9}).write_csv(
            folder / "t.csv"
        )
        return {"trace": folder / "t.csv"}
    group = Group(rate_per_s=1.0, every_s=200.0, for_s=50.0, size=2, jitter_s=5.0, participation=0.8)
    return {
        "poisson": {"rate_per_s": 1.0},
        "gamma": {"rate_per_s": 1.0, "cv": 3.0},
        "weibull": {"rate_per_s": 1.0, "cv": 3.0},
        "markov": {"states": (State(0.0, 60.0), State(5.0, 60.0))},
        "on-off": {"rate_per_s": 2.0, "on_s": 30.0, "off_s": 30.0, "lasting": "pareto"},
        "groups": {"models": Names(count=5), "background_per_s": 0.5, "groups": (group,)},
    }[name]


@pytest.mark.parametrize("name", sorted(plugins.BUILTIN["generator"]))
def test_a_generator_keeps_its_contract(name: str, tmp_path: Path) -> None:
    check_generator(name, settings(name, tmp_path))


def test_the_contract_finds_one_that_ignores_the_rate_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.BUILTIN["generator"], "deaf", "test_generators:Deaf")
    with pytest.raises(AssertionError, match="a rate times 0 still gives requests"):
        check_generator("deaf", {})


class Deaf:
    """Always the same request."""

    def plant(self, span_s: float, factor: object, rng: object) -> Any:
        from toolkit.protocols import Planted

        truth = pl.DataFrame({"what": ["arrivals"]})
        return Planted(lambda edges: (pl.DataFrame({"arrival_s": [float(edge)]}) for edge in edges), truth)
