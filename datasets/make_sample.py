"""Make datasets/sample.parquet and datasets/sample_truth.json: the sample trace and what was planted in it.

    python datasets/make_sample.py [FOLDER]

The same seed and the same numpy give the same trace. Times are seconds from its start.
"""

import hashlib
import itertools
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from toolkit.schema import TRACE, conform
from toolkit.traces import Trace, TraceInfo, write_trace

SEED = 20_260_711
SPAN_S = 2_400.0
BLOCK_TOKENS = 64
PREDICTION_SIGMA = 0.4  # of the log of predicted ÷ actual output tokens

# When the models of a group are busy together, as (start, end).
GROUPS = {
    "aurora": [(120.0, 300.0), (760.0, 960.0), (1500.0, 1640.0), (2040.0, 2240.0)],
    "borealis": [(420.0, 620.0), (1080.0, 1260.0), (1860.0, 1980.0)],
}
TIERS = {"premium": (1.0, 0.05), "standard": (4.0, 0.1), "batch": (None, None)}  # SLO of TTFT and TPOT
TENANTS = {"acme": 0.5, "birch": 0.25, "cobalt": 0.15, "dune": 0.1}  # share of new sessions


@dataclass(frozen=True)
class Stream:
    """How the sessions of one model arrive and what they ask. Lengths are lognormal: median and sigma of the log."""

    model: str
    kind: str
    tier: str
    quiet_per_s: float  # new sessions outside the group's busy times
    busy_per_s: float  # and inside them
    prompt_tokens: tuple[float, float]  # what a turn adds to its prefix
    output_tokens: tuple[float, float]
    group: str | None = None
    system_tokens: int = 0  # shared by a tenant's sessions, whole blocks
    documents: int = 0  # shared by everyone, popular as 1/rank
    turns: float = 1.0  # mean of a geometric number
    think_s: tuple[float, float] = (12.0, 0.6)


STREAMS = [
    Stream("aurora-chat", "chat", "premium", 0.05, 0.80, (700, 0.8), (240, 0.7), "aurora", 1_024, turns=3.0),
    Stream("aurora-summary", "summary", "standard", 0.03, 0.90, (700, 0.5), (180, 0.5), "aurora", 512, documents=60),
    Stream("borealis-code", "code", "premium", 0.04, 0.55, (3_000, 0.9), (400, 0.9), "borealis", 2_048, turns=2.0),
    Stream("borealis-review", "review", "standard", 0.03, 0.60, (6_500, 0.7), (450, 0.6), "borealis", 1_024),
    Stream("cirrus-extract", "batch", "batch", 0.42, 0.42, (8_500, 0.6), (700, 1.0)),
    Stream("delta-mail", "mail", "standard", 0.30, 0.30, (900, 0.6), (140, 0.5), None, 256),
]


@dataclass(frozen=True)
class Drift:
    """From `at_s` on, outputs of one model for one tenant are `factor` times as long; the predictor does not know."""

    model: str = "delta-mail"
    tenant: str = "acme"
    at_s: float = 1_400.0
    factor: float = 3.0


DRIFT = Drift()


