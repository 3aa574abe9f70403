"""What a client asked for, checked as vLLM checks it."""

import random
from dataclasses import dataclass
from typing import Any

from replay.serve.tokens import chat_tokens, tokens_of

DEFAULT_TOKENS = 16  # of completions without max_tokens
MEAN_TOKENS = 256  # after which the model would end by itself, exponentially distributed
KINDS: dict[str, type | tuple[type, ...]] = {
    "max_tokens": int,
    "max_completion_tokens": int,
    "min_tokens": int,
    "priority": int,
    "ignore_eos": bool,
    "stream": bool,
    "stream_options": dict,
    "model": str,
}


class Refused(Exception):
    """The request is answered with an error: (status code, message)."""


@dataclass(frozen=True)
class Asked:
    """A request that will be served."""

    tokens: list[Any]
    output: int
    priority: int
    stream: bool
    usage: bool


def read(body: Any, *, chat: bool, model: str, longest: int, rng: random.Random) -> Asked:
    """Check a body; Refused where it will not do."""
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object")
    for name, kind in KINDS.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise Refused(400, f"{name}: Input should be a valid {getattr(kind, '__name__', kind)}")
    if body.get("model") not in (None, model):
        raise Refused(404, f"The model `{body['model']}` does not exist.")
    try:
        tokens = chat_tokens(body.get("messages")) if chat else tokens_of(body.get("prompt"))
    except ValueError as error:
        raise Refused(400, str(error)) from error
    return Asked(
        tokens,
        _output(body, len(tokens), chat=chat, longest=longest, rng=rng),
        body.get("priority") or 0,
        bool(body.get("stream")),
        bool((body.get("stream_options") or {}).get("include_usage")),
    )


def _output(body: dict[str, Any], prompt: int, *, chat: bool, longest: int, rng: random.Random) -> int:
    """Tokens it will produce: as many as allowed where the end is ignored, else until the model ends by itself."""
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most is None:
        most = longest - prompt if chat else DEFAULT_TOKENS
    if not prompt:
        raise Refused(400, "the prompt is empty")
    if most < 1:
        raise Refused(400, f"max_tokens must be at least 1, got {most}.")
    if prompt + most > longest:
        what = f"This model's maximum context length is {longest} tokens. However, you requested {prompt + most} tokens"
        raise Refused(400, f"{what} ({prompt} in the prompt, {most} in the completion).")
    if body.get("ignore_eos"):
        return int(most)
    natural = 1 + int(rng.expovariate(1 / MEAN_TOKENS))
    return int(min(most, max(natural, body.get("min_tokens") or 1)))
