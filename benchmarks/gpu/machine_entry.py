"""A machine as replay/presets/machines.yaml has them, of what was measured; the rest is like its nearest preset."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks.gpu.results import Line, Results

PAGE_BYTES = 2 * 2**20
ALIKE = (
    (("H100", "PCIe"), "a100-pcie"),
    (("H100",), "h100-sxm"),
    (("H200",), "h200-sxm"),
    (("A100", "SXM"), "a100-sxm"),
    (("A100",), "a100-pcie"),
    (("A6000",), "rtxa6000"),
    (("RTX 5000 Ada",), "rtx5000-ada"),
)

Told = Iterator[tuple[str, Any, str]]


def entry(results: Results) -> dict[str, Any]:
    """What machine_preset() reads, each measured key with what it comes from."""
    told = [*_loads(results), *_storage(results), *_copies(results), *_pages(results)]
    values = {name: value for name, value, _ in told}
    source = {name: f"measured: {how}; {results.said}" for name, _, how in told}
    return {"like": alike(results.device), **values, "source": source}


def alike(device: str) -> str:
    """The preset that is nearest to a device."""
    return next((name for words, name in ALIKE if all(word in device for word in words)), "generic")


def median(line: Line, name: str) -> float:
    return float(line[name]["median"])


def spread(line: Line, name: str) -> str:
    """Its extremes and how many repeats."""
    found = line[name]
    return f"{found['low']:.4g} to {found['high']:.4g} s in {found['repeats']}"


def largest(results: Results, **where: Any) -> Line | None:
    """The line of the largest model."""
    return max(results.of("weights", **where), key=lambda line: int(line["point"]["bytes"]), default=None)


def _loads(results: Results) -> Told:
    line = largest(results, way="pinned")
    if line is not None:
        size, took = line["point"]["bytes"], median(line, "load_s")
        how = f"{size} bytes from pinned memory in one copy, {spread(line, 'load_s')} repeats"
        yield "load_bytes_per_s", size / took, how
    line = largest(results, way="memory")
    if line is not None:
        pages = line["point"]["bytes"] / PAGE_BYTES
        how = f"cudaFree of {line['point']['bytes']} bytes, {spread(line, 'evict_s')} repeats"
        yield "unload_s_per_page", median(line, "evict_s") / pages, how


def _storage(results: Results) -> Told:
    """Loads that start a process and read a file that the page cache does not hold."""
    started = next(results.of("weights", way="start"), None)
    if started is None:
        return
    start_s = median(started, "start_s")
    how = f"a process from nothing to torch, transformers and a context, {spread(started, 'start_s')} repeats"
    yield "engine_start_s", start_s, how
    lines = sorted(results.of("weights", way="file"), key=lambda line: int(line["point"]["bytes"]))
    if not lines:
        return
    sizes = np.array([line["point"]["bytes"] for line in lines], float)
    took = np.array([median(line, "cold_s") for line in lines])
    kinds = ", ".join(sorted({line["filesystem"] for line in lines}))
    how = f"safetensors files on {kinds}, read after the kernel was asked to drop them from its cache"
    yield "storage_bytes_per_s", float((sizes / took)[-1]), f"{how}, the largest"
    points = [[float(size), start_s + float(s)] for size, s in zip(sizes, np.maximum.accumulate(took), strict=True)]
    yield "naive_points", points, f"engine_start_s and {how}"


def _copies(results: Results) -> Told:
    """Rates and the cost of a copy, by non-negative least squares on relative errors."""
    lines = list(results.of("kv", host="pinned"))
    if len(lines) < 3:
        return
    rows, took = [], []
    for line in lines:
        size, copies = line["point"]["bytes"], line["point"]["copies"]
        rows += [[size, 0, copies], [0, size, copies]]
        took += [median(line, "out_s"), median(line, "in_s")]
    weighted = np.array(rows, float) / np.array(took)[:, None]
    scale = weighted.max(axis=0)
    found = nnls(weighted / scale, np.ones(len(took)))[0] / scale
    off = np.median(np.abs(weighted @ found - 1))
    how = f"fit to {len(took)} times of copies to and from pinned memory, median error {100 * off:.0f} %"
    for name, value in zip(("kv_out_bytes_per_s", "kv_in_bytes_per_s"), found[:2], strict=True):
        if value > 0:
            yield name, float(1 / value), how
    yield "copy_s", float(found[2]), how


def _pages(results: Results) -> Told:
    line = next(results.of("pages", page_bytes=PAGE_BYTES, row=1, gpu="idle"), None)
    if line is None:
        return
    parts = {name: median(line, f"{name}_s") for name in ("create", "map", "open", "unmap", "release")}
    said = {name: f"{name} {1e6 * value:.3g} us" for name, value in parts.items()}
    pages = f"of {line['pages']} pages one by one, medians"
    how = f"{said['create']}, {said['map']}, {said['open']} {pages}"
    yield "map_s_per_page", parts["create"] + parts["map"] + parts["open"], how
    yield "unmap_s_per_page", parts["unmap"] + parts["release"], f"{said['unmap']}, {said['release']} {pages}"
