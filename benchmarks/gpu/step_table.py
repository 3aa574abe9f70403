"""Step times as `--latency table:FILE` reads them, from batches of one kind; those of two kinds are its test."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.gpu.machine_entry import median
from benchmarks.gpu.results import Line
from replay.latency_models.table import Table

Points = list[list[float]]


def timed(lines: Sequence[Line]) -> list[Line]:
    """Those that had room."""
    return [line for line in lines if not line.get("too_large")]


def table(lines: Sequence[Line]) -> dict[str, Points]:
    """Attention is what a context or a prior adds to the same step without; the rest is `dense`."""
    lines = timed(lines)
    decodes = [line for line in lines if line["point"]["decodes"] and not line["point"]["prefill_tokens"]]
    alone = [line for line in lines if not line["point"]["decodes"]]
    least = _least(decodes)
    pair_s = _pair_s(alone)
    dense = {n: least[n][1] for n in least}
    for line in alone:
        tokens, pairs = line["point"]["prefill_tokens"], line["point"]["pairs"]
        if not line["point"]["prior_tokens"] and tokens > max(dense, default=0):
            dense[tokens] = median(line, "step_s") - pair_s * pairs
    pairs = max((line["point"]["pairs"] for line in alone), default=0)
    return {
        "dense": _rising(sorted(dense.items())),
        "decode_attention": [[0.0, 0.0], *_attention(decodes, least)],
        "prefill_attention": [[0.0, 0.0], [float(max(1, pairs)), pair_s * max(1, pairs)]],
    }


def _least(decodes: Sequence[Line]) -> dict[int, tuple[int, float]]:
    """By how many decode: the least KV they read, and the seconds then."""
    found: dict[int, tuple[int, float]] = {}
    for line in decodes:
        count, kv = line["point"]["decodes"], line["point"]["kv_tokens"]
        found[count] = min(found.get(count, (kv, np.inf)), (kv, median(line, "step_s")))
    return found


def _pair_s(alone: Sequence[Line]) -> float:
    """What a pair of query and key takes, by chunks with tokens before them and without."""
    bare = {line["point"]["prefill_tokens"]: line for line in alone if not line["point"]["prior_tokens"]}
    slopes = [
        (median(line, "step_s") - median(bare[tokens], "step_s"))
        / (line["point"]["pairs"] - bare[tokens]["point"]["pairs"])
        for line in alone
        if line["point"]["prior_tokens"] and (tokens := line["point"]["prefill_tokens"]) in bare
    ]
    return max(0.0, float(np.median(slopes))) if slopes else 0.0


def _attention(decodes: Sequence[Line], least: dict[int, tuple[int, float]]) -> Points:
    """What more KV adds, by the KV that is read: means of like amounts, none below the one before."""
    more: dict[int, list[float]] = {}
    for line in decodes:
        kv, (bare_kv, bare_s) = line["point"]["kv_tokens"], least[line["point"]["decodes"]]
        if kv > bare_kv:
            more.setdefault(kv, []).append(max(0.0, median(line, "step_s") - bare_s))
    return _rising(sorted((kv, float(np.mean(added))) for kv, added in more.items()))


def _rising(points: Sequence[tuple[float, float]]) -> Points:
    highest = np.maximum.accumulate([s for _, s in points]) if points else []
    return [[float(x), float(s)] for (x, _), s in zip(points, highest, strict=True)]


def errors(path: str, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Each batch with its time, what the written table says, and by how much that is off."""
    model, found = Table(path), []
    for line in timed(lines):
        what = line["point"]
        tokens = np.array([float(what["decodes"] + what["prefill_tokens"])])
        told = model.dense_s(tokens) + model.decode_attention_s(what["decodes"], np.array([float(what["kv_tokens"])]))
        chunk, prior = float(what["prefill_tokens"]), float(what["prior_tokens"])
        if chunk:
            told = told + model.prefill_attention_s(np.array([chunk]), np.array([prior]))
        step_s = median(line, "step_s")
        found.append({**what, "step_s": step_s, "told_s": float(told[0]), "off": float(told[0]) / step_s - 1})
    return found
