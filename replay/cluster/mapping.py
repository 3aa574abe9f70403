"""Which of a trace's models a cluster's models serve, where the spec says so by popularity rank.

As Prism's authors do by the number in a name, one of the trace's models may be served twice or three times, shifted in
time (prism-research, trace.py). A model that no rank names is left out, and counted.
"""

import polars as pl

from replay.cluster.spec import Cluster, Hosted
from toolkit.errors import SettingFailure


def mapped(cluster: Cluster, trace: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """(The requests that the cluster is to serve, what was left out by reason). Without ranks, the trace as it is."""
    ranked = [m for m in cluster.models if m.rank is not None]
    if not ranked:
        return trace, {}
    if len(ranked) < len(cluster.models):
        name = next(m.name for m in cluster.models if m.rank is None)
        raise SettingFailure(f"'{name}' has no rank, though others have", where="models", hint="rank all or none")
    popular = trace["model"].drop_nulls().value_counts().sort("count", "model", descending=[True, False])["model"]
    parts = [_part(trace, m, popular) for m in ranked]
    named = {popular[m.rank - 1] for m in ranked if m.rank is not None}
    left = trace.filter(~pl.col("model").is_in(list(named)) | pl.col("model").is_null())
    return _together(parts), {"of models that no rank names": len(left)} if len(left) else {}


def _part(trace: pl.DataFrame, hosted: Hosted, popular: pl.Series) -> pl.DataFrame:
    """The requests of one served model, in its name and at its time."""
    rank = hosted.rank or 1
    if rank > len(popular):
        raise SettingFailure(f"'{hosted.name}' has rank {rank}; the trace has {len(popular)} models", where="models")
    mine = trace.filter(pl.col("model") == popular[rank - 1])
    return mine.with_columns(model=pl.lit(hosted.name), arrival_s=pl.col("arrival_s") + hosted.shift_s)


def _together(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Several parts as one trace: by arrival from 0, turns still after their parents of the same part."""
    tagged = [p.with_columns(part=pl.lit(i, pl.Int32)) for i, p in enumerate(parts)]
    frame = pl.concat(tagged).rename({"request_id": "before"})
    frame = frame.with_columns(arrival_s=pl.col("arrival_s") - pl.col("arrival_s").min())
    frame = frame.sort("arrival_s", "before", "part").with_row_index("request_id")
    frame = frame.with_columns(request_id=pl.col("request_id").cast(pl.Int64))
    parents = frame.select("part", parent_id="before", new="request_id")
    joined = frame.join(parents, on=["part", "parent_id"], how="left", maintain_order="left")
    return joined.with_columns(parent_id=pl.col("new")).drop("new", "before", "part")
