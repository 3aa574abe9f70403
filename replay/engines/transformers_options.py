"""The options of `trace replay --engine transformers`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from toolkit.finite_option import Finite

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option("--model-path", metavar="DIR", help="Folder with config.json, and weights where they are not random."),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, or a GPU where there is one."),
    click.option(
        "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="bfloat16 on a GPU by default."
    ),
    click.option(
        "--memory-gib",
        type=Finite(min=0, min_open=True),
        metavar="GIB",
        help="For weights and KV together; what a GPU has free by default.",
    ),
    click.option(
        "--preempt-by",
        type=click.Choice(["recompute", "swap"]),
        default="recompute",
        show_default=True,
        help="Compute lost KV again, or move it to the host and back.",
    ),
)

IN_PROCESS = {"model_path", "device", "dtype", "memory_gib", "preempt_by"}


def in_process_options(command: Command) -> Command:
    """Add them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
