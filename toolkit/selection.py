"""Which part of a trace, and how fast: the trace options every command shares."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click
import polars as pl

from toolkit.errors import SettingFailure
from toolkit.traces import Trace

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Selection:
    """Cut, filter, thin and scale a trace, in that order. Times are seconds from the trace's own start."""

    from_s: float | None = None
    to_s: float | None = None
    models: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    sample: float | None = None  # share of requests (of whole sessions where there are any), chosen by hash of the id
    limit: int | None = None
    speed: float = 1.0  # 2 halves every gap
    scale_load: float = 1.0  # 2 sends every request twice, 0.5 keeps half

    def __bool__(self) -> bool:
        return self != Selection()

    def apply(self, trace: Trace) -> Trace:
        """The selected requests, arrival again from 0 and request_id again from 0.

        A parent that was not selected becomes null. With `scale_load` > 1 copies of a request keep its arrival; whole
        copies first, then a share of one more, chosen by hash, so that the same setting selects the same requests.
        """
        if not self:
            return trace
        frame = self._thinned(self._filtered(trace.frame))
        frame = _renumbered(frame.head(self.limit) if self.limit is not None else frame)
        if self.speed != 1.0:
            frame = frame.with_columns(pl.col("arrival_s", "think_s") / self.speed)
        return replace(trace, frame=frame, info=replace(trace.info, notes=(*trace.info.notes, self.describe())))

    def describe(self) -> str:
        chosen = {k: v for k, v in vars(self).items() if v != getattr(Selection(), k)}
        return "selected: " + ", ".join(f"{k}={v}" for k, v in chosen.items())

    def _filtered(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        if self.from_s is not None:
            frame = frame.filter(pl.col("arrival_s") >= self.from_s)
        if self.to_s is not None:
            frame = frame.filter(pl.col("arrival_s") < self.to_s)
        if self.models:
            frame = frame.filter(pl.col("model").is_in(self.models))
        if self.tenants:
            frame = frame.filter(pl.col("tenant").is_in(self.tenants))
        return frame

    def _thinned(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        if self.sample is not None:
            frame = frame.filter(_share(salt=1) < self.sample)
        if self.scale_load != 1.0:
            whole, part = divmod(self.scale_load, 1.0)
            copies = pl.lit(int(whole), pl.UInt32) + (_share(salt=2) < part).cast(pl.UInt32)
            frame = _copied(frame, copies)
        return frame


def _share(salt: int) -> pl.Expr:
    """A number in [0, 1) for each request, the same for all turns of a session."""
    unit = pl.coalesce(pl.col("session_id"), pl.col("request_id").cast(pl.String))
    return unit.hash(seed=salt) / 2.0**64


def _copied(frame: pl.LazyFrame, copies: pl.Expr) -> pl.LazyFrame:
    """Each row `copies` times; a copy's session gets a name of its own, so sessions stay closed loops."""
    spread = frame.with_columns(_copy=pl.int_ranges(0, copies)).explode("_copy", empty_as_null=False)
    renamed = pl.when(pl.col("_copy") > 0).then(pl.format("{}#{}", "session_id", "_copy")).otherwise("session_id")
    return spread.with_columns(session_id=renamed)


def _renumbered(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Fresh request_id from 0, parents following (within the same copy), arrivals from 0."""
    keys = [c for c in ("_copy",) if c in frame.collect_schema()]
    fresh = (
        frame.rename({"request_id": "_old"})
        .with_row_index("request_id")
        .with_columns(pl.col("request_id").cast(pl.Int64))
    )
    lookup = fresh.select(*keys, parent_id=pl.col("_old"), _parent=pl.col("request_id"))
    joined = fresh.join(lookup, on=["parent_id", *keys], how="left", maintain_order="left")
    start = pl.col("arrival_s").min()
    shifted = joined.with_columns(parent_id=pl.col("_parent"), arrival_s=pl.col("arrival_s") - start)
    names = [n for n in frame.collect_schema().names() if not n.startswith("_")]
    return shifted.select(names)


def selection_options(command: Command) -> Command:
    """The click options behind Selection; the command receives them as one `selection` argument."""
    options = [
        click.option("--from", "from_s", type=float, metavar="S", help="Start at this second of the trace."),
        click.option("--to", "to_s", type=float, metavar="S", help="Stop before this second."),
        click.option("--model", "models", multiple=True, help="Only this model; may be repeated."),
        click.option("--tenant", "tenants", multiple=True, help="Only this tenant; may be repeated."),
        click.option("--sample", type=click.FloatRange(0, 1), help="Only this share of requests (whole sessions)."),
        click.option("--limit", type=click.IntRange(min=1), help="Only the first N requests."),
        click.option("--speed", type=float, default=1.0, help="Divide every gap by this."),
        click.option("--scale-load", type=float, default=1.0, help="Multiply the number of requests by this."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def selection_from(arguments: dict[str, Any]) -> Selection:
    """Take Selection's fields out of a command's keyword arguments (they are removed from `arguments`)."""
    chosen = {name: arguments.pop(name) for name in Selection.__dataclass_fields__}
    if chosen["speed"] <= 0 or chosen["scale_load"] <= 0:
        raise SettingFailure("must be above 0", where="--speed / --scale-load")
    return Selection(**chosen)
