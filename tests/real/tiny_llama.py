"""A Llama of random weights with a tokenizer of its own as a folder of Hugging Face's, 0.4 MB. Needs transformers."""

import itertools
import json
from pathlib import Path

SYLLABLES = ["ka", "to", "mi", "re", "lo", "sa", "nu", "ve", "di", "po", "gra", "stu", "ling", "er", "ion"]
SPECIAL = ["<|bos|>", "<|eos|>", "<|pad|>"]
CHAT = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
VOCABULARY, WIDTH, LAYERS, CONTEXT = 1024, 64, 2, 2048


def write(folder: Path) -> None:
    """Its tokenizer knows 1,024 tokens, so that prompts can be token ids of three digits."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer(folder)
    shape = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    tokens = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    torch.manual_seed(0)
    config = LlamaConfig(**shape, **heads, **tokens, max_position_embeddings=CONTEXT, tie_word_embeddings=True)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    words = ["".join(parts) for parts in itertools.product(SYLLABLES, SYLLABLES)]
    words += ["".join(parts) for parts in itertools.product(SYLLABLES, ["ka", "er"], SYLLABLES[:8], ["", "s"])]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [" ".join(words)] * 3,
        trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet),
    )
    made.save(str(folder / "tokenizer.json"))
    bos, eos, pad = SPECIAL
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos, "pad_token": pad}
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "chat_template": CHAT}))
