"""The answer as sentences made from the numbers: the first thing that is read."""

from typing import Any

from reports import words
from reports.compare import find
from reports.words import Unit, unit_for

PHASE_WORDS = {
    "queue_s": "queueing",
    "loading_s": "waiting for weights to load",
    "prefill_s": "in prefill",
    "decode_s": "in decode",
    "preempted_s": "preempted",
}
HEADLINE = ("e2e_s", "ttft_s")  # the first that is known


def answer(
    numbers: list[dict[str, Any]], differences: dict[str, Any] | None, tail: tuple[str, float] | None, load: str
) -> str:
    """The headline. `tail` is the phase that a single run's slowest 1 % spent most time in, with its share."""
    unfinished = [n["name"] for n in numbers if n["state"] != "finished"]
    said = _compared(numbers, differences, load) if differences else _single(numbers[0], tail)
    if not unfinished:
        return said
    who = "This run is" if len(numbers) == 1 else f"{len(unfinished)} of {len(numbers)} runs are"
    return f"{who} unfinished: so far, {said}"


def _single(run: dict[str, Any], tail: tuple[str, float] | None) -> str:
    metric = _known([run])
    if metric is None:
        return f"none of {words.whole(run['requests'])} requests completed, so there is no latency to report."
    p99 = run["metrics"][metric]["p99"]
    unit = unit_for(metric, [p99["value"]])
    spent = f"; the slowest 1 % spent {words.percent(tail[1])} of their time {PHASE_WORDS[tail[0]]}" if tail else ""
    return f"P99 {words.named(metric)} is {unit.spell(p99['value'])} ({_between(p99, unit)}){spent}."


def _compared(numbers: list[dict[str, Any]], differences: dict[str, Any], load: str) -> str:
    metric = _known(numbers)
    base = differences["base"]
    if metric is None:
        return f"no latency is known of both {base} and the runs beside it."
    found = [(r["name"], row, r) for r in differences["runs"] if (row := find(r["differences"], metric, "p99"))]
    shown = [each for each in found if each[1]["shown"] and each[1]["relative"] is not None]
    if not shown:
        names = words.listing([name for name, _, _ in found])
        return f"no difference in P99 {words.named(metric)} is shown between {base} and {names}."
    at = "" if load == words.UNKNOWN else f" at ρ = {load}"
    name, row, run = min(shown, key=lambda each: each[1]["relative"])
    return f"{name} {_moved(metric, row)} against {base}{at}{_mean_too(run, metric, row)}."


def _moved(metric: str, row: dict[str, Any]) -> str:
    unit = unit_for(metric, [row["base"], row["value"]])
    verb = "cuts" if row["difference"] < 0 else "raises"
    low, high = (words.percent(row[k], signed=True) for k in ("relative_low", "relative_high"))
    change = f"{words.percent(row['relative'], signed=True)}, 95 % interval {low} … {high}"
    return f"{verb} P99 {words.named(metric)} from {unit.show(row['base'])} to {unit.spell(row['value'])} ({change})"


def _mean_too(run: dict[str, Any], metric: str, p99: dict[str, Any]) -> str:
    """What it does to the mean, when that is shown too."""
    mean = find(run["differences"], metric, "mean")
    if mean is None or not mean["shown"] or mean["relative"] is None:
        return ", with no difference shown in the mean"
    opposed = (mean["difference"] < 0) != (p99["difference"] < 0)
    verb = "costs" if mean["difference"] > 0 else "saves"
    return f", {'but' if opposed else 'and'} {verb} {words.percent(abs(mean['relative']))} in the mean"


def _known(numbers: list[dict[str, Any]]) -> str | None:
    return next((m for m in HEADLINE if all(n["metrics"][m]["p99"] for n in numbers)), None)


def _between(found: dict[str, Any], unit: Unit) -> str:
    if found["low"] is None:
        return "too few requests for an interval"
    return f"95 % interval {unit.show(found['low'])} to {unit.show(found['high'])}"


def objectives(numbers: list[dict[str, Any]]) -> str:
    """Which objectives hold, for whom."""
    known = [(run, joint) for run in numbers if (joint := run["attainment"]["joint"])]
    if not known:
        return "No service-level objective is known; give one with --slo-ttft, --slo-tpot or --slo-e2e."
    if len(numbers) == 1:
        offered = words.whole(known[0][1]["requests"])
        return f"{words.percent(known[0][1]['value'])} of {offered} offered requests met every objective."
    parts = [f"{words.percent(joint['value'])} in {run['name']}" for run, joint in known]
    return f"Of the offered requests, {words.listing(parts)} met every objective."


def sentence(text: str) -> str:
    """`text` with its first letter capital, unless it is a run's name."""
    starts = ("none", "no ", "this")
    return text[0].upper() + text[1:] if text.lower().startswith(starts) else text
