"""YAML settings: what is right is built, what is wrong is told with its line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from toolkit.errors import InputFailure
from toolkit.specs import build, load, made, parse


@dataclass(frozen=True)
class Wheel:
    size: float
    spokes: int = 32

    def __post_init__(self) -> None:
        if self.size <= 0:
            raise ValueError("size must be above 0")


@dataclass(frozen=True)
class Cart:
    name: str
    wheels: tuple[Wheel, ...] = ()
    colour: Literal["red", "blue"] = "red"
    owner: str | None = None
    load: Wheel | int | str = 0
    prices: dict[str, float] | None = None
    point: tuple[float, float] = (0.0, 0.0)
    manual: Path | None = None
    anything: Any = None


def cart(text: str) -> Cart:
    built: Cart = build(parse(text, Path("cart.yaml")), Cart)
    return built


def test_a_mapping_becomes_the_class_with_its_types() -> None:
    built = cart(
        "name: small\nwheels: [{size: 1}, {size: 2.5, spokes: 8}]\nowner: null\nload: {size: 1e1}\n"
        "prices: {new: 10, used: 2.5}\npoint: [1, 2]\nmanual: docs/cart.md\nanything: [1, {a: b}]\n"
    )
    assert built.wheels == (Wheel(1.0), Wheel(2.5, 8))
    assert (built.load, built.prices, built.point) == (Wheel(10.0), {"new": 10.0, "used": 2.5}, (1.0, 2.0))
    assert (built.owner, built.anything) == (None, [1, {"a": "b"}])
    assert cart("name: x\nload: 7").load == 7


def test_paths_are_the_files_own(tmp_path: Path) -> None:
    (tmp_path / "cart.yaml").write_text("name: small\nmanual: cart.md\n")
    assert build(load(tmp_path / "cart.yaml"), Cart).manual == tmp_path / "cart.md"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("name: a\ncolor: red", 2, "no key 'color' here; did you mean 'colour'?"),
        ("colour: red", 1, "'name' is missing; needed: name"),
        ("name: a\n\ncolour: green", 3, "'green' is not a choice here"),
        ("name: 7", 1, "'7' is not text"),
        ("name: a\nwheels:\n- size: big", 3, "'big' is not a number"),
        ("name: a\nwheels:\n- size: 1\n- {size: 1, spokes: 2.5}", 4, "'2.5' is not a whole number"),
        ("name: a\nwheels:\n- size: -1", 3, "size must be above 0"),
        ("name: a\nwheels: {size: 1}", 2, "a mapping is not a list"),
        ("name: 2026-01-31\ncolour: 2026-01-31", 2, "'2026-01-31' is not a choice here"),
        ("name: a\npoint: [1]", 2, "has 1 items, not 2"),
        ("name: a\nload: [1]", 2, "a list is not a mapping or a whole number or text"),
        ("name: a\nload: true", 2, "'True' is not a mapping or a whole number or text"),
        ("name: a\nname: b", 2, "'name' stands here twice"),
        ("- name: a", 1, "a list is not a mapping"),
        ("name: a\nprices: {new: [1]}", 2, "a list is not a number"),
        ("name: [a", 2, "is not YAML"),
        ("name: &x [*x]", 1, "an alias holds itself"),
        ("? [a]\n: b", 1, "a key is no text"),
        ("name: a\nwheels:\n- size: .nan", 3, "'nan' is not a number"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(InputFailure) as caught:
        cart(text)
    assert str(caught.value).startswith(f"cart.yaml:{line}: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"\xff\xfe\x00", b"a: \x07"])
def test_what_is_no_yaml_is_told(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "cart.yaml").write_bytes(data)
    with pytest.raises(InputFailure, match=r"cart\.yaml"):
        load(tmp_path / "cart.yaml")
    with pytest.raises(InputFailure, match="cannot be read"):
        load(tmp_path / "missing.yaml")


def test_keys_of_somebody_else_are_let_through_and_named_as_near() -> None:
    node = parse("size: 1\nbell: loud", Path("w.yaml"))
    assert made(node, Wheel, besides=["bell"]) == Wheel(1.0)
    with pytest.raises(InputFailure, match="did you mean 'bells'"):
        made(node, Wheel, besides=["bells"])