@dataclass
class Blocks:
    """Numbers for blocks of text: the same number is the same text from the prompt's start."""

    fresh: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    shared: dict[Any, list[int]] = field(default_factory=dict)

    def prefix(self, key: Any, tokens: int, before: list[int]) -> list[int]:
        """The blocks of a shared text of `tokens` after `before`; new the first time."""
        if key not in self.shared:
            self.shared[key] = [*before, *itertools.islice(self.fresh, tokens // BLOCK_TOKENS)]
        return list(self.shared[key])

    def upto(self, whole: list[int], tokens: int) -> list[int]:
        """Extend `whole` to `tokens` and add the part block, which no one shares."""
        whole += itertools.islice(self.fresh, tokens // BLOCK_TOKENS - len(whole))
        return whole + list(itertools.islice(self.fresh, 1 if tokens % BLOCK_TOKENS else 0))


def sample() -> pl.DataFrame:
    """The trace, TRACE's columns."""
    rng = np.random.default_rng(SEED)
    documents = rng.integers(20, 90, 60) * BLOCK_TOKENS
    rows: list[dict[str, Any]] = []
    blocks = Blocks()
    for stream in STREAMS:
        for start_s in starts(stream, rng):
            rows += session(stream, start_s, documents, blocks, rng, name=f"s{len(rows)}")
    return numbered([row for row in rows if row["arrival_s"] < SPAN_S])


def starts(stream: Stream, rng: np.random.Generator) -> np.ndarray:
    """Poisson arrivals whose rate changes with the group's busy times."""
    busy = GROUPS.get(stream.group or "", [])
    edges = [0.0, *itertools.chain(*busy), SPAN_S]
    found = []
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        rate = stream.busy_per_s if number % 2 else stream.quiet_per_s
        found.append(rng.uniform(low, high, rng.poisson(rate * (high - low))))
    return np.sort(np.concatenate(found))


def session(
    stream: Stream, start_s: float, documents: np.ndarray, blocks: Blocks, rng: np.random.Generator, name: str
) -> list[dict[str, Any]]:
    """The turns of one session; a turn's prompt is everything before it and what the user adds."""
    tenant = str(rng.choice(list(TENANTS), p=list(TENANTS.values())))
    whole, tokens = opening(stream, tenant, documents, blocks, rng)
    turns = int(rng.geometric(1 / stream.turns))
    rows, arrival_s, think_s = [], start_s, None
    for turn in range(min(turns, 8)):
        tokens += length(stream.prompt_tokens, rng)
        output, predicted = outputs(stream, tenant, arrival_s, rng)
        rows.append(
            {
                "arrival_s": round(arrival_s, 3),
                "model": stream.model,
                "tenant": tenant,
                "tier": stream.tier,
                "kind": stream.kind,
                "session_id": name if turns > 1 else None,
                "turn": turn if turns > 1 else None,
                "think_s": think_s,
                "prompt_tokens": tokens,
                "output_tokens": output,
                "predicted_output_tokens": predicted,
                "prefix_blocks": blocks.upto(whole, tokens) if stream.system_tokens else None,
                "slo_ttft_s": TIERS[stream.tier][0],
                "slo_tpot_s": TIERS[stream.tier][1],
            }
        )
        tokens += output
        think_s = round(float(rng.lognormal(np.log(stream.think_s[0]), stream.think_s[1])), 3)
        arrival_s += answering_s(output) + think_s
    return rows


def opening(
    stream: Stream, tenant: str, documents: np.ndarray, blocks: Blocks, rng: np.random.Generator
) -> tuple[list[int], int]:
    """What a session starts with, as blocks and tokens: the tenant's system prompt and perhaps a document."""
    tokens = stream.system_tokens
    whole = blocks.prefix((stream.model, tenant), tokens, [])
    if stream.documents:
        weight = 1 / np.arange(1, stream.documents + 1)
        number = int(rng.choice(stream.documents, p=weight / weight.sum()))
        whole = blocks.prefix((stream.model, tenant, number), int(documents[number]), whole)
        tokens += int(documents[number])
    return whole, tokens


def outputs(stream: Stream, tenant: str, arrival_s: float, rng: np.random.Generator) -> tuple[int, int]:
    """Actual and predicted output tokens; the predictor errs by a lognormal factor and never heard of the drift."""
    expected = length(stream.output_tokens, rng)
    drifted = (stream.model, tenant) == (DRIFT.model, DRIFT.tenant) and arrival_s >= DRIFT.at_s
    predicted = max(1, round(expected * rng.lognormal(0, PREDICTION_SIGMA)))
    return (round(expected * DRIFT.factor) if drifted else expected), predicted


def length(median_sigma: tuple[float, float], rng: np.random.Generator) -> int:
    median, sigma = median_sigma
    return int(np.clip(round(rng.lognormal(np.log(median), sigma)), 1, 16_000))


def answering_s(output_tokens: int) -> float:
    """How long the answer to a turn took when the trace was 'recorded'."""
    return 0.5 + 0.015 * output_tokens


def numbered(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """In arrival order from 0, each turn pointing at the one before; the first arrival is the trace's start."""
    frame = pl.DataFrame(rows, schema={k: v for k, v in TRACE.items() if k in rows[0]})
    frame = frame.sort("arrival_s", maintain_order=True).with_columns(
        request_id=pl.int_range(pl.len(), dtype=pl.Int64), arrival_s=pl.col("arrival_s") - pl.col("arrival_s").min()
    )
    parent = pl.when(pl.col("turn") > 0).then(pl.col("request_id").shift(1).over("session_id", order_by="turn"))
    return conform(frame.with_columns(parent_id=parent), TRACE, source="sample")


def truth(frame: pl.DataFrame) -> dict[str, Any]:
    """What was planted, in the words of this file."""
    return {
        "seed": SEED,
        "span_s": SPAN_S,
        "requests": len(frame),
        "block_tokens": BLOCK_TOKENS,
        "groups": {
            group: {"models": [s.model for s in STREAMS if s.group == group], "busy_s": busy}
            for group, busy in GROUPS.items()
        },
        "drift": asdict(DRIFT),
        "prediction": {"error": "lognormal factor around the output before drift", "sigma": PREDICTION_SIGMA},
        "tiers": {tier: {"slo_ttft_s": ttft, "slo_tpot_s": tpot} for tier, (ttft, tpot) in TIERS.items()},
        "tenants": TENANTS,
        "streams": [asdict(stream) for stream in STREAMS],
    }


def main(folder: Path) -> None:
    """Write the trace and its truth."""
    frame = sample()
    info = TraceInfo(
        name="sample",
        format="canonical",
        sha256=hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        rows_read=len(frame),
        rows_kept=len(frame),
        span_s=frame["arrival_s"].max(),  # type: ignore[arg-type]
        time_unit="s",
        time_unit_reason="canonical",
        clock_step_s=0.001,
        duplicates=0,
        block_tokens=BLOCK_TOKENS,
        block_scope="global",
        notes=("Generated by datasets/make_sample.py; what was planted is in datasets/sample_truth.json.",),
    )
    write_trace(Trace(frame.lazy(), info), folder / "sample.parquet")
    (folder / "sample_truth.json").write_bytes(orjson.dumps(truth(frame), option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
