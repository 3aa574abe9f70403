"""What `trace analyze --json` prints: a stable shape that scripts rely on. A part the trace lacks is null.

An analysis on request has a key only where it ran; ASKED holds what makes its shape, any other's tables come as rows.
"""

from collections.abc import Callable
from typing import Any

import orjson
import polars as pl

from toolkit import drift_json, groups_json
from toolkit.analyses import Tables
from toolkit.traces import TraceInfo

TOP = 10
BUILT_IN = ("arrivals", "lengths", "popularity", "idle", "prefixes", "sessions", "latencies")


def as_json(tables: Tables, info: TraceInfo) -> bytes:
    return orjson.dumps(shape(tables, info), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def shape(tables: Tables, info: TraceInfo) -> dict[str, Any]:
    """The contract's keys; every summary table's other columns come along under their own names."""
    return {
        "trace": info.to_dict(),
        "arrivals": _arrivals(tables["arrivals"]),
        "prompt_tokens": _tokens(tables["lengths"], "prompt_tokens"),
        "output_tokens": _tokens(tables["lengths"], "output_tokens"),
        "correlation": {row["method"]: row["value"] for row in tables["lengths"]["correlation"].to_dicts()} or None,
        "models": _names(tables["popularity"], "model"),
        "tenants": _names(tables["popularity"], "tenant"),
        "idle": _only_row(tables["idle"]["summary"]),
        "prefixes": _prefixes(tables["prefixes"]),
        "sessions": _sessions(tables["sessions"]),
        "latencies": _latencies(tables["latencies"]),
    } | {name: ASKED.get(name, _rows)(answer) for name, answer in tables.items() if name not in BUILT_IN}


def _rows(answer: dict[str, pl.DataFrame]) -> dict[str, Any]:
    return {name: table.to_dicts() for name, table in answer.items()}


def _arrivals(answer: dict[str, pl.DataFrame]) -> dict[str, Any] | None:
    row = _only_row(answer["summary"])
    lists = {name: answer[name].to_dicts() for name in ("dispersion", "gap_fits")}
    return row and row | lists


def _tokens(answer: dict[str, pl.DataFrame], column: str) -> dict[str, Any] | None:
    own = pl.col("column") == column
    row = _only_row(answer["summary"].filter(own).drop("column"))
    return row and row | {"fits": answer["fits"].filter(own).drop("column").to_dicts()}


def _names(answer: dict[str, pl.DataFrame], column: str) -> dict[str, Any] | None:
    table = answer[f"{column}s"]
    if not table.height:
        return None
    top = table.head(TOP).select(column, "share", "requests").to_dicts()
    fitted = _only_row(answer["zipf"].filter(pl.col("column") == column).select("exponent", "low", "high", "ks"))
    return {"count": int(table[column].count()), "top": top, "zipf": fitted}


def _prefixes(answer: dict[str, pl.DataFrame]) -> dict[str, Any] | None:
    row = _only_row(answer["summary"])
    return row and row | {"cache": answer["cache"].to_dicts()}


def _sessions(answer: dict[str, pl.DataFrame]) -> dict[str, Any] | None:
    row = _only_row(answer["summary"])
    return row and {"count": row.pop("sessions")} | row


def _latencies(answer: dict[str, pl.DataFrame]) -> dict[str, Any] | None:
    if not answer["status"].height:
        return None
    quantiles = {row.pop("metric"): row for row in answer["quantiles"].to_dicts()}
    return {"status": {row["status"]: row["requests"] for row in answer["status"].to_dicts()}} | quantiles


def _only_row(table: pl.DataFrame) -> dict[str, Any] | None:
    return table.row(0, named=True) if table.height else None


ASKED: dict[str, Callable[[dict[str, pl.DataFrame]], dict[str, Any] | None]] = {
    "groups": groups_json.shape,
    "drift": drift_json.shape,
    "clients": drift_json.clients,
}
