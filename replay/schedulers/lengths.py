"""What a size-based scheduler believes about output lengths."""

from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import SettingFailure, nearest

Lengths = Literal["oracle", "predicted"]


def checked(lengths: str) -> str:
    """`lengths`, or SettingFailure with the nearest name."""
    if lengths not in get_args(Lengths):
        raise SettingFailure(f"no lengths '{lengths}'", hint=nearest(lengths, get_args(Lengths)))
    return lengths


def believed_output_tokens(requests: pl.DataFrame, lengths: str) -> NDArray[np.float64]:
    """Output tokens as the scheduler knows them: the truth (`oracle`) or the trace's `predicted_output_tokens`.

    A request without a prediction is taken for the median of those that have one.
    """
    if lengths == "oracle":
        return requests["output_tokens"].cast(pl.Float64).to_numpy()
    predicted = requests["predicted_output_tokens"].cast(pl.Float64)
    if predicted.null_count() == len(predicted):
        raise SettingFailure(
            "the trace has no predicted_output_tokens", where="lengths=predicted", hint="use lengths=oracle"
        )
    return predicted.fill_null(predicted.median()).to_numpy()
