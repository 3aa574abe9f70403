"""One stream of a workload: how requests arrive, whose they are and what they ask for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from toolkit.errors import nearest
from workloads.generators.drift import Drift
from workloads.generators.lengths import Lengths, lengths
from workloads.generators.names import Names, named
from workloads.generators.prefixes import Prefixes
from workloads.generators.rhythm import Daily, RateChange, Rhythm
from workloads.generators.sessions import Sessions
from workloads.generators.truths import Row, fact, facts


@dataclass(frozen=True)
class Tier:
    """A share of the requests and their objectives; null: none."""

    share: float = 1.0
    slo_ttft_s: float | None = None
    slo_tpot_s: float | None = None

    def __post_init__(self) -> None:
        if self.share < 0 or min(self.slo_ttft_s or 1, self.slo_tpot_s or 1) <= 0:
            raise ValueError("share must be 0 or more, objectives above 0")


@dataclass(frozen=True)
class Prediction:
    """predicted_output_tokens: what the output was before any drift, times `bias` and a lognormal error of `sigma`."""

    sigma: float = 0.4
    bias: float = 1.0

    def __post_init__(self) -> None:
        if self.sigma < 0 or self.bias <= 0:
            raise ValueError("sigma must be 0 or more and bias above 0")


@dataclass(frozen=True)
class Stream:
    """The keys that every stream may have; those of its generator stand beside them."""

    generator: str = "poisson"
    name: str | None = None
    models: Names | str | None = None
    tenants: Names | str | None = None
    tiers: dict[str, Tier] = field(default_factory=dict)
    kind: str | None = None
    adapter: str | None = None
    prompt_tokens: Lengths | int | None = None
    output_tokens: Lengths | int | None = None
    correlation: float = 0.0  # of prompt and output, as standard normal scores
    prediction: Prediction | None = None
    drift: tuple[Drift, ...] = ()
    sessions: Sessions | None = None
    prefixes: Prefixes | None = None
    daily: Daily | None = None
    weekly: tuple[float, ...] = ()
    changes: tuple[RateChange, ...] = ()

    def __post_init__(self) -> None:
        if not -1 <= self.correlation <= 1:
            raise ValueError("correlation must be from -1 to 1")
        if self.tiers and sum(tier.share for tier in self.tiers.values()) <= 0:
            raise ValueError("tiers need a share above 0")
        if self.sessions and (self.prompt_tokens is None or self.output_tokens is None):
            raise ValueError("sessions need prompt_tokens and output_tokens, what a turn adds and is answered")
        for given in (self.prompt_tokens, self.output_tokens):
            if given is not None:
                lengths(given)
        for drift in self.drift:
            self._check(drift)
        Rhythm(self.daily, self.weekly, self.changes)

    def _check(self, drift: Drift) -> None:
        if drift.of_mix and getattr(self, drift.column) is None:
            raise ValueError(f"a drift of {drift.column} needs {drift.column}")
        if drift.column == "predicted_output_tokens" and self.prediction is None:
            raise ValueError("a drift of predicted_output_tokens needs prediction")
        of: Lengths | int | None = getattr(self, drift.column, None) if drift.column in TOKENS else None
        if drift.spread != 1 and (of is None or lengths(of).family != "lognormal"):
            raise ValueError(f"a drift of spread needs lognormal {drift.column}")

    def check_given(self, given: frozenset[str]) -> None:
        """Raise ValueError for what would change nothing, as no request has it; `given` is what the generator gives."""
        have = {column for column in TOKENS if column in given or getattr(self, column) is not None}
        if self.prediction and "output_tokens" not in have:
            raise ValueError("prediction needs output_tokens")
        if self.prefixes and "prompt_tokens" not in have:
            raise ValueError("prefixes need prompt_tokens, what comes after them")
        for drift in self.drift:
            if drift.column in TOKENS and drift.column not in have:
                raise ValueError(f"a drift of {drift.column} needs {drift.column}")
            for column, name in (("model", drift.model), ("tenant", drift.tenant)):
                if name is not None and column not in given and name not in (known := self._known(column)):
                    raise ValueError(f"no {column} '{name}'; {nearest(name, known)}")

    def check_names(self, names: Mapping[str, Collection[str]]) -> None:
        """Raise ValueError for a drift of one who sends nothing: neither the settings' nor the generator's `names`."""
        for drift in self.drift:
            for column, given in names.items():
                name = drift.model if column == "model" else drift.tenant
                if name is not None and name not in (known := self._known(column) | {*given}):
                    raise ValueError(f"no {column} '{name}'; {nearest(name, known)}")

    def _known(self, column: str) -> set[str]:
        """The models or tenants that the settings name."""
        own: Names | str | None = getattr(self, column + "s")
        moved = {name for drift in self.drift if drift.column == column + "s" for name in drift.to}
        return moved | set(named(own, column).all if own is not None else ())

    @property
    def rhythm(self) -> Rhythm:
        return Rhythm(self.daily, self.weekly, self.changes)

    def truth(self) -> list[Row]:
        """What the settings themselves plant."""
        name = self.name
        rows = [row for drift in self.drift for row in drift.truth(str(name))]
        rows += [
            fact(
                "rate", stream=name, start_s=c.at_s, end_s=None if c.shape == "step" else c.change.end_s,
                name=c.shape, parameter="factor", value=c.factor,
            )
            for c in self.changes
        ]  # fmt: skip
        for column in TOKENS:
            rows += _of_lengths(getattr(self, column), column, str(name))
        if self.daily:
            shape: dict[str, float | str | None] = {"amplitude": self.daily.amplitude, "peak_s": self.daily.peak_s}
            hours: dict[str, float | str | None] = {f"hour_{h}": value for h, value in enumerate(self.daily.hours)}
            rows += facts("daily", hours or shape, stream=name)
        rows += facts("weekly", {f"day_{d}": value for d, value in enumerate(self.weekly)}, stream=name)
        if self.prediction:
            rows += facts("prediction", dict(vars(self.prediction)), stream=name)
        if self.correlation:
            rows += facts("lengths", {"correlation": self.correlation}, stream=name)
        return rows


TOKENS: tuple[Literal["prompt_tokens"], Literal["output_tokens"]] = ("prompt_tokens", "output_tokens")


def _of_lengths(given: Lengths | int | None, column: str, stream: str) -> list[Row]:
    if given is None:
        return []
    settings = vars(lengths(given))
    known = {k: settings[k] for k in ("family", "median", "sigma", "mean", "cv", "value", "minimum", "maximum")}
    return facts("lengths", known, stream=stream, name=column)
