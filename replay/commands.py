"""`trace replay`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from replay.engine_options import engine_options
from replay.engines.openai_options import endpoint_options
from replay.engines.transformers_options import in_process_options
from toolkit.finite_option import Finite
from toolkit.on_option import on_option
from toolkit.trace_options import trace_options

ENGINES = ("simulated", "micro-batch", "openai", "transformers")
ROUTINGS = ("round-robin", "least-loaded", "prefix-aware", "vllm-dp")


@click.command(short_help="Replay a trace through an engine under one or several schedulers.")
@click.argument("traces", nargs=-1, type=click.Path(path_type=Path))
@click.option("--engine", type=click.Choice(ENGINES), default="simulated", show_default=True)
@click.option(
    "--scheduler",
    "schedulers",
    multiple=True,
    default=("fcfs",),
    metavar="NAME[:KEY=VALUE,…]",
    help="Who runs first; several with commas or by repeating. Default fcfs.",
)
@click.option(
    "--cluster",
    type=click.Path(),
    help="Several models on several GPUs, as CLUSTER.yaml describes them; its settings replace those of one engine.",
)
@click.option(
    "--placement",
    "placements",
    multiple=True,
    metavar="NAME[:KEY=VALUE,…]",
    help="On a cluster, which model lives where; several with commas or by repeating. Default static.",
)
@click.option(
    "--slo-scale",
    type=(Finite(min=0, min_open=True), Finite(min=0, min_open=True)),
    metavar="TTFT TPOT",
    help="On a cluster, objectives are each model's P95 on GPUs of its own, at load 1, times these.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the runs, one below it for each scheduler.")
@click.option("--resume", type=click.Path(path_type=Path), help="Finish the unfinished runs in this folder.")
@engine_options
@click.option(
    "--decode-first/--prefill-first",
    default=True,
    show_default=True,
    help="Whether running requests decode in every step (Sarathi), or pause while prompts can be prefilled.",
)
@click.option(
    "--swap-bytes-per-s",
    type=Finite(min=0, min_open=True),
    metavar="RATE",
    help="Preempt by moving KV to the host and back at this rate; recompute by default.",
)
@click.option(
    "--async-scheduling/--no-async-scheduling",
    default=False,
    show_default=True,
    help="Whether a step is planned while the one before runs (vLLM's default from 0.14 on), or once it has ended.",
)
@click.option(
    "--watermark",
    type=Finite(min=0, max=1, max_open=True),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of the KV blocks that whoever is admitted must leave free.",
)
@click.option("--instances", type=click.IntRange(min=1), default=1, show_default=True, help="Identical engines.")
@click.option("--routing", type=click.Choice(ROUTINGS), default="round-robin", show_default=True)
@click.option(
    "--expert-parallel/--no-expert-parallel",
    default=False,
    show_default=True,
    help="Whether the instances share a model's experts, and so step together.",
)
@click.option(
    "--sessions",
    type=click.Choice(["closed", "open"]),
    default="closed",
    show_default=True,
    help="closed: a turn with think time waits for the one before; open: all arrive by the trace's clock.",
)
@click.option(
    "--band/--no-band", default=True, show_default=True, help="Replay also with steps 5 and 10 % faster and slower."
)
@click.option(
    "--session-gap-s",
    type=Finite(min=0),
    metavar="S",
    help="Where a trace has no arrivals, start what follows no other request this far apart.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Requests in a micro-batch."
)
@click.option(
    "--batch-wait-s",
    type=Finite(min=0),
    default=0.01,
    show_default=True,
    help="How long a micro-batch waits for more requests.",
)
@click.option(
    "--idle-poll-s",
    type=Finite(min=0),
    default=0.0,
    show_default=True,
    help="How often the idle micro-batch engine looks for requests; 0 is at once.",
)
@click.option(
    "--explain",
    type=click.IntRange(min=0),
    metavar="REQUEST_ID",
    help="Write no runs; tell when and why this request ran, waited or lost its place.",
)
@endpoint_options
@in_process_options
@on_option
@trace_options
def replay(**options: Any) -> None:
    """Replay a trace through an engine under one or several schedulers.

    \b
    trace replay datasets/sample.parquet --scheduler fcfs,srpt --out runs/
    trace replay --resume runs/
    trace replay datasets/sample.parquet --scheduler srpt --explain 42
    trace replay trace.parquet --engine openai --url http://127.0.0.1:8000 --out runs/
    """
    if options["on"] != "local" and options["engine"] != "openai":
        raise click.UsageError("--on says where --engine openai sends from; several simulations are a `trace sweep`")
    from replay.session import begin, client_bound, explain, resume

    folder = options.pop("resume")
    if folder is not None:
        if options["traces"] or options["out"]:
            raise click.UsageError("--resume continues a run as it was begun; give it no trace and no --out")
        finished = resume(folder)
    else:
        request = options.pop("explain")
        if request is not None and options["traces"]:
            explain(options, request)
            return
        if not options["traces"] or options["out"] is None:
            raise click.UsageError("name a trace and --out, as in: trace replay trace.parquet --out runs/")
        folder = options["out"]
        finished = begin(options)
    if not finished:
        click.echo(f"stopped; continue with: trace replay --resume {shlex.quote(str(folder))}", err=True)
        sys.exit(130)
    if client_bound(folder):
        sys.exit(3)
