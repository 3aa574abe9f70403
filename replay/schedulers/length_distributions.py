"""What a policy knows of the distribution of output lengths, class by class, in bins of its own."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.request_classes import RequestClasses
from toolkit.errors import InputFailure, SettingFailure

Counts = NDArray[np.float64]
TRAINING_SHARE = 0.1
PRIOR = 20.0  # requests that a class borrows from all, so that a rare one is not judged by its few


class LengthDistributions:
    """Requests by class and bin of output tokens.

    They are those of the `trace`, of its first tenth (`train`), of what has ended (`online`), or of a Parquet or CSV
    file with a column output_tokens.

    Bins are [edges[i], edges[i + 1]) tokens, `ratio` wide from `quantum` on; lengths are told apart no finer, so that
    an index over them is not led by noise (UniBoost's lineage: noisy over tiny increments).
    """

    def __init__(self, source: str, by: str, quantum: int, ratio: float, most_tokens: int = 2**18):
        if quantum < 1 or ratio <= 1:
            raise SettingFailure(f"quantum={quantum}, ratio={ratio:g}", hint="quantum ≥ 1, ratio > 1")
        self.source, self.classes = source, RequestClasses(by)
        steps = quantum * ratio ** np.arange(int(np.log(most_tokens / quantum) / np.log(ratio)) + 2)
        self.edges = np.unique(np.concatenate([[0], np.ceil(steps)])).astype(np.int64)
        self._counts: Counts = np.zeros((0, len(self.edges) - 1))
        self._rows: NDArray[np.int64] = np.zeros(0, np.int64)  # by request_id

    def learn(self, requests: pl.DataFrame) -> None:
        """Learn what there is to learn from the first requests asked about: all of a trace."""
        if not len(self._counts):
            self._rows = self.classes.of(requests)
            self._counts = np.zeros((len(self.classes), len(self.edges) - 1))
            self._count(requests)

    def rows(self, requests: pl.DataFrame) -> NDArray[np.int64]:
        """The class of each request; one that was not among the first goes by the last."""
        self.learn(requests)
        return np.minimum(self.classes.of(requests), len(self._counts) - 1)

    def observe(self, outcomes: pl.DataFrame, now_s: float) -> None:
        """Count what has ended: a scheduler's `observe`, where lengths are learned online."""
        ended = (outcomes["status"] == "ok").to_numpy()
        self.add(self._rows[outcomes["request_id"].to_numpy()[ended]], outcomes["output_tokens"].to_numpy()[ended])

    def add(self, numbers: NDArray[np.int64], output_tokens: NDArray[np.int64]) -> None:
        """Count requests of these classes and lengths."""
        bins = np.clip(np.searchsorted(self.edges, output_tokens, side="right") - 1, 0, self._counts.shape[1] - 1)
        np.add.at(self._counts, (numbers, bins), 1.0)

    def shares(self) -> Counts:
        """[class, bin], each class's lengths as a distribution, levelled by what all of them have; even without any."""
        overall = self._counts.sum(axis=0)
        overall = overall / overall.sum() if overall.any() else np.full(len(overall), 1 / len(overall))
        own = self._counts + PRIOR * overall
        shares: Counts = own / own.sum(axis=1, keepdims=True)
        return shares

    def _count(self, requests: pl.DataFrame) -> None:
        known = requests["output_tokens"].is_not_null().to_numpy()
        lengths = requests["output_tokens"].fill_null(0).to_numpy()
        if self.source in ("trace", "train"):
            first = len(lengths) if self.source == "trace" else max(1, round(TRAINING_SHARE * len(lengths)))
            self.add(self._rows[:first][known[:first]], lengths[:first][known[:first]])
        elif self.source != "online":
            given = _read(Path(self.source))
            for number in range(len(self._counts)):
                self.add(np.full(len(given), number), given)


def _read(path: Path) -> NDArray[np.int64]:
    reader = pl.read_parquet if path.suffix == ".parquet" else pl.read_csv
    try:
        column = reader(path, columns=["output_tokens"], glob=False)["output_tokens"]
        lengths: NDArray[np.int64] = column.drop_nulls().cast(pl.Int64).to_numpy()
    except (OSError, pl.exceptions.PolarsError) as error:
        hint = "give a Parquet or CSV file with a column output_tokens, or trace, train or online"
        raise InputFailure(f"no output_tokens can be read ({error})", where=str(path), hint=hint) from error
    return lengths
