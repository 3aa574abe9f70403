"""How close a generated trace came to the one it is like."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.readable import number

Floats = NDArray[np.float64]
WINDOWS_S = (1.0, 10.0, 60.0, 600.0)
QUANTILES = (0.5, 0.9, 0.99)
NOISE = 1.358  # × √(1/n + 1/m) is exceeded by the KS distance of equal, independent samples in 5 % of cases
KS_ROWS = 500_000


@dataclass(frozen=True)
class Measure:
    """One quantity of both traces. `noise` is what the distance may be by chance, where it is one."""

    name: str
    source: float | None
    made: float | None
    noise: float | None = None


def compare(source: pl.LazyFrame, made: pl.LazyFrame, load: float = 1.0) -> list[Measure]:
    """Rate, burstiness, popularity, lengths and distances; `load` is what the rate was meant to be multiplied by.

    A trace that is shorter than its source is held against as much of the source's beginning.
    """
    second = _taken(made)
    first = _taken(source.filter(pl.col("arrival_s") - pl.col("arrival_s").min() <= second["arrival_s"].max()))
    return [*_arrivals(first, second, load), *_popularity(first, second), *_lengths(first, second)]


def lines(measures: list[Measure]) -> str:
    """A table for people."""
    head = f"{'':<26}{'source':>11}{'made':>11}"
    return "\n".join([head, *(_line(measure) for measure in measures)])


def _line(m: Measure) -> str:
    source = "" if m.noise is not None else number(m.source)
    chance = "" if m.noise is None else f"  (by chance up to {number(m.noise)})"
    return f"{m.name:<26}{source:>11}{number(m.made):>11}{chance}"


def to_json(measures: list[Measure]) -> list[dict[str, float | str | None]]:
    return [asdict(m) for m in measures]


def _taken(frame: pl.LazyFrame) -> pl.DataFrame:
    names = ("arrival_s", "model", "prompt_tokens", "output_tokens")
    return frame.select(names).collect(engine="streaming")


def _arrivals(source: pl.DataFrame, made: pl.DataFrame, load: float) -> Iterator[Measure]:
    first, second = source["arrival_s"].to_numpy(), made["arrival_s"].to_numpy()
    yield Measure("requests/s", load * _rate(first), _rate(second))
    if load == 1:
        yield Measure("gap CV", _cv(first), _cv(second))
        for window_s in WINDOWS_S:
            if min(first[-1], second[-1]) > 5 * window_s:
                yield Measure(
                    f"dispersion in {window_s:g} s", _dispersion(first, window_s), _dispersion(second, window_s)
                )
        yield _ks("KS of gaps", np.diff(first), np.diff(second))


def _popularity(source: pl.DataFrame, made: pl.DataFrame) -> Iterator[Measure]:
    if source["model"].n_unique() > 1 or made["model"].n_unique() > 1:
        yield Measure("models", source["model"].n_unique(), made["model"].n_unique())
        yield Measure("busiest model's share", _top(source["model"]), _top(made["model"]))


def _lengths(source: pl.DataFrame, made: pl.DataFrame) -> Iterator[Measure]:
    for column, word in (("prompt_tokens", "prompt"), ("output_tokens", "output")):
        first, second = (frame[column].drop_nulls().to_numpy().astype(np.float64) for frame in (source, made))
        if len(first) and len(second):
            for q in QUANTILES:
                yield Measure(
                    f"{word} tokens p{100 * q:.0f}", float(np.quantile(first, q)), float(np.quantile(second, q))
                )
            yield _ks(f"KS of {word} tokens", first, second)
    yield Measure("rank correlation", _spearman(source), _spearman(made))


def _rate(arrival_s: Floats) -> float:
    return float((len(arrival_s) - 1) / (arrival_s[-1] - arrival_s[0]))


def _cv(arrival_s: Floats) -> float:
    gaps = np.diff(arrival_s)
    return float(gaps.std() / gaps.mean())


def _dispersion(arrival_s: Floats, window_s: float) -> float:
    """Variance over mean of the counts in whole windows; 1 is Poisson."""
    counts = np.bincount(((arrival_s - arrival_s[0]) // window_s).astype(np.int64))[:-1]
    return float(counts.var(ddof=1) / counts.mean())


def _top(model: pl.Series) -> float:
    return float(model.value_counts()["count"].to_numpy().max() / len(model))


def _spearman(frame: pl.DataFrame) -> float | None:
    both = frame.select("prompt_tokens", "output_tokens").drop_nulls()
    found = both.select(pl.corr("prompt_tokens", "output_tokens", method="spearman")).item() if len(both) > 2 else None
    return None if found is None or np.isnan(found) else float(found)


def _ks(name: str, first: Floats, second: Floats) -> Measure:
    """The largest distance of the two distributions, and what chance alone would exceed in 5 % of cases."""
    a, b = (np.sort(values[:: max(1, len(values) // KS_ROWS)]) for values in (first, second))
    both = np.concatenate([a, b])
    below = [np.searchsorted(values, both, side="right") / len(values) for values in (a, b)]
    return Measure(name, None, float(np.abs(below[0] - below[1]).max()), NOISE * (1 / len(a) + 1 / len(b)) ** 0.5)
