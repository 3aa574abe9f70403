"""`python -m benchmarks.gpu`: that it runs where there is little, keeps what it has, and goes on. No GPU is needed."""

import ctypes
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import driver, pages, records
from benchmarks.gpu.timing import summary
from toolkit.errors import SettingFailure

ROOT = Path(__file__).parents[1]
MODULES = sorted(f"benchmarks.gpu.{p.stem}" for p in (ROOT / "benchmarks" / "gpu").glob("*.py") if p.stem != "__main__")
ELSEWHERE = ("tables", "page", "machine_entry", "step_table")  # of `python -m benchmarks.gpu.tables`
ABSENT = ("polars", "duckdb", "pydantic", "click", "numba", "pyarrow", "scipy", "rich", "orjson", "jinja2")
needs_torch = pytest.mark.usefixtures("torch_here")


@pytest.fixture
def torch_here() -> None:
    pytest.importorskip("torch", reason="PyTorch is not here: make test-transformers")
    pytest.importorskip("transformers", reason="transformers is not here: make test-transformers")


def script(*words: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, words)]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=timeout, check=False)


def test_without_torch_or_a_gpu_one_line_says_what_to_do(tmp_path: Path) -> None:
    found = script("--out", tmp_path)
    assert found.returncode == 1
    assert len(found.stderr.strip().splitlines()) == 1
    assert "GPU" in found.stderr
    assert "--device cpu" in found.stderr or "GPU_PYTHON" in found.stderr


