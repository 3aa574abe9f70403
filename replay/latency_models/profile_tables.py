"""The tables of a layer profile: kernel times of one decoder layer on one GPU, read from their CSV files.

dense.csv (layer, tokens) · per_sequence.csv (layer, sequences) · attention.csv (prefill_chunk, kv_prefill, n_decode,
kv_decode) · moe.csv (tokens, activated_experts) · skew_fit.csv; times in `time_us`. meta.yaml beside the folders
tp1, tp2 … says what was profiled.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import InputFailure

Values = NDArray[np.float64]
ONCE = ("embedding", "final_layernorm")  # not in every layer
TWICE = ("layernorm",)  # before attention and before the MLP
US = 1e-6
LABELS = ("pc", "n_label", "skew_rate_label", "kv_big_label", "kp_label")
AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")


@dataclass(frozen=True)
class Curve:
    """Seconds at knots, linear in between; beyond the last knot it goes on as between the last two."""

    at: Values
    seconds: Values

    def __call__(self, x: Values) -> Values:
        inside: Values = np.interp(x, self.at, self.seconds)
        if len(self.at) < 2:
            return inside
        slope = (self.seconds[-1] - self.seconds[-2]) / (self.at[-1] - self.at[-2])
        beyond: Values = inside + slope * np.maximum(x - self.at[-1], 0.0)
        return beyond


@dataclass(frozen=True)
class Skew:
    """How far a batch of unequal contexts is from one of mean contexts (0) towards one of longest contexts (1).

    `bounds` are the largest values of all bins but the last: prefill chunk, sequences, share of large contexts,
    longest context, tokens before the chunk.
    """

    bounds: tuple[Values, Values, Values, Values, Values]
    share: Values  # [chunk, sequences, share, longest, prior]


def find_profile(path: Path, tensor_parallel: int = 1, dtype: str | None = None) -> Path:
    """The folder that holds dense.csv: `path`, PATH/tpN or PATH/DTYPE/tpN; InputFailure names what there is."""
    if (path / "dense.csv").is_file():
        return path
    found = sorted(f.parent for below in ("*", "*/*") for f in path.glob(f"{below}/dense.csv"))
    fitting = [f for f in found if f.name == f"tp{tensor_parallel}" and dtype in (None, f.parent.name)]
    if fitting:
        return fitting[0]
    have = ", ".join(str(f.relative_to(path)) for f in found) or "no dense.csv"
    raise InputFailure(f"holds no profile of tensor parallelism {tensor_parallel}", where=str(path), hint=f"has {have}")


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.yaml of the profile in `folder`; empty where there is none."""
    import yaml

    for place in (folder, folder.parent):
        if (place / "meta.yaml").is_file():
            loaded: dict[str, Any] = yaml.safe_load((place / "meta.yaml").read_text()) or {}
            return loaded
    return {}


def read_dense(folder: Path) -> tuple[Curve, Curve]:
    """(Seconds of one layer by tokens, seconds of what the model does once)."""
    frame = _read(folder / "dense.csv", "layer", "tokens", "time_us")
    times = pl.col("time_us") * pl.when(pl.col("layer").is_in(TWICE)).then(2).otherwise(1)
    once = pl.col("layer").is_in(ONCE)
    return _curve(frame.filter(~once), "tokens", times), _curve(frame.filter(once), "tokens", times)


def read_head(folder: Path) -> Curve:
    """Seconds of output projection and sampling by sequences."""
    frame = _read(folder / "per_sequence.csv", "layer", "sequences", "time_us")
    return _curve(frame, "sequences", pl.col("time_us"))


def read_attention(folder: Path) -> tuple[tuple[Values, ...], Values]:
    """(Knots of chunk, prior, sequences, context; seconds of one layer at each), what was not measured filled in."""
    frame = _read(folder / "attention.csv", *AXES, "time_us")
    knots = tuple(np.unique(np.append(frame[axis].to_numpy(), 0)).astype(np.float64) for axis in AXES)
    grid = np.full([k.size for k in knots], np.nan)
    index = tuple(np.searchsorted(k, frame[axis].to_numpy()) for k, axis in zip(knots, AXES, strict=True))
    grid[index] = frame["time_us"].to_numpy() * US
    grid[0] = grid[0, 0]
    grid[:, :, 0] = grid[:, :, 0, :1]
    grid[0, :, 0] = 0.0
    for axis in (3, 1, 0, 2):
        _fill(np.moveaxis(grid, axis, -1), knots[axis])
    if np.isnan(grid).any():
        raise InputFailure("leaves part of its grid unmeasured", where=str(folder / "attention.csv"))
    return knots, grid


