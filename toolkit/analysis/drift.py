"""Do token lengths drift: over time, from their estimates, and why."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from toolkit.analysis import detectors, drift_bins, drift_cause, drift_estimate, drift_strata, drift_windows
from toolkit.analysis.change_places import distance, interval
from toolkit.analysis.change_points import BLOCKS, CUT_ALPHA, PULSE_ALPHA, Segmentation, segment
from toolkit.analysis.drift_bins import Binned, Names, Values
from toolkit.analysis.drift_sessions import session_variance
from toolkit.analysis.drift_strata import Strata
from toolkit.traces import TraceInfo

SEED = 0
THREADS = 2  # columns at once: NumPy lets go of the interpreter, and each column needs memory of its own
DAY_S = 86400.0
LENGTHS = ("prompt_tokens", "output_tokens")
RATIOS = {"ratio": "prompt_tokens", "estimate": "predicted_output_tokens"}  # of output tokens to these
SPLITS = ("model", "tenant", "kind")

_f, _i, _s = pl.Float64(), pl.Int64(), pl.String()
SUMMARY = pl.Schema(
    {
        "column": _s,
        "verdict": _s,
        "requests": _i,
        "change_points": _i,
        "p_value": _f,
        "strata_changed": _i,
        "strata_p_value": _f,
        "strata_tested": _i,
        "strata_left_out": _i,
        "false_alarm": _f,
        "false_alarms_per_day": _f,
        "stretch": _f,
        "cause_by": _s,
        "own": _f,
        "mix": _f,
        "note": _s,
    }
)
IN_STRATUM = {"model": _s, "tenant": _s, "requests": _i, "share": _f, "p_value": _f}
POINTS = pl.Schema(
    {"column": _s, "time_s": _f, "time_low_s": _f, "time_high_s": _f}
    | {"request_id": _i, "request_low": _i, "request_high": _i}
    | dict.fromkeys(("before", "after", "ratio", "before_mean", "after_mean", "ks"), _f)
)
STRATA_POINTS = pl.Schema(POINTS | IN_STRATUM)


class Drift:
    """Whether token lengths, their ratio and the mix of models and tenants drift: when, how far, and why."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = (
        *("request_id", "arrival_s", "model", "tenant", "tier", "kind", "session_id"),
        *(*LENGTHS, "predicted_output_tokens", "source_e2e_s"),
    )

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        empty = [c for c in frame.columns if frame[c].null_count() == frame.height]
        frame = frame.drop(empty).rechunk().with_columns(pl.lit(None, dtype=frame.schema[c]).alias(c) for c in empty)
        frame = frame.with_columns(pl.col("request_id").fill_null(pl.int_range(pl.len())))
        names = {column: drift_bins.names_of(frame[column]) for column in SPLITS}
        splits, parts = splits_of(frame, names), drift_strata.strata(names)
        found = series_of(frame, splits)
        binned = [series for series, _ in found]

        def asked(series: tuple[Binned, Values | None]) -> dict[str, pl.DataFrame]:
            return self._series(*series, frame, splits_for(series[0], splits, binned), parts, info)

        with ThreadPoolExecutor(THREADS) as pool:
            estimated = pool.submit(drift_estimate.estimates, frame)
            answers = list(pool.map(asked, found))
        tables = {
            name: pl.concat([answer[name] for answer in answers]) if answers else schema.to_frame()
            for name, schema in TABLES.items()
        }
        estimate, factors, feedback = estimated.result()
        said = pl.DataFrame({"feedback": [feedback] if feedback else []}, schema={"feedback": _s})
        return tables | {"estimate": estimate, "factors": factors, "feedback": said}

    def _series(
        self,
        binned: Binned,
        values: Values | None,
        frame: pl.DataFrame,
        splits: list[Binned],
        parts: Strata,
        info: TraceInfo,
    ) -> dict[str, pl.DataFrame]:
        """Every table of one column."""
        rng = np.random.default_rng(SEED)
        found = segment(binned, rng, session_variance(binned, frame["session_id"]))
        points = change_points(binned, found.points, rng)
        windows, null = drift_windows.windows(binned, rng)
        cause = pl.concat(
            [drift_cause.CAUSE.to_frame(), *(drift_cause.causes(binned, found.points, s) for s in splits)]
        )
        strata, in_strata = _in_strata(values, frame, found.points, points, parts, rng)
        about = {"strata_tested": strata.height, "strata_left_out": parts.left_out + len(parts.tested) - strata.height}
        return {
            "summary": summary(binned, found, cause, info, strata, in_strata, about if values is not None else {}),
            "change_points": points,
            "strata": strata,
            "strata_points": in_strata,
            "cause": cause,
            "windows": windows,
            "null": null,
            "alarms": _alarms(binned, frame, found.points, rng),
        }


