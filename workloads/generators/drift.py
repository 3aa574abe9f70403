"""Drift: what requests ask for changes while the trace goes on."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from workloads.generators.rhythm import Change
from workloads.generators.single import positive
from workloads.generators.truths import Row, fact, facts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """From `at_s` on a column changes, as a step, over `for_s` (ramp), or for `for_s` and back (pulse).

    Token columns: times `factor` (the mean), and sigma of the log times `spread` at the same mean (lognormal lengths).
    A drift of predicted_output_tokens is one of the estimator alone; the estimator never knows of output drift.
    Columns models and tenants: the shares become `to`. `model` and `tenant` say whose requests change, else everyone's.
    """

    column: Literal["prompt_tokens", "output_tokens", "predicted_output_tokens", "models", "tenants"]
    at_s: float
    shape: Literal["step", "ramp", "pulse"] = "step"
    for_s: float = 0.0
    factor: float = 1.0
    spread: float = 1.0
    to: dict[str, float] = field(default_factory=dict)
    model: str | None = None
    tenant: str | None = None

    def __post_init__(self) -> None:
        self.change.moments()
        positive(factor=self.factor, spread=self.spread)
        if self.of_mix != bool(self.to) or self.of_mix == ((self.factor, self.spread) != (1.0, 1.0)):
            raise ValueError("a drift of models or tenants needs to: {name: share}; one of tokens a factor or spread")
        if self.of_mix and (self.model or self.tenant):
            raise ValueError("a drift of models or tenants is everyone's: leave out model and tenant")
        if self.to and (min(self.to.values()) < 0 or sum(self.to.values()) <= 0):
            raise ValueError("shares must be 0 or more, and not all 0")

    @property
    def of_mix(self) -> bool:
        return self.column in ("models", "tenants")

    @property
    def change(self) -> Change:
        return Change(self.at_s, self.shape, self.for_s)

    def weight(self, requests: pl.DataFrame) -> Floats:
        """How far each request is changed, 0 to 1; needs arrival_s, model and tenant."""
        weight = self.change.weight(requests["arrival_s"].to_numpy())
        for column, name in (("model", self.model), ("tenant", self.tenant)):
            if name is not None:
                weight = weight * (requests[column] == name).fill_null(False).to_numpy()
        return weight

    def truth(self, stream: str) -> list[Row]:
        """Its settings; of a mix the share that each name ends with."""
        where = {
            "stream": stream, "name": self.column, "start_s": self.at_s,
            "end_s": None if self.shape == "step" else self.change.end_s,
        }  # fmt: skip
        values: dict[str, float | str | None] = {"shape": self.shape}
        values |= {name: value for name in ("factor", "spread") if (value := getattr(self, name)) != 1}
        rows = facts("drift", values, **where, model=self.model, tenant=self.tenant)
        whole, who = sum(self.to.values()), self.column.removesuffix("s")
        for name, share in self.to.items():
            rows.append(fact("drift", **where, parameter="share", value=share / whole, **{who: name}))
        return rows


def factor_and_spread(drifts: list[Drift], requests: pl.DataFrame) -> tuple[Floats | float, Floats | float]:
    """What the drifts multiply each request's mean and sigma by."""
    factor: Floats | float = 1.0
    spread: Floats | float = 1.0
    for drift in drifts:
        weight = drift.weight(requests)
        factor = factor * (1 + (drift.factor - 1) * weight)
        spread = spread * (1 + (drift.spread - 1) * weight)
    return factor, spread
