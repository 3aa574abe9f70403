"""Prism's reproduction: who serves what of the Arena trace, and what the claims say of rows made by hand."""

from pathlib import Path

import polars as pl
import pytest

from benchmarks.reproductions.prism_claims import PRISM, PROTOTYPE, _regime
from benchmarks.reproductions.prism_studies import ADAPTERS, EIGHT, EIGHTEEN, eight_models, eighteen_models
from benchmarks.reproductions.prism_tables import highest
from toolkit.traces import read_trace


def rows_of(attained: dict[str, dict[float, float]]) -> pl.DataFrame:
    """SWEEP rows of two seeds: what each policy attains at each load."""
    rows = []
    for policy, values in attained.items():
        placement, _, scheduler = policy.partition(" + ")
        for load, value in values.items():
            row = {"placement": placement, "scheduler": scheduler or "fcfs", "load": load}
            rows += [row | {"seed": seed, "attainment": value, "attainment_ttft": value} for seed in (0, 1)]
    return pl.DataFrame(rows)


def test_the_highest_load_is_never_below_what_was_tried() -> None:
    found = highest(
        rows_of(
            {
                "all": {1.0: 1.0, 2.0: 0.995},
                "between": {1.0: 1.0, 2.0: 0.98},
                "none": {1.0: 0.5, 2.0: 0.4},
                "first": {1.0: 0.99, 2.0: 0.5},
            }
        ),
        "attainment_ttft",
    )
    assert found == {"all": 2.0, "between": pytest.approx(1.5), "none": 0.0, "first": pytest.approx(1.0)}


def test_kv_pressure_is_held_against_the_prototype() -> None:
    tables = {
        f"regime-{models}": rows_of({PRISM: {2.0: prism}, PROTOTYPE: {2.0: 0.5}, "muxserve++": {2.0: 0.0}})
        for models, prism in ((4, 0.3), (8, 0.6))
    }
    row = _regime(tables)
    assert "4 models -20.0, 8 models +10.0" in str(row["ours"])
    assert row["verdict"] == "shows"
    assert _regime({"regime-4": tables["regime-8"]})["verdict"] == "the loss does not show here"


def test_models_serve_the_adapters_of_the_authors(shared_traces: Path) -> None:
    trace = read_trace([shared_traces / "prism_arena" / "real_trace.pkl"]).frame.collect()
    counts = trace["model"].value_counts().sort("count", "model", descending=[True, False])
    assert [int(str(name).rpartition("-")[2]) for name in counts["model"]] == list(ADAPTERS)
    for study, adapters in ((eight_models(), tuple(EIGHT)), (eighteen_models(), EIGHTEEN)):
        assert [ADAPTERS[model["rank"] - 1] for model in study.cluster["models"]] == list(adapters)


def test_models_of_one_adapter_are_shifted_as_the_authors_do() -> None:
    shifts = [model["shift_s"] for model in eighteen_models().cluster["models"]]
    assert shifts == [0, 0, 0, 0, 0, 10, 0, 10, 20, 0, 0, -10, 0, -20, 0, 20, 0, -10]
