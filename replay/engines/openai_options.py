"""The options of `trace replay --engine openai`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from toolkit.finite_option import Finite

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--ramp",
        "ramp_s",
        type=Finite(min=0, min_open=True),
        metavar="S",
        help="Let the rate grow from 0 to the trace's own in the first S seconds.",
    ),
    click.option(
        "--warm-up", metavar="N|Ss", help="Leave the first N requests, or S seconds (30s), out of every metric."
    ),
    click.option(
        "--url", "urls", multiple=True, metavar="URL", help="Endpoint of --engine openai; several take turns."
    ),
    click.option("--models", "models_file", metavar="YAML", help="Trace models to served models and URLs."),
    click.option("--api", type=click.Choice(["completions", "chat"]), help="API to use; by default the first it has."),
    click.option(
        "--tokenizer",
        metavar="TOKENIZER.json",
        help="The served model's: text prompts of exact lengths where no token ids are taken.",
    ),
    click.option(
        "--max-inflight", type=click.IntRange(min=1), metavar="N", help="Let in only so many, the scheduler's first."
    ),
    click.option(
        "--send-priority/--no-send-priority",
        default=False,
        show_default=True,
        help="Send the scheduler's rank as the requests' priority.",
    ),
    click.option(
        "--send-hints/--no-send-hints",
        default=False,
        show_default=True,
        help="Put the scheduler in charge inside vLLM, served with our --scheduler-cls.",
    ),
    click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Sending processes."),
    click.option(
        "--connections",
        type=click.Choice(["pooled", "fresh"]),
        default="pooled",
        show_default=True,
        help="Use connections again, or one a request.",
    ),
    click.option("--retries", type=click.IntRange(min=0), default=2, show_default=True, help="Only where it is safe."),
    click.option(
        "--timeout", "timeout", default="", metavar="KEY=S,…", help="Limits: connect=10, first=300, gap=60, total=3600."
    ),
    click.option(
        "--lag-bound-s",
        type=Finite(min=0, min_open=True),
        default=0.01,
        show_default=True,
        help="P99 of send lag above which a run is CLIENT-BOUND.",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="Keep N requests under way, in the trace's order, whatever their arrivals.",
    ),
    click.option(
        "--drain",
        "drain_s",
        type=Finite(min=0),
        metavar="S",
        help="Wait so long after the last arrival; what has not ended then is unfinished.",
    ),
    click.option(
        "--token-times/--no-token-times",
        default=False,
        show_default=True,
        help="Keep when each token came (outcomes.token_s).",
    ),
    click.option("--ca", metavar="PEM", help="Certificates to trust instead of the system's."),
)


OF_ENDPOINTS = {
    "urls", "models_file", "api", "tokenizer", "max_inflight", "send_priority", "send_hints", "workers", "connections",
    "retries", "timeout", "concurrency", "drain_s", "token_times", "ca",
}  # fmt: skip


def endpoint_options(command: Command) -> Command:
    """Add them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
