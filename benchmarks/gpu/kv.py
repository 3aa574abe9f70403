"""KV memory between device and host, by bytes, number of copies, and kind of host memory."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.setting import Point, Setting
from benchmarks.gpu.shapes import ELEMENT, config, fitting
from benchmarks.gpu.timing import seconds

TOKENS, BLOCK = (256, 1024, 4096, 16384), 16
PINNED, PAGEABLE, FRESH = "pinned", "pageable", "fresh"


def points(at: Setting) -> Iterator[Point]:
    """`fresh` is host memory that each copy out takes anew, as `tensor.to("cpu")` does."""
    name = [n for n in fitting(at) if n != "14b"][-1]
    c = config(name, at.smoke)
    each = 2 * c["num_key_value_heads"] * c["head_dim"] * ELEMENT * c["num_hidden_layers"]
    for tokens in (16, 64) if at.smoke else TOKENS:
        size = each * tokens
        for layout, copies in {"whole": 1, "layers": 2 * c["num_hidden_layers"], "blocks": tokens // BLOCK}.items():
            for host in (PINNED, PAGEABLE, *((FRESH,) if layout == "layers" else ())):
                what = {"model": name, "tokens": tokens, "bytes": size, "layout": layout, "copies": copies}
                what["host"] = host
                yield Point(what, lambda s=size, n=copies, h=host: copied(at, s, n, h), 2 + 2e-9 * size * at.repeats)


def copied(at: Setting, size: int, copies: int, host: str) -> dict[str, Any]:
    """Seconds out and in again, all copies asked for at once and waited for together."""
    there = _parts(torch.ones(size, dtype=torch.uint8, device=at.device.at), copies)
    here = _parts(at.device.host_bytes(size) if host == PINNED else torch.empty(size, dtype=torch.uint8), copies)
    for part in here:
        part.fill_(2)
    pairs = list(zip(there, here, strict=True))

    def out() -> None:
        for inside, outside in pairs:
            outside.copy_(inside, non_blocking=host == PINNED)

    def back() -> None:
        for inside, outside in pairs:
            inside.copy_(outside, non_blocking=host == PINNED)

    def fresh_out() -> None:
        made[:] = [part.to("cpu", copy=True) for part in there]

    def fresh_back() -> None:
        for part in here:
            part.to(at.device.at, copy=True)

    made: list[Any] = []
    works = (fresh_out, fresh_back) if host == FRESH else (out, back)
    return {n: seconds(at.device, work, at.repeats) for n, work in zip(("out_s", "in_s"), works, strict=True)}


def _parts(whole: Any, copies: int) -> list[Any]:
    return list(whole.view(copies, -1))
