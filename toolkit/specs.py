"""YAML settings that know their lines: what a user wrote, checked against the class it is to become.

    node = load(Path("cluster.yaml"))     every value with the line it stands on
    cluster = build(node, Cluster)        keyword arguments of Cluster, recursively, by their annotations

A class is made from a mapping: unknown keys, missing keys, wrong types and a ValueError of the class itself become one
InputFailure that names the line. Annotations may be float, int, bool, str, Path (relative to the file), Literal,
X | Y, X | None, tuple[X, ...], tuple[X, Y], dict[str, X], Any and such classes. An argument `from_` is the key `from`,
and so with every word that Python keeps for itself.
"""

import inspect
import keyword
import types
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from toolkit.errors import InputFailure, nearest

T = TypeVar("T")
WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text", Path: "a path"}
PLAIN = yaml.constructor.SafeConstructor()


@dataclass(frozen=True)
class Node:
    """One value of a YAML file and its line. `value` is a dict[str, Node], a list[Node] or a scalar."""

    value: Any
    file: Path
    line: int  # from 1

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def get(self, key: str) -> "Node | None":
        """The value of `key` where this is a mapping that has it."""
        found: Node | None = self.value.get(key) if isinstance(self.value, dict) else None
        return found

    def plain(self) -> Any:
        """The value without lines."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def failure(self, what: str, hint: str | None = None) -> InputFailure:
        return InputFailure(what, where=self.where, hint=hint)


def load(path: Path) -> Node:
    """Read a YAML file of one document."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputFailure(f"cannot be read ({getattr(error, 'strerror', None) or error})", where=str(path)) from error
    return parse(text, path)


def parse(text: str, file: Path) -> Node:
    """Read YAML text as if it stood in `file`."""
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputFailure(f"is not YAML ({error.problem})", where=f"{file}:{line}") from error
    except yaml.YAMLError as error:
        raise InputFailure(f"is not YAML ({str(error).splitlines()[0]})", where=str(file)) from error
    if root is None:
        raise InputFailure("is empty", where=str(file))
    return _Reader(file).read(root)


def build(node: Node, wanted: Any) -> Any:
    """`node` as the annotation `wanted` says; raises InputFailure at the line that does not fit."""
    origin = get_origin(wanted)
    if wanted is Any or wanted is types.NoneType:
        return node.plain()
    if origin in (Union, types.UnionType):
        return _one_of(node, get_args(wanted))
    if origin is Literal:
        return _choice(node, get_args(wanted))
    if origin is tuple:
        return _items(node, get_args(wanted))
    if origin is dict:
        return {key: build(value, get_args(wanted)[1]) for key, value in _mapping(node).items()}
    if wanted in WORDS:
        return _scalar(node, wanted)
    return made(node, wanted)


def made(node: Node, cls: type[T], *, besides: Iterable[str] = ()) -> T:
    """An instance of `cls` from a mapping; keys in `besides` are someone else's."""
    given = _mapping(node)
    known = arguments(cls)
    for key, value in given.items():
        if key not in known and key not in besides:
            raise value.failure(f"no key '{key}' here", nearest(key, {*known, *besides}))
    for key, (_, required) in known.items():
        if required and key not in given:
            raise node.failure(
                f"'{key}' is missing", f"needed: {', '.join(k for k, (_, must) in known.items() if must)}"
            )
    values = {key: build(value, known[key][0]) for key, value in given.items() if key in known}
    try:
        return cls(**{f"{key}_" if keyword.iskeyword(key) else key: value for key, value in values.items()})
    except ValueError as error:
        raise node.failure(str(error)) from error


def arguments(cls: type) -> dict[str, tuple[Any, bool]]:
    """What `cls` is made from: name -> (annotation, whether it must be given)."""
    hints = get_type_hints(vars(cls).get("__init__", cls))
    parameters = inspect.signature(cls).parameters.values()
    return {_key(p.name): (hints.get(p.name, Any), p.default is p.empty) for p in parameters}


def _key(name: str) -> str:
    bare = name.removesuffix("_")
    return bare if keyword.iskeyword(bare) else name


