"""Which models, tenants, or tenants of a model drift, alone or at times when all requests together do not.

The test is of the largest: a stratum's best cut, over how much its blocks vary, has to exceed the largest such ratio
over all strata, their blocks in another order, in 99 % of draws. Where strata overlap, the clearest is named; another
is named too if it still stands without the requests of those before it. Where the whole changes, a stratum is cut about
its own mean in every segment of the whole, so that what all do together is not found again; unless the whole is still
without some strata that change more clearly: then the change was theirs. Pulses are not looked for: in a small part,
one long session is one.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis import change_points as scan
from toolkit.analysis.drift_bins import BINS, Binned, Floats, Ints, Names, Values, binned, counted, deviations
from toolkit.analysis.drift_sessions import session_variance

BY = (("model",), ("tenant",), ("model", "tenant"))
MOST = 40  # strata of a kind, the busiest
LEAST = 200  # requests
NEARLY_ALL = 0.9  # of the requests: no part, but the whole
MOST_ROWS = 2**21  # of the trace; of a larger one every k-th is read
MOST_REQUESTS = 10_000  # of a stratum; of a larger one every k-th
CHUNKS, LEAST_CHUNK, SCAN_BINS = 96, 5, 12
BLOCKS, SCALES = 16, (32, 24, 16)  # long: in a small part one session after the other is a block's
DRAWS = 199
ALPHA = 0.01  # over all strata of a column
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

    numbers: NDArray[np.integer]
    table: NDArray[np.uint8]  # the byte of each number
    names: list[str]

    def of(self, rows: NDArray[np.integer] | slice) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self.table[self.numbers[rows]]
        return found


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
                inside &= coded.of(rows) == coded.names.index(name)
        return inside


def strata(names: dict[str, Names]) -> Strata:
    """What is tested of a trace, by the names of its models and tenants."""
    known = {column: _coded(names[column]) for column in ("model", "tenant")}
    found: list[Stratum] = []
    left_out = 0
    for by in BY:
        if all(known[column] is not None for column in by):
            own, others = _busiest(by, known, found)
            found += own
            left_out += others
    return Strata(found, left_out, known["model"], known["tenant"])


def _coded(names: Names) -> Coded | None:
    """The busiest names as bytes; null where there are fewer than two."""
    known = [(number, name) for number, name in zip(names.busiest, names.labels, strict=True) if name is not None]
    if len(known) < 2:
        return None
    table = np.full(len(names.counts), NAMES, dtype=np.uint8)
    table[[number for number, _ in known[:NAMES]]] = np.arange(min(NAMES, len(known)))
    return Coded(names.numbers, table, [name for _, name in known[:NAMES]])


def _busiest(by: tuple[str, ...], known: dict[str, Coded | None], before: list[Stratum]) -> tuple[list[Stratum], int]:
    """Strata of one kind; a pair that is nearly all of its model or tenant is left to that."""
    parts = [part for column in by if (part := known[column]) is not None]
    step = max(1, -(-len(parts[0].numbers) // MOST_ROWS))
    code: NDArray[np.unsignedinteger] = parts[0].of(slice(None, None, step))
    if len(parts) > 1:
        code = code.astype(np.uint16) * np.uint16(NAMES + 1) + parts[1].of(slice(None, None, step))
    counts = np.bincount(code, minlength=(NAMES + 1) ** len(parts))
    cells = np.array(np.unravel_index(np.arange(len(counts)), (NAMES + 1,) * len(parts)))
    counts[(cells == NAMES).any(axis=0)] = 0
    sizes = {(s.model, s.tenant): s.requests for s in before}
    chosen: list[tuple[int, dict[str, str]]] = []
    for i in np.argsort(-counts, kind="stable").tolist():
        if counts[i] < LEAST or len(chosen) == MOST:
            break
        names = {column: part.names[cell] for column, part, cell in zip(by, parts, cells[:, i], strict=True)}
        if step * counts[i] <= NEARLY_ALL * _whole(names, sizes, step * len(code)):
            chosen.append((i, names))
    rows = _rows(code, [i for i, _ in chosen])
    found = [
        Stratum(names.get("model"), names.get("tenant"), own * step, int(counts[i]) * step)
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
    sessions: pl.Series | None
    changes: Ints

    def binned(self, stratum: Stratum, bins: int = BINS) -> tuple[Binned | None, NDArray[np.integer]]:
        """A stratum's own bins, and the rows in them."""
        rows = stratum.rows[self.values.numbers[stratum.rows] >= 0]
        values = replace(self.values, numbers=self.values.numbers[rows])
        return binned(values, None if self.time_s is None else self.time_s[rows], self.request_id[rows], bins), rows

    def every(self) -> Stratum:
        """All requests."""
        rows = np.arange(len(self.request_id))
        return Stratum(None, None, rows[:: -(-len(rows) // MOST_REQUESTS)], len(rows))


@dataclass(frozen=True)
class Chunked:
    """A stratum's features, and the requests and first row of each of its chunks."""

    stratum: Stratum
    features: Floats
    sizes: Ints
    first_row: NDArray[np.integer]
    long_run: float


@dataclass(frozen=True, eq=False)
class Scanned:
    """The best cut of a stratum's blocks, over how much they vary and their stretch."""

    stratum: Stratum
    sums: NDArray[np.float32]
    total: float
    found: float
    long_run: float

    @property
    def evidence(self) -> float:
        """Requests times the squared distance across the best cut: the largest for the part that all of it is in."""
        rows = len(self.stratum.rows)
        return float(_best(self.sums)) * len(self.sums) / rows**2 * self.stratum.requests

    def drawn(self, rng: np.random.Generator) -> Floats:
        """The same of the blocks in another order, float64[draws]."""
        order = np.argsort(rng.random((DRAWS, len(self.sums))), axis=1)
        drawn: Floats = _best(self.sums[order]) / self.total
        return drawn


@dataclass(frozen=True)
class Answer:
    """STRATA with every stratum tested; those that drift, the clearest first; whether a change of all was theirs."""

    table: pl.DataFrame
    named: list[Scanned]
    theirs: bool = False


def changed(column: Column, strata: Strata, rng: np.random.Generator) -> Answer:
    """What drifts in a part of the requests."""
    parts = [one for stratum in strata.tested if (one := chunked(column, stratum)) is not None]
    every = chunked(column, column.every())
    if not parts or every is None:
        return Answer(STRATA.to_frame(), [])
    if len(column.changes):
        free = replace(column, changes=column.changes[:0])
        whole = scanned(every, free.changes)
        if max(scanned(part, free.changes).evidence for part in parts) > whole.evidence:
            alone = _tested(free, parts, strata, rng)
            if alone.named and _explained(free, whole, strata, alone.named, rng):
                return replace(alone, theirs=True)
    return _tested(column, parts, strata, rng)


def _explained(column: Column, whole: Scanned, strata: Strata, named: list[Scanned], rng: np.random.Generator) -> bool:
    """Whether all requests drift less clearly than each of those named, and do not without them."""
    if min(one.evidence for one in named) <= whole.evidence:
        return False
    rest = chunked(column, strata.without(whole.stratum, [one.stratum for one in named]))
    if rest is None:
        return True
    still = scanned(rest, column.changes)
    return p_value(still.found, still.drawn(rng)) > ALPHA


def _tested(column: Column, parts: list[Chunked], strata: Strata, rng: np.random.Generator) -> Answer:
    every = [scanned(part, column.changes) for part in parts]
    null = np.stack([one.drawn(rng) for one in every]).max(axis=0)
    p_values = [p_value(one.found, null) for one in every]
    likely = [one for one, p in zip(every, p_values, strict=True) if p <= ALPHA]
    named: list[Scanned] = []
    for one in sorted(likely, key=lambda one: -one.evidence):
        rest = chunked(column, strata.without(one.stratum, [other.stratum for other in named]))
        if rest is not None and p_value(scanned(rest, column.changes).found, null) <= ALPHA:
            named.append(one)
    rows = []
    for one, p in zip(every, p_values, strict=True):
        s, verdict = one.stratum, "none" if p > ALPHA else "drift" if one in named else "part of another"
        share = s.requests / len(column.request_id)
        rows.append((column.values.name, s.model, s.tenant, s.requests, share, p, verdict))
    return Answer(pl.DataFrame(rows, schema=STRATA, orient="row"), named)


def p_value(found: float, null: Floats) -> float:
    """Over all strata."""
    return (1 + float(np.count_nonzero(null >= found * (1 - 1e-6)))) / (1 + len(null))


def chunked(column: Column, stratum: Stratum) -> Chunked | None:
    """A stratum in chunks of equally many requests; null where it has too few, or nothing to tell apart."""
    own, rows = column.binned(stratum, SCAN_BINS) if len(stratum.rows) >= LEAST else (None, stratum.rows)
    if own is None or own.requests < LEAST:
        return None
    chunks = min(CHUNKS, own.requests // LEAST_CHUNK)
    edges = np.arange(chunks + 1) * own.requests // chunks
    features = deviations(counted(own.codes, edges, len(own.middles)), True)
    long_run = session_variance(own, column.sessions.gather(rows)) if column.sessions is not None else 0.0
    return Chunked(stratum, features, np.diff(edges), rows[edges[:-1]], long_run)


def scanned(part: Chunked, changes: Ints) -> Scanned:
    """The scan of a stratum about its mean between the changes of the whole."""
    features, chunks = _centred(part, changes), len(part.features)
    blocks = min(BLOCKS, chunks)
    factor = scan.stretch(features, part.long_run * part.sizes.mean(), blocks, SCALES)
    sums = scan.blocked(features, np.linspace(0, chunks, blocks + 1).round().astype(np.int64)).astype(np.float32)
    total = max(float((sums**2).sum()) / (blocks - 1), 1e-9)
    return Scanned(part.stratum, sums, total, float(_best(sums)) / (factor * total), part.long_run)


def _best(sums: NDArray[np.float32]) -> Floats:
    """The best cut, float64[…], of blocks […, blocks, features]."""
    best: Floats = scan.cut_scan(sums.cumsum(axis=-2)).max(axis=-1).astype(np.float64)
    return best


def _centred(part: Chunked, changes: Ints) -> Floats:
    """The features about the stratum's mean in each segment of the whole."""
    if not len(changes):
        return part.features
    segment = np.searchsorted(changes, part.first_row, side="right")
    starts = np.flatnonzero(np.diff(segment, prepend=-1))
    mean = np.add.reduceat(part.features, starts, axis=0) / np.add.reduceat(part.sizes, starts)[:, None]
    spread = np.repeat(mean, np.diff(starts, append=len(segment)), axis=0)
    centred: Floats = part.features - part.sizes[:, None] * spread
    return centred
