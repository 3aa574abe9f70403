"""The options that describe one engine: of `trace replay`, where it is simulated, and of `trace serve`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option("--gpu", default="h100", show_default=True, help="GPU preset."),
    click.option("--model-preset", default="llama-3.1-8b", show_default=True, help="Served model's preset."),
    click.option(
        "--latency",
        default="roofline",
        show_default=True,
        metavar="MODEL",
        help="Step times: roofline[:KEY=VALUE,…], aiconfigurator[:KEY=VALUE,…], profile:DIR, table:FILE, or a file "
        "that `trace calibrate` wrote.",
    ),
    click.option("--tensor-parallel", type=click.IntRange(min=1), default=1, show_default=True, help="GPUs an engine."),
    click.option(
        "--kv-blocks", type=click.IntRange(min=1), help="KV blocks; worked out from GPU and model by default."
    ),
    click.option(
        "--block-tokens", type=click.IntRange(min=1), default=16, show_default=True, help="Tokens in a KV block."
    ),
    click.option("--max-num-seqs", type=click.IntRange(min=1), default=256, show_default=True),
    click.option("--max-num-batched-tokens", type=click.IntRange(min=1), default=2048, show_default=True),
    click.option(
        "--max-model-len", type=click.IntRange(min=2), help="Longest prompt plus output; the model's by default."
    ),
    click.option("--prefix-caching/--no-prefix-caching", default=True, show_default=True),
)


def engine_options(command: Command) -> Command:
    """Add them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