TABLES = {
    "summary": SUMMARY,
    "change_points": POINTS,
    "strata": drift_strata.STRATA,
    "strata_points": STRATA_POINTS,
    "cause": drift_cause.CAUSE,
    "windows": drift_windows.WINDOW,
    "null": drift_windows.NULL,
    "alarms": detectors.ALARMS,
}


def splits_of(frame: pl.DataFrame, names: dict[str, Names]) -> list[Binned]:
    """Models, tenants and kinds, where there are two and more."""
    found = [drift_bins.of_names(frame, column, names[column]) for column in SPLITS]
    return [binned for binned in found if binned is not None]


def series_of(frame: pl.DataFrame, splits: list[Binned]) -> list[tuple[Binned, Values | None]]:
    """Every column whose distribution may drift, with its values: both lengths, ratios; the mix has none."""
    values = [drift_bins.token_values(frame, column) for column in LENGTHS]
    values += [drift_bins.ratio_values(frame, name, below) for name, below in RATIOS.items()]
    lengths = [(drift_bins.binned(each, *drift_bins.where(frame)), each) for each in values]
    return [(binned, each) for binned, each in (*lengths, *((s, None) for s in splits)) if binned is not None]


def splits_for(binned: Binned, splits: list[Binned], found: list[Binned]) -> list[Binned]:
    """What a drift of the column may be laid to; of outputs also the length of the prompt, in eight bins."""
    if not binned.ordered:
        return []
    own = list(splits)
    if binned.name == "output_tokens":
        own += [drift_bins.coarse(prompt) for prompt in found if prompt.name == "prompt_tokens"]
    return [s for s in own if s.requests == binned.requests]


