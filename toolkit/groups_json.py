"""The groups part of `trace analyze --json`."""

from typing import Any

import polars as pl


def shape(answer: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """The contract's keys; `models` are tenants where `by` says so, `intervals` are when a group had these members."""
    summary = answer["summary"].to_dicts()
    about = summary[0] if summary else {"verdict": "none"}
    intervals = answer["intervals"]
    groups = []
    for row in answer["groups"].drop("start_s", "end_s").to_dicts():
        own = intervals.filter(pl.col("id") == row["id"]).select("start_s", "end_s")
        groups.append({"id": row["id"], "models": row.pop("names"), **row, "intervals": [list(r) for r in own.rows()]})
    prism = answer["prism"].to_dicts()
    members = answer["members"].to_dicts()
    return about | {"groups": groups, "members": members, "prism": prism[0] if prism else None}
