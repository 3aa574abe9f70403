"""A finished sweep for a terminal: its combinations as means over seeds, what the search found, what failed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from toolkit.errors import printable
from toolkit.readable import number, percent, seconds
from toolkit.sweeps import SweepFolder, over_seeds

SHOWN_ROWS = 40
GAP = "  "
SCALES = ("slo_scale_ttft", "slo_scale_tpot")
Row = dict[str, Any]


def to_json(path: Path) -> str:
    """Every point, the means over seeds, and the capacities."""
    folder = SweepFolder.open(path)
    table = folder.table()
    found = {"points": table, "means": over_seeds(table), "capacity": folder.capacity()}
    return orjson.dumps({k: v.to_dicts() for k, v in found.items()}, option=orjson.OPT_INDENT_2).decode()


def as_text(path: Path) -> str:
    """A table of the combinations, one of the capacities, and where everything is."""
    folder = SweepFolder.open(path)
    table, capacity = folder.table(), folder.capacity()
    asked = pl.col("gpus").is_in(folder.info["gpus"]) & pl.col("load").is_in(folder.info["load"])
    means = over_seeds(table.filter(asked))
    lines = [*_combinations(means), ""] if len(means) else []
    if len(capacity):
        lines += [*_capacities(capacity), ""]
    failed = table.filter(pl.col("error").is_not_null())
    if len(failed):
        lines += _failures(failed)
    return "\n".join([*lines, _where(path, len(table), len(failed))])


def _combinations(means: pl.DataFrame) -> list[str]:
    """What varies, ρ, and how well the objectives were met; FCFS is among the schedulers."""
    shown = means.head(SHOWN_ROWS)
    heads = [
        "placement",
        "scheduler",
        "GPUs",
        "load",
        "SLO ×",
        "ρ",
        "attainment",
        "TTFT",
        "TPOT",
        "P99 TTFT",
        "goodput/s",
    ]
    cells = [_combination(row) for row in shown.iter_rows(named=True)]
    kept = [i for i in range(len(heads)) if i != 4 or means[SCALES[0]].is_not_null().any()]
    lines = _aligned([heads[i] for i in kept], [[row[i] for i in kept] for row in cells], text=2)
    if len(shown) < len(means):
        lines.append(f"… {len(means) - len(shown)} more combinations are in the table")
    return lines


def _combination(row: Row) -> list[str]:
    return [
        printable(row["placement"]),
        printable(row["scheduler"]),
        str(row["gpus"]),
        f"{row['load']:.4g}",
        _scales(row),
        "–" if row["utilisation"] is None else f"{row['utilisation']:.2f}",
        "failed" if not row["seeds"] else _with_interval(row, "attainment"),
        percent(row["attainment_ttft"]),
        percent(row["attainment_tpot"]),
        seconds(row["ttft_p99_s"]),
        number(row["goodput_per_s"]),
    ]


def _scales(row: Row) -> str:
    ttft, tpot = (row[name] for name in SCALES)
    if ttft is None:
        return "–"
    return f"{ttft:.4g}" if ttft == tpot else f"{ttft:.4g}/{tpot:.4g}"


def _with_interval(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if row[name] is None or low is None:
        return percent(row[name])
    return f"{percent(row[name])} ({100 * low:.1f}–{100 * high:.1f})"


def _capacities(capacity: pl.DataFrame) -> list[str]:
    first = capacity.row(0, named=True)
    what = "fewest GPUs" if first["over"] == "gpus" else "highest load"
    metric = "" if first["metric"] == "joint" else f" of {first['metric'].upper()}"
    heads = ["placement", "scheduler", "load" if first["over"] == "gpus" else "GPUs", "SLO ×", what, "95 %", "ρ"]
    cells = [_capacity(row) for row in capacity.iter_rows(named=True)]
    title = f"{what} at {100 * first['wanted']:.4g} % attainment{metric}"
    return [title, *_aligned(heads, cells, text=2), *_warnings(capacity)]


def _capacity(row: Row) -> list[str]:
    ends = "–".join(
        "?" if row[f"capacity_{end}"] is None else f"{row[f'capacity_{end}']:.4g}" for end in ("low", "high")
    )
    other = f"{row['load']:.4g}" if row["over"] == "gpus" else str(row["gpus"])
    rho = "–" if row["utilisation"] is None else f"{row['utilisation']:.2f}"
    found = "none" if row["capacity"] is None else f"{row['capacity']:.4g}"
    return [printable(row["placement"]), printable(row["scheduler"]), other, _scales(row), found, ends, rho]


def _warnings(capacity: pl.DataFrame) -> list[str]:
    return [
        f"{printable(row['placement'])} {printable(row['scheduler'])}: {printable(row['said'])}"
        for row in capacity.filter(~pl.col("monotone")).iter_rows(named=True)
    ]


def _failures(failed: pl.DataFrame) -> list[str]:
    """Each reason once, with how many points it cost."""
    counted = failed.group_by("error", maintain_order=True).len()
    return [f"{n} failed: {printable(error)}" for error, n in counted.iter_rows()]


def _where(path: Path, points: int, failed: int) -> str:
    done = f"{points:,} points" + (f", {failed:,} failed" if failed else "")
    return f"{path}: {done}; see {path / 'index.html'}"


def _aligned(heads: Sequence[str], cells: Sequence[Sequence[str]], text: int) -> list[str]:
    """Columns, the first `text` of them to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    rows = [
        GAP.join(c.ljust(w) if i < text else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in (heads, *cells)
    ]
    return [rows[0].rstrip(), GAP.join("─" * w for w in widths), *(row.rstrip() for row in rows[1:])]
