"""One streaming pass over a scan: rows by fate, first and last arrival, order, duplicates and a sample of stamps."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from workloads.clock import STAMPS_JUDGED

MOST_ROWS_HASHED = 20_000_000  # up to here duplicates are counted in a source that is not in order


@dataclass
class Count:
    """What is known after the pass; `first` and `last` are arrivals of kept rows in the source's unit."""

    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    first: float | int | None = None
    last: float | int | None = None
    sorted: bool = True
    whole: bool = True  # no arrival has a fraction
    duplicates: int | None = 0
    stamps: list[NDArray[Any]] = field(default_factory=list)
    _judged: int = 0
    _seen: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.UInt64))  # hashes of rows at the latest arrival
    _latest: float | int | None = None

    @property
    def kept(self) -> int:
        return self.rows - sum(self.dropped.values())

    def add(self, batch: pl.DataFrame) -> None:
        """Count a batch of a frame with `arrival`, `drop_reason` and `row_hash`."""
        self.rows += batch.height
        reasons = batch["drop_reason"].drop_nulls()
        if reasons.len():
            self._drop(reasons)
            batch = batch.filter(pl.col("drop_reason").is_null())
        if batch.height:
            self._arrivals(batch["arrival"], batch["row_hash"])

    def _drop(self, reasons: pl.Series) -> None:
        for reason, number in reasons.value_counts(sort=True).iter_rows():
            self.dropped[reason] = self.dropped.get(reason, 0) + number

    def _arrivals(self, arrival: pl.Series, hashes: pl.Series) -> None:
        if arrival.null_count() == arrival.len():
            self._timeless(hashes)
            return
        low, high = arrival.min(), arrival.max()
        in_order = arrival.is_sorted() and (self._latest is None or arrival[0] >= self._latest)
        self.sorted = self.sorted and bool(in_order)
        self.first = low if self.first is None else min(self.first, low)  # type: ignore[type-var, assignment]
        self.last = high if self.last is None else max(self.last, high)  # type: ignore[type-var, assignment]
        self._sample(arrival)
        self._repeats(arrival, hashes)
        self._latest = arrival[-1]

    def _timeless(self, hashes: pl.Series) -> None:
        """Without times any two rows may be equal, so all are compared, as far as that is bounded."""
        if self.duplicates is None or self.rows > MOST_ROWS_HASHED:
            self.duplicates = None
            return
        together = pl.concat([self._seen, hashes])
        self._seen = together.unique()
        self.duplicates += together.len() - self._seen.len()

    def _sample(self, arrival: pl.Series) -> None:
        room = STAMPS_JUDGED - self._judged
        if room > 0:
            taken = arrival.head(room).to_numpy()
            self.whole = self.whole and (taken.dtype.kind == "i" or bool((taken == np.rint(taken)).all()))
            self.stamps.append(taken)
            self._judged += taken.size

    def _repeats(self, arrival: pl.Series, hashes: pl.Series) -> None:
        """Equal rows arrive together, so in an ordered source only rows of one arrival need comparing."""
        if not self.sorted or self.duplicates is None:
            self.duplicates = None
            return
        if self._latest is not None and arrival[0] == self._latest:
            hashes = pl.concat([self._seen, hashes])
        self.duplicates += hashes.len() - hashes.n_unique()
        tail = hashes.tail(int((arrival == arrival[-1]).sum()))
        whole = pl.concat([self._seen, tail]) if self._latest == arrival[-1] else tail
        self._seen = whole.unique()


def count(frame: pl.LazyFrame) -> Count:
    """Count a frame with `arrival` (numeric), `drop_reason` and `row_hash`, batch by batch in source order."""
    counted = Count()
    for batch in frame.select("arrival", "drop_reason", "row_hash").collect_batches(engine="streaming"):
        counted.add(batch)
    if counted.duplicates is None and counted.kept <= MOST_ROWS_HASHED:
        kept = frame.filter(pl.col("drop_reason").is_null()).select(pl.len() - pl.col("row_hash").n_unique())
        counted.duplicates = int(kept.collect(engine="streaming").item())
    return counted
