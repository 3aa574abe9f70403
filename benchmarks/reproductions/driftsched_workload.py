"""DriftSched's workload: templated prompts in two phases, learning and stress (2606.02982 and its code).

The paper's templates are not repeated here: ours have its keywords, and 59 topics. What it does not tell is assumed:
answers end at their cap, but for EARLY of them, which end anywhere from a tenth of it on; a word is 4/3 of a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from benchmarks.reproductions.replaying import trace_of
from replay.schedulers.drift_estimator import BASE_TOKENS
from replay.schedulers.driftsched import TIERS
from toolkit.traces import TraceInfo

EARLY, SHORTEST = 0.25, 0.1
WORDS_PER_TOKEN = 0.75
TEMPLATES = {
    "short_qa": ("What is {}?", "Briefly, why does {} matter in practice?"),
    "summary": ("Summarize the main ideas behind {} for a newcomer.", "Give a summary of {} and of its open problems."),
    "technical": (
        "Explain the architecture of {} with code where it helps.",
        "Give a technical account of {}, its architecture and its failure modes.",
    ),
    "report": (
        "Write a comprehensive and detailed report on {}, with background, methods, results and outlook.",
        "Prepare a detailed report that compares three approaches to {} and ends with a recommendation.",
    ),
}
_TOPICS = (
    "load balancing,caching,consensus,replication,sharding,garbage collection,virtual memory,paging,scheduling,"
    "deadlock detection,file systems,journaling,indexing,query planning,transactions,isolation levels,compression,"
    "error correction,routing,congestion control,flow control,encryption,key exchange,authentication,hashing,sorting,"
    "graph search,dynamic programming,linear programming,gradient descent,attention layers,quantization,distillation,"
    "tokenization,beam search,speculative decoding,pipeline parallelism,tensor parallelism,checkpointing,containers,"
    "orchestration,service meshes,tracing,observability,rate limiting,back pressure,message queues,stream processing,"
    "batch processing,columnar storage,vector search,recommendation,speech recognition,machine translation,"
    "image segmentation,robot navigation,weather models,protein folding,power grids"
)
TOPICS = _TOPICS.split(",")


@dataclass(frozen=True)
class Phase:
    """`requests` with gaps uniform between `gap_s`, of the categories of BASE_TOKENS in the shares `mix`."""

    name: str
    requests: int
    gap_s: tuple[float, float]
    mix: tuple[float, float, float, float]  # short_qa, summary, technical, report

    def sized(self, requests: int) -> "Phase":
        """The same phase with another number of requests."""
        return replace(self, requests=requests)

    def slowed(self, factor: float) -> "Phase":
        """The same phase with every gap multiplied."""
        return replace(self, gap_s=(self.gap_s[0] * factor, self.gap_s[1] * factor))


LEARNING = Phase("learning", 1000, (0.05, 0.15), (0.40, 0.25, 0.25, 0.10))
STRESS = Phase("stress", 2000, (0.005, 0.030), (0.10, 0.20, 0.40, 0.30))


def requests(phase: Phase, rng: np.random.Generator, early: float = EARLY) -> pl.DataFrame:
    """The phase's requests from time 0; a share `early` of the answers end before their cap."""
    n = phase.requests
    names = list(BASE_TOKENS)
    category = rng.choice(4, n, p=phase.mix)
    topic, template, tier = rng.integers(0, len(TOPICS), n), rng.integers(0, 2, n), rng.integers(0, 3, n)
    ends, share = rng.random(n) < early, rng.uniform(SHORTEST, 1, n)
    cap = np.array([*BASE_TOKENS.values()])[category]
    prompts = [TEMPLATES[names[c]][t].format(TOPICS[k]) for c, t, k in zip(category, template, topic, strict=True)]
    words = pl.Series(prompts).str.split(" ").list.len().to_numpy()
    return pl.DataFrame(
        {
            "arrival_s": np.cumsum(rng.uniform(*phase.gap_s, n)),
            "tier": pl.Series(TIERS).gather(tier),
            "prompt": prompts,
            "prompt_tokens": np.ceil(words / WORDS_PER_TOKEN).astype(np.int32),
            "output_tokens": np.where(ends, np.ceil(share * cap), cap).astype(np.int32),
        }
    )


def workload(
    phases: Sequence[Phase], seed: int, start_s: Sequence[float], early: float = EARLY
) -> tuple[pl.DataFrame, TraceInfo]:
    """The phases one after the other, each from its `start_s`; `request_id` tells them apart by their sizes."""
    rng = np.random.default_rng(seed)
    parts = [requests(phase, rng, early) for phase in phases]
    moved = [part.with_columns(pl.col("arrival_s") + at) for part, at in zip(parts, start_s, strict=True)]
    return trace_of(pl.concat(moved), " and ".join(phase.name for phase in phases))
