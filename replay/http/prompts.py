"""Prompts of a wanted length, made by cutting bytes: every token is a unit of the same number of bytes.

A unit is a token id ("4711,") or a short common word (" time"), so a prompt of n tokens is a cut of n units from a
pool. It begins with units that spell out a number, so that no two prompts begin alike unless they are meant to: a
request's own number, or for a prefix block the block's hash. The same hash gives the same tokens, in every run.
"""

from dataclasses import dataclass
from functools import cached_property

POOL_UNITS = 16_384
MASK = 2**64 - 1
WORDS = (
    "able also area army away back ball band bank base bear beat been best bill blue book both bring call came camp "
    "card care case cash cast cell city club cold come cook cool copy core cost dark data date days dead deal dear "
    "deep door down draw drop each earn ease east easy edge else even ever face fact fair fall farm fast fear feel "
    "feet file fill film find fine fire firm fish five flat flow food foot form four free from full fund game gave "
    "girl give glad goal goes gold gone good grew grow hair half hall hand hard have head hear heat held help here "
    "high hill hold home hope hour huge idea into item join jump just keep kept kind king knew know land last late "
    "lead left less life like line list live long look lord lose loss lost love made main make many mark meet mind "
    "mine miss more most move much must name near neck need news next nice note once only open over page paid pain "
    "part past path plan play plus pool poor port pull push race rain rate read real rest rich ride ring rise risk "
    "road rock role roll room rule safe said sale same save seat seek seem seen self sell send sent ship shop show "
    "side sign site size skin slow snow soft soil sold some song soon sort star stay step stop such sure take talk "
    "task team tell term test text than that them then they thin this thus time town tree trip true turn type unit "
    "upon used user view vote wait walk wall want warm wash wave week well went were west what when whom wide wife "
    "wild will wind wine wing wish with wood word work yard yeah year"
)


@dataclass(frozen=True)
class Units:
    """An alphabet of units, all of the same width: token ids from `first` to `last`, else `words`, else common ones."""

    first: int | None = None
    last: int | None = None
    words: tuple[str, ...] = ()

    @cached_property
    def alphabet(self) -> list[bytes]:
        if self.first is None or self.last is None:
            return [b" " + word.encode() for word in self.words or (w for w in WORDS.split() if len(w) == 4)]
        return [b"%d," % n for n in range(self.first, self.last + 1)]

    @cached_property
    def width(self) -> int:
        return len(self.alphabet[0])

    @cached_property
    def digits(self) -> list[bytes]:
        """The units that spell out a byte: one each, or two where there are too few for that."""
        if len(self.alphabet) >= 256:
            return self.alphabet[:256]
        return [self.alphabet[n >> 4] + self.alphabet[n & 15] for n in range(256)]

    @cached_property
    def spelt(self) -> int:
        """Units that spell out a 64-bit number."""
        return 8 * len(self.digits[0]) // self.width

    @cached_property
    def pool(self) -> bytes:
        """Units in a fixed order without a short period."""
        return b"".join(self.alphabet[mixed(n) % len(self.alphabet)] for n in range(POOL_UNITS))

    def spell(self, number: int) -> bytes:
        """`number` (64 bits) in units."""
        return b"".join([self.digits[byte] for byte in number.to_bytes(8, "little")])

    def run(self, number: int, units: int) -> bytes:
        """`units` units that begin with `number` spelt out, and are the same for the same number."""
        key = mixed(number)
        head = self.spell(key)[: units * self.width]
        left = units - self.spelt
        if left <= 0:
            return head
        start = key % POOL_UNITS
        body = self.pool[start * self.width : (start + left) * self.width]
        while len(body) < left * self.width:
            body += self.pool[: left * self.width - len(body)]
        return head + body

    def prompt(self, number: int, units: int, blocks: list[int], block_units: int) -> bytes:
        """A prompt of `units` units: its prefix blocks, then what only `number` has."""
        shared = b"".join(self.run(block, block_units) for block in blocks[: units // block_units]) if blocks else b""
        own = units - len(shared) // self.width
        if own and len(blocks) > units // block_units:  # the last block is only partly filled, and shared too
            return shared + self.run(blocks[units // block_units], block_units)[: own * self.width]
        return shared + self.run(number, own)


def mixed(number: int) -> int:
    """A 64-bit number that looks random, one to one with `number` (the finaliser of SplitMix64)."""
    z = (number + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)
