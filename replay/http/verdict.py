"""Whether a run was sent on time: what it measured counts only if it was."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from toolkit.errors import printable
from toolkit.runs import Run, RunWriter

VALID, BOUND = "VALID", "CLIENT-BOUND"
BOUND_S = 0.010  # of the 99th percentile


def validity(writer: RunWriter, workers: Sequence[dict[str, Any]], bound_s: float, wall_s: float) -> dict[str, Any]:
    """The verdict with its reasons and what it rests on."""
    run = Run(writer.path, writer.info)
    wire = run.table("wire").select("due_s", "sent_s", "disagrees").collect()
    lag = quantiles((wire["sent_s"] - wire["due_s"]).drop_nulls().to_numpy())
    loop = quantiles(np.array([v for w in workers for v in w["loop_lag_s"]]))
    reasons = [
        f"P99 {name} is {found['p99'] * 1e3:.1f} ms, and may be {bound_s * 1e3:g} ms"
        for name, found in (("send lag", lag), ("event-loop lag", loop))
        if found["p99"] is not None and found["p99"] > bound_s
    ]
    full = {w["no_room"] for w in workers} - {None}
    reasons += [f"no room here for more connections ({why})" for why in sorted(full)]
    return {
        "verdict": BOUND if reasons else VALID,
        "validity": {
            "reasons": reasons,
            "bound_s": bound_s,
            "send_lag_s": lag,
            "loop_lag_s": loop,
            "cpu_share": [round(w["cpu_s"] / wall_s, 4) if wall_s else None for w in workers],
            "peak_bytes": [w["peak_bytes"] for w in workers],
            "usage_disagrees": int(wire["disagrees"].count()),
        },
    }


def with_clocks(
    found: dict[str, Any], workers: Sequence[dict[str, Any]], clocks: Sequence[dict[str, Any]], bound_s: float
) -> dict[str, Any]:
    """The verdict where workers went by clocks of their own: lateness is theirs, and how far their clock may be off."""
    each = [_by_clock(worker, clock, bound_s) for worker, clock in zip(workers, clocks, strict=True)]
    most = max((worker["send_error_s"] for worker in each), default=0.0)
    reasons = list(found["validity"]["reasons"])
    if most > bound_s:
        reasons.append(f"send error with clocks is up to {most * 1e3:.1f} ms, and may be {bound_s * 1e3:g} ms")
    checked = found["validity"] | {"reasons": reasons, "send_error_s": most, "workers": each}
    return found | {"verdict": BOUND if reasons else VALID, "validity": checked}


def _by_clock(worker: dict[str, Any], clock: dict[str, Any], bound_s: float) -> dict[str, Any]:
    lag_s = worker["lag_p99_s"] or 0.0
    error_s = lag_s + clock["start_error_s"] + abs(clock["moved_s"]) + clock["moved_error_s"]
    return {**clock, "lag_p99_s": lag_s, "send_error_s": error_s, "verdict": VALID if error_s <= bound_s else BOUND}


def quantiles(values: np.ndarray[Any, Any]) -> dict[str, float | None]:
    """Median, 99th percentile and maximum; null of nothing."""
    if not values.size:
        return {"p50": None, "p99": None, "max": None}
    p50, p99, most = (float(v) for v in np.quantile(values, [0.5, 0.99, 1.0]))
    return {"p50": p50, "p99": p99, "max": most}


def lengths_kept(trace: pl.DataFrame, writer: RunWriter) -> dict[str, float | None]:
    """The share of answered requests whose prompt, and whose output, had exactly the traced length."""
    outcomes = Run(writer.path, writer.info).table("outcomes").filter(pl.col("status") == "ok")
    both = outcomes.select("request_id", "prompt_tokens", "output_tokens").join(
        trace.lazy().select("request_id", prompt="prompt_tokens", output="output_tokens"), on="request_id"
    )
    found = both.select(
        prompts_exact=(pl.col("prompt_tokens") == pl.col("prompt")).mean(),
        outputs_exact=(pl.col("output_tokens") == pl.col("output")).mean(),
    )
    return found.collect().row(0, named=True)


def went_wrong(writer: RunWriter) -> list[str]:
    """What a reader must know of the replies: how many went wrong, and the commonest reason of those."""
    run = Run(writer.path, writer.info)
    ended = run.table("outcomes").filter(pl.col("status") != "ok").select(why=pl.format("{}, {}", "status", "error"))
    disagree = run.table("wire").select(why=pl.col("disagrees")).drop_nulls()
    told = ((ended, "did not end well"), (disagree, "have a usage that disagrees with what came"))
    found = [
        (frame.select(pl.len(), pl.col("why").mode().sort().first()).collect().row(0), what) for frame, what in told
    ]
    return [f"{count:,} {what}, such as: {why}" for (count, why), what in found if count]


def said(info: dict[str, Any]) -> str:
    """A finished run in one line."""
    found, counts = info["validity"], info["statuses"]
    lag = found["send_lag_s"]
    late = f"send lag P50 {lag['p50'] * 1e3:.2f} ms, P99 {lag['p99'] * 1e3:.2f} ms" if lag["p99"] is not None else ""
    if "send_error_s" in found:
        late += f", send error with clocks up to {found['send_error_s'] * 1e3:.2f} ms"
    ended = ", ".join(f"{n:,} {status}" for status, n in counts.items())
    reasons = f" ({'; '.join(found['reasons'])})" if found["reasons"] else ""
    line = f"{info['requests']:,} requests: {ended}; {late or 'none was sent'}; {info['verdict']}{reasons}"
    return "\n".join([line, *(f"  note: {printable(note)}" for note in info["notes"])])


def statuses(writer: RunWriter) -> dict[str, int]:
    """How many requests ended how, the most frequent first."""
    counted = Run(writer.path, writer.info).table("outcomes").select(pl.col("status").value_counts(sort=True)).collect()
    return {row["status"]: row["count"] for row in counted["status"]}