def lacking_for(*names: str) -> str:
    """What fails when modules are imported with nothing but PyTorch, transformers, NumPy and the standard library."""
    code = f"""
import sys
for name in {ABSENT!r}:
    sys.modules[name] = None
import importlib
for name in {names!r}:
    importlib.import_module(name)
"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    return found.stderr if found.returncode else ""


def test_what_it_borrows_needs_numpy_alone() -> None:
    assert lacking_for("toolkit.stats") == ""
    assert "polars halted" in lacking_for("polars")


@needs_torch
def test_it_imports_nothing_but_torch_transformers_numpy_and_the_standard_library() -> None:
    names = [name for name in MODULES if name.rpartition(".")[2] not in ELSEWHERE]
    assert lacking_for(*names, "benchmarks.gpu.__main__") == ""


def test_a_line_that_was_cut_off_is_measured_again_and_spoils_no_other(tmp_path: Path) -> None:
    records.write(tmp_path, "kv", {"n": 1}, {"out_s": summary([1.0, 2.0, 3.0])}, {})
    records.write(tmp_path, "kv", {"n": 2}, {"error": "no memory"}, {})
    with records.file_of(tmp_path, "kv").open("a") as file:
        file.write('{"measurement": "kv", "point": {"n": 3}, "out')
    assert records.done(tmp_path, "kv") == {'{"n": 1}'}
    records.write(tmp_path, "kv", {"n": 4}, {}, {})
    assert [line["point"]["n"] for line in records.read(tmp_path, "kv")] == [1, 2, 4]
    assert records.done(tmp_path, "kv") == {'{"n": 1}', '{"n": 4}'}


class Card:
    """A driver that keeps account of pages, and refuses what CUDA would refuse."""

    def __init__(self, supported: bool = True, refuses: str | None = None):
        self.supported, self.refuses = supported, refuses
        self.handles: set[int] = set()
        self.mapped: dict[int, int] = {}
        self.opened = 0
        self.base = 1 << 40

    def __getattr__(self, name: str) -> Any:
        if name == self.refuses:
            return lambda *arguments: 2
        return lambda *arguments: 0

    def cuDeviceGetAttribute(self, into: Any, attribute: Any, device: Any) -> int:  # noqa: N802
        assert attribute.value == 102
        into._obj.value = int(self.supported)
        return 0

    def cuMemGetAllocationGranularity(self, into: Any, properties: Any, kind: Any) -> int:  # noqa: N802
        assert (properties._obj.type, properties._obj.location.type, properties._obj.location.id) == (1, 1, 3)
        into._obj.value = 2**21
        return 0

    def cuMemAddressReserve(self, into: Any, size: Any, align: Any, address: Any, flags: Any) -> int:  # noqa: N802
        into._obj.value = self.base
        return 0

    def cuMemCreate(self, into: Any, size: Any, properties: Any, flags: Any) -> int:  # noqa: N802
        if self.refuses == "cuMemCreate":
            return 2
        into._obj.value = len(self.handles) + 1
        self.handles.add(into._obj.value)
        return 0

    def cuMemMap(self, address: Any, size: Any, offset: Any, handle: Any, flags: Any) -> int:  # noqa: N802
        assert handle.value in self.handles
        assert address.value not in self.mapped
        self.mapped[address.value] = size.value
        return 0

    def cuMemSetAccess(self, address: Any, size: Any, access: Any, count: Any) -> int:  # noqa: N802
        assert (access._obj.flags, access._obj.location.id, count.value) == (3, 3, 1)
        inside = [a for a in self.mapped if address.value <= a < address.value + size.value]
        assert sum(self.mapped[a] for a in inside) == size.value
        self.opened += len(inside)
        return 0

    def cuMemUnmap(self, address: Any, size: Any) -> int:  # noqa: N802
        assert self.mapped.pop(address.value) == size.value
        return 0

    def cuMemRelease(self, handle: Any) -> int:  # noqa: N802
        self.handles.remove(handle.value)
        return 0

    def cuGetErrorName(self, status: Any, into: Any) -> int:  # noqa: N802
        into._obj.value = b"CUDA_ERROR_OUT_OF_MEMORY"
        return 0


@pytest.mark.parametrize("row", [1, 4])
def test_pages_are_made_mapped_opened_and_all_given_back(row: int) -> None:
    card = Card()
    found = pages.cycle(driver.VirtualMemory(card, 3), 2**21, 8, row)
    assert not card.mapped
    assert not card.handles
    assert card.opened == 8
    counts = {name: len(samples) for name, samples in found.items()}
    assert counts == {"call_s": 8, "create_s": 8, "map_s": 8, "open_s": 8 // row, "unmap_s": 8, "release_s": 8}


def test_the_structures_are_as_large_as_in_cuda_h() -> None:
    assert (ctypes.sizeof(driver.Properties), ctypes.sizeof(driver.Access)) == (32, 12)
    assert (driver.Properties.location.offset, driver.Properties.win32.offset) == (8, 16)


def test_a_driver_that_refuses_is_quoted() -> None:
    with pytest.raises(SettingFailure, match="no virtual memory management"):
        driver.VirtualMemory(Card(supported=False), 3)
    memory = driver.VirtualMemory(Card(refuses="cuMemCreate"), 3)
    with pytest.raises(SettingFailure, match=r"cuMemCreate answered 2 \(CUDA_ERROR_OUT_OF_MEMORY\)"):
        memory.create(2**21)


FACTS = {
    "gpu": "NVIDIA H100 80GB HBM3", "driver": "580.1", "torch": "2.11.0", "transformers": "5.17.0", "cores": 16,
    "system": "Linux", "python": "3.12.3", "seed": 0, "repeats": 5, "smoke": False,
}  # fmt: skip
OUT_PER_S, IN_PER_S, COPY_S = 50e9, 40e9, 5e-6


def made_up(folder: Path, **facts: Any) -> Path:
    """Results as of a GPU whose costs are known."""
    about = FACTS | facts
    folder.mkdir()

    def put(measurement: str, what: dict[str, Any], **found: Any) -> None:
        told = {name: summary([value]) if isinstance(value, float) else value for name, value in found.items()}
        records.write(folder, measurement, what, told, about)

    for size, copies in [(10**8, 1), (10**8, 64), (10**9, 1), (10**9, 2000), (10**7, 640)]:
        what = {"model": "8b", "tokens": 1, "bytes": size, "layout": "layers", "copies": copies, "host": "pinned"}
        put("kv", what, out_s=size / OUT_PER_S + copies * COPY_S, in_s=size / IN_PER_S + copies * COPY_S)
    for name, size in (("1b", 2 * 10**9), ("8b", 16 * 10**9)):
        put("weights", {"model": name, "bytes": size, "way": "pinned"}, load_s=size / 55e9)
        put("weights", {"model": name, "bytes": size, "way": "memory"}, evict_s=size / 2**21 * 1e-6, allocate_s=0.1)
        put(
            "weights",
            {"model": name, "bytes": size, "way": "file"},
            cached_s=size / 5e9,
            cold_s=size / 2e9,
            filesystem="ext4",
        )
    put("weights", {"way": "start"}, start_s=9.0, import_torch_s=4.0, import_transformers_s=4.0, context_s=1.0)
    calls = {"call_s": 1e-7, "create_s": 190e-6, "map_s": 1e-6, "open_s": 30e-6, "unmap_s": 20e-6, "release_s": 9e-6}
    put("pages", {"page_bytes": 2**21, "row": 1, "gpu": "idle"}, pages=256, **calls)
    for decodes, kv, prefill, prior in STEPS:
        pairs = prefill * prior + prefill * prefill // 2
        what = {"model": "8b", "decodes": decodes, "kv_tokens": kv, "prefill_tokens": prefill, "prior_tokens": prior}
        put("steps", what | {"pairs": pairs}, step_s=step_s(decodes + prefill, kv, pairs))
    return folder


STEPS = [
    *((n, n * context, 0, 0) for n in (1, 8, 64) for context in (17, 1025, 4097)),
    *((0, 0, tokens, 0) for tokens in (128, 512, 2048)),
    (0, 0, 512, 8192), (0, 0, 2048, 8192), (8, 8200, 512, 0),
]  # fmt: skip


def step_s(tokens: int, kv: int, pairs: int) -> float:
    return 6e-3 + 20e-6 * tokens + 4e-9 * kv + 1e-9 * pairs


def tables(*folders: Path, out: Path, smoke: bool = False) -> int:
    from benchmarks.gpu.tables import main

    words = [*map(str, folders), "--datasets", str(out / "d"), "--pages", str(out / "p")]
    return main([*words, "--smoke"] if smoke else words)


def test_the_tables_say_what_was_planted(tmp_path: Path) -> None:
    from replay.cluster.machine import machine_preset
    from replay.latency_models.table import Table

    assert tables(made_up(tmp_path / "in"), out=tmp_path) == 0
    folder = tmp_path / "d" / "nvidia-h100-80gb-hbm3"
    machine = machine_preset(str(folder / "machine.yaml"))
    fitted = (machine.kv_out_bytes_per_s, machine.kv_in_bytes_per_s, machine.copy_s, machine.load_bytes_per_s)
    assert fitted == pytest.approx((OUT_PER_S, IN_PER_S, COPY_S, 55e9))
    assert machine.map_s_per_page == pytest.approx(221e-6)
    assert machine.unmap_s_per_page == pytest.approx(29e-6)
    assert machine.unload_s(16e9) == pytest.approx(16e9 / 2**21 * 1e-6, rel=1e-3)
    assert machine.load_s(16e9, 1, "naive") == pytest.approx(9 + 8)
    assert machine.source["copy_s"].startswith("measured: fit")
    assert "driver 580.1" in machine.source["copy_s"]
    assert "assumption" in machine.source["dram_bytes"]  # not measured: its nearest preset's
    table = Table(str(folder / "latency-8b.yaml"))
    told = table.dense_s(np.array([520.0])) + table.decode_attention_s(8, np.array([8200.0]))
    told += table.prefill_attention_s(np.array([512.0]), np.array([0.0]))
    assert told[0] == pytest.approx(step_s(520, 8200, 2**17), rel=0.02)
    page = (tmp_path / "p" / "gpu-nvidia-h100-80gb-hbm3.md").read_text()
    assert "| 2 | 1 | idle | 0.100 | 190 | 1 | 30 | 20 | 9 |" in page
    assert "Not measured: preemption, layers on the host, the order of requests, kv memory shared or split." in page


@pytest.mark.parametrize(
    ("others", "because"),
    [({"smoke": True}, "smoke test"), ({"gpu": "NVIDIA H200"}, "several devices: NVIDIA H100 80GB HBM3, NVIDIA H200")],
)
def test_smoke_tests_and_mixed_devices_make_no_tables(
    others: dict[str, Any], because: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up(tmp_path / "a")
    made_up(tmp_path / "b", **others)
    assert tables(tmp_path / "a", tmp_path / "b", out=tmp_path) == 1
    assert because in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_what_failed_is_on_the_page_until_it_is_measured(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "in")
    records.write(folder, "pages", {"row": 8}, {"error": "cuMemCreate answered 2"}, FACTS)
    records.write(folder, "kv", {"row": 1}, {"error": "out of memory"}, FACTS)
    records.write(folder, "kv", {"bytes": 1, "row": 1}, {"error": "again"}, FACTS)
    assert tables(folder, out=tmp_path) == 0
    page = next((tmp_path / "p").glob("*.md")).read_text()
    assert "cuMemCreate answered 2" in page
    line = next(line for line in records.read(folder, "pages") if "error" not in line)
    records.write(folder, "pages", {"row": 8}, {k: v for k, v in line.items() if k.endswith("_s")}, FACTS)
    assert records.done(folder, "pages") >= {'{"row": 8}'}


@pytest.mark.slow
@needs_torch
def test_a_smoke_test_measures_all_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    results = tmp_path / "in"
    found = script("--out", results, "--device", "cpu")
    assert found.returncode == 0, found.stderr
    names = {path.stem for path in results.iterdir()}
    assert names == {"kv", "weights", "steps", "preempt", "offload", "order", "sharing"}  # a CPU has no pages to map
    lines = [line for name in names for line in records.read(results, name)]
    assert all("error" not in line and line["facts"]["smoke"] for line in lines)
    preempted = [line for line in lines if line["measurement"] == "preempt"]
    assert all(line["same"] for line in preempted)
    assert all(line["recompute_s"]["median"] > line["step_s"]["low"] / 10 for line in preempted)  # not nothing
    served = [row[-1] for line in lines if line["measurement"] in ("order", "sharing") for row in line["requests"]]
    assert set(served) == {"ok"}
    assert tables(results, out=tmp_path, smoke=True) == 0

    path = records.file_of(results, "kv")
    whole = path.read_text().splitlines()
    path.write_text("\n".join([*whole[:2], whole[2][:40]]))
    assert "--resume" in script("--out", results, "--device", "cpu", "--only", "kv").stderr
    assert script("--out", results, "--device", "cpu", "--only", "kv", "--resume").returncode == 0
    again = list(records.read(results, "kv"))
    assert [json.dumps(line) for line in again[:2]] == whole[:2]
    assert [line["point"] for line in again] == [json.loads(line)["point"] for line in whole]


@needs_torch
def test_what_the_time_does_not_allow_is_left_for_another_call(tmp_path: Path) -> None:
    found = script("--out", tmp_path, "--device", "cpu", "--budget-s", "1")
    assert found.returncode == 3
    assert "left" in found.stdout.splitlines()[-1]


class Stream:
    """A stream that does nothing, but refuses to wait for what was never recorded."""

    def __init__(self, device: object = None):
        self.device = device

    def synchronize(self) -> None:
        pass

    def wait_event(self, event: "Event") -> None:
        assert event.recorded


class Event:
    def __init__(self) -> None:
        self.recorded = False

    def record(self, stream: Stream | None = None) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded


@needs_torch
def test_the_branches_for_a_gpu_run_with_one_that_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams, events and pinned memory of a device that is the CPU: what is called there exists, and in that order."""
    import safetensors.torch
    import torch

    from benchmarks.gpu import kv, offload, preempt, weights
    from benchmarks.gpu.setting import Setting
    from replay.torch_engine.device import Device

    plain, reading = torch.empty, safetensors.torch.load_file
    played = {
        "Stream": Stream, "Event": Event, "stream": lambda stream: nullcontext(), "current_stream": lambda at: Stream(),
        "synchronize": lambda at=None: None, "empty_cache": lambda: None, "current_device": lambda: 0,
        "mem_get_info": lambda at: (2**33, 2**33),
    }  # fmt: skip
    for name, value in played.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **how: plain(*size, **how))
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    monkeypatch.setattr(Device, "is_gpu", property(lambda self: True))
    monkeypatch.setattr(safetensors.torch, "load_file", lambda path, device: reading(path, "cpu"))
    at = Setting(Device(torch.device("cpu")), 0, 1, True, 2**33, 2**34, tmp_path)
    ways = set()
    for module in (kv, offload, preempt, weights):
        for point in module.points(at):
            assert records.told(point.work())
            ways.add(point.what.get("way"))
    assert ways >= {"streams-4", "staged-8", "streamed", "computed", "file"}
    assert not list(tmp_path.iterdir())
