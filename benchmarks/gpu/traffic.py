"""Synthetic requests: bursts over time, and a mix of short chats and long reasoning, by a seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHAT, REASONING = (200, 1.0, 80, 0.8), (150, 0.6, 600, 0.6)  # prompt and output: medians, deviations of the logarithm
MOST_PROMPT, MOST_OUTPUT = 4000, 1500
BURST_S, FACTOR, BURSTY = 4.0, 2.0, 0.4  # mean length of a burst, its rate beside the mean's, its share of the time


@dataclass(frozen=True)
class Traffic:
    """[n] arrivals in seconds, tokens, and which model is asked."""

    arrival_s: NDArray[np.float64]
    prompt: NDArray[np.int64]
    output: NDArray[np.int64]
    model: NDArray[np.int64]


def lengths(rng: np.random.Generator, count: int, reasoning: float, shrink: int = 1) -> tuple[NDArray[np.int64], ...]:
    """Prompt and output tokens of requests of which a share reasons; all are so many times shorter."""
    reasons = rng.random(count) < reasoning
    kinds = np.where(reasons[:, None], REASONING, CHAT)
    prompt = kinds[:, 0] * np.exp(kinds[:, 1] * rng.standard_normal(count))
    output = kinds[:, 2] * np.exp(kinds[:, 3] * rng.standard_normal(count))
    shortened = (np.minimum(values, most) / shrink for values, most in ((prompt, MOST_PROMPT), (output, MOST_OUTPUT)))
    return tuple(np.maximum(2, values).astype(np.int64) for values in shortened)


def bursty(rng: np.random.Generator, per_s: float, span_s: float, burst_s: float = BURST_S) -> NDArray[np.float64]:
    """Arrivals at a mean rate: bursts and lulls of exponential lengths, Poisson within each."""
    lull = (1 - BURSTY * FACTOR) / (1 - BURSTY)
    lengths_s = (burst_s, burst_s * (1 - BURSTY) / BURSTY)
    found, now_s, calm = [], 0.0, bool(rng.random() > BURSTY)
    while now_s < span_s:
        stretch_s = min(rng.exponential(lengths_s[calm]), span_s - now_s)
        count = rng.poisson(per_s * (lull if calm else FACTOR) * stretch_s)
        found.append(now_s + np.sort(rng.random(count)) * stretch_s)
        now_s, calm = now_s + stretch_s, not calm
    return np.concatenate(found)


def in_turns(rng: np.random.Generator, per_s: float, span_s: float, models: int, turn_s: float) -> Traffic:
    """Models that are busy in turn: of all requests in a turn, four in five are for the model whose turn it is."""
    arrival = np.sort(rng.random(rng.poisson(per_s * span_s))) * span_s
    busy = (arrival // turn_s).astype(np.int64) % models
    others = rng.integers(models, size=len(arrival))
    model = np.where(rng.random(len(arrival)) < 0.8, busy, others)
    prompt, output = lengths(rng, len(arrival), 0.0)
    return Traffic(arrival, prompt, output, model)
