"""What counts as a token here: an id, or a word of a text. There is no model, so there is no better vocabulary."""

from typing import Any


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
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError("each message must have a role and a content")
        found += [f"<{message.get('role')}>", *message["content"].split()]
    return [*found, "<assistant>"]


def block_hashes(tokens: list[Any], block_tokens: int) -> list[int]:
    """A hash for each full block that stands for it and everything before it."""
    hashes, before = [], 0
    for start in range(0, len(tokens) - block_tokens + 1, block_tokens):
        before = hash((before, *tokens[start : start + block_tokens]))
        hashes.append(before)
    return hashes
