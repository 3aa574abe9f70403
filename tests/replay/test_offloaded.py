"""Offloaded models: the hyperbola's properties, measured points, and everything resident is the base itself."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.cluster.machine import machine_preset
from replay.latency_models.offloaded import Offloaded, Values, measured_rate
from replay.latency_models.profile_tables import Skew
from replay.latency_models.roofline import Roofline
from toolkit.errors import SettingFailure
from toolkit.protocols import LatencyModel

MACHINE = machine_preset("rtx5000-ada")
ONE = np.ones(1)
TOKENS = np.array([0.0, 1, 2, 7, 33, 512, 2048])
SHARES = st.floats(0, 1)
BASES = [Roofline("rtx5000-ada", "qwen3-8b"), Roofline("rtxa6000", "qwen3-30b-a3b"), Roofline("h100", "deepseek-v3")]
BASES += [Roofline("h100", "llama-3.3-70b", tensor_parallel=8)]


def decode_s(model: LatencyModel, sequences: int = 1, context: int = 500) -> float:
    n = np.array([float(sequences)])
    return float((model.dense_s(n) + model.head_s(n) + model.decode_attention_s(sequences, n * context))[0])


def prefill_s(model: LatencyModel, chunk: float, prior: float = 0.0) -> float:
    n = np.array([chunk])
    return float((model.dense_s(n) + model.head_s(ONE) + model.prefill_attention_s(n, ONE * prior))[0])


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.model.name)
@pytest.mark.parametrize("points", [(), ((0.0, 0.05), (0.5, 0.3))])
def test_everything_resident_is_the_base_exactly(base: Roofline, points: Any) -> None:
    whole = Offloaded(base, 1.0, MACHINE, points=points)
    assert np.array_equal(whole.dense_s(TOKENS), base.dense_s(TOKENS))
    assert np.array_equal(whole.head_s(TOKENS), base.head_s(TOKENS))
    assert np.array_equal(whole.decode_attention_s(3, TOKENS), base.decode_attention_s(3, TOKENS))
    assert np.array_equal(whole.prefill_attention_s(TOKENS, TOKENS), base.prefill_attention_s(TOKENS, TOKENS))


@given(SHARES, SHARES, st.sampled_from(BASES), st.sampled_from([1, 8, 100]), st.sampled_from([10, 4000]))
def test_more_on_the_gpu_is_never_slower(a: float, b: float, base: Roofline, sequences: int, context: int) -> None:
    less, more = (Offloaded(base, share, MACHINE) for share in sorted((a, b)))
    assert decode_s(more, sequences, context) <= decode_s(less, sequences, context) * (1 + 1e-12)
    assert prefill_s(more, 4 * context) <= prefill_s(less, 4 * context) * (1 + 1e-12)


@given(SHARES, SHARES, st.floats(0.01, 0.99), st.sampled_from(BASES), st.floats(0, 0.01))
def test_the_rate_is_convex(a: float, b: float, weight: float, base: Roofline, boundary_s: float) -> None:
    """Also over the jump to full residency."""
    middle = weight * a + (1 - weight) * b
    first, between, second = (1 / decode_s(Offloaded(base, f, MACHINE, boundary_s=boundary_s)) for f in (a, middle, b))
    assert between <= (weight * first + (1 - weight) * second) * (1 + 1e-9)


@given(st.floats(0, 0.999), st.floats(1.01, 8), st.sampled_from(["qwen3-8b", "qwen2.5-14b", "llama-3.3-70b"]))
def test_the_faster_gpu_loses_relatively_more(share: float, speed: float, model: str) -> None:
    slow, fast = Roofline("rtx5000-ada", model), Roofline("rtx5000-ada", model)
    fast.bytes_per_s, fast.flops_per_s = slow.bytes_per_s * speed, slow.flops_per_s * speed
    kept = [decode_s(base) / decode_s(Offloaded(base, share, MACHINE)) for base in (slow, fast)]
    assert kept[1] < kept[0]


def test_the_hyperbola_is_the_one_of_its_three_times() -> None:
    """20 times as slow on the host, 9 of 10 layers on the GPU: 0.34 of the rate."""
    base = Roofline("rtx5000-ada", "qwen3-8b")
    none = decode_s(Offloaded(base, 0, MACHINE, boundary_s=0))
    slow = replace(MACHINE, dram_bytes_per_s=MACHINE.dram_bytes_per_s * none / decode_s(base) / 20)
    slow = replace(slow, host_link_bytes_per_s=1e9)
    model = Offloaded(base, 0.9, slow, boundary_s=0)
    assert decode_s(Offloaded(base, 0, slow, boundary_s=0)) / decode_s(base) == pytest.approx(20, rel=0.01)
    assert decode_s(base) / decode_s(model) == pytest.approx(1 / 2.9, rel=0.01)
    later = decode_s(Offloaded(base, 0.9, slow, boundary_s=0.003))
    assert later - decode_s(model) == pytest.approx(0.003)


def test_decode_is_computed_by_the_cpus_and_long_prefill_streams() -> None:
    base = Roofline("rtx5000-ada", "qwen3-8b")
    weights = base.model.dense_parameters * 2
    none = Offloaded(base, 0, MACHINE, boundary_s=0)
    assert none.dense_s(ONE)[0] == pytest.approx(weights / (0.7 * 204.8e9), rel=1e-3)
    assert none.dense_s(ONE * 1024)[0] == pytest.approx(weights / (0.7 * 31.5e9), rel=2e-3)  # and hidden states
    compute = base.dense_s(ONE * 10**6)[0]
    assert none.dense_s(ONE * 10**6)[0] == pytest.approx(compute, rel=0.02)  # copies hide behind it
    assert none.dense_s(ONE * 30)[0] < none.dense_s(ONE * 1024)[0]


def test_gpus_stream_over_their_links_together_and_the_hosts_memory_bounds_them() -> None:
    one, eight = (Roofline("h100", "llama-3.3-70b", tensor_parallel=n) for n in (1, 8))
    host = machine_preset("h100-sxm")
    times = [Offloaded(base, 0, host, boundary_s=0).dense_s(ONE * 512)[0] for base in (one, eight)]
    assert times[0] / times[1] == pytest.approx(8, rel=0.01)
    bound = replace(host, dram_bytes_per_s=126e9)
    slower = Offloaded(eight, 0, bound, boundary_s=0).dense_s(ONE * 512)[0]
    assert slower / times[1] == pytest.approx(4, rel=0.01)


@settings(max_examples=30, deadline=None)  # the first one imports SciPy
@given(SHARES, st.lists(st.tuples(st.floats(0.01, 0.98), st.floats(0.01, 0.99)), min_size=1, max_size=6))
def test_measured_points_give_their_rates_and_a_monotone_curve(share: float, found: list[tuple[float, float]]) -> None:
    at = np.unique([0.0, *np.round([f for f, _ in found], 2)])
    points = list(zip(at.tolist(), np.linspace(0.02, 0.9, len(at)).tolist(), strict=True))
    base = Roofline("rtxa6000", "qwen3-8b")
    for fraction, rate in points:
        model = Offloaded(base, fraction, MACHINE, points=points)
        assert (base.dense_s(ONE) + base.head_s(ONE)) / (model.dense_s(ONE) + model.head_s(ONE)) == pytest.approx(rate)
    assert measured_rate(points, share) <= measured_rate(points, min(1.0, share + 0.01)) + 1e-12
    assert measured_rate(points, 1.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([(0.5, 0.4), (0.2, 0.5)], "no such curve"),
        ([(0.2, 0.5), (0.5, 0.4)], "no such curve"),
        ([(0.2, 0.5), (1.0, 0.9)], "no such curve"),
        ([(0.2, 0.0)], "no such curve"),
        ([(0.2, 1.2)], "no such curve"),
        ([(-0.2, 0.2)], "no such curve"),
        ([(0.5, 0.4)], "nothing was measured at 0.4 resident or less"),
    ],
)
def test_points_that_are_no_curve(points: list[tuple[float, float]], says: str) -> None:
    with pytest.raises(SettingFailure, match=says):
        Offloaded(BASES[0], 0.4, MACHINE, points=points)


def test_what_cannot_be_resident_and_models_that_do_not_say_what_they_serve() -> None:
    with pytest.raises(SettingFailure, match=r"1\.2 of the layers"):
        Offloaded(BASES[0], 1.2, MACHINE)
    with pytest.raises(SettingFailure, match="give model="):
        Offloaded(_Rich(BASES[0], named=False), 0.5, MACHINE)
    assert Offloaded(_Rich(BASES[0], named=False), 0.5, MACHINE, model=BASES[0].model).model is BASES[0].model


@dataclass
class _Rich:
    """A base with every optional member."""

    base: Roofline
    named: bool = True

    def __post_init__(self) -> None:
        self.skew = Skew((ONE, ONE, ONE, ONE, ONE), np.full((2, 2, 2, 2, 2), 0.5))
        if self.named:
            self.model = self.base.model

    def __getattr__(self, name: str) -> Any:
        if name == "model":
            raise AttributeError(name)
        return getattr(self.base, name)

    def mixed_attention_s(self, chunk: Values, prior: Values, sequences: Values, context: Values) -> Values:
        apart = np.array(
            [self.base.decode_attention_s(int(n), n * c)[()] for n, c in zip(sequences, context, strict=True)]
        )
        return 0.8 * (self.base.prefill_attention_s(chunk, prior) + apart)

    def shared_s(self, tokens: Values) -> Values:
        return tokens * 1e-6


def test_optional_members_are_kept_for_the_share_on_the_gpus() -> None:
    base = _Rich(Roofline("rtx5000-ada", "qwen3-8b"))
    whole, half = (Offloaded(base, share, MACHINE) for share in (1.0, 0.5))
    batch = tuple(np.array(v, float) for v in ([64, 128], [0, 512], [4, 9], [300, 4000]))
    assert whole.mixed_attention_s == base.mixed_attention_s
    assert (whole.shared_s(TOKENS) == base.shared_s(TOKENS)).all()
    assert (half.shared_s(TOKENS) == 0.5 * base.shared_s(TOKENS)).all()
    assert (whole.skew.share == 0.5).all()
    assert (half.skew.share == 0.25).all()
    saved = base.mixed_attention_s(*batch) * (1 - 1 / 0.8)
    apart = [half.prefill_attention_s(batch[0][i:], batch[1][i:])[0] for i in (0, 1)]
    apart = [a + half.decode_attention_s(int(n), ONE * n * c)[0] for a, n, c in zip(apart, *batch[2:], strict=True)]
    assert half.mixed_attention_s(*batch) == pytest.approx(np.array(apart) + 0.5 * saved)
    assert not hasattr(Offloaded(base.base, 0.5, MACHINE), "mixed_attention_s")
