"""The trace page's charts of groups that burst together, with the line under each."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from reports import burst_figures
from reports.page import Chart
from reports.time_figures import name_of, time_unit
from reports.words import duration, number, percent, whole

Frames = Mapping[str, pl.DataFrame]
ROW = 18  # pixels


def charts(frames: Frames) -> list[Chart]:
    """Activity by time, pairs, and the active set with the groups' times; none where nothing was tested."""
    about = frames["summary"].row(0, named=True) if frames["summary"].height else {}
    if about.get("window_s") is None:
        return []
    return [_activity(frames, about), _together(frames, about), _timeline(frames, about)]


def verdict(about: Mapping[str, Any]) -> str:
    """What was found, and how sure that is."""
    if about["verdict"] == "none":
        missed = f"four that share half of their bursts would be found with probability {percent(about['power_group'])}"
        return f"No group of {about['by']}s bursts together beyond their own bursts and the shared load; {missed}."
    error = percent(about["family_wise_error"])
    sure = f"traffic without groups shows any in at most {error} of traces"
    many = "groups" if about["groups"] > 1 else "group"
    return (
        f"{whole(about['groups'])} {many} of {about['by']}s burst{'' if about['groups'] > 1 else 's'} together; {sure}."
    )


def _names(frames: Frames) -> list[str]:
    names: list[str] = frames["activity"]["name"].unique(maintain_order=True).to_list()
    return names


def _clock(frames: Frames) -> Any:
    return time_unit(float(frames["active"]["start_s"].max() or 0))  # type: ignore[arg-type]


def _activity(frames: Frames, about: Mapping[str, Any]) -> Chart:
    found, names = frames["activity"], _names(frames)
    busiest = found.group_by("name").agg(pl.col("active_share").mean()).sort("active_share", "name").row(-1)
    shown = f", the {len(names)} that are shown of {whole(about['tested'])}" if about["tested"] > len(names) else ""
    often = f"{name_of(busiest[0])} is, in {percent(busiest[1])} of windows"
    note = f"By {duration(found['window_s'][0])}, groups first{shown}. Most often above its own background {often}."
    drawn = burst_figures.activity(found, names, _clock(frames))
    height = 110 + ROW * len(names)
    return Chart("group-activity", f"When each {about['by']} is above its own background", note, drawn, found, height)


def _together(frames: Frames, about: Mapping[str, Any]) -> Chart:
    found, names = frames["pairs"], _names(frames)
    associated = int(found["associated"].sum())
    top = found.sort("association", descending=True).row(0, named=True)
    pair = f"{name_of(top['name'])} and {name_of(top['other'])} most: {number(top['lift'])} times as often as by chance"
    note = f"{whole(associated)} of {whole(found.height)} pairs are associated (dots); {pair}."
    drawn = burst_figures.together(found, names)
    height = 80 + ROW * len(names)
    return Chart("group-pairs", f"Which {about['by']}s are active together", note, drawn, found, height)


def _timeline(frames: Frames, about: Mapping[str, Any]) -> Chart:
    active, found = frames["active"], frames["groups"]
    window_s = frames["prism"]["active_window_s"][0]
    mean = f"{number(active['active'].mean())} {about['by']}s active within {duration(window_s)} in the mean"  # type: ignore[arg-type]
    groups = (
        f"; groups below, their bursts as ticks: {whole(int(found['bursts'].sum()))} in all" if found.height else ""
    )
    drawn = burst_figures.timeline(active, frames["intervals"], frames["bursts"], _clock(frames), "Active")
    height = 260 + 26 * frames["intervals"]["id"].n_unique()
    rows = frames["intervals"] if found.height else active
    return Chart("group-timeline", "The active set over time, and the groups", f"{mean}{groups}.", drawn, rows, height)
