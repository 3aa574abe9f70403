"""Puts the scheduler inside the engine in charge before a replay, and asks it afterwards what it did."""

from typing import Any

import polars as pl

from replay.http import asking, replies
from replay.http.bodies import PATHS, Recipe
from replay.http.endpoint import Endpoint, redacted, secrets
from replay.http.pool import Dial
from replay.vllm import hints
from toolkit.errors import SettingFailure

SERVE = "serve with --scheduler-cls replay.vllm.scheduler.TraceScheduler, see docs/replay-real.md"
ANSWER = "kv_transfer_params"  # where vLLM returns what a scheduler says


def announce(target: Endpoint, dial: Dial, model: str, recipe: Recipe, said: dict[str, Any]) -> None:
    """Send an announcement; SettingFailure where nobody takes it, or where it is refused."""
    answer, error = _asked(target, dial, model, recipe, said)
    if error or hints.ERROR in answer:
        raise SettingFailure(f"{target.url}: {error or answer[hints.ERROR]}", where="--send-hints")
    if hints.SCHEDULER not in answer:
        raise SettingFailure(f"no scheduler of ours is inside {target.url}", where="--send-hints", hint=SERVE)


def ask(target: Endpoint, dial: Dial, model: str, recipe: Recipe, run: int) -> pl.DataFrame:
    """When the engine first ran each request of the run that it ended, and how often it took its place."""
    answer, _ = _asked(target, dial, model, recipe, {hints.RUN: run, hints.ASK: 1})
    return hints.starts_of(answer) if hints.ASK in answer else pl.DataFrame(schema=hints.STARTS)


def _asked(
    target: Endpoint, dial: Dial, model: str, recipe: Recipe, said: dict[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """What the scheduler answers, and an error where the engine does."""
    body: dict[str, Any] = {"model": model, "max_tokens": 1, **recipe.extra, hints.FIELD: said}
    body |= {"prompt": "hello"} if recipe.api == "completions" else {"messages": [{"role": "user", "content": "hello"}]}
    exchange = asking.post(target, dial, PATHS[recipe.api], body)
    if exchange.failure is not None or exchange.status_code != 200:
        return {}, redacted(replies.settle(exchange).error, secrets())
    found = asking.parsed(exchange)
    answer = found.get(ANSWER) if isinstance(found, dict) else None
    return answer if isinstance(answer, dict) else {}, None
