"""The "real trace" of Prism, VTC and S-LoRA: a pickle of requests derived from the LMSYS Chatbot Arena log."""

from pathlib import Path
from typing import Any

import polars as pl

from toolkit.errors import InputFailure
from toolkit.protocols import LoadOptions, Scan
from workloads.fields import NUMBER, TEXT, TOKENS, Place, table
from workloads.pickled import Made, RefusedError, read
from workloads.records import check_names

PERMITTED = ("trace", "Request")
FIELDS = {
    "req_time": NUMBER,
    "model_dir": TEXT,
    "adapter_dir": TEXT,
    "prompt": TEXT,
    "prompt_len": TOKENS,
    "output_len": TOKENS,
}
DUMMY_WORD = "Hello"
MODELS = "model is the adapter: each stands for one model (or client) of the Arena log"
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class Prism:
    """Prism/VTC real_trace.pkl: a pickle of trace.Request objects, read without running it."""

    def sniff(self, head: bytes, name: str) -> float:
        if not head.startswith(PICKLES):
            return 0.0
        start = head[:4096]
        return 1.0 if b"trace" in start and b"Request" in start else 0.5  # another pickle is refused with the reason

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check_names(options)
        requests = pl.concat([_requests(path) for path in paths])
        return Scan(
            frame=_columns(requests).lazy(),
            time_unit="s",
            time_unit_reason="the format's times are seconds",
            notes=(MODELS, *_base_models(requests)),
        )


def _requests(path: Path) -> pl.DataFrame:
    try:
        value = read(path.read_bytes(), PERMITTED)
    except RefusedError as refusal:
        what = f"refused: {refusal}"
        raise InputFailure(what, where=str(path), hint="only a pickled list of trace.Request can be read") from None
    rows = [made.attributes for made in _made(value, path)]
    places = [Place(item=number) for number in range(1, len(rows) + 1)]
    return table(rows, places, FIELDS, str(path))


def _made(value: Any, path: Path) -> list[Made]:
    """The file is [adapter names, requests]."""
    pair = value if isinstance(value, (list, tuple)) and len(value) == 2 else (None, None)
    if isinstance(pair[1], list) and all(isinstance(made, Made) for made in pair[1]):
        return pair[1]
    raise InputFailure("the pickle is not a pair of adapter names and requests", where=str(path))


def _columns(requests: pl.DataFrame) -> pl.DataFrame:
    dummy = pl.col("prompt").str.replace_all(DUMMY_WORD, "", literal=True).str.strip_chars() == ""
    return requests.select(
        arrival="req_time",
        model="adapter_dir",
        prompt_tokens="prompt_len",
        output_tokens="output_len",
        prompt=pl.when(~dummy).then("prompt"),
    )


def _base_models(requests: pl.DataFrame) -> list[str]:
    names = requests["model_dir"].drop_nulls().unique().sort().to_list()
    return [f"the base model is {', '.join(names[:3])}"] if names else []
