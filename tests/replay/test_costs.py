"""What service costs, against a latency model that can be worked out by hand."""

import polars as pl
import pytest

from replay.simulation.costs import service_costs
from replay.simulation.lowering import lower
from replay.simulation.setup import Limits
from tests.replay.simulations import Affine, make_trace

LIMITS = Limits(kv_blocks=100, block_tokens=10, max_num_seqs=64, max_num_batched_tokens=128, max_model_len=1024)


def trace(outputs: list[int]) -> pl.DataFrame:
    rows = [{"arrival_s": float(n), "prompt_tokens": 10, "output_tokens": tokens} for n, tokens in enumerate(outputs)]
    return make_trace(rows)


def decode_s(outputs: list[int]) -> float:
    latency = lower(Affine(step_s=0.01, token_s=0.0), 128, 64, 1024)
    return service_costs(trace(outputs), LIMITS, latency).decode_s_per_token


def test_long_requests_weigh_by_how_long_they_decode() -> None:
    # 1,000 tokens of KV; contexts of 10 + 180/2 = 100 tokens: ten decode in a step of 10 ms.
    assert decode_s([180, 180]) == pytest.approx(0.001)
    # Nine short requests are gone in no time: what decodes is nearly always the long one.
    assert decode_s([180, *[1] * 9]) == pytest.approx(0.01 / 10, rel=0.1)


def test_no_output_costs_nothing_unknown() -> None:
    assert decode_s([1]) == pytest.approx(0.01 / 64)
