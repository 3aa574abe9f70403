"""What an endpoint can do, found by asking it: engines ignore, refuse or honour different fields.

An engine that ignores a field takes any value of it, one that knows the field refuses a value of the wrong type.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from replay.http import asking, replies
from replay.http.bodies import PATHS, Recipe
from replay.http.endpoint import Endpoint, redacted, secrets
from replay.http.exchange import Exchange
from replay.http.pool import Dial
from replay.http.prompts import Units
from replay.http.sse import Reply
from toolkit.errors import SettingFailure, printable

RANGES = ((1000, 9999), (100, 999), (100, 350), (10, 99))  # of token ids, all with as many digits
ID_UNITS, SHORT, LONG = 24, 32, 256  # units of the prompts it asks with
OUTPUT = 4
TRIES, PAUSE_S = 4, 0.1  # of a question that got no answer, such as a reset connection
BUSY = (408, 425, 429)
GONE = (502, 503, 504)  # a gateway's words for an engine that is not there
HONOURED, ACCEPTED, IGNORED, REFUSED, UNKNOWN = "honoured", "accepted", "ignored", "refused", "unknown"


@dataclass(frozen=True)
class Found:
    """What the probe found: what requests are made of, and what is said of it."""

    recipe: Recipe
    capabilities: dict[str, Any] = field(default_factory=dict)


def served_models(target: Endpoint, dial: Dial, wait_s: float) -> list[dict[str, Any]]:
    """What `/v1/models` lists; nothing where the endpoint has no such list. SettingFailure where it refuses."""
    exchange = _persistently(
        lambda: asking.get(target, dial, "/v1/models", wait_s), lambda found: not _of_the_moment(found)
    )
    if (hint := _to_do(exchange)) is not None:
        what = replies.settle(exchange).error or "refused"
        raise SettingFailure(redacted(what, secrets()) or "", where=target.url, hint=hint)
    listed = asking.parsed(exchange)
    data = listed.get("data") if isinstance(listed, Mapping) else None
    return [m for m in data if isinstance(m, dict) and "id" in m] if isinstance(data, list) else []


def _to_do(exchange: Exchange) -> str | None:
    """What to do about an endpoint that refuses even to list its models; null where it does not."""
    if exchange.failure is not None:
        return "is it http or https? --ca names who vouches for it"
    if exchange.redirect:
        return "give --url the address that serves"
    if exchange.status_code in (401, 403):
        return "see TRACE_API_KEY, TRACE_HEADERS"
    return "is there an engine behind it?" if exchange.status_code in GONE else None


class Probe:
    """Asks one endpoint for one served model, a handful of short requests in all."""

    def __init__(self, target: Endpoint, dial: Dial, model: str, wait_s: float):
        self._target, self._dial, self._model, self._wait_s = target, dial, model, wait_s
        self._words = Units()

    def run(self, start: Recipe, api: str | None) -> Found:
        """What it can do, beginning from `start`; SettingFailure when it answers no request at all."""
        recipe = self._base(start, [api] if api else list(PATHS))
        said: dict[str, Any] = {"api": recipe.api, "usage": HONOURED if recipe.usage else REFUSED}
        for name in ("ignore_eos", "min_tokens"):
            said[name] = self._forcing(recipe, name)
        recipe = replace(recipe, **{n: said[n] != REFUSED for n in ("ignore_eos", "min_tokens")})
        said["priority"] = self._priority(recipe)
        recipe = self._prompts(recipe, said)
        return Found(recipe, said)

    def _base(self, start: Recipe, apis: list[str]) -> Recipe:
        """The first way to ask that is answered, with as many of the usual fields as it takes."""
        errors = []
        for api, (user, usage) in product(apis, ((True, True), (False, True), (False, False))):
            recipe = replace(start, api=api, user=user, usage=usage)
            reply = self._ask(recipe, {"max_tokens": OUTPUT})
            if reply.status == "ok":
                return replace(recipe, usage=usage and reply.output_tokens is not None)
            errors.append(f"{api}: {reply.error}")
            if reply.status == "timeout":
                break  # whatever else it is asked will take as long
        raise SettingFailure(f"answers no request ({errors[0]})", where=self._target.url)

    def _forcing(self, recipe: Recipe, name: str) -> str:
        """Whether a field that forces the length is taken: with a value, and with one of the wrong type."""
        value: Any = True if name == "ignore_eos" else OUTPUT
        reply = self._ask(recipe, {"max_tokens": OUTPUT, name: value})
        if reply.status != "ok":
            return REFUSED
        if reply.output_tokens is not None and reply.output_tokens != OUTPUT:
            return IGNORED
        return ACCEPTED if self._refuses(recipe, name, "wrong") else IGNORED

    def _priority(self, recipe: Recipe) -> str:
        if self._ask(recipe, {"max_tokens": 1, "priority": 1}).status != "ok":
            return REFUSED
        return ACCEPTED if self._refuses(recipe, "priority", "wrong") else IGNORED

    def _refuses(self, recipe: Recipe, name: str, wrong: Any) -> bool:
        return self._ask(recipe, {"max_tokens": 1, name: wrong}).status != "ok"

    def _prompts(self, recipe: Recipe, said: dict[str, Any]) -> Recipe:
        """Token ids where they are taken and counted as such, else words whose tokens are measured."""
        if recipe.api == "completions" and recipe.usage:
            for first, last in RANGES:
                units = Units(first, last)
                ids = [int(i) for i in units.run(1, ID_UNITS - 1).split(b",")[:-1]] + [last]
                reply = self._ask(recipe, {"max_tokens": 1}, prompt=ids)
                if reply.status == "ok" and reply.prompt_tokens in (ID_UNITS, ID_UNITS + 1):
                    said["prompts"] = f"token ids {first} to {last}"
                    overhead = float(reply.prompt_tokens - ID_UNITS)
                    return replace(recipe, first_id=first, last_id=last, overhead_tokens=overhead)
        return self._calibrated(recipe, said)

    def _calibrated(self, recipe: Recipe, said: dict[str, Any]) -> Recipe:
        words = Units(words=tuple(recipe.words))
        short, long = (self._ask(recipe, {"max_tokens": 1}, prompt=words.run(n, n)[1:].decode()) for n in (SHORT, LONG))
        if short.prompt_tokens is None or long.prompt_tokens is None or long.prompt_tokens <= short.prompt_tokens:
            said["prompts"] = "words, taken as a token each: the endpoint does not count them"
            return recipe
        per_unit = (long.prompt_tokens - short.prompt_tokens) / (LONG - SHORT)
        overhead = short.prompt_tokens - per_unit * SHORT
        if recipe.words and per_unit != 1:
            what = f"its words of one token are {per_unit:.4g} tokens each as {self._target.url} counts them"
            raise SettingFailure(what, where="--tokenizer", hint="name the served model's own")
        said["prompts"] = f"words, {per_unit:.4g} tokens each and {overhead:.4g} more a prompt, as usage counts them"
        return replace(recipe, tokens_per_unit=per_unit, overhead_tokens=overhead)

    def _ask(self, recipe: Recipe, settings: dict[str, Any], prompt: Any = "once more with feeling") -> Reply:
        body: dict[str, Any] = {"model": self._model, **recipe.extra, **settings, "stream": True}
        body |= {"prompt": prompt} if recipe.api == "completions" else _message(prompt)
        if recipe.usage:
            body["stream_options"] = {"include_usage": True}
        if recipe.user:
            body["user"] = "probe"
        path = PATHS[recipe.api]
        exchange = _persistently(lambda: asking.post(self._target, self._dial, path, body, self._wait_s), _is_answer)
        reply = replies.settle(exchange)
        reply.error = redacted(reply.error, secrets())
        return reply


def _persistently(ask: Callable[[], Exchange], answers: Callable[[Exchange], bool]) -> Exchange:
    """What is said in the end: asked again, a few times, until it `answers`."""
    for _ in range(TRIES - 1):
        if answers(found := ask()):
            return found
        time.sleep(PAUSE_S)
    return ask()


def _of_the_moment(exchange: Exchange) -> bool:
    """Whether it tells of the moment it was asked in; a timeout takes too long to ask again."""
    if exchange.failure is not None:
        return exchange.failure[0] != "timeout"
    return exchange.status_code >= 500 or exchange.status_code in BUSY


def _is_answer(exchange: Exchange) -> bool:
    """Whether it tells what the endpoint makes of a question, and not of the moment it was asked in.

    Some refuse with a 500 what others refuse with a 400: who says so whenever asked, means it.
    """
    if replies.settle(exchange).status == "ok":
        return True
    return not _of_the_moment(exchange) and (exchange.failure is not None or exchange.status_code >= 400)


def _message(prompt: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}]}


def limits(models: list[dict[str, Any]], model: str) -> dict[str, Any]:
    """What the list of models says of one: its context length and who serves it."""
    entry = next((m for m in models if m["id"] == model), {})
    meta = entry["meta"] if isinstance(entry.get("meta"), dict) else {}
    length = entry.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train")
    owner = entry.get("owned_by")
    return {
        "max_model_len": length if isinstance(length, int) else None,
        "owned_by": None if owner is None else printable(redacted(str(owner), secrets()) or "")[:80],
    }


def notes(capabilities: Mapping[str, Mapping[str, Any]], *, send_priority: bool) -> list[str]:
    """What a reader of the numbers must know of what the endpoints cannot do."""
    found = []
    for can in capabilities.values():
        where = can["url"]
        if send_priority and can["priority"] in (IGNORED, REFUSED):
            found.append(f"priority is {can['priority']} by {where}")
        if can["usage"] != HONOURED:
            found.append(f"{where} counts no tokens: outputs have no length, prompts the traced one")
        if can["ignore_eos"] in (IGNORED, REFUSED) and can["min_tokens"] in (IGNORED, REFUSED):
            found.append(f"{where} may end outputs early: ignore_eos and min_tokens are not honoured")
    return found
