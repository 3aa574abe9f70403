"""--on: where a command does its work."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
WORDS = "local, ray, or ray://HOST:10001"


def on_option(command: Command) -> Command:
    """Add --on."""
    return click.option(
        "--on",
        default="local",
        show_default=True,
        metavar="WHERE",
        callback=_known,
        help="local; ray: the Ray cluster at hand, else one on this machine; or ray://HOST:10001.",
    )(command)


def _known(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if value in ("local", "ray") or value.startswith("ray://"):
        return value
    raise click.BadParameter(f"'{value}' is not {WORDS}")
