"""Step times as an affine function whose five coefficients were fitted to a run."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Fit:
    """Step times fitted to a run: a + b·decoding sequences + c·KV tokens read + d·prefill tokens + e·attention pairs.

    Written by `trace calibrate --run`; all in seconds.
    """

    def __init__(
        self,
        step_s: float = 0.0,
        sequence_s: float = 0.0,
        kv_token_s: float = 0.0,
        prefill_token_s: float = 0.0,
        pair_s: float = 0.0,
    ):
        self.step_s, self.sequence_s, self.kv_token_s = step_s, sequence_s, kv_token_s
        self.prefill_token_s, self.pair_s = prefill_token_s, pair_s

    def dense_s(self, tokens: Values) -> Values:
        return np.full_like(tokens, self.step_s)

    def head_s(self, sequences: Values) -> Values:
        return np.zeros_like(sequences)

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        return self.sequence_s * sequences + self.kv_token_s * kv_tokens

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        return self.prefill_token_s * chunk + self.pair_s * chunk * (prior + chunk / 2)
