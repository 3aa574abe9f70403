"""What a file looks like from its first bytes: the key paths of the JSON in it, though it may be cut off anywhere."""

import re
from functools import lru_cache

NUMBERS = rb"\[[-+0-9.eE,\s]*(?:\]|\Z)"  # a list of numbers holds no key: skipped whole
TEXT = rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'  # a text may be cut off by the end, even behind a backslash
TOKEN = re.compile(NUMBERS + b"|" + TEXT + rb"|[{}\[\]:,]", re.DOTALL)
LOOKED_AT = 1 << 16


@lru_cache(maxsize=8)
def outline(head: bytes) -> frozenset[str]:
    """The paths of all keys in `head`, lists passed through, as `result.responses.adapter_dir`; empty if not objects.

    A head that ends in the middle of a value still gives every key before that.
    """
    text = head[:LOOKED_AT].removeprefix(b"\xef\xbb\xbf").lstrip()
    return frozenset(_paths(text)) if text.startswith(b"{") else frozenset()


def _paths(text: bytes) -> set[str]:
    found: set[str] = set()
    stack: list[str] = []  # the path of each container that is open
    key, text_before = "", b""
    for match in TOKEN.finditer(text):
        token = match.group()
        if token == b":" and text_before:
            name = text_before.decode("utf-8", "replace")
            key = f"{stack[-1]}.{name}" if stack and stack[-1] else name
            found.add(key)
        elif token in (b"{", b"["):
            stack.append(key)
        elif token in (b"}", b"]") and stack:
            key = stack.pop()
        elif token == b",":
            key = stack[-1] if stack else ""
        text_before = token[1:-1] if token.startswith(b'"') else b""
    return found
