"""ServeGen's client parameters as requests."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import InputFailure
from toolkit.protocols import Planted, RateFactor
from workloads.generators.renewal import Gaps, steady
from workloads.generators.servegen_files import Client, read_clients
from workloads.generators.single import positive

Floats = NDArray[np.float64]
Part = tuple[Floats, Floats, Floats]
NOTHING: Part = (np.zeros(0), np.zeros(0), np.zeros(0))
LEAST_CV, MOST_CV = 0.02, 100.0
WITHIN = 1 - 1e-6  # of a window: after a tiny gap, rounding must not put the last request into the next one
UNEVEN, LEAST_UNEVEN = 3.0, 20  # CV above which, and gaps from which, drawn gaps are made as uneven as published


@dataclass(frozen=True)
class ServeGen:
    """Clients as ServeGen published them: each window's number of requests, burstiness and lengths come back.

    A window (600 s) of a client has rate × length × `load` requests; their gaps are drawn from its family with its CV.
    Lengths are drawn from the window's distributions, prompt and output independently, as they are published.
    `from_s` is where in the data the trace starts, `clients` how many of the busiest send.
    """

    folder: Path
    clients: int | None = None
    from_s: float = 0.0
    load: float = 1.0

    def __post_init__(self) -> None:
        positive(load=self.load)
        if (self.clients is not None and self.clients < 1) or self.from_s < 0:
            raise ValueError("clients must be 1 or more, from_s 0 or more")

    def plant(self, span_s: float, factor: RateFactor, rng: np.random.Generator) -> Planted:
        found = read_clients(self.folder)
        step_s = float(found[0].windows["start_s"][1] - found[0].windows["start_s"][0])
        have_s = min(client.windows["start_s"][-1] for client in found) + step_s
        if self.from_s % step_s or self.from_s + span_s > have_s:
            hint = f"from_s must be a multiple of {step_s:g} and from_s + span_s at most {have_s:g}"
            raise InputFailure("the parameters do not reach so far", where=str(self.folder), hint=hint)
        within = pl.col("start_s").is_between(self.from_s, self.from_s + span_s, closed="left")
        cut = {client.number: client.windows.filter(within) for client in found}
        total = {number: table["rate_per_s"].sum() for number, table in cut.items()}
        busiest = sorted(found, key=lambda c: -total[c.number])[: self.clients]
        chosen = [c for c in busiest if total[c.number] > 0]
        senders = [_Sender(c, cut[c.number], self, own) for c, own in zip(chosen, rng.spawn(len(chosen)), strict=True)]

        def requests(edges: Iterable[float]) -> Iterator[pl.DataFrame]:
            held, drawn_s = _together([], []), 0.0
            names = [sender.client.name for sender in senders]
            for edge in edges:
                while drawn_s < min(edge, span_s):
                    index, end_s = round(drawn_s / step_s), drawn_s + step_s
                    parts = [sender.window(index, drawn_s, end_s, factor) for sender in senders]
                    held, drawn_s = pl.concat([held, _together(parts, names)]), end_s
                upto = held["arrival_s"].search_sorted(edge)
                yield held[:upto]
                held = held[upto:]

        names = {"model": (), "tenant": [sender.client.name for sender in senders]}
        return Planted(requests, _truth(senders, self, step_s), tuple(_notes(senders, step_s)), names)


class _Sender:
    """One client, within the trace."""

    def __init__(self, client: Client, windows: pl.DataFrame, settings: ServeGen, rng: np.random.Generator):
        self.client, self.settings, self.rng, self.windows = client, settings, rng, windows
        self.rate, self.cv = windows["rate_per_s"].to_numpy(), windows["gap_cv"].fill_null(0).to_numpy()
        self.family = [str(family).lower() for family in windows["family"]]

    def window(self, index: int, start_s: float, end_s: float, factor: RateFactor) -> Part:
        """The client's requests of one window: arrivals, prompts and outputs."""
        if self.rate[index] == 0:
            return NOTHING
        time_s, expected = steady(self.rate[index], factor).over(start_s, end_s)
        n = self._count(expected[-1])
        if n == 0:
            return NOTHING
        arrival_s = np.interp(self._places(n, index) * expected[-1], expected, time_s)
        return arrival_s, self._lengths("input_tokens", start_s, n), self._lengths("output_tokens", start_s, n)

    def _count(self, expected: float) -> int:
        """How many: the published number; at another load a share of it, or more, each request by chance."""
        load, whole = self.settings.load, int(expected + self.rng.random())
        if load <= 1:
            return int(self.rng.binomial(whole, load))
        return int(whole * load + self.rng.random())

    def _places(self, n: int, index: int) -> Floats:
        """Where in the window the requests lie, 0 to 1, ascending: `n` gaps around a circle, one of them cut open.

        Any gap may be the one, long or short: a cut through the longest would leave a window of far too even gaps.
        """
        cv = float(np.clip(self.cv[index], LEAST_CV, MOST_CV))
        gaps = Gaps("weibull" if self.family[index] == "weibull" else "gamma", cv).draw(self.rng, n)
        if not gaps.sum() > 0:  # gaps so uneven that all of them underflow
            return np.sort(self.rng.random(n))
        gaps = as_uneven(gaps, cv)
        ends = np.cumsum(gaps) / gaps.sum()
        cut = int(self.rng.integers(n))
        begin = ends[cut] - self.rng.random() * gaps[cut] / gaps.sum()
        return np.sort((ends - begin) % 1.0) * WITHIN

    def _lengths(self, field: str, start_s: float, n: int) -> Floats:
        pmf, _ = self.client.pmf(field, self.settings.from_s + start_s)
        return np.full(n, np.nan) if pmf is None else pmf.draw(self.rng, n)

    def without_lengths(self, step_s: float) -> tuple[float, float]:
        """Requests expected in windows that borrow another window's lengths, and that have none at all."""
        borrowed = missing = 0.0
        for start_s, rate in zip(self.windows["start_s"], self.rate, strict=True):
            if rate > 0:
                pmf, other = self.client.pmf("output_tokens", start_s)
                borrowed += rate * step_s * (other and pmf is not None)
                missing += rate * step_s * (pmf is None)
        return borrowed * self.settings.load, missing * self.settings.load


