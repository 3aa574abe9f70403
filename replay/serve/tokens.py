"""What counts as a token here: an id, or a word of a text. There is no model, so there is no better vocabulary."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.serve.chunks import WORDS


def tokens_of(prompt: Any) -> list[Any]:
    """A prompt's tokens: token ids as they are, a text's words. ValueError for anything else."""
    if isinstance(prompt, str):
        return prompt.split()
    if isinstance(prompt, list) and all(isinstance(t, int) and not isinstance(t, bool) and t >= 0 for t in prompt):
        return prompt
    if isinstance(prompt, list) and len(prompt) == 1:
        return tokens_of(prompt[0])
    raise ValueError("prompt must be a text or a list of token ids")


def chat_tokens(messages: Any) -> list[Any]:
    """The tokens of a conversation: a mark before each message, its words, and a mark for the answer."""
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages must be a list of messages")
    found: list[Any] = []
    for message in messages:
        if not isinstance(message, dict):
            raise ValueError("each message must have a role and a content")
        found += [f"<{message.get('role')}>", *_words(message.get("content"))]
    return [*found, "<assistant>"]


def _words(content: Any) -> list[str]:
    """The words of a message, which is a text or, as many clients send it, a list of parts with texts."""
    if isinstance(content, str):
        return content.split()
    parts: list[Any] = content if isinstance(content, list) else [None]
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        raise ValueError("each message must have a role and a content: a text, or parts with a text each")
    return [word for part in parts for word in part["text"].split()]


def numbered(tokens: list[Any], output: int) -> NDArray[np.int64]:
    """A number for each token of a prompt, and of the reply that follows it: equal tokens have equal ones."""
    reply = np.resize([hash(word.strip()) for word in WORDS], output)
    return np.concatenate([np.array([hash(token) for token in tokens], np.int64), reply])
