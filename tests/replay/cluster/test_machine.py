"""Machines: the papers' loads come back, costs behave as costs, and a file's mistakes are named by their line."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.cluster.machine import PAGE_BYTES, Machine, machine_preset, machine_presets
from replay.simulation.hardware import model_preset
from toolkit.errors import InputFailure, SettingFailure

NAMES = sorted(machine_presets())
SIZES = st.floats(1e6, 2e11)
WORKSTATIONS = ["rtx5000-ada", "rtxa6000"]


def weights(model: str, width: int = 1) -> float:
    return model_preset(model).weight_bytes_per_gpu(width)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_a_preset_tells_its_source(name: str) -> None:
    machine = machine_preset(name)
    defaults = {f.name: f.default for f in fields(Machine)}
    told = {key for key in defaults if key != "source" and getattr(machine, key) != defaults[key]}
    assert told <= set(machine.source) <= set(defaults)
    assert all(machine.source.values())


def test_prisms_loads_and_migrations() -> None:
    machine = machine_preset("h100-sxm")
    assert machine.load_s(weights("llama-3.1-8b"), 1, "parallel") <= 0.7
    assert round(machine.load_s(weights("qwen2.5-14b"), 1, "parallel"), 1) == 1.3
    assert round(machine.load_s(weights("llama-3.3-70b", 8), 8, "parallel"), 1) == 1.5
    assert round(machine.load_s(weights("llama-3.2-1b"), 1, "naive"), 1) == 3.1
    assert round(machine.load_s(weights("qwen2.5-14b"), 1, "naive"), 1) == 7.2
    assert machine.migrate_s(weights("llama-3.1-8b"), same_host=True) == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("name", WORKSTATIONS)
def test_measured_loads_are_kept_and_the_fit_serves_beyond_them(name: str) -> None:
    machine = machine_preset(name)
    for size, seconds in machine.naive_points:
        assert machine.load_s(size, 1, "naive") == pytest.approx(seconds, abs=1e-9)
    (first, _), (middle, above), (last, _) = machine.naive_points
    fit = replace(machine, naive_points=())
    for size in (first / 2, first, last, 2 * last):
        assert machine.load_s(size, 1, "naive") == pytest.approx(fit.load_s(size, 1, "naive"), abs=0.01)
    assert fit.load_s(middle, 1, "naive") + 0.05 < above


def test_points_are_the_presets_models() -> None:
    for name in WORKSTATIONS:
        sizes = [size for size, _ in machine_preset(name).naive_points]
        assert sizes == [weights(model) for model in ("qwen2.5-3b", "qwen3-8b", "qwen2.5-14b")]


@given(st.sampled_from(NAMES), SIZES, SIZES, st.sampled_from([1, 2, 4, 8]), st.integers(1, 16))
def test_more_bytes_take_no_less_time_and_helpers_never_hurt(
    name: str, a: float, b: float, width: int, helpers: int
) -> None:
    machine = machine_preset(name)
    small, large = sorted((a, b))
    for method in ("naive", "dram", "parallel"):
        assert machine.load_s(small, width, method, helpers) <= machine.load_s(large, width, method, helpers)
    assert machine.load_s(a, width, "parallel", helpers) <= machine.load_s(a, width, "dram")
    assert machine.load_s(a, width, "parallel", helpers + 1) <= machine.load_s(a, width, "parallel", helpers)
    assert machine.unload_s(small) <= machine.unload_s(large)
    for cost in (machine.kv_out_s, machine.kv_in_s, lambda size: machine.migrate_s(size, same_host=True)):
        assert 0 < cost(small) <= cost(large)
    assert machine.migrate_s(a, same_host=True) <= machine.migrate_s(a, same_host=False)


def test_helpers_need_links_between_the_gpus() -> None:
    machine = machine_preset("h100-sxm")
    alone = replace(machine, peer_links=False, migrate_bytes_per_s=None)
    assert alone.load_s(1e10, 1, "parallel") == machine.load_s(1e10, 1, "dram") == 1e10 / 11.75e9
    assert machine.load_s(1e10, 1, "parallel", helpers=1) == machine.load_s(1e10, 1, "dram")
    assert alone.migrate_s(1e10, same_host=True) == alone.load_s(1e10, 1, "dram")


def test_loads_are_bounded_by_the_hosts_memory() -> None:
    machine = replace(machine_preset("h100-sxm"), dram_bytes_per_s=20e9)
    assert machine.load_s(1e10, 8, "dram") == 8e10 / 20e9


def test_weights_leave_by_the_page_and_copies_cost_besides_their_bytes() -> None:
    machine = machine_preset("h100-sxm")
    assert machine.unload_s(10 * PAGE_BYTES + 1) == pytest.approx(11 * 26e-6)
    assert machine.kv_out_s(1e9, copies=100) == pytest.approx(machine.kv_out_s(1e9) + 1e-3)


def test_unknown_names_and_paths(tmp_path: Path) -> None:
    with pytest.raises(SettingFailure, match="did you mean 'h100-sxm'"):
        machine_preset("h100-smx")
    with pytest.raises(InputFailure, match="cannot be read"):
        machine_preset(str(tmp_path / "absent.yaml"))


def test_a_file_that_says_only_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("like: h100-sxm\nload_bytes_per_s: 50e9\nsource: {load_bytes_per_s: pinned}\n")
    mine, theirs = machine_preset(str(file)), machine_preset("h100-sxm")
    assert mine == replace(theirs, load_bytes_per_s=50e9, source={**theirs.source, "load_bytes_per_s": "pinned"})
    file.write_text("like: h100-sxm\nload_bytes_per_s: 50e9\n")
    assert "load_bytes_per_s" not in machine_preset(str(file)).source  # the preset's source is not the file's


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("like: h100-sxm\nload_byte_per_s: 1e9", "mine.yaml:2: no key 'load_byte_per_s' here; did you mean 'load_byt"),
        ("like: h100-sxm\nload_bytes_per_s: fast", "mine.yaml:2: 'fast' is not a number"),
        ("like: h100-smx", "mine.yaml:1: no machine 'h100-smx'; did you mean 'h100-sxm'"),
        ("like: {a: 1}", "mine.yaml:1: no machine"),
        ("like: h100-sxm\ncopy_s: -1", "mine.yaml:1: copy_s is -1; it must be at least 0"),
        ("like: h100-sxm\nload_bytes_per_s: 0", "mine.yaml:1: load_bytes_per_s is 0; it must be above 0"),
        ("like: h100-sxm\nsource: me", "mine.yaml:2: 'me' is not a mapping"),
        ("like: h100-sxm\nnaive_points: [[2e9, 1], [1e9, 2]]", "naive_points must rise"),
        ("like: generic\nmigrate_bytes_per_s: 1e9", "needs peer_links"),
        ("dram_bytes: 1e9", "mine.yaml:1: 'dram_bytes_per_s' is missing"),
        ("- 1", "mine.yaml:1: a list is not a mapping"),
    ],
)
def test_mistakes_are_named_by_their_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputFailure) as raised:
        machine_preset(str(file))
    assert says in str(raised.value)