def _mapping(node: Node) -> dict[str, Node]:
    if not isinstance(node.value, dict):
        raise node.failure(f"{_shown(node)} is not a mapping", "write key: value lines")
    return node.value


def _items(node: Node, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(node.value, list):
        raise node.failure(f"{_shown(node)} is not a list", "write [a, b, …]")
    if kinds[-1] is Ellipsis:
        return tuple(build(item, kinds[0]) for item in node.value)
    if len(node.value) != len(kinds):
        raise node.failure(f"has {len(node.value)} items, not {len(kinds)}")
    return tuple(build(item, kind) for item, kind in zip(node.value, kinds, strict=True))


def _choice(node: Node, choices: tuple[Any, ...]) -> Any:
    if node.value not in choices:
        raise node.failure(f"{_shown(node)} is not a choice here", nearest(str(node.value), map(str, choices)))
    return node.value


def _one_of(node: Node, kinds: tuple[Any, ...]) -> Any:
    """The first kind that has the node's form: null, mapping, list, or the scalar type."""
    for kind in kinds:
        if _has_form(node.value, kind):
            return build(node, kind)
    told = (kind for kind in kinds if kind is not types.NoneType)
    words = (WORDS.get(kind) or ("a list" if get_origin(kind) is tuple else "a mapping") for kind in told)
    raise node.failure(f"{_shown(node)} is not {' or '.join(dict.fromkeys(words))}")


def _has_form(value: Any, kind: Any) -> bool:
    if kind is types.NoneType or value is None:
        return value is None and kind is types.NoneType
    if isinstance(value, dict):
        return kind not in WORDS and get_origin(kind) not in (tuple, Literal)
    if isinstance(value, list):
        return get_origin(kind) is tuple
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    return kind in WORDS and ((kind is not Path and _fits(value, kind)) or (kind is Path and isinstance(value, str)))


def _scalar(node: Node, wanted: Any) -> Any:
    value = node.value
    if wanted is Path and isinstance(value, str):
        return node.file.parent / value
    if not _fits(value, wanted):
        raise node.failure(f"{_shown(node)} is not {WORDS[wanted]}")
    return float(value) if wanted is float else value


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, bool) and wanted is bool
    if wanted is float:
        return isinstance(value, int | float) and value == value
    return isinstance(value, wanted)


def _shown(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    return "a list" if isinstance(node.value, list) else "nothing" if node.value is None else f"'{node.value}'"


class _Reader:
    """YAML's own nodes to ours; an alias is read once, and may not hold itself."""

    def __init__(self, file: Path):
        self.file = file
        self.done: dict[int, Node] = {}
        self.open: set[int] = set()

    def read(self, node: Any) -> Node:
        if id(node) in self.done:
            return self.done[id(node)]
        line = node.start_mark.line + 1
        if id(node) in self.open:
            raise InputFailure("an alias holds itself", where=f"{self.file}:{line}")
        self.open.add(id(node))
        found = self.done[id(node)] = Node(self._value(node), self.file, line)
        self.open.remove(id(node))
        return found

    def _value(self, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._pairs(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item) for item in node.value]
        try:
            return _number(node, _undated(node, PLAIN.construct_object(node)))
        except (yaml.YAMLError, ValueError) as error:
            raise InputFailure(
                f"'{node.value}' cannot be read", where=f"{self.file}:{node.start_mark.line + 1}"
            ) from error

    def _pairs(self, node: Any) -> dict[str, Node]:
        pairs: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InputFailure("a key is no text", where=f"{self.file}:{key.start_mark.line + 1}")
            if key.value in pairs:
                raise InputFailure(f"'{key.value}' stands here twice", where=f"{self.file}:{key.start_mark.line + 1}")
            pairs[key.value] = self.read(value)
        return pairs


def _undated(node: Any, value: Any) -> Any:
    """YAML 1.1 takes 2026-01-31 for a date, and drops how it was written; whoever wants one reads the text."""
    return node.value if isinstance(value, date) else value


def _number(node: Any, value: Any) -> Any:
    """YAML 1.1 takes 1e6 for text; people do not."""
    if isinstance(value, str) and not node.style:
        try:
            return float(value) if "e" in value.lower() else value
        except ValueError:
            return value
    return value
