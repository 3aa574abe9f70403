"""The profile latency model against profiles made from known functions."""

from pathlib import Path

import numpy as np
import pytest

from replay.latency_models.profile import Profile
from replay.simulation.latency import SHARES, Latency, alone_all
from replay.simulation.lowering import lower
from replay.simulation.pointing import pointed
from replay.simulation.state import PS
from tests.replay.profiles import LAYERS, attention_us, layer_us, write_profile
from toolkit.errors import InputFailure, SettingFailure

SKEW = """skew_fit:
  enabled: true
  bucket_axes:
    n_bins: [0, 4, 1000000]
    n_labels: [few, many]
    skew_rate_bins: [-0.01, 1.01]
    skew_rate_labels: [any]
    kv_big_bins: [0, 1024, 1000000000]
    kv_big_labels: [short, long]
    kp_bins: [-1, 1000000000]
    kp_labels: [all]
  per_tp: {1: {alpha_default: 0.25}}
"""


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return Profile(str(write_profile(tmp_path / "profile")), captured=0)


def test_per_layer_kernels_count_once_a_layer_and_the_layernorm_twice(profile: Profile) -> None:
    tokens = np.array([1.0, 3.0, 100.0, 3000.0])
    assert profile.dense_s(tokens) == pytest.approx((LAYERS * layer_us(tokens) + tokens) * 1e-6)


def test_the_head_counts_once_and_nothing_for_no_sequence(profile: Profile) -> None:
    assert profile.head_s(np.array([0.0, 1.0, 5.0])) == pytest.approx([0.0, 103e-6, 115e-6])


def test_attention_gives_back_the_function_it_was_measured_from(profile: Profile) -> None:
    chunk, prior = np.array([3.0, 300.0, 2000.0]), np.array([0.0, 700.0, 5000.0])
    expected = [LAYERS * attention_us(c, p, 0, 0) * 1e-6 for c, p in zip(chunk, prior, strict=True)]
    assert profile.prefill_attention_s(chunk, prior) == pytest.approx(expected)
    assert profile.decode_attention_s(10, np.array([3000.0])) == pytest.approx([LAYERS * 3.0 * 1e-6])
    mixed = profile.mixed_attention_s(*(np.array([x]) for x in (100.0, 300.0, 10.0, 500.0)))
    assert mixed == pytest.approx([LAYERS * attention_us(100, 300, 10, 500) * 1e-6])


def test_a_batch_is_padded_to_the_next_captured_size(tmp_path: Path) -> None:
    padded = Profile(str(write_profile(tmp_path / "profile")), captured=16)
    tokens = np.array([3.0, 9.0, 16.0, 17.0])
    assert padded.dense_s(tokens) == pytest.approx(padded.dense_s(np.array([4.0, 16.0, 16.0, 17.0])))


def test_lowered_mixed_batches_cost_what_was_measured_together(profile: Profile) -> None:
    from replay.simulation.latency import mixed_attention

    tables = lower(profile, 2048, 64, 8192)
    assert tables.skew.size == 0
    time = _call(mixed_attention, tables, 512, 512 * 256, 32, 32 * 1024, 0, 0)
    decode_and_more = LAYERS * (attention_us(512, 256, 32, 1024) - attention_us(512, 256, 0, 0)) * 1e-6
    assert time / PS == pytest.approx(decode_and_more, rel=1e-6)


def test_unequal_contexts_cost_their_share_and_sums_stay_exact(tmp_path: Path) -> None:
    folder = write_profile(tmp_path / "profile", skew=SKEW)
    fit = "pc,n_label,skew_rate_label,kv_big_label,kp_label,alpha\n0,many,any,short,all,0.5\n"
    (folder / "bf16/tp1/skew_fit.csv").write_text(fit)
    tables = lower(Profile(str(folder), captured=0), 2048, 64, 8192)
    from replay.simulation.latency import decode_line

    even = _call(decode_line, tables, 10, 5000, 500, 500)[0]
    short = _call(decode_line, tables, 10, 5000, 100, 1000)
    long = _call(decode_line, tables, 10, 5000, 100, 2000)[0]
    assert (short[0] - even) / PS == pytest.approx(0.5 * LAYERS * 0.001 * (10 * 1000 - 5000) * 1e-6, rel=5e-3)
    assert (long - even) / PS == pytest.approx(0.25 * LAYERS * 0.001 * (10 * 2000 - 5000) * 1e-6, rel=5e-3)
    first, rise, alike = short
    assert all((table % SHARES == 0).all() for table in (tables.kv_base, tables.kv_slope))
    assert 1 < alike <= 25  # from a longest context of 1000 until it leaves the bin of 1024
    for step in range(int(alike)):
        line = _call(decode_line, tables, 10, 5000 + 10 * step, 100 + step, 1000 + step)
        assert line[0] == first + rise * step


def test_a_request_alone_takes_its_prefill_and_its_steps(profile: Profile) -> None:
    tables = lower(profile, 2048, 64, 8192)
    out = np.zeros(1, np.int64)
    alone_all(pointed(tables), np.array([100], np.int32), np.array([3], np.int32), 2048, out)
    steps = [profile.dense_s(np.array([t]))[0] + profile.head_s(np.array([1.0]))[0] for t in (100.0, 1.0, 1.0)]
    attention = LAYERS * (attention_us(100, 0, 0, 0) + attention_us(0, 0, 1, 101) + attention_us(0, 0, 1, 102)) * 1e-6
    assert out[0] / PS == pytest.approx(sum(steps) + attention, rel=1e-4)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = write_profile(tmp_path / "profile")
    with pytest.raises(InputFailure, match="tensor parallelism 2; has bf16/tp1"):
        Profile(str(folder), tensor_parallel=2)
    with pytest.raises(InputFailure, match=r"has no dense\.csv"):  # it is three folders below
        Profile(str(tmp_path))
    (folder / "bf16/meta.yaml").write_text("variant: bf16\n")
    with pytest.raises(SettingFailure, match="does not say what was profiled"):
        Profile(str(folder))
    (folder / "bf16/tp1/attention.csv").unlink()
    with pytest.raises(InputFailure, match="missing from the profile"):
        Profile(str(folder), model="llama-3.2-1b")


def _call(function: object, tables: Latency, *arguments: int) -> object:
    plain = getattr(function, "py_func", function)
    import replay.simulation.latency as module

    names = [n for n, f in vars(module).items() if hasattr(f, "py_func")]
    saved = {n: getattr(module, n) for n in names}
    try:
        for n in names:
            setattr(module, n, saved[n].py_func)
        return plain(tables, *(np.int64(a) for a in arguments))
    finally:
        for n, f in saved.items():
            setattr(module, n, f)
