"""Step times from points in a YAML file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.latency_models.profile_tables import Curve
from toolkit.errors import InputFailure, nearest

Values = NDArray[np.float64]
X = {
    "dense": "tokens in the batch",
    "head": "sequences",
    "decode_attention": "KV tokens read by all sequences",
    "prefill_attention": "query-key pairs: chunk·(prior + chunk/2)",
}


class Table:
    """Step times from points given in YAML: lists of [x, seconds], linear in between and beyond.

    dense: x is tokens in the batch · head: sequences · decode_attention: KV tokens that all sequences read together ·
    prefill_attention: chunk·(prior + chunk/2). `dense` must be there; what is not there takes no time.
    """

    def __init__(self, path: str):
        read = _read(Path(path))
        self.curves = {name: _curve(read.get(name), name, path) for name in X}
        if self.curves["dense"] is None:
            raise InputFailure("gives no points for 'dense'", where=path, hint="dense: [[tokens, seconds], …]")

    def dense_s(self, tokens: Values) -> Values:
        return self._at("dense", tokens)

    def head_s(self, sequences: Values) -> Values:
        return np.where(sequences > 0, self._at("head", sequences), 0.0)

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        return self._at("decode_attention", kv_tokens)

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        return self._at("prefill_attention", chunk * (prior + chunk / 2))

    def _at(self, name: str, x: Values) -> Values:
        curve = self.curves[name]
        return np.zeros_like(x) if curve is None else np.maximum(curve(x), 0.0)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        read = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputFailure(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(read, dict):
        raise InputFailure("is no table of points", where=str(path), hint="dense: [[tokens, seconds], …]")
    for key in set(read) - set(X) - {"latency"}:
        raise InputFailure(f"has an unknown key '{key}'", where=str(path), hint=nearest(str(key), X))
    return read


def _curve(points: Any, name: str, where: str) -> Curve | None:
    if points is None:
        return None
    try:
        made = np.array(points, np.float64).reshape(-1, 2)
    except ValueError as error:
        raise InputFailure(f"'{name}' is no list of [x, seconds]", where=where) from error
    made = made[np.argsort(made[:, 0])]
    return Curve(made[:, 0], made[:, 1])
