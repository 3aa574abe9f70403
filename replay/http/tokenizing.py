"""Words that the served model's tokenizer takes as one token each, wherever they stand: n of them are n tokens.

They make prompts of an exact length for endpoints that take text alone. Needs the package `tokenizers`, once before
anything is sent; the sending processes need only the words.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from replay.http.prompts import WORDS
from toolkit.errors import SettingFailure

WORD = re.compile("[Ġ▁]?([a-z]{3,10})")  # as byte-level and sentence-piece vocabularies write one
FEWEST, MOST = 16, 512  # words: two spell out a byte of a number; and more would not make prompts more different
WHERE = "--tokenizer"


def one_token_words(path: Path) -> list[str]:
    """As many such words as there are, up to MOST, all of one length. SettingFailure where there are too few."""
    tokenizer = _read(path)
    by_length: dict[int, list[str]] = defaultdict(list)
    for word in _alone(tokenizer, _candidates(tokenizer)):
        by_length[len(word)].append(word)
    words = max(by_length.values(), key=lambda found: (len(found[:MOST]), -len(found[0])), default=[])[:MOST]
    if len(words) < FEWEST:
        raise SettingFailure(f"{path} has {len(words)} words of one token, and {FEWEST} are needed", where=WHERE)
    mixed = [random.Random(0).choice(words) for _ in range(2_000)]
    if _count(tokenizer, " ".join(mixed)) != len(mixed):
        raise SettingFailure(f"{path} joins words to other tokens", where=WHERE, hint="leave it out")
    return words


def _read(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        hint = "pip install 'trace-toolkit[tokenizers]'"
        raise SettingFailure("needs the package tokenizers", where=WHERE, hint=hint) from error
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise SettingFailure(f"{file} is not there", where=WHERE, hint="name the served model's tokenizer.json")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises nothing more exact
        raise SettingFailure(f"{file} is no tokenizer ({error})", where=WHERE) from error


def _candidates(tokenizer: Any) -> list[str]:
    """Common words first, then the vocabulary's."""
    found = (match[1] for token in sorted(tokenizer.get_vocab()) if (match := WORD.fullmatch(token)))
    return list(dict.fromkeys([*WORDS.split(), *found]))


def _alone(tokenizer: Any, words: list[str]) -> Iterable[str]:
    """Those that are one token at the start of a text, and one after another word."""
    for word in words:
        if _count(tokenizer, word) == 1 and _count(tokenizer, f"{word} {word}") == 2:
            yield word


def _count(tokenizer: Any, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)
