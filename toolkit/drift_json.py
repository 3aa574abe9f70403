"""The `drift` and `clients` parts of `trace analyze --json`."""

from typing import Any

import polars as pl

Frames = dict[str, pl.DataFrame]
ERRORS = ("requests", "bias", "mae", "rmse", "mape")
LENGTHS = ("prompt_tokens", "output_tokens", "ratio")
PARTS = ("change_points", "strata", "strata_points", "cause", "null", "alarms")
TOP = 10


def shape(answer: Frames) -> dict[str, Any]:
    """A key a column, null where the trace lacks it; `mix` by what is mixed.

    A change point with a `model` or `tenant` is of those requests alone, one without of all.
    `estimate` has the errors of estimators and, where the trace has estimates, whether actual ÷ estimate drifts.
    """
    found = {row["column"]: _column(answer, row) for row in answer["summary"].to_dicts()}
    mix = {name: found[name] for name in found if name not in (*LENGTHS, "estimate")}
    own = estimate(answer)
    drifted = found.get("estimate")
    return {name: found.get(name) for name in LENGTHS} | {"mix": mix, "estimate": own and (drifted or {}) | own}


def _column(answer: Frames, row: dict[str, Any]) -> dict[str, Any]:
    own = pl.col("column") == row["column"]
    parts = {name: answer[name].filter(own).drop("column") for name in PARTS}
    points = pl.concat([parts["change_points"], parts["strata_points"]], how="diagonal")
    said = {key: value for key, value in row.items() if key not in ("column", "change_points")}
    cause = {"by": said.pop("cause_by"), "own": said.pop("own"), "mix": said.pop("mix")}
    return {
        **said,
        "change_points": points.to_dicts(),
        "strata": parts["strata"].filter(pl.col("verdict") != "none").to_dicts(),
        "cause": cause if cause["by"] else None,
        "causes": [_cause(key, table) for key, table in parts["cause"].group_by("change", "by", maintain_order=True)],
        "distances": parts["null"].to_dicts(),
        "alarms": parts["alarms"].to_dicts(),
    }


def _cause(key: tuple[Any, ...], table: pl.DataFrame) -> dict[str, Any]:
    """One change point laid to one split of the requests; the strata that did most."""
    top = table.sort((pl.col("own") + pl.col("mix")).abs(), descending=True).head(TOP)
    whole = {"own": table["own"].sum(), "mix": table["mix"].sum()}
    return {"change": key[0], "by": key[1], **whole, "strata": top.drop("change", "by").to_dicts()}


def estimate(answer: Frames) -> dict[str, Any] | None:
    """Errors of every estimator, left alone (`static`) and calibrated (`ema`); null without output lengths."""
    table = answer["estimate"]
    if table.is_empty():
        return None
    overall: dict[str, Any] = {}
    for row in table.filter(pl.col("by") == "all").to_dicts():
        overall.setdefault(row["estimator"], {})[row["calibration"]] = {name: row[name] for name in ERRORS}
    parts = {
        f"by_{by}": table.filter(pl.col("by") == by).drop("by").rename({"name": by}).to_dicts()
        for by in ("class", "tenant")
    }
    return {"feedback": answer["feedback"]["feedback"][0], "estimators": overall, **parts}


def clients(answer: Frames) -> dict[str, Any] | None:
    """The largest clients and who made the bursts; null without tenants."""
    if answer["clients"].is_empty():
        return None
    return {"count": answer["clients"].height, "top": answer["clients"].head(TOP).to_dicts()} | {
        name: answer[name].to_dicts() for name in ("peaks", "makers")
    }
