"""Clients add up to the trace, and the one that bursts is named."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

Ask = Callable[..., dict[str, pl.DataFrame]]


@pytest.fixture(scope="module")
def tables(ask: Ask) -> dict[str, pl.DataFrame]:
    """Two hours: `steady` and `quiet` Poisson, `bursty` sends nearly all of its requests in the fourth ten minutes."""
    rng = np.random.default_rng(0)
    times = {
        "steady": np.sort(rng.random(3000) * 7200),
        "quiet": np.sort(rng.random(200) * 7200),
        "bursty": np.r_[np.sort(1800 + rng.random(1500) * 600), np.sort(2400 + rng.random(50) * 4800)],
    }
    rows = [pl.DataFrame({"arrival_s": t, "tenant": [name] * len(t)}) for name, t in times.items()]
    frame = pl.concat(rows).sort("arrival_s").with_columns(prompt_tokens=pl.lit(100), output_tokens=pl.lit(10))
    return ask("clients", **frame.to_dict())


def test_clients_add_up(tables: dict[str, pl.DataFrame]) -> None:
    assert tables["clients"]["tenant"].to_list() == ["steady", "bursty", "quiet"]
    assert tables["clients"]["share"].sum() == pytest.approx(1)
    assert tables["windows"]["requests"].sum() == tables["clients"]["requests"].sum() == 4750


def test_gaps_tell_poisson_from_bursty(tables: dict[str, pl.DataFrame]) -> None:
    cv = dict(tables["clients"].select("tenant", "gap_cv").iter_rows())
    assert cv["steady"] == pytest.approx(1, abs=0.1)
    assert cv["bursty"] > 3
    within = tables["windows"].filter(pl.col("tenant") == "bursty", pl.col("start_s") == 1800)
    assert within["gap_cv"][0] == pytest.approx(1, abs=0.15)
    assert within["family"][0] in ("exponential", "gamma", "weibull")


def test_the_burst_is_laid_to_its_maker(tables: dict[str, pl.DataFrame]) -> None:
    (burst,) = tables["peaks"].to_dicts()
    assert (burst["start_s"], burst["clients_for_half"]) == (1800, 1)
    maker = tables["makers"].row(0, named=True)
    assert (maker["tenant"], maker["requests"]) == ("bursty", 1500)
    assert maker["excess_share"] > 0.9