def as_uneven(gaps: Floats, cv: float) -> Floats:
    """The gaps raised to the power at which their own CV is `cv`, where few gaps of a high CV happen to have another.

    A published CV is that of one window's gaps. The CV of n gaps is √(n − 1) at the most, and that of a few drawn from
    a family of CV 8 is half of it; many gaps of a usual CV are left as they are.
    """
    if len(gaps) < LEAST_UNEVEN or cv <= UNEVEN or cv >= 0.9 * np.sqrt(len(gaps) - 1):
        return gaps
    logs = np.log(np.maximum(gaps / gaps.max(), 1e-300))
    low, high = 0.0, 16.0
    for _ in range(30):
        middle = (low + high) / 2
        raised = np.exp(middle * logs)
        low, high = (middle, high) if raised.std() < cv * raised.mean() else (low, middle)
    found: Floats = np.exp(low * logs)
    return found


def _together(parts: list[Part], names: list[str]) -> pl.DataFrame:
    """The senders' requests in arrival order."""
    arrival_s, prompt, output = (np.concatenate(column) for column in zip(*parts, NOTHING, strict=True))
    order = np.argsort(arrival_s, kind="stable")
    tenant = np.repeat(np.arange(len(names)), [len(part[0]) for part in parts])[order]
    tokens = {"prompt_tokens": prompt[order], "output_tokens": output[order]}
    return pl.DataFrame({"arrival_s": arrival_s[order], **tokens}, nan_to_null=True).with_columns(
        tenant=pl.Series(names, dtype=pl.String).gather(tenant)
    )


def _truth(senders: list[_Sender], settings: ServeGen, step_s: float) -> pl.DataFrame:
    """Rate, CV and family of every window in which a client sends."""
    parts = [
        sender.windows.filter(pl.col("rate_per_s") > 0)
        .with_columns(
            pl.col("rate_per_s") * settings.load, pl.col("start_s") - settings.from_s, tenant=pl.lit(sender.client.name)
        )
        .select("tenant", "start_s", "rate_per_s", "gap_cv", "family")
        for sender in senders
    ]
    if not parts:
        return pl.DataFrame({"what": pl.Series([], dtype=pl.String)})
    table = pl.concat(parts).with_columns(what=pl.lit("arrivals"), end_s=pl.col("start_s") + step_s)
    numbers = table.unpivot(
        on=["rate_per_s", "gap_cv"], index=["what", "tenant", "start_s", "end_s"], variable_name="parameter"
    )
    families = table.select(
        "what", "tenant", "start_s", "end_s", parameter=pl.lit("family"), text=pl.col("family").str.to_lowercase()
    )
    return pl.concat([numbers, families], how="diagonal")


def _notes(senders: list[_Sender], step_s: float) -> Iterator[str]:
    found = np.array([sender.without_lengths(step_s) for sender in senders]).reshape(-1, 2)
    borrowed, missing = found.sum(axis=0)
    if borrowed >= 1:
        yield f"About {borrowed:,.0f} requests lie in windows without lengths and have those of their client's nearest."
    if missing >= 1:
        clients = int((found[:, 1] > 0).sum())
        about = f"{clients} clients have no lengths published (about {missing:,.0f} requests)"
        yield f"{about}: the stream's are used, or they stay null."
