"""How far estimates of output lengths are off, left alone and calibrated, and how their bias moves (after DriftSched).

Prequential: a request is estimated with what had come back by its arrival. Feedback arrives when a request ends:
arrival + `source_e2e_s` where the source measured it, else arrival + ASSUMED_START_S + output × ASSUMED_TPOT_S.
Calibration is DriftSched's: a factor a class, 0.9 × factor + 0.1 × clamp(actual ∕ base, 0.25, 3), from 1.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.estimators import ESTIMATORS, SAFETY, TRAINING, Estimate, Request

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ALPHA, CLAMP = 0.1, (0.25, 3.0)
ASSUMED_START_S, ASSUMED_TPOT_S = 0.5, 0.03
LEAST = 100  # requests with an output length
BUSIEST = 50  # classes and tenants
TRAJECTORY = 48  # points of each factor's path
MOST_REQUESTS = 250_000  # beyond, every k-th request is estimated and observed

_f, _i, _s = pl.Float64(), pl.Int64(), pl.String()
ERRORS: dict[str, pl.DataType] = {"requests": _i, "bias": _f, "mae": _f, "rmse": _f, "mape": _f}
ESTIMATES = pl.Schema({"estimator": _s, "calibration": _s, "by": _s, "name": _s, **ERRORS})
FACTORS = pl.Schema({"estimator": _s, "class": _s, "time_s": _f, "factor": _f})


def estimates(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, str | None]:
    """ESTIMATES, FACTORS, and what was assumed about when feedback arrives; empty without times or outputs."""
    known = frame.filter(pl.col("output_tokens").is_not_null() & pl.col("arrival_s").is_not_null())
    if known.height < LEAST:
        return ESTIMATES.to_frame(), FACTORS.to_frame(), None
    every = -(-known.height // MOST_REQUESTS)
    sampled = known.gather_every(every) if every > 1 else known
    named = sampled.with_columns(class_name(sampled))
    labels = named["_class"].cast(pl.Categorical)
    classes = labels.to_physical().cast(pl.Int64).to_numpy()
    classes = np.unique(classes, return_inverse=True)[1]
    names = labels.cast(pl.String).to_numpy()
    arrival_s, (finish_s, assumed) = sampled["arrival_s"].to_numpy(), finished(sampled)
    if every > 1:
        assumed = f"{assumed}; one request in {every} is estimated"
    requests = request_arrays(sampled, classes)
    tables, paths = [], []
    all_known = feedbacks(classes, arrival_s, finish_s, np.ones(len(classes), dtype=bool))
    for name, estimate in _made(requests).items():
        usable = estimate.base > 0  # the trace may predict some requests only
        plan = all_known if usable.all() else feedbacks(classes, arrival_s, finish_s, usable)
        factor = calibrated(estimate.base, requests.actual, plan)
        tables.append(_errors(name, estimate, factor, requests, sampled, names))
        paths.append(_paths(name, factor, classes, names, arrival_s))
    return pl.concat(tables), pl.concat(paths), assumed


def class_name(frame: pl.DataFrame) -> pl.Expr:
    """A class is a model and a kind, as far as the trace has them."""
    present = [c for c in ("model", "kind") if frame[c].null_count() < frame.height]
    parts = [pl.col(c).cast(pl.String).fill_null("(none)") for c in present]
    return (pl.concat_str(parts, separator=" · ") if parts else pl.lit("all")).alias("_class")


def finished(frame: pl.DataFrame) -> tuple[Floats, str]:
    """When each request's length becomes known, and on what ground."""
    assumed_s = ASSUMED_START_S + pl.col("output_tokens") * ASSUMED_TPOT_S
    finish = (pl.col("arrival_s") + pl.col("source_e2e_s").fill_null(assumed_s)).alias("finish_s")
    measured = frame.height - frame["source_e2e_s"].null_count()
    words = f"assumed: {ASSUMED_START_S:g} s + {ASSUMED_TPOT_S:g} s a token after arrival"
    if measured == frame.height:
        words = "measured by the source"
    elif measured:
        words = f"measured by the source for {measured} requests, else {words}"
    return frame.select(finish).to_series().to_numpy(), words


