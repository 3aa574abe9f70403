"""Classes of requests that a policy may tell apart before it knows their lengths."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import SettingFailure, nearest

COLUMNS = ("model", "tenant", "tier", "kind", "adapter")


class RequestClasses:
    """Numbers the classes that requests fall into by columns joined with `+`; `prompt` is the prompt length's octave.

    A class keeps its number from one call to the next. `none` puts all requests into one.
    """

    def __init__(self, by: str):
        self.columns = [name.strip() for name in by.split("+")] if by != "none" else []
        for name in self.columns:
            if name not in (*COLUMNS, "prompt"):
                hint = nearest(name, [*COLUMNS, "prompt", "none"])
                raise SettingFailure(f"no request class by '{name}'", where="by", hint=hint)
        self._known: pl.DataFrame | None = None

    def __len__(self) -> int:
        return 1 if self._known is None else max(1, len(self._known))

    def of(self, requests: pl.DataFrame) -> NDArray[np.int64]:
        """The class of each request, counted from 0 in the order of first appearance."""
        if not self.columns:
            return np.zeros(len(requests), np.int64)
        keys = requests.select(_key(name) for name in self.columns)
        met = keys.unique(maintain_order=True)
        if self._known is not None:
            fresh = met.join(self._known, on=self.columns, how="anti", nulls_equal=True, maintain_order="left")
            met = pl.concat([self._known, fresh])
        self._known = met
        numbered = met.with_row_index("number")
        joined = keys.join(numbered, on=self.columns, how="left", nulls_equal=True, maintain_order="left")
        numbers: NDArray[np.int64] = joined["number"].cast(pl.Int64).to_numpy()
        return numbers


def _key(name: str) -> pl.Expr:
    if name == "prompt":
        return pl.col("prompt_tokens").clip(1).log(2).floor().cast(pl.Int8).alias("prompt")
    return pl.col(name)
