"""Shares add up and planted Zipf exponents come back."""

import numpy as np
import pytest


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0, 1.8])
def test_planted_exponent_is_found_again(ask, exponent: float) -> None:
    weights = np.arange(1, 41) ** -exponent
    counts = np.random.default_rng(1).multinomial(200_000, weights / weights.sum())
    row = ask("popularity", model=np.repeat([f"m{i}" for i in range(40)], counts))["zipf"].row(0, named=True)
    assert row["exponent"] == pytest.approx(exponent, abs=0.02)
    assert row["low"] < row["exponent"] < row["high"]
    assert row["ks"] < 0.01


def test_shares_are_in_order_and_complete_without_names_too(ask) -> None:
    tables = ask("popularity", model=["a", "b", "b", None, None, None], tenant=[None] * 6)
    assert tables["models"].select("rank", "model", "requests").rows() == [(1, None, 3), (2, "b", 2), (3, "a", 1)]
    assert tables["models"]["cumulative_share"][-1] == 1
    assert tables["tenants"].is_empty()
    assert tables["zipf"].is_empty()


def test_equal_shares_do_not_fall(ask) -> None:
    assert ask("popularity", model=[f"m{i}" for i in range(700)] * 2)["zipf"]["exponent"].to_list() == [0.0]
