"""When a request's first token is due."""

import numpy as np
import polars as pl
from numpy.typing import NDArray


def ttft_slo_s(requests: pl.DataFrame, otherwise_s: float) -> NDArray[np.float64]:
    """The TTFT objective of each request; `otherwise_s` for one without."""
    return requests["slo_ttft_s"].fill_null(otherwise_s).to_numpy()
