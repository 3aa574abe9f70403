"""What must be known of a run before its numbers are believed, in words at the head of the page."""

from typing import Any

from reports import provenance, words
from reports.measured import Measured
from toolkit.errors import printable

FAILED_FROM = 0.01  # of the offered requests: from there on, a P99 may owe its place to what is missing


def cautions(run: Measured, numbers: dict[str, Any], base: Measured) -> list[str]:
    """What to say of the run after its name, a sentence each; `numbers` are the run's, as `--json` prints them.

    `base` is the run that it is compared with, or itself.
    """
    return [said for said in (_unfinished(run, numbers), _late(run), _failed(run, numbers), _other(run, base)) if said]


def _unfinished(run: Measured, numbers: dict[str, Any]) -> str:
    if run.run.finished:
        return ""
    shown = f"the {words.whole(numbers['requests'])} requests that it wrote so far are shown"
    return f"is unfinished: {shown}. Resume it for the whole."


def _late(run: Measured) -> str:
    if provenance.value(run.info, "verdict") != "CLIENT-BOUND":
        return ""
    reasons = provenance.value(run.info, "validity", "reasons")
    why = "; ".join(printable(str(r)) for r in reasons) if isinstance(reasons, list) else "it was not sent on time"
    return f"is CLIENT-BOUND: {why}. Its numbers are of the sender rather than of the server."


def _failed(run: Measured, numbers: dict[str, Any]) -> str:
    share = 1 - numbers["ok"] / numbers["requests"]
    if share < FAILED_FROM or not numbers["ok"]:
        return ""
    ok = words.whole(numbers["ok"])
    return f"failed to serve {words.percent(share)} of its requests: its latencies are of the {ok} that completed."


def _other(run: Measured, base: Measured) -> str:
    """That what it was offered is not what the base was; of a run that is unfinished nobody knows."""
    asked = ("request_id", "prompt_tokens")
    same = run.frame.height == base.frame.height and run.frame.select(asked).equals(base.frame.select(asked))
    if same or not (run.run.finished and base.run.finished):
        return ""
    offered, instead = (
        f"{words.whole(each.frame.height)} of {printable(provenance.value(each.info, 'trace', 'name') or 'a trace')}"
        for each in (run, base)
    )
    return f"was offered other requests than {base.label} ({offered}, not {instead}): they differ by their traffic too."
