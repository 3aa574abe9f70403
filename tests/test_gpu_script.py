"""`python -m benchmarks.gpu`: that it runs where there is little, keeps what it has, and goes on. No GPU is needed."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


@needs_torch
def test_it_imports_nothing_but_torch_transformers_numpy_and_the_standard_library() -> None:
    names = [name for name in MODULES if name.rpartition(".")[2] not in ELSEWHERE]
    code = f"""
import sys
for name in {ABSENT!r}:
    sys.modules[name] = None
import importlib
for name in {[*names, "benchmarks.gpu.__main__"]!r}:
    importlib.import_module(name)
"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert found.returncode == 0, found.stderr


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
