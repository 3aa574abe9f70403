"""`trace serve`."""

import os
from typing import Any

import click

from replay.engine_options import engine_options
from toolkit.finite_option import Finite


@click.command(short_help="Serve the simulated engine over HTTP in real time, as a rehearsal.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 is any free one.")
@engine_options
@click.option("--served-model-name", metavar="NAME", help="What the model is called; the preset by default.")
@click.option(
    "--time-scale",
    type=Finite(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="X",
    help="Real seconds a simulated one takes.",
)
@click.option("--fault", default="", metavar="KIND:CHANCE,…", help="Faults on purpose, as in reset:0.01,stall:0.002.")
@click.option("--log", metavar="FILE", help="Append a line a completion that is asked for: its `user`, and the fault.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of faults and of lengths that are not forced.")
def serve(**options: Any) -> None:
    """Serve the simulated engine over HTTP in real time: completions, chat, streaming, usage, priority, /metrics.

    Example: trace serve --port 8000 --gpu h100 --model-preset llama-3.1-8b
    """
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # a step is a few calls: the core's own source runs them uncompiled
    from replay.serve.running import Settings, run

    run(Settings(**options))