def request_arrays(frame: pl.DataFrame, classes: Ints) -> Request:
    tier = frame["tier"].cast(pl.String).str.to_lowercase().replace_strict(SAFETY, default=1.0, return_dtype=pl.Float64)
    predicted = frame["predicted_output_tokens"]
    return Request(
        frame["output_tokens"].cast(pl.Float64).to_numpy(),
        frame["prompt_tokens"].fill_null(0).cast(pl.Float64).to_numpy(),
        classes,
        tier.fill_null(1.0).to_numpy(),
        None if predicted.null_count() == frame.height else predicted.cast(pl.Float64).fill_null(np.nan).to_numpy(),
        max(1, int(TRAINING * frame.height)),
    )


@dataclass(frozen=True)
class Feedback:
    """What each class has learnt by when: `told` are its requests as they end, `came` how many had by each arrival."""

    own: Ints  # its requests as they arrive
    told: Ints
    came: Ints


def feedbacks(classes: Ints, arrival_s: Floats, finish_s: Floats, usable: NDArray[np.bool_]) -> list[Feedback]:
    """One a class; requests that are not `usable` teach nothing."""
    order = np.argsort(classes, kind="stable")
    found = []
    for own in np.split(order, np.flatnonzero(np.diff(classes[order])) + 1):
        told = own[usable[own]]
        told = told[np.argsort(finish_s[told], kind="stable")]
        came = np.searchsorted(np.sort(finish_s[told]), arrival_s[own], side="right")
        found.append(Feedback(own, told, came))
    return found


def calibrated(base: Floats, actual: Floats, plan: list[Feedback]) -> Floats:
    """The factor of its class that each request is estimated with."""
    factor = np.ones(len(base))
    for one in plan:
        ratio = np.clip(actual[one.told] / base[one.told], *CLAMP)
        path = pl.Series(np.append(1.0, ratio)).ewm_mean(alpha=ALPHA, adjust=False).to_numpy()
        factor[one.own] = path[one.came]
    return factor


def _made(requests: Request) -> dict[str, Estimate]:
    made = {} if requests.predicted is None else {"trace": Estimate(requests.predicted)}
    return made | {name: make(requests) for name, make in ESTIMATORS.items()}


def _errors(
    name: str, estimate: Estimate, factor: Floats, requests: Request, frame: pl.DataFrame, classes: NDArray[np.object_]
) -> pl.DataFrame:
    """ESTIMATES of one estimator: over all, by class and by tenant; requests after the training window."""
    after, given = slice(requests.known, None), estimate.base * estimate.factor
    columns = {"class": classes[after], "tenant": frame["tenant"][after].cast(pl.String)}
    tables = []
    for calibration, values in (("static", given), ("ema", given * factor)):
        error = (values - requests.actual)[after]
        relative = np.where(requests.actual[after] > 0, np.abs(error) / np.maximum(requests.actual[after], 1), np.nan)
        rows = pl.DataFrame(columns | {"_error": error, "_relative": relative}, nan_to_null=True)
        rows = rows.filter(pl.col("_error").is_not_null())
        said = {"estimator": name, "calibration": calibration}
        tables += [_summed(rows, by, said) for by in ("all", "class", "tenant")]
    return pl.concat(tables)


def _summed(rows: pl.DataFrame, by: str, said: dict[str, str]) -> pl.DataFrame:
    label = pl.lit(None, dtype=pl.String) if by == "all" else pl.col(by)
    error = pl.col("_error")
    table = rows.group_by(label.alias("name")).agg(
        requests=pl.len().cast(pl.Int64),
        bias=error.mean(),
        mae=error.abs().mean(),
        rmse=error.pow(2).mean().sqrt(),
        mape=pl.col("_relative").mean(),
    )
    if by != "all" and (table.height < 2 or table["name"].null_count() == table.height):
        return ESTIMATES.to_frame()
    busiest = table.sort("requests", "name", descending=[True, False]).head(BUSIEST)
    return busiest.with_columns(by=pl.lit(by), **{k: pl.lit(v) for k, v in said.items()}).select(ESTIMATES.names())


def _paths(name: str, factor: Floats, classes: Ints, names: NDArray[np.object_], arrival_s: Floats) -> pl.DataFrame:
    """Where the factors of the ten busiest classes went."""
    tables = []
    for one in np.argsort(-np.bincount(classes), kind="stable")[:10]:
        own = np.flatnonzero(classes == one)
        shown = own[np.unique(np.linspace(0, len(own) - 1, TRAJECTORY).round().astype(np.int64))] if len(own) else own
        columns = {"time_s": arrival_s[shown], "factor": factor[shown]}
        labelled = pl.DataFrame(columns).with_columns(estimator=pl.lit(name), **{"class": pl.lit(str(names[own[0]]))})
        tables.append(labelled.select(FACTORS.names()))
    return pl.concat(tables)
