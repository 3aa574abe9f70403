"""A stream's requests: what its generator makes, with everything else that its settings say."""

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import SettingFailure
from toolkit.protocols import Generator, Planted
from toolkit.schema import TRUTH, conform
from workloads.generators.drift import factor_and_spread
from workloads.generators.lengths import Lengths, lengths
from workloads.generators.names import named, pick
from workloads.generators.stream import Stream
from workloads.generators.truths import Row, fact, table

Floats = NDArray[np.float64]
INTERNAL = {"_owner": pl.Int64(), "_turns": pl.Int64()}  # which session of the stream, and how many turns it has


class Composer:
    """Lays a stream's settings over its generator's requests. `number` is the stream's place in the workload."""

    def __init__(self, stream: Stream, number: int, rng: np.random.Generator):
        self.stream, self.number = stream, number
        self.of_arrivals, self.of_names, self.of_lengths, self.of_turns, self.of_texts = rng.spawn(5)
        self.library = stream.prefixes.library(self.of_texts) if stream.prefixes else np.zeros(0, dtype=np.int64)
        self.sessions = 0

    def compose(self, generator: Generator, span_s: float) -> Planted:
        made = generator.plant(span_s, self.stream.rhythm, self.of_arrivals)
        try:
            self.stream.check_names(made.names)
        except ValueError as error:
            raise SettingFailure(str(error), where=f"the drift of {self.stream.name}") from error
        own = conform(made.truth, TRUTH, source="truth").with_columns(stream=pl.lit(self.stream.name))
        truth = pl.concat([own, table([*self.stream.truth(), *self._popularity()])])
        late = (pl.col("start_s") >= span_s).fill_null(False)

        def requests(edges: Iterable[float]) -> Iterator[pl.DataFrame]:
            passed: list[float] = []
            later: pl.DataFrame | None = None
            for frame in made.requests(_noting(edges, passed)):
                whole = self._unrolled(self._owned(frame))
                whole = whole if later is None else pl.concat([later, whole])
                if self.stream.sessions:
                    whole = whole.sort("arrival_s", maintain_order=True)
                    later = whole.filter(pl.col("arrival_s") >= passed[-1])
                    whole = whole.filter(pl.col("arrival_s") < passed[-1])
                yield self._finished(whole)

        return Planted(requests, truth.filter(~late), (*made.notes, *_left_out(truth.filter(late))))

    def _owned(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Model, tenant, tier and the shared beginning of each arrival."""
        s, rng = self.stream, self.of_names
        if s.sessions:  # a turn's lengths are the stream's
            frame = frame.drop("prompt_tokens", "output_tokens", strict=False)
        for column, given in (("model", s.models), ("tenant", s.tenants)):
            if given is None or (column in frame.columns and not frame[column].has_nulls()):
                kept = frame[column] if column in frame.columns else pl.Series([None] * len(frame), dtype=pl.String)
            else:
                drawn = self._names(column, frame["arrival_s"].to_numpy(), rng)
                kept = frame[column].zip_with(frame[column].is_not_null(), drawn) if column in frame.columns else drawn
            frame = frame.with_columns(kept.alias(column))
        if s.tiers:
            frame = frame.with_columns(self._tiers(len(frame), rng))
        frame = frame.with_columns(_owner=pl.int_range(self.sessions, self.sessions + len(frame), dtype=pl.Int64))
        self.sessions += len(frame)
        if s.prefixes:
            return s.prefixes.open(frame, self.library, self.number, self.of_texts)
        return frame.with_columns(_opening=pl.lit(0, pl.Int64))

    def _names(self, column: str, arrival_s: Floats, rng: np.random.Generator) -> pl.Series:
        """Who, by popularity, which may drift."""
        given = self.stream.models if column == "model" else self.stream.tenants
        assert given is not None
        names = named(given, column)
        known = names.all
        chosen = pick(names.probabilities, rng, len(arrival_s))
        for drift in self.stream.drift:
            if drift.column == column + "s":
                known = [*known, *(n for n in drift.to if n not in known)]
                shares = np.array([drift.to.get(name, 0.0) for name in known])
                moved = rng.random(len(arrival_s)) < drift.change.weight(arrival_s)
                chosen = np.where(moved, pick(shares, rng, len(arrival_s)), chosen)
        return pl.Series(known, dtype=pl.String).gather(chosen)

    def _tiers(self, n: int, rng: np.random.Generator) -> list[pl.Series]:
        tiers = self.stream.tiers
        chosen = pick(np.array([tier.share for tier in tiers.values()]), rng, n)
        columns = {
            "tier": pl.Series(list(tiers), dtype=pl.String),
            "slo_ttft_s": pl.Series([tier.slo_ttft_s for tier in tiers.values()], dtype=pl.Float64),
            "slo_tpot_s": pl.Series([tier.slo_tpot_s for tier in tiers.values()], dtype=pl.Float64),
        }
        return [values.gather(chosen).alias(name) for name, values in columns.items()]

    def _unrolled(self, starts: pl.DataFrame) -> pl.DataFrame:
        starts = starts.with_columns(_context=pl.col("_opening"))
        if self.stream.sessions:
            return self.stream.sessions.unroll(starts, self._asked, self.of_turns)
        return self._asked(starts).with_columns(_turns=pl.lit(1, pl.Int64))

    def _asked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Prompt, output and predicted tokens; what the generator gave stays, but for drift."""
        first, second = _scores(len(frame), self.stream.correlation, self.of_lengths)
        prompt, _ = self._tokens("prompt_tokens", self.stream.prompt_tokens, frame, first)
        output, planned = self._tokens("output_tokens", self.stream.output_tokens, frame, second)
        whole = {"prompt_tokens": prompt + frame["_context"].to_numpy(), "output_tokens": output}
        if self.stream.prediction:
            whole["predicted_output_tokens"] = self._predicted(frame, planned)
        return frame.with_columns(pl.Series(n, v, nan_to_null=True).cast(pl.Int32) for n, v in whole.items())

    def _tokens(
        self, column: str, given: Lengths | int | None, frame: pl.DataFrame, scores: Floats
    ) -> tuple[Floats, Floats]:
        """What was asked for, and what it would have been without drift; NaN where nothing says."""
        made = frame[column].cast(pl.Float64).to_numpy() if column in frame.columns else np.full(len(frame), np.nan)
        factor, spread = factor_and_spread([d for d in self.stream.drift if d.column == column], frame)
        after = np.rint(made * factor)
        if given is None or not np.isnan(made).any():
            return after, made
        length = lengths(given)
        planned = length.whole(length.at(scores))
        drifted = planned if isinstance(factor, float) else length.whole(length.at(scores, spread) * factor)
        return np.where(np.isnan(made), drifted, after), np.where(np.isnan(made), planned, made)

    def _predicted(self, frame: pl.DataFrame, planned: Floats) -> Floats:
        assert self.stream.prediction is not None
        drifts = [d for d in self.stream.drift if d.column == "predicted_output_tokens"]
        factor, _ = factor_and_spread(drifts, frame)
        error = np.exp(self.stream.prediction.sigma * self.of_lengths.standard_normal(len(frame)))
        return np.maximum(1.0, np.rint(planned * self.stream.prediction.bias * error * factor))

    def _finished(self, frame: pl.DataFrame) -> pl.DataFrame:
        """TRACE's columns, and the internal ones that numbering needs."""
        s = self.stream
        constant = {"kind": s.kind, "adapter": s.adapter}
        columns: list[pl.Expr | pl.Series] = [pl.lit(v).alias(k) for k, v in constant.items() if v is not None]
        if s.sessions:
            session = pl.format(f"{s.name}-{{}}", "_owner")
            columns.append(pl.when(pl.col("turn").is_not_null()).then(session).alias("session_id"))
        if s.prefixes:
            turned = frame if "turn" in frame.columns else frame.with_columns(turn=pl.lit(None, pl.Int32))
            columns.append(s.prefixes.blocks(turned, self.number))
        kept = frame.with_columns(columns)
        return kept.drop([c for c in kept.columns if c.startswith("_") and c not in INTERNAL])

    def _popularity(self) -> list[Row]:
        """The shares of models, tenants and tiers."""
        rows: list[Row] = []
        for column, given in (("model", self.stream.models), ("tenant", self.stream.tenants)):
            if given is not None:
                names = named(given, column)
                shares = zip(names.all, names.probabilities, strict=True)
                rows += [self._share(column, share, **{column: name}) for name, share in shares]
        whole = sum(tier.share for tier in self.stream.tiers.values())
        for name, tier in self.stream.tiers.items():
            rows.append(self._share("tier", tier.share / whole, name=name))
        return rows

    def _share(self, of: str, share: float, **names: str) -> Row:
        return fact("popularity", stream=self.stream.name, parameter=f"{of} share", value=float(share), **names)


def _left_out(late: pl.DataFrame) -> Iterator[str]:
    """A note on each thing that was planned for after the trace's end, and so is not there to be found."""
    for what, at_s in late.select("what", "start_s").unique(maintain_order=True).iter_rows():
        yield f"A {what} planned for {at_s:g} s begins after the trace's end and is left out."


def _scores(n: int, correlation: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Standard normal scores of `n` prompts and outputs."""
    first, other = rng.standard_normal(n), rng.standard_normal(n)
    return first, correlation * first + (1 - correlation**2) ** 0.5 * other if correlation else other


def _noting(edges: Iterable[float], passed: list[float]) -> Iterator[float]:
    """`edges`, each appended to `passed` when it is asked for."""
    for edge in edges:
        passed.append(edge)
        yield edge
