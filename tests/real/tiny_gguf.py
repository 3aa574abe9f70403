"""A Llama of random weights with a vocabulary of its own as a GGUF file, 0.6 MB. Needs `gguf` and NumPy."""

import string
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_WIDTH, HIDDEN = 64, 2, 2, 1, 32, 192
SPECIAL = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{m['role']}}\n{{m['content']}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def bytes_as_text() -> list[str]:
    """GPT-2's alphabet: each byte as a printable character."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    known = {b: chr(b) for b in plain} | {b: chr(256 + n) for n, b in enumerate(others)}
    return [known[b] for b in sorted(known)]


def write(path: Path, context: int = 2048, *, broken: bool = False) -> None:
    """Greedy decoding picks what is printable; or, `broken`, only bytes that make no character by themselves."""
    pairs = [a + b for a in string.ascii_lowercase for b in "aeiou"]
    tokens = [*bytes_as_text(), *pairs, *SPECIAL]
    writer = gguf.GGUFWriter(str(path), "llama")
    _describe(writer, tokens, [f"{a} {b}" for a, b in pairs], context)
    for name, values in _weights(tokens, broken).items():
        writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, tokens: list[str], merges: list[str], context: int) -> None:
    for name, value in {
        "name": "tiny-random", "context_length": context, "embedding_length": WIDTH, "block_count": LAYERS,
        "feed_forward_length": HIDDEN, "head_count": HEADS, "head_count_kv": KV_HEADS, "key_length": HEAD_WIDTH,
        "value_length": HEAD_WIDTH, "rope_dimension_count": HEAD_WIDTH, "layer_norm_rms_eps": 1e-5,
        "vocab_size": len(tokens), "file_type": gguf.LlamaFileType.ALL_F32, "tokenizer_model": "gpt2",
        "tokenizer_pre": "gpt-2", "token_list": tokens, "token_merges": merges, "bos_token_id": len(tokens) - 4,
        "eos_token_id": len(tokens) - 3, "add_bos_token": False, "chat_template": CHAT,
    }.items():  # fmt: skip
        getattr(writer, f"add_{name}")(value)
    control = len(tokens) - len(SPECIAL)
    kinds = [gguf.TokenType.NORMAL if n < control else gguf.TokenType.CONTROL for n in range(len(tokens))]
    writer.add_token_types(kinds)


def _weights(tokens: list[str], broken: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 0.05).astype(np.float32)

    ones, output = np.ones(WIDTH, np.float32), random(len(tokens), WIDTH)
    shows = [len(t) <= 2 and t.isascii() and t.isprintable() for t in tokens]
    leads = [n in range(0xC2, 0xF0) for n in range(len(tokens))]  # of the characters that take two bytes or more
    output[~np.array(leads if broken else shows)] = 0
    weights = {"token_embd": random(len(tokens), WIDTH), "output_norm": ones, "output": output}
    for n in range(LAYERS):
        shapes = {"attn_q": (HEADS * HEAD_WIDTH, WIDTH), "attn_k": (KV_HEADS * HEAD_WIDTH, WIDTH),
                  "attn_v": (KV_HEADS * HEAD_WIDTH, WIDTH), "attn_output": (WIDTH, HEADS * HEAD_WIDTH),
                  "ffn_gate": (HIDDEN, WIDTH), "ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN)}  # fmt: skip
        weights |= {f"blk.{n}.{name}": random(*shape) for name, shape in shapes.items()}
        weights |= {f"blk.{n}.attn_norm": ones, f"blk.{n}.ffn_norm": ones}
    return weights
