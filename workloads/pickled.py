"""Reads one kind of record from a pickle without running it: a machine with no instruction that calls anything.

A pickle is a program. Of its instructions only those are carried out that push a constant, fill a list, tuple or
dict, remember and recall a value, and make the one permitted record, which here is a dict of its attributes. Any
other instruction, or any other class, is refused; nothing is imported, called or allocated on the file's word.
"""

import pickletools
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG",
    "BINFLOAT", "FLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE",
}  # fmt: skip
IGNORED = {"PROTO", "FRAME"}
SCALARS = (str, int, float)
MOST_NESTED = 8


class RefusedError(Exception):
    """The pickle does something that the record does not need, or is no whole pickle."""


@dataclass
class Made:
    """A record under construction: the attributes of one object of the permitted class."""

    attributes: dict[str, Any] = field(default_factory=dict)


class _Class:
    """Stands for the permitted class on the machine's stack."""


_MARK = object()
_CLASS = _Class()


def read(content: bytes, permitted: tuple[str, str]) -> Any:
    """The pickled value, with each object of class `permitted` (module, name) as a Made; raises RefusedError."""
    machine = _Machine(permitted)
    try:
        for opcode, argument, _ in pickletools.genops(BytesIO(content)):
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise RefusedError(f"it is not a whole pickle ({type(error).__name__})") from None
    raise RefusedError("it is cut off")


class _Machine:
    def __init__(self, permitted: tuple[str, str]):
        self.permitted = permitted
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.marks = 0

    def step(self, name: str, argument: Any) -> None:
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in VALUES:
            self.stack.append(argument)
        elif name not in IGNORED:
            instruction = getattr(self, f"_{name.lower()}", None)
            if instruction is None:
                raise RefusedError(f"the pickle instruction {name} is not allowed")
            instruction(argument)

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise RefusedError("it is not a whole pickle")
        return self.stack[0]

    def _mark(self, _: Any) -> None:
        self.marks += 1
        if self.marks > MOST_NESTED:
            raise RefusedError("it is nested too deeply")
        self.stack.append(_MARK)

    def _popped(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        above = next((n for n, value in enumerate(reversed(self.stack)) if value is _MARK), None)
        if above is None:
            raise RefusedError("it is not a whole pickle")
        at = len(self.stack) - 1 - above
        values = self.stack[at + 1 :]
        del self.stack[at:]
        self.marks -= 1
        return values

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        self._list().append(value)

    def _appends(self, _: Any) -> None:
        values = self._popped()
        self._list().extend(values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _setitems(self, _: Any) -> None:
        self._fill(self._popped())

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._popped()))

    def _tuple1(self, _: Any) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def _tuple2(self, _: Any) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _binput(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _long_binput = _put = _binput

    def _binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _long_binget = _get = _binget

    def _global(self, name: str) -> None:
        module, _, attribute = name.partition(" ")
        self._permit(module, attribute)

    def _stack_global(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self._permit(module, attribute)

    def _permit(self, module: Any, attribute: Any) -> None:
        if (module, attribute) != self.permitted:
            raise RefusedError(f"it asks for {module}.{attribute}, and only {'.'.join(self.permitted)} is allowed")
        self.stack.append(_CLASS)

    def _newobj(self, _: Any) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        if made is not _CLASS or arguments != ():
            raise RefusedError("it makes an object in an unusual way")
        self.stack.append(Made())

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Made) or not isinstance(state, dict):
            raise RefusedError("it fills an object in an unusual way")
        if not all(value is None or isinstance(value, SCALARS) for value in state.values()):
            raise RefusedError("an object has an attribute that is no number or text")
        self.stack[-1].attributes.update(state)

    def _list(self) -> list[Any]:
        if not isinstance(self.stack[-1], list):
            raise RefusedError("it appends to something that is no list")
        return self.stack[-1]

    def _fill(self, pairs: Iterable[Any]) -> None:
        target, flat = self.stack[-1], list(pairs)
        if not isinstance(target, dict) or not all(isinstance(key, str) for key in flat[::2]):
            raise RefusedError("it fills something that is no dict with text keys")
        target.update(zip(flat[::2], flat[1::2], strict=True))
