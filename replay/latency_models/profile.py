"""Step times from measured kernels of one layer (see profile_tables)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from replay.latency_models.collectives import Link, exchange_s
from replay.latency_models.profile_tables import (
    find_profile,
    read_attention,
    read_dense,
    read_head,
    read_meta,
    read_moe,
    read_skew,
)
from replay.simulation.hardware import ServedModel, model_by_name, model_preset
from toolkit.errors import SettingFailure

Values = NDArray[np.float64]
Experts = tuple[tuple[Values, Values], Values]
CAPTURED = (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16))  # batch sizes of vLLM's CUDA graphs


class Profile:
    """Step times from kernel times measured on one layer: per-layer kernels count once for each layer of the model.

    `path` is the folder of dense.csv or at most two above it. The model is the one meta.yaml names unless `model` is
    given (a preset or a config.json). A batch of at most `captured` tokens is padded to the next captured CUDA-graph
    size (0: no padding). `ranks` instances step together and share the experts over the link (`link_gb_per_s`,
    `link_us`), as data parallelism with expert parallelism does.
    """

    def __init__(
        self,
        path: str,
        model: str | None = None,
        tensor_parallel: int = 1,
        ranks: int = 1,
        captured: int = 512,
        link_gb_per_s: float = 16.0,
        link_us: float = 20.0,
    ):
        folder = find_profile(Path(path), tensor_parallel)
        meta = read_meta(folder)
        if model is None and "model" not in meta:
            raise SettingFailure("does not say what was profiled", where=str(folder), hint="give model=PRESET")
        self.model: ServedModel = model_preset(model) if model else model_by_name(str(meta["model"]))
        self.tensor_parallel, self.ranks = tensor_parallel, ranks
        self.link = Link(link_gb_per_s * 1e9, link_us * 1e-6)
        self.sizes = np.array([0.0, *[s for s in CAPTURED if s <= captured]])
        self.layer, self.once = read_dense(folder)
        self.head = read_head(folder)
        self.attention = _interpolated(*read_attention(folder))
        moe, self.expert_split = _experts(folder, tensor_parallel, ranks) if self.model.num_experts else (None, 1)
        self.experts = _interpolated(*moe) if moe else None
        self.moe_knots = moe[0] if moe else None
        self.skew = read_skew(folder, meta)
        self.shared_s = self._shared_s if ranks > 1 else None

    def dense_s(self, tokens: Values) -> Values:
        rows = self._padded(tokens)
        layers = self.model.num_hidden_layers
        time = self.layer(rows) * layers + self.once(rows)
        if self.tensor_parallel > 1:
            time = time + 2 * layers * self.link.all_reduce_s(self._hidden_bytes(rows), self.tensor_parallel)
        return time if self.ranks > 1 or self.experts is None else time + self._experts_s(rows)

    def head_s(self, sequences: Values) -> Values:
        return np.where(sequences > 0, self.head(np.maximum(sequences, 1.0)), 0.0)

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        return self._attention(0.0, 0.0, float(sequences), kv_tokens / sequences)

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        return self._attention(chunk, prior, 0.0, 0.0)

    def mixed_attention_s(self, chunk: Values, prior: Values, sequences: Values, context: Values) -> Values:
        """Attention of one batch that prefills `chunk` tokens and decodes `sequences`, each over `context` tokens."""
        return self._attention(chunk, prior, sequences, context)

    def _shared_s(self, tokens: Values) -> Values:
        """The experts for the tokens of all ranks together, with the exchange before and after."""
        exchange = exchange_s(self.link, self._hidden_bytes(tokens), self.ranks) * self.model.moe_layers
        return np.where(tokens > 0, self._experts_s(tokens) + exchange, 0.0)

    def _experts_s(self, tokens: Values) -> Values:
        """A GPU's share of the experts; their weights are read once however many tokens come to each."""
        if self.experts is None or self.moe_knots is None:
            return np.zeros_like(tokens)
        m = self.model
        reached = m.num_experts / self.expert_split * (1 - (1 - m.num_experts_per_tok / m.num_experts) ** tokens)
        rows, kinds = self.moe_knots
        own = np.maximum(tokens / self.expert_split, rows[0])
        return m.moe_layers * self.experts(own, np.clip(reached, kinds[0], kinds[-1]))

    def _attention(self, *at: Values | float) -> Values:
        return self.model.num_hidden_layers * self.attention(*at)

    def _hidden_bytes(self, tokens: Values) -> Values:
        return tokens * self.model.hidden_size * 2.0

    def _padded(self, tokens: Values) -> Values:
        at = np.searchsorted(self.sizes, tokens)
        return np.where(at < self.sizes.size, self.sizes[np.minimum(at, self.sizes.size - 1)], tokens)


def _experts(folder: Path, tensor_parallel: int, ranks: int) -> tuple[Experts | None, int]:
    """(The experts' table, GPUs that share what it measured); that of tp1 where this degree has none."""
    own = read_moe(folder)
    if own is not None:
        return own, ranks
    return read_moe(folder.parent / "tp1"), ranks * tensor_parallel


class _interpolated:  # noqa: N801 - a function with a table
    """Linear in every axis of a table; beyond the last knot it goes on as before it."""

    def __init__(self, knots: tuple[Values, ...], table: Values):
        from scipy.interpolate import RegularGridInterpolator

        self.table = RegularGridInterpolator(knots, table, bounds_error=False, fill_value=None)

    def __call__(self, *at: Values | float) -> Values:
        points = np.broadcast_arrays(*[np.asarray(a, np.float64) for a in at])
        result: Values = self.table(np.stack([p.ravel() for p in points], axis=-1)).reshape(points[0].shape)
        return np.maximum(result, 0.0)
