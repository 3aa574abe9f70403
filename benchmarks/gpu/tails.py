"""What happened to requests, as tails: by scheduler, and by how KV memory was shared."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.results import Line
from toolkit.readable import number, percent, seconds
from toolkit.stats import bootstrap_quantile_difference, bootstrap_quantile_interval

Row = dict[str, object]
Floats = NDArray[np.float64]
SCALES = (2, 5, 10)
CLAIMS = {"e2e_s": ("TTLT", "−35 to −50 %"), "ttft_s": ("TTFT", "−34 to −47 %")}


def times(line: Line) -> dict[str, Floats]:
    """[n] in the order of arrival: what each request waited and took, NaN where it was not served."""
    rows = [dict(zip(line["columns"], row, strict=True)) for row in line["requests"]]
    arrival, output = _column(rows, "arrival_s"), _column(rows, "output")
    first, finish = _column(rows, "first_token_s"), _column(rows, "finish_s")
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(output > 1, (finish - first) / (output - 1), np.nan)
    served = np.array([row["status"] == "ok" for row in rows])
    found = {"ttft_s": first - arrival, "e2e_s": finish - arrival, "tpot_s": tpot}
    found = {name: np.where(served, values, np.nan) for name, values in found.items()}
    return {**found, "prompt": _column(rows, "prompt"), "output": output, "preemptions": _column(rows, "preemptions")}


def _column(rows: Sequence[dict[str, Any]], name: str) -> Floats:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], float)


def by_policy(lines: Sequence[Line]) -> list[Row]:
    """The seeds of a scheduler together."""
    rows: list[Row] = []
    for name in dict.fromkeys(line["point"]["policy"] for line in lines):
        mine = [line for line in lines if line["point"]["policy"] == name]
        found = _together(mine)
        row: Row = {
            "scheduler": name,
            "requests": len(found["e2e_s"]),
            "mean TTLT": seconds(float(np.nanmean(found["e2e_s"]))),
        }
        row |= {f"P{q} TTLT": _quantile(found["e2e_s"], q) for q in (50, 95, 99)}
        row |= {f"P{q} TTFT": _quantile(found["ttft_s"], q) for q in (50, 95, 99)}
        tokens = sum(_tokens(line) for line in mine) / sum(line["span_s"] for line in mine)
        row |= {"preemptions a request": number(found["preemptions"].mean()), "tokens/s": number(tokens)}
        rows.append(row)
    return rows


def _together(lines: Sequence[Line]) -> dict[str, Floats]:
    parts = [times(line) for line in lines]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _tokens(line: Line) -> float:
    found = times(line)
    return float(found["output"][~np.isnan(found["e2e_s"])].sum())


def _quantile(values: Floats, q: int) -> str:
    """With its interval, which knows that neighbours queue together."""
    low, high = bootstrap_quantile_interval(values, q / 100, np.random.default_rng(0))
    return f"{seconds(np.nanquantile(values, q / 100))} [{seconds(low)}, {seconds(high)}]"


def against_srpt(lines: Sequence[Line]) -> Iterator[str]:
    """UniBoost's claims: how far its tails lie from SRPT's, seed by seed."""
    found = {(line["point"]["policy"], line["point"]["seed"]): times(line) for line in lines}
    for name, (metric, paper) in CLAIMS.items():
        said = []
        for seed in sorted({seed for _, seed in found}):
            pair = [found.get((policy, seed)) for policy in ("srpt", "uniboost")]
            if None not in pair:
                a, b = (side[name] for side in pair if side is not None)
                d = bootstrap_quantile_difference(a, b, 0.99, np.random.default_rng(seed), paired=True)
                said.append(f"{_change(d.ratio)} [{_change(d.ratio_low)}, {_change(d.ratio_high)}] (seed {seed})")
        if said:
            yield f"P99 {metric} of UniBoost against SRPT: {', '.join(said)}; the paper (2606.18431): {paper}."


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %" if np.isfinite(ratio) else "?"


def by_split(lines: Sequence[Line]) -> list[Row]:
    """Attainment of all offered requests, at several scales of what they take alone."""
    rows: list[Row] = []
    for line in sorted(lines, key=lambda line: (line["point"]["load"], line["point"]["split"])):
        found, cost = times(line), line["costs"][0]
        alone_s = cost["prefill_s_per_token"] * found["prompt"] + cost["step_s"]
        row: Row = {"load": line["point"]["load"], "KV memory": line["point"]["split"], "requests": len(alone_s)}
        for scale in SCALES:
            tpot = np.isnan(found["tpot_s"]) & (found["output"] == 1) | (found["tpot_s"] <= scale * cost["step_s"])
            met = (found["ttft_s"] <= scale * alone_s) & tpot
            row[f"attained, scale {scale}"] = percent(float(met.mean()))
        row |= {f"P{q} TTFT": _quantile(found["ttft_s"], q) for q in (50, 99)}
        row["tokens/s"] = number(_tokens(line) / line["span_s"])
        row["preemptions a request"] = number(found["preemptions"].mean())
        rows.append(row)
    return rows
