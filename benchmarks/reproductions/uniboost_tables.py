"""Tables of UniBoost's reproduction: means over seeds, and ratios of two policies at the same seed."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from benchmarks.reproductions.tables import Estimate, markdown, over_seeds

Cell = tuple[tuple[str, str, float], pl.DataFrame]  # (workload, engine, ρ) and the figures of every replay there
QUANTILES = {"mean": "mean", "p50": "P50", "p90": "P90", "p95": "P95", "p99": "P99", "p999": "P99.9"}
STUDY = {
    "ttlt_mean": "mean TTLT s",
    "ttlt_p50": "P50 TTLT s",
    "ttlt_p99": "P99 TTLT s",
    "ttft_p99": "P99 TTFT s",
    "preemptions": "preemptions",
}
MUCH = 3.0  # a change by more is written as a factor


def cells(found: pl.DataFrame, part: str) -> Iterator[Cell]:
    """The cells of a part, in the order they were replayed."""
    for key, cell in found.filter(part=part).group_by("workload", "engine", "rho", maintain_order=True):
        yield (str(key[0]), str(key[1]), float(key[2])), cell


def policies(cell: pl.DataFrame) -> list[str]:
    """The policies of a cell, in the order they were replayed."""
    return cell["policy"].unique(maintain_order=True).to_list()


def values(cell: pl.DataFrame, metric: str, policy: str) -> list[float]:
    """The metric of each seed, by seed."""
    return cell.filter(policy=policy).sort("seed")[metric].cast(pl.Float64).to_list()


def estimate(cell: pl.DataFrame, metric: str, policy: str) -> Estimate:
    """The metric over seeds."""
    return over_seeds(values(cell, metric, policy))


def ratio(cell: pl.DataFrame, metric: str, policy: str, other: str) -> Estimate:
    """`policy` over `other`: the geometric mean of the ratios at the same seed."""
    return geometric(np.log(values(cell, metric, policy)) - np.log(values(cell, metric, other)))


def geometric(logs: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Estimate:
    """The geometric mean of what these are the logarithms of."""
    found = over_seeds(list(logs))
    return Estimate(*(float(np.exp(end)) for end in (found.mean, found.low, found.high)))


def below(found: Estimate) -> bool:
    """Whether a ratio's interval lies below 1; for a single seed its mean."""
    return (found.mean if np.isnan(found.high) else found.high) < 1


def above(found: Estimate) -> bool:
    """Whether a ratio's interval lies above 1; for a single seed its mean."""
    return (found.mean if np.isnan(found.low) else found.low) > 1


def change(found: Estimate) -> str:
    """A ratio as a change in per cent with its interval, or as a factor where it is large."""
    if found.mean > MUCH:
        return f"{found.mean:.1f}×"
    percent = [f"{round(100 * (end - 1)) or 0:+d}" for end in (found.mean, found.low, found.high) if not np.isnan(end)]
    return f"{percent[0]} %" + (f" [{', '.join(percent[1:])}]" if percent[1:] else "")


def detail(cell: pl.DataFrame, kind: str) -> str:
    """Every policy's quantiles of `kind` (ttlt or ttft), beside TRAIL+ and FCFS."""
    metrics = [name for name in QUANTILES if cell[f"{kind}_{name}"].null_count() == 0]
    rows = []
    for policy in policies(cell):
        row: dict[str, object] = {"policy": policy}
        row |= {f"{QUANTILES[name]} s": estimate(cell, f"{kind}_{name}", policy) for name in metrics}
        row |= _against(cell, f"{kind}_p99", "P99", policy, ("TRAIL+", "FCFS"))
        if kind == "ttlt":
            row["preempted a request"] = estimate(cell, "preemptions", policy).mean / cell["requests"][0]
            row["tokens/s"] = estimate(cell, "tokens_per_s", policy)
            row["tokens/s to TRAIL+"] = change(ratio(cell, "tokens_per_s", policy, "TRAIL+"))
        rows.append(row)
    return markdown(rows)


def study(cell: pl.DataFrame) -> str:
    """A few metrics of every policy, and the change of the P99s against FCFS."""
    rows = []
    for policy in policies(cell):
        row: dict[str, object] = {"policy": policy}
        row |= {said: estimate(cell, metric, policy) for metric, said in STUDY.items()}
        row |= _against(cell, "ttlt_p99", "P99 TTLT", policy, ("FCFS",))
        row |= _against(cell, "ttft_p99", "P99 TTFT", policy, ("FCFS",))
        rows.append(row)
    return markdown(rows)


def over_loads(found: pl.DataFrame, metric: str) -> str:
    """A metric of every policy by ρ."""
    rhos = found["rho"].unique().sort().to_list()
    rows = [
        {"policy": policy, **{f"ρ = {rho:g}": estimate(found.filter(rho=rho), metric, policy) for rho in rhos}}
        for policy in policies(found)
    ]
    return markdown(rows)


def _against(cell: pl.DataFrame, metric: str, said: str, policy: str, others: Sequence[str]) -> dict[str, str]:
    return {f"{said} to {other}": change(ratio(cell, metric, policy, other)) for other in others}
