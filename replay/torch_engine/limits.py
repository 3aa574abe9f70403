"""What one engine can hold and do in a step."""

from dataclasses import dataclass

from toolkit.errors import SettingFailure


@dataclass(frozen=True)
class Limits:
    """Under vLLM's names where it has them. `swap`: who loses its place keeps its KV on the host."""

    block_tokens: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int | None = None  # the model's own
    kv_blocks: int | None = None  # of each model; none: what the memory has
    prefix_caching: bool = True
    swap: bool = False
    prefill_first: bool = False

    def __post_init__(self) -> None:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise SettingFailure(
                f"{self.max_num_batched_tokens} tokens a step cannot serve max_num_seqs={self.max_num_seqs}",
                where="max_num_batched_tokens",
                hint="every running sequence needs one",
            )
