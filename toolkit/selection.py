"""Which part of a trace, and how fast."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from toolkit.errors import SettingFailure, nearest
from toolkit.readable import seconds
from toolkit.traces import Trace, TraceInfo

NOT_SELECTED = "not selected"  # why a row was left out that could have been kept


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
    seed: int = 0  # which requests a hash chooses, where a share of them is asked for

    def __bool__(self) -> bool:
        return self != Selection()

    def apply(self, trace: Trace) -> Trace:
        """The selected requests, arrival again from 0 and request_id again from 0.

        A parent that was not selected becomes null. With `scale_load` > 1 copies of a request keep its arrival; whole
        copies first, then a share of one more, chosen by hash, so that the same setting selects the same requests.
        Outcomes follow the selected requests; what was measured says nothing about another load, so `speed` and
        `scale_load` leave none. Raises SettingFailure when nothing is selected.
        """
        if not self:
            return trace
        self._check(trace)
        chosen = self._thinned(self._filtered(trace.frame))
        chosen = chosen.head(self.limit) if self.limit is not None else chosen
        frame = self._sped(_renumbered(chosen))
        return replace(
            trace,
            frame=frame,
            info=self._described(trace.info, chosen, frame),
            outcomes=self._outcomes(trace, chosen),
            numbered=None,
        )

    def describe(self) -> str:
        """The options that ask for it."""
        asked = {k: v for k, v in vars(self).items() if v != getattr(Selection(), k)}
        values = [(option(name), each) for name, v in asked.items() for each in (v if isinstance(v, tuple) else (v,))]
        return " ".join(f"{name} {str(value).removesuffix('.0')}" for name, value in values)

    def _check(self, trace: Trace) -> None:
        if (self.from_s is not None or self.to_s is not None) and trace.info.span_s is None:
            raise SettingFailure("the trace has no times to cut by", where="--from / --to")
        for column, wanted in (("model", self.models), ("tenant", self.tenants)):
            if wanted:
                _check_names(trace.frame, column, wanted)

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
            frame = frame.filter(_share(salt=2 * self.seed + 1) < self.sample)
        if self.scale_load != 1.0:
            whole, part = divmod(self.scale_load, 1.0)
            copies = pl.lit(int(whole), pl.UInt32) + (_share(salt=2 * self.seed + 2) < part).cast(pl.UInt32)
            frame = _copied(frame, copies)
        return frame

    def _sped(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        if self.speed == 1.0:
            return frame
        return frame.with_columns(pl.col("arrival_s", "think_s") / self.speed)

    def _described(self, info: TraceInfo, chosen: pl.LazyFrame, frame: pl.LazyFrame) -> TraceInfo:
        """`info` with the selection's own count, span and start; what was left out counts as dropped."""
        kept, span_s = frame.select(pl.len(), pl.col("arrival_s").max()).collect(engine="streaming").row(0)
        if kept == 0:
            of = f" of the trace's {seconds(info.span_s)}" if info.span_s else ""
            raise SettingFailure(f"no request{of} is selected", where=self.describe())
        left_out = info.rows_kept - kept
        return replace(
            info,
            rows_read=info.rows_read - min(left_out, 0),  # a copy counts as read once more
            rows_kept=kept,
            dropped={**info.dropped, NOT_SELECTED: left_out} if left_out > 0 else info.dropped,
            span_s=span_s,
            clock_step_s=info.clock_step_s and info.clock_step_s / self.speed,
            duplicates=None,
            epoch=self._epoch(info, chosen),
            notes=(*info.notes, f"selected with {self.describe()}"),
        )

    def _epoch(self, info: TraceInfo, chosen: pl.LazyFrame) -> str | None:
        """When the first selected request arrived; a trace that was sped up is of no time of the day."""
        if info.epoch is None or self.speed != 1.0:
            return None
        later_s = chosen.select(pl.col("arrival_s").min()).collect(engine="streaming").item()
        return (datetime.fromisoformat(info.epoch) + timedelta(seconds=later_s or 0.0)).isoformat()

    def _outcomes(self, trace: Trace, chosen: pl.LazyFrame) -> pl.LazyFrame | None:
        if trace.outcomes is None or self.speed != 1.0 or self.scale_load != 1.0:
            return None
        ids = chosen.select("request_id", _start=pl.col("arrival_s").min()).with_row_index("_new")
        times = ("arrival_s", "sent_s", "start_s", "first_token_s", "finish_s")
        joined = trace.outcomes.join(ids, on="request_id", how="inner", maintain_order="right")
        shifted = joined.with_columns(pl.col(*times) - pl.col("_start"), request_id=pl.col("_new").cast(pl.Int64))
        return shifted.drop("_new", "_start")


def option(name: str) -> str:
    """How a field of Selection is asked for on the command line."""
    return "--" + {"models": "model", "tenants": "tenant"}.get(name, name.removesuffix("_s").replace("_", "-"))


def _check_names(frame: pl.LazyFrame, column: str, wanted: tuple[str, ...]) -> None:
    known = frame.select(pl.col(column).drop_nulls().unique()).collect(engine="streaming").to_series().to_list()
    for name in wanted:
        if name not in known:
            raise SettingFailure(f"no {column} is called '{name}'", where=f"--{column}", hint=nearest(name, known[:50]))


def _share(salt: int) -> pl.Expr:
    """A number in [0, 1) for each request, the same for all turns of a session."""
    unit = pl.coalesce(pl.col("session_id"), pl.col("request_id").cast(pl.String))
    return (unit.hash(seed=salt) // 2**11) / 2.0**53


def _copied(frame: pl.LazyFrame, copies: pl.Expr) -> pl.LazyFrame:
    """Each row `copies` times; a copy's session gets a name of its own, so sessions stay closed loops."""
    spread = frame.with_columns(_copy=pl.int_ranges(0, copies)).filter(pl.col("_copy").list.len() > 0).explode("_copy")
    renamed = pl.when(pl.col("_copy") > 0).then(pl.format("{}#{}", "session_id", "_copy")).otherwise("session_id")
    return spread.with_columns(session_id=renamed)


def _renumbered(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Fresh request_id from 0, parents following (within the same copy), arrivals from 0."""
    names = frame.collect_schema().names()
    keys = [n for n in names if n == "_copy"]
    fresh = frame.rename({"request_id": "_old"}).with_row_index("request_id")
    fresh = fresh.with_columns(pl.col("request_id").cast(pl.Int64))
    lookup = fresh.select(*keys, parent_id=pl.col("_old"), _parent=pl.col("request_id"))
    joined = fresh.join(lookup, on=["parent_id", *keys], how="left", maintain_order="left")
    start = pl.col("arrival_s").min()
    shifted = joined.with_columns(parent_id=pl.col("_parent"), arrival_s=pl.col("arrival_s") - start)
    return shifted.select(n for n in names if n != "_copy")
