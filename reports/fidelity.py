"""How far a simulation is from what was measured of the same requests. Pure arithmetic, no drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from reports import words
from reports.measured import BLOCKS, MIN_BLOCK, Measured
from reports.numbers import SEED, finite
from reports.provenance import engine
from reports.resampling import Floats, draws, interval, mean_replicates, quantile_replicates, ratio, tally

SIMULATED = ("simulated", "micro-batch", "cluster")
METRICS = ("ttft_s", "tpot_s", "e2e_s")
LEVELS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
CLOSE = 0.1  # of what was measured: how many requests are within it
MOSTLY = 0.9  # of the measured requests must be in the simulation
AT_ONCE_S, FEWEST_AT_ONCE = 0.001, 0.02  # by the clock requests arrive alike; turns that wait for others do not


@dataclass(frozen=True)
class Pair:
    """A run that was measured, and a simulated one of the same requests, by their places on the page."""

    measured: int
    simulated: int
    both: (
        pl.DataFrame
    )  # requests that ended well in both: each of METRICS, and the simulated with `_simulated` after it
    left_out: int  # requests that did not

    def values(self, metric: str) -> tuple[Floats, Floats]:
        """(measured, simulated) of the requests for which both are known, by request_id."""
        known = self.both.select(measured=metric, simulated=f"{metric}_simulated").drop_nulls()
        return known["measured"].to_numpy(), known["simulated"].to_numpy()


def pairs(runs: Sequence[Measured]) -> list[Pair]:
    """The first measured run with each simulated one that replayed the same requests at the same times."""
    simulated = [i for i, run in enumerate(runs) if engine([run]) in SIMULATED]
    measured = [i for i in range(len(runs)) if i not in simulated]
    if not measured:
        return []
    base = measured[0]
    found = [(i, _joined(runs[base], runs[i])) for i in simulated]
    return [Pair(base, i, _ok(joined), joined.height - _ok(joined).height) for i, joined in found if joined.height]


def _joined(measured: Measured, simulated: Measured) -> pl.DataFrame:
    """Requests side by side; none where they are not the same."""
    names = ["request_id", "arrival_s", *METRICS]
    both = measured.frame.select(names).join(
        simulated.frame.select(names), on="request_id", suffix="_simulated", maintain_order="left"
    )
    apart = (both["arrival_s"] - both["arrival_s_simulated"]).abs()
    at_once = float(np.mean(apart.to_numpy() <= AT_ONCE_S)) if both.height else 0.0
    same = both.height >= MOSTLY * measured.frame.height and at_once >= FEWEST_AT_ONCE
    return both if same else both.clear()


def _ok(joined: pl.DataFrame) -> pl.DataFrame:
    return joined.drop_nulls(["e2e_s", "e2e_s_simulated"])


def numbers(runs: Sequence[Measured], found: Sequence[Pair]) -> dict[str, Any] | None:
    """What `--json` prints; null where nothing was measured and simulated."""
    if not found:
        return None
    return {
        "measured": runs[found[0].measured].label,
        "runs": [_run(runs[pair.simulated].label, pair) for pair in found],
    }


def _run(label: str, pair: Pair) -> dict[str, Any]:
    known = [m for m in METRICS if len(pair.values(m)[0])]
    return {
        "name": label,
        "requests": pair.both.height,
        "left_out": pair.left_out,
        "errors": [row for metric in known for row in errors(metric, *pair.values(metric))],
        "each": {metric: each(*pair.values(metric)) for metric in known},
    }


def errors(metric: str, measured: Floats, simulated: Floats) -> list[dict[str, Any]]:
    """The mean's and the percentiles' relative errors, with their interval; 0.05 is 5 % too high."""
    block_of = _block_of(len(measured))
    drawn = draws(int(block_of[-1]) + 1, seed=SEED)
    levels = np.array(list(LEVELS.values()))
    ours, theirs = tally(simulated, block_of), tally(measured, block_of)
    means = ratio(mean_replicates(ours, drawn), mean_replicates(theirs, drawn)) - 1
    quantiles = ratio(quantile_replicates(ours, drawn, levels), quantile_replicates(theirs, drawn, levels)) - 1
    rows = [_row(metric, "mean", theirs.mean, ours.mean, means)]
    values = zip(LEVELS, theirs.quantiles(levels), ours.quantiles(levels), quantiles.T, strict=True)
    return rows + [_row(metric, *each) for each in values]


def _block_of(count: int) -> NDArray[np.int64]:
    blocks = max(1, min(BLOCKS, count // MIN_BLOCK))
    return np.arange(count, dtype=np.int64) * blocks // max(1, count)


def _row(metric: str, statistic: str, measured: float, simulated: float, replicates: Floats) -> dict[str, Any]:
    low, high = interval(replicates)
    return {
        "metric": metric,
        "statistic": statistic,
        "measured": finite(measured),
        "simulated": finite(simulated),
        "error": finite(simulated / measured - 1) if measured else None,
        "low": finite(low),
        "high": finite(high),
    }


def each(measured: Floats, simulated: Floats) -> dict[str, Any]:
    """How far single requests are off: relative errors without their sign, and seconds."""
    apart = np.abs(simulated - measured)
    share = ratio(apart, measured)
    p50, p90 = np.nanquantile(share, [0.5, 0.9])
    return {
        "requests": len(measured),
        "mean": finite(np.nanmean(share)),
        "p50": finite(p50),
        "p90": finite(p90),
        "close": finite(np.mean(share <= CLOSE)),
        "mean_s": finite(apart.mean()),
    }


def sentence(found: dict[str, Any]) -> str:
    """The headline of a measured and a simulated run."""
    (run,) = found["runs"]
    known = [text for metric in reversed(METRICS) if (text := _moved(run, metric))]
    e2e = run["each"].get("e2e_s")
    single = f"; single requests by {words.percent(e2e['p50'])} in E2E (median)" if e2e else ""
    return f"{run['name']} is off from {found['measured']} by {words.listing(known)}{single}."


def _moved(run: dict[str, Any], metric: str) -> str:
    row = next((r for r in run["errors"] if (r["metric"], r["statistic"]) == (metric, "p99")), None)
    known = row is not None and row["error"] is not None
    return f"{words.percent(row['error'], signed=True)} in P99 {words.named(metric)}" if row and known else ""
