"""Which models, tenants, or tenants of a model drift, alone or at times when all requests together do not.

The test is of the largest: a stratum's scan, over what its blocks give on average in another order, has to exceed the
largest such ratio over all strata in 99 % of draws. Where strata overlap, the one with the largest ratio is named;
another is named too if it still stands without the requests of those before it. Where the whole changes, a stratum is
scanned about its own mean in every segment of the whole, so that what all do together is not found again; unless the
whole is still without some strata whose ratios are larger than its own: then the change was theirs.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis import change_points as scan
from toolkit.analysis.drift_bins import BINS, Binned, Floats, Ints, Values, binned, counted, deviations
from toolkit.analysis.drift_sessions import session_variance

BY = (("model",), ("tenant",), ("model", "tenant"))
MOST = 40  # strata of a kind, the busiest
LEAST = 160  # requests
NEARLY_ALL = 0.9  # of the requests: no part, but the whole
MOST_REQUESTS = 20_000  # of a stratum; of a larger one every k-th
CHUNKS, LEAST_CHUNK, BLOCKS, SCAN_BINS = 192, 5, 48, 12
DRAWS = 299
ALPHA = 0.005  # of each of the two scans, over all strata of a column
REST_ALPHA = 0.05  # from which the whole without some strata counts as still
NAMES = 255  # of a column, the busiest: a stratum is one byte for each

_f, _i, _s = pl.Float64(), pl.Int64(), pl.String()
STRATA = pl.Schema({"column": _s, "model": _s, "tenant": _s, "requests": _i, "share": _f, "p_value": _f, "verdict": _s})


@dataclass(frozen=True)
class Stratum:
    """Rows of the trace, in order of arrival, with one model, tenant, or both; null is any."""

    model: str | None
    tenant: str | None
    rows: NDArray[np.integer]
    requests: int


@dataclass(frozen=True)
class Coded:
    """A column of names as bytes: the busiest, and NAMES for no name and the rest."""

    codes: NDArray[np.uint8]
    names: list[str]


@dataclass(frozen=True)
class Strata:
    """The busiest strata, and how many others there are."""

    tested: list[Stratum]
    left_out: int
    model: Coded | None
    tenant: Coded | None

    def without(self, stratum: Stratum, others: list[Stratum]) -> Stratum:
        """A stratum less the requests of others."""
        inside = np.zeros(len(stratum.rows), dtype=bool)
        for other in others:
            inside |= self._within(other, stratum.rows)
        return replace(stratum, rows=stratum.rows[~inside])

    def _within(self, stratum: Stratum, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
        inside = np.ones(len(rows), dtype=bool)
        for name, coded in ((stratum.model, self.model), (stratum.tenant, self.tenant)):
            if name is not None and coded is not None:
                inside &= coded.codes[rows] == coded.names.index(name)
        return inside


@dataclass(frozen=True, eq=False)
class Scanned:
    """The best cut and the best pulse of a stratum over the mean of its draws, and the draws, all times its stretch."""

    stratum: Stratum
    found: Floats  # cut, pulse
    drawn: Floats  # draws × (cut, pulse)
    long_run: float


def strata(frame: pl.DataFrame) -> Strata:
    """What is tested of a trace."""
    known = {column: _codes(frame[column]) for column in ("model", "tenant")}
    found: list[Stratum] = []
    left_out = 0
    for by in BY:
        if all(known[column] is not None for column in by):
            own, others = _busiest(by, known, found)
            found += own
            left_out += others
    return Strata(found, left_out, known["model"], known["tenant"])


def _codes(names: pl.Series) -> Coded | None:
    """The busiest names as numbers; null where there are fewer than two."""
    categories = names.cast(pl.Categorical)
    counts = categories.drop_nulls().value_counts(name="n").sort("n", names.name, descending=[True, False])
    if counts.height < 2:
        return None
    busiest = counts[names.name].cast(pl.String).head(NAMES).to_list()
    physical = categories.to_physical()
    lookup = np.full(_largest(physical) + 2, NAMES, dtype=np.uint8)
    lookup[counts[names.name].head(NAMES).to_physical().to_numpy() + 1] = np.arange(len(busiest))
    shifted = physical.cast(pl.Int64).fill_null(-1).to_numpy() + 1 if names.null_count() else physical.to_numpy() + 1
    return Coded(lookup[shifted], busiest)


def _largest(codes: pl.Series) -> int:
    largest = codes.max()
    return largest if isinstance(largest, int) else 0


def _busiest(by: tuple[str, ...], known: dict[str, Coded | None], before: list[Stratum]) -> tuple[list[Stratum], int]:
    """Strata of one kind; a pair that is nearly all of its model or tenant is left to that."""
    parts = [part for column in by if (part := known[column]) is not None]
    code = (
        parts[0].codes if len(parts) == 1 else parts[0].codes.astype(np.uint16) * np.uint16(NAMES + 1) + parts[1].codes
    )
    counts = np.bincount(code, minlength=(NAMES + 1) ** len(parts))
    cells = np.array(np.unravel_index(np.arange(len(counts)), (NAMES + 1,) * len(parts)))
    counts[(cells == NAMES).any(axis=0)] = 0
    sizes = {(s.model, s.tenant): s.requests for s in before}
    chosen: list[tuple[int, dict[str, str]]] = []
    for i in np.argsort(-counts, kind="stable").tolist():
        if counts[i] < LEAST or len(chosen) == MOST:
            break
        names = {column: part.names[cell] for column, part, cell in zip(by, parts, cells[:, i], strict=True)}
        if counts[i] <= NEARLY_ALL * _whole(names, sizes, len(code)):
            chosen.append((i, names))
    rows = _rows(code, [i for i, _ in chosen])
    found = [
        Stratum(names.get("model"), names.get("tenant"), own, int(counts[i]))
        for (i, names), own in zip(chosen, rows, strict=True)
    ]
    return found, int(np.count_nonzero(counts)) - len(found)


def _whole(names: dict[str, str], sizes: dict[tuple[str | None, str | None], int], requests: int) -> int:
    """Of how many requests a stratum is a part: of all; a tenant of a model of the smaller of the two."""
    if len(names) == 1:
        return requests
    return min(sizes.get((names["model"], None), requests), sizes.get((None, names["tenant"]), requests))


def _rows(code: NDArray[np.unsignedinteger], chosen: list[int]) -> list[NDArray[np.integer]]:
    """The rows of each chosen code, thinned to MOST_REQUESTS."""
    slot = np.full(int(code.max(initial=0)) + 1, len(chosen), dtype=np.uint8)
    slot[chosen] = np.arange(len(chosen))
    of_row = slot[code]
    order = np.argsort(of_row, kind="stable")
    ends = np.cumsum(np.bincount(of_row, minlength=len(chosen) + 1))
    parts = (order[end - size : end] for end, size in zip(ends, np.diff(ends, prepend=0), strict=True))
    return [part[:: -(-len(part) // MOST_REQUESTS)].copy() for part, _ in zip(parts, chosen, strict=False)]


@dataclass(frozen=True)
class Column:
    """A column: its values, each row's time, request and session, and the rows at which the whole changes."""

    values: Values
    time_s: Floats | None
    request_id: Ints
    sessions: pl.Series
    changes: Ints

    def binned(self, stratum: Stratum, bins: int = BINS) -> tuple[Binned | None, NDArray[np.integer]]:
        """A stratum's own bins, and the rows in them."""
        rows = stratum.rows[self.values.numbers[stratum.rows] >= 0]
        values = replace(self.values, numbers=self.values.numbers[rows])
        return binned(values, None if self.time_s is None else self.time_s[rows], self.request_id[rows], bins), rows


