"""Faults on purpose: what a server may do to a request, and how often."""

import random
from dataclasses import dataclass

from toolkit.errors import SettingFailure, nearest

# How each shows to the client.
KINDS = {
    "reset": "the connection is reset before the reply",
    "cut": "the connection is closed within the reply",
    "stall": "the reply stops and never goes on",
    "malformed": "an event of the reply is no JSON",
    "error": "the reply has an error where tokens should come",
    "usage": "the usage counts half the tokens",
    "type": "the reply is an HTML page",
    "busy": "429 with Retry-After",
    "unavailable": "503 with Retry-After",
    "failure": "500",
}


@dataclass
class Faults:
    """Draws a fault, or none, for each request."""

    chances: dict[str, float]
    rng: random.Random

    def draw(self) -> str | None:
        at = self.rng.random()
        for kind, chance in self.chances.items():
            if at < chance:
                return kind
            at -= chance
        return None


def faults(text: str, seed: int) -> Faults:
    """Read `reset:0.01,stall:0.002`."""
    chances: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        kind, _, chance = (part.strip() for part in item.partition(":"))
        if kind not in KINDS:
            raise SettingFailure(f"no fault '{kind}'", where="--fault", hint=nearest(kind, KINDS))
        try:
            chances[kind] = float(chance)
        except ValueError as error:
            raise SettingFailure(f"'{item}' is not KIND:CHANCE", where="--fault", hint="as in reset:0.01") from error
    if any(not 0 <= chance <= 1 for chance in chances.values()) or sum(chances.values()) > 1:
        raise SettingFailure("chances must be from 0 to 1, and 1 in all at most", where="--fault")
    return Faults(chances, random.Random(seed))