def _in_strata(
    values: Values | None,
    frame: pl.DataFrame,
    changes: list[int],
    points: pl.DataFrame,
    parts: Strata,
    rng: np.random.Generator,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """STRATA, and STRATA_POINTS: what drifts in a part of the requests and not in all at that time."""
    if values is None or not parts.tested:
        return drift_strata.STRATA.to_frame(), STRATA_POINTS.to_frame()
    time_s, request_id = drift_bins.where(frame)
    known = np.flatnonzero(values.numbers >= 0) if changes else np.zeros(0, dtype=np.int64)
    sessions = frame["session_id"]
    sessions_known = sessions if sessions.null_count() < frame.height else None
    column = drift_strata.Column(values, time_s, request_id, sessions_known, known[changes])
    answer = drift_strata.changed(column, parts, rng)
    p_values = {
        (model, tenant): p for model, tenant, p in answer.table.select("model", "tenant", "p_value").iter_rows()
    }
    tables = [STRATA_POINTS.to_frame()]
    for one in answer.named:
        binned, _ = column.binned(one.stratum)
        assert binned is not None  # it was scanned
        own = change_points(binned, segment(binned, rng, one.long_run).points, rng)
        s = one.stratum
        about = (s.model, s.tenant, s.requests, s.requests / frame.height, p_values[s.model, s.tenant])
        said = [pl.lit(v, dtype=t).alias(n) for v, (n, t) in zip(about, IN_STRATUM.items(), strict=True)]
        tables.append((own if answer.theirs else own.filter(~_shared(own, points))).with_columns(said))
    return answer.table, pl.concat(tables)


def _shared(own: pl.DataFrame, points: pl.DataFrame) -> pl.Series:
    """Which changes of a stratum are one of all requests: where one lies in the other's interval."""
    mine, all_of_them = (t.select("request_low", "request_id", "request_high").to_numpy() for t in (own, points))
    low, at, high = mine[:, None].transpose(2, 0, 1)
    whole_low, whole_at, whole_high = all_of_them[None].transpose(2, 0, 1)
    same = ((whole_low <= at) & (at <= whole_high)) | ((low <= whole_at) & (whole_at <= high))
    return pl.Series(same.any(axis=1), dtype=pl.Boolean)


def change_points(binned: Binned, points: list[int], rng: np.random.Generator) -> pl.DataFrame:
    """POINTS: `before` and `after` are the medians of the segments on both sides (null for names)."""
    bounds, rows = [0, *points, binned.requests], []
    for begin, cut, end in zip(bounds, bounds[1:], bounds[2:], strict=False):
        low, high = interval(binned, begin, cut, end, rng)
        sides = binned.histogram(begin, cut), binned.histogram(cut, end)
        medians = binned.median(begin, cut), binned.median(cut, end)
        ids = [int(binned.request_id[min(at, binned.requests - 1)]) for at in (cut, low, high)]
        rows.append((binned.name, *(binned.when(at) for at in (cut, low, high)), *ids, *_sizes(binned, sides, medians)))
    return pl.DataFrame(rows, schema=POINTS, orient="row")


def _sizes(
    binned: Binned, sides: tuple[drift_bins.Ints, drift_bins.Ints], medians: tuple[float | None, float | None]
) -> tuple[float | None, ...]:
    size, (before, after) = distance(binned, *sides), medians
    if before is None or after is None:
        return (None, None, None, None, None, size)
    means = [float(side @ binned.middles / side.sum()) for side in sides]
    return (before, after, after / before if before > 0 else None, *means, size)


def summary(
    binned: Binned,
    found: Segmentation,
    cause: pl.DataFrame,
    info: TraceInfo,
    strata: pl.DataFrame,
    in_strata: pl.DataFrame,
    about: dict[str, Any],
) -> pl.DataFrame:
    """One row; `p_value` is that of all requests together."""
    level = CUT_ALPHA + PULSE_ALPHA + (drift_strata.ALPHA if strata.height else 0)
    row: dict[str, Any] = {
        "column": binned.name,
        "verdict": "drift" if found.points or in_strata.height else "none",
        "requests": binned.requests,
        "change_points": len(found.points),
        "p_value": found.p_value,
        "strata_changed": in_strata.select("model", "tenant").n_unique(),
        "strata_p_value": strata["p_value"].min(),
        "false_alarm": level,
        "false_alarms_per_day": level / (info.span_s / DAY_S) if info.span_s else None,
        "stretch": found.stretch,
        "note": _note(binned, found),
    }
    return pl.DataFrame([row | about | _main_cause(cause)], schema=SUMMARY)


def _note(binned: Binned, found: Segmentation) -> str | None:
    if found.p_value is None:
        return f"{binned.requests} requests are too few to tell"
    if found.p_value <= CUT_ALPHA and not found.points:
        return "a change too small to name"
    return None


def _main_cause(cause: pl.DataFrame) -> dict[str, Any]:
    """Over all change points, how much each split of the requests explains by its mix; the one that explains most."""
    if cause.is_empty():
        return {}
    summed = cause.group_by("by", maintain_order=True).agg(pl.col("own", "mix").sum() / pl.col("change").n_unique())
    best = summed.sort(pl.col("mix").abs(), descending=True, maintain_order=True).row(0, named=True)
    return {"cause_by": best["by"], "own": best["own"], "mix": best["mix"]}


def _alarms(binned: Binned, frame: pl.DataFrame, points: list[int], rng: np.random.Generator) -> pl.DataFrame:
    """ALARMS of both lengths; the ratio and names have none."""
    if binned.name not in LENGTHS:
        return detectors.ALARMS.to_frame()
    tokens = frame[binned.name].drop_nulls().to_numpy()
    block = max(1, binned.requests // BLOCKS)
    rows = []
    for name, request, direction, delay in detectors.alarms(tokens, points, block, rng):
        time_s = binned.when(request)
        since = None if delay is None else binned.when(request - delay)
        late_s = None if time_s is None or since is None else time_s - since
        rows.append((binned.name, name, time_s, int(binned.request_id[request]), direction, delay, late_s))
    return pl.DataFrame(rows, schema=detectors.ALARMS, orient="row")