@dataclass(frozen=True)
class Answer:
    """STRATA with every stratum tested; those that drift, the clearest first; whether a change of all was theirs."""

    table: pl.DataFrame
    named: list[Scanned]
    theirs: bool = False


def changed(column: Column, strata: Strata, rng: np.random.Generator) -> Answer:
    """What drifts in a part of the requests."""
    if len(column.changes):
        free = replace(column, changes=column.changes[:0])
        alone = _tested(free, strata, rng)
        if alone.named and _explained(free, strata, alone.named, rng):
            return replace(alone, theirs=True)
    return _tested(column, strata, rng)


def _explained(column: Column, strata: Strata, named: list[Scanned], rng: np.random.Generator) -> bool:
    """Whether all requests drift less clearly than each of those named, and do not without them."""
    rows = np.arange(len(column.request_id))
    every = Stratum(None, None, rows[:: -(-len(rows) // MOST_REQUESTS)], len(rows))
    whole = scan_of(column, every, rng)
    rest = scan_of(column, strata.without(every, [one.stratum for one in named]), rng)
    clearer = whole is not None and min(one.found.max() for one in named) > whole.found.max()
    return clearer and (rest is None or p_value(rest.found, rest.drawn) > REST_ALPHA)


def _tested(column: Column, strata: Strata, rng: np.random.Generator) -> Answer:
    scanned = [one for stratum in strata.tested if (one := scan_of(column, stratum, rng)) is not None]
    if not scanned:
        return Answer(STRATA.to_frame(), [])
    null = np.stack([one.drawn for one in scanned]).max(axis=0)
    p_values = [p_value(one.found, null) for one in scanned]
    likely = [one for one, p in zip(scanned, p_values, strict=True) if p <= 2 * ALPHA]
    likely.sort(key=lambda one: -float(one.found.max()))
    named: list[Scanned] = []
    for one in likely:
        rest = strata.without(one.stratum, [other.stratum for other in named])
        again = one if not named else scan_of(column, rest, rng)
        if again is not None and p_value(again.found, null) <= 2 * ALPHA:
            named.append(one)
    rows = []
    for one, p in zip(scanned, p_values, strict=True):
        s, verdict = one.stratum, "none" if p > 2 * ALPHA else "drift" if one in named else "part of another"
        share = s.requests / len(column.request_id)
        rows.append((column.values.name, s.model, s.tenant, s.requests, share, p, verdict))
    return Answer(pl.DataFrame(rows, schema=STRATA, orient="row"), named)


def p_value(found: Floats, null: Floats) -> float:
    """Over all strata and both scans."""
    above = np.count_nonzero(null >= found * (1 - 1e-6), axis=0).min()
    return min(1.0, 2 * (1 + float(above)) / (1 + len(null)))


def scan_of(column: Column, stratum: Stratum, rng: np.random.Generator) -> Scanned | None:
    """Both scans of a stratum; null where it has too few requests or nothing to tell apart."""
    own, rows = column.binned(stratum, SCAN_BINS) if len(stratum.rows) >= LEAST else (None, stratum.rows)
    if own is None or own.requests < LEAST:
        return None
    chunks = min(CHUNKS, own.requests // LEAST_CHUNK)
    edges = np.arange(chunks + 1) * own.requests // chunks
    features = deviations(counted(own.codes, edges, len(own.middles)), True)
    features = _centred(features, np.diff(edges), rows[edges[:-1]], column.changes)
    blocks = min(BLOCKS, chunks)
    long_run = session_variance(own, column.sessions.gather(rows)) if len(column.sessions) else 0.0
    factor = scan.stretch(features, long_run * own.requests / chunks, blocks)
    sums = scan.blocked(features, np.linspace(0, chunks, blocks + 1).round().astype(np.int64)).astype(np.float32)
    drawn = _best(sums[np.argsort(rng.random((DRAWS, blocks)), axis=1)])
    usual = drawn.mean(axis=0)
    return Scanned(stratum, _best(sums[None])[0] / (factor * usual), drawn / usual, long_run)


def _best(sums: NDArray[np.float32]) -> Floats:
    """The best cut and the best pulse, float64[…, 2]."""
    total = sums.cumsum(axis=1)
    best: Floats = np.stack([scan.cut_scan(total).max(axis=-1), scan.pulse_scan(total).max(axis=(-2, -1))], axis=-1)
    return best.astype(np.float64)


def _centred(features: Floats, sizes: Ints, first_row: NDArray[np.integer], changes: Ints) -> Floats:
    """The features about the stratum's mean in each segment of the whole."""
    if not len(changes):
        return features
    segment = np.searchsorted(changes, first_row, side="right")
    starts = np.flatnonzero(np.diff(segment, prepend=-1))
    mean = np.add.reduceat(features, starts, axis=0) / np.add.reduceat(sizes, starts)[:, None]
    centred: Floats = features - sizes[:, None] * np.repeat(mean, np.diff(starts, append=len(features)), axis=0)
    return centred