def read_moe(folder: Path) -> tuple[tuple[Values, Values], Values] | None:
    """(Knots of tokens and activated experts; seconds of one layer's experts); None where there are no experts."""
    if not (folder / "moe.csv").is_file():
        return None
    frame = _read(folder / "moe.csv", "tokens", "activated_experts", "time_us")
    tokens, experts = (frame[c].unique().sort().to_numpy() for c in ("tokens", "activated_experts"))
    grid = np.full((tokens.size, experts.size), np.nan)
    where = np.searchsorted(tokens, frame["tokens"].to_numpy()), np.searchsorted(experts, frame["activated_experts"])
    grid[where] = frame["time_us"].to_numpy() * US
    _fill(grid, experts.astype(np.float64))
    _fill(grid.T, tokens.astype(np.float64))
    return (tokens.astype(np.float64), experts.astype(np.float64)), grid


def read_skew(folder: Path, meta: dict[str, Any]) -> Skew | None:
    """What meta.yaml says of unequal contexts; None where it does not say that this was profiled and fitted."""
    fit = meta.get("skew_fit", {})
    if not fit.get("enabled") or not (folder / "skew_fit.csv").is_file():
        return None
    frame = _read(folder / "skew_fit.csv", *LABELS, "alpha")
    axes = fit["bucket_axes"]
    degree = int(folder.name.removeprefix("tp")) if folder.name.startswith("tp") else 1
    chunks = frame["pc"].unique().sort().to_numpy().astype(np.float64)
    labels = [chunks.tolist(), axes["n_labels"], axes["skew_rate_labels"], axes["kv_big_labels"], axes["kp_labels"]]
    names = ("n_bins", "skew_rate_bins", "kv_big_bins", "kp_bins")
    inner = [np.array(axes[name][1:-1], np.float64) for name in names]
    share = np.full([len(x) for x in labels], float(fit.get("per_tp", {}).get(degree, {}).get("alpha_default", 0.0)))
    for *key, alpha in frame.select(
        "pc", "n_label", "skew_rate_label", "kv_big_label", "kp_label", "alpha"
    ).iter_rows():
        share[tuple(known.index(k) for known, k in zip(labels, key, strict=True))] = alpha
    between = np.append(np.zeros(1), (chunks[1:-1] + chunks[2:]) / 2)[: max(chunks.size - 1, 0)]
    return Skew((between, inner[0], inner[1], inner[2], inner[3]), share)


def _curve(frame: pl.DataFrame, by: str, time: pl.Expr) -> Curve:
    """Sum over layers, each linear between its own knots (not every layer is measured at every one)."""
    at = frame[by].unique().sort().to_numpy().astype(np.float64)
    total = np.zeros(at.size)
    for layer in frame.partition_by("layer"):
        known = layer.sort(by).select(pl.col(by).cast(pl.Float64), time=time)
        total += Curve(known[by].to_numpy(), known["time"].to_numpy() * US)(at)
    return Curve(at, total) if at.size else Curve(np.zeros(1), np.zeros(1))


def _fill(grid: Values, knots: Values) -> None:
    """Interpolate what is missing along the last axis, in place; the nearest value beyond the ends."""
    for index in np.ndindex(grid.shape[:-1]):
        row = grid[index]
        known = ~np.isnan(row)
        if known.any() and not known.all():
            grid[index] = np.interp(knots, knots[known], row[known])


def _read(path: Path, *columns: str) -> pl.DataFrame:
    if not path.is_file():
        raise InputFailure("is missing from the profile", where=str(path))
    frame = pl.read_csv(path, glob=False)
    lacking = [c for c in columns if c not in frame.columns]
    if lacking:
        raise InputFailure(f"has no column {', '.join(lacking)}", where=str(path), hint=f"has {frame.columns}")
    return frame
