"""What was found about groups, as tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.groups_communities import inner_pairs, pair_index
from toolkit.analysis.groups_evidence import ALPHA
from toolkit.analysis.groups_membership import Epoch
from toolkit.analysis.groups_power import power
from toolkit.analysis.groups_seen import FEWEST_REQUESTS, Seen
from toolkit.analysis.windows import fitting_window_s

if TYPE_CHECKING:
    from toolkit.analysis.groups import Found

SHOWN = 40  # names in the tables that are drawn
REGULAR = 0.5  # a member is persistent that joins more than this share of its group's bursts

_f, _i, _s = pl.Float64(), pl.Int64(), pl.String()
SUMMARY = pl.Schema(
    {
        "verdict": _s,
        "by": _s,
        "groups": _i,
        "names": _i,
        "tested": _i,
        "left_out": _i,
        "window_s": _f,
        "windows_tried": _i,
        "draws": _i,
        "family_wise_error": _f,
        "power_pair": _f,
        "power_group": _f,
        "detectable_share": _f,
        "note": _s,
    }
)
GROUPS = pl.Schema(
    {
        "id": _s,
        "group": _i,
        "names": pl.List(_s),
        "size": _i,
        "p_value": _f,
        "stability": _f,
        "lift": _f,
        "association": _f,
        "bursts": _i,
        "bursts_per_h": _f,
        "start_s": _f,
        "end_s": _f,
    }
)
INTERVALS = pl.Schema({"id": _s, "start_s": _f, "end_s": _f})
MEMBERS = pl.Schema(
    {"group": _i, "name": _s, "requests": _i, "start_s": _f, "end_s": _f, "participation": _f, "persistence": _s}
)
BURSTS = pl.Schema({"group": _i, "start_s": _f, "end_s": _f, "members": _i})
PAIRS = pl.Schema(
    {"name": _s, "other": _s, "together": _f, "expected": _f, "lift": _f, "association": _f, "associated": pl.Boolean()}
)
ACTIVITY = pl.Schema({"name": _s, "start_s": _f, "window_s": _f, "active_share": _f})
ALL = {
    "summary": SUMMARY,
    "groups": GROUPS,
    "intervals": INTERVALS,
    "members": MEMBERS,
    "bursts": BURSTS,
    "pairs": PAIRS,
    "activity": ACTIVITY,
}
Tables = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class About:
    """What was tested: `names` and their `requests`, busiest first, of `named` in all; times are from `offset_s`.

    Of the others, `rare` have too few requests to tell.
    """

    by: str
    named: int
    rare: int
    names: list[str]
    requests: NDArray[np.integer]
    offset_s: float
    span_s: float

    @classmethod
    def of(cls, seen: Seen, by: str) -> "About":
        names = seen.tested
        rare = sum(n < FEWEST_REQUESTS for n in seen.requests.values())
        requests = np.array([seen.requests[name] for name in names], dtype=np.int64)
        return cls(by, len(seen.requests), rare, names, requests, seen.first_s, seen.span_s)

    @classmethod
    def nobody(cls, by: str) -> "About":
        return cls(by, 0, 0, [], np.zeros(0, dtype=np.int64), 0.0, 0.0)


def empty() -> Tables:
    return {name: schema.to_frame() for name, schema in ALL.items()}


def without(about: About, note: str) -> Tables:
    """No groups, because nothing could be tested."""
    row = {"verdict": "none", "by": about.by, "groups": 0, "names": about.named, "tested": 0, "note": note}
    row["left_out"] = about.named
    return empty() | {"summary": pl.DataFrame([row], schema=SUMMARY)}


def answer(about: About, found: "Found") -> Tables:
    """Every table of a trace that could be tested."""
    rows = {"groups": _groups(about, found), "members": _members(about, found), "bursts": _bursts(about, found)}
    rows["intervals"] = _intervals(about, found)
    tables = {name: pl.DataFrame(list(each), schema=ALL[name]) for name, each in rows.items()}
    tables["groups"] = tables["groups"].unique("id", keep="first", maintain_order=True)
    order = shown_order(found, len(about.names))
    tables |= {"pairs": _pairs(about, found, order), "activity": _activity(about, found, order)}
    return {"summary": _summary(about, found, tables["groups"]["group"].n_unique())} | tables


def _summary(about: About, found: "Found", groups: int) -> pl.DataFrame:
    evidence, tested = found.evidence, len(about.names)
    shows = power(evidence.bursts, evidence.threshold)
    row: dict[str, Any] = {
        "verdict": "groups" if groups else "none",
        "by": about.by,
        "groups": groups,
        "names": about.named,
        "tested": tested,
        "left_out": about.named - tested,
        "window_s": evidence.best.scale.window_s,
        "windows_tried": len(evidence.bursts),
        "draws": len(evidence.largest),
        "family_wise_error": 2 * ALPHA,
        "power_pair": shows.pairs,
        "power_group": shows.group,
        "detectable_share": shows.detectable_share,
        "note": _note(about, found),
    }
    return pl.DataFrame([row], schema=SUMMARY)


def _note(about: About, found: "Found") -> str | None:
    said = []
    if about.named > len(about.names):
        why = [f"{about.rare} with too few requests"] if about.rare else []
        beyond = about.named - len(about.names) - about.rare
        why += [f"{beyond} that are not among the {len(about.names)} busiest"] if beyond else []
        rest = f"{about.named - len(about.names)} of {about.named} {about.by}s are left out"
        said.append(f"{rest}: {' and '.join(why)}")
    if found.shared:
        said.append(f"{found.shared} of {len(about.names)} {about.by}s rise together: that is load, not a group")
    if found.unstable:
        said.append(f"{found.unstable} associated in one half of the trace only and left out")
    return "; ".join(said) or None


def _seconds(about: About, found: "Found", window: int) -> float:
    """When a window begins; the one after the last, when the trace ends."""
    scale = found.evidence.best.scale
    ended = window >= scale.active.shape[1]
    return about.offset_s + (about.span_s if ended else min(window * scale.window_s, about.span_s))


def ids(found: "Found") -> list[str]:
    """An epoch's id: its group's number, and a letter more where the group's members changed."""
    names = []
    for epoch in found.epochs:
        sets = list(dict.fromkeys(e.members for e in found.epochs if e.group == epoch.group))
        version = f".{sets.index(epoch.members) + 1}" if len(sets) > 1 else ""
        names.append(f"g{epoch.group + 1}{version}")
    return names


def _groups(about: About, found: "Found") -> Iterator[dict[str, Any]]:
    for name, epoch in zip(ids(found), found.epochs, strict=True):
        together, expected, busy = _within(found, epoch.members)
        bursts = _bursts_in(found, epoch)
        seconds = (epoch.last - epoch.first + 1) * found.evidence.best.scale.window_s
        pairs = inner_pairs(epoch.members, len(about.names))
        yield {
            "id": name,
            "group": epoch.group + 1,
            "names": [about.names[i] for i in epoch.members],
            "size": len(epoch.members),
            "p_value": found.evidence.p_value(pairs, epoch.members),
            "stability": found.stabilities[epoch.group],
            "lift": float(together.sum() / max(expected.sum(), 1e-9)),
            "association": float(np.mean((together - expected) / np.maximum(busy - expected, 1))),
            "bursts": bursts,
            "bursts_per_h": bursts * 3600 / seconds,
            "start_s": _seconds(about, found, epoch.first),
            "end_s": _seconds(about, found, epoch.last + 1),
        }


def _within(found: "Found", members: Sequence[int]) -> tuple[NDArray[np.float64], ...]:
    """Of each pair of members: windows together, expected, and the most there could be."""
    draws = found.evidence.best
    busy = draws.scale.active.sum(axis=1).astype(np.float64)
    pairs = inner_pairs(members, len(busy))
    a, b = np.triu_indices(len(members), 1)
    most = np.sqrt(busy[list(members)][a] * busy[list(members)][b])
    together, expected = (each[:, pairs].sum(axis=0).astype(np.float64) for each in (draws.observed, draws.expected))
    return together, expected, most


def _bursts_in(found: "Found", epoch: Epoch) -> int:
    b = found.bursts
    assert b is not None
    return int(((b.group == epoch.group) & (b.first >= epoch.first) & (b.first <= epoch.last)).sum())


def _intervals(about: About, found: "Found") -> Iterator[dict[str, Any]]:
    for name, epoch in zip(ids(found), found.epochs, strict=True):
        yield {
            "id": name,
            "start_s": _seconds(about, found, epoch.first),
            "end_s": _seconds(about, found, epoch.last + 1),
        }


def _members(about: About, found: "Found") -> Iterator[dict[str, Any]]:
    """A row for each stretch in which a name stays in a group."""
    for group in range(len(found.groups)):
        own = [epoch for epoch in found.epochs if epoch.group == group]
        for name in sorted({m for epoch in own for m in epoch.members}):
            for first, last in _stays(own, name):
                joined = _participation(found, group, name, first, last)
                yield {
                    "group": group + 1,
                    "name": about.names[name],
                    "requests": int(about.requests[name]),
                    "start_s": _seconds(about, found, first),
                    "end_s": _seconds(about, found, last + 1),
                    "participation": joined,
                    "persistence": None if joined is None else "persistent" if joined > REGULAR else "sporadic",
                }


def _stays(epochs: Sequence[Epoch], name: int) -> Iterator[tuple[int, int]]:
    stays: list[tuple[int, int]] = []
    for epoch in epochs:
        if name in epoch.members:
            if stays and epoch.first <= stays[-1][1] + 2:
                stays[-1] = (stays[-1][0], epoch.last)
            else:
                stays.append((epoch.first, epoch.last))
    yield from stays


def _participation(found: "Found", group: int, name: int, first: int, last: int) -> float | None:
    """The share of the group's bursts in [first, last], as its fellows make them, that the name joins."""
    b = found.bursts
    assert b is not None
    own = (b.group == group) & (b.first >= first) & (b.first <= last) & (b.fellows[:, name] > 0)
    return float(b.took_part[own, name].mean()) if own.any() else None


def _bursts(about: About, found: "Found") -> Iterator[dict[str, Any]]:
    if found.bursts is None:
        return
    b = found.bursts
    for i in np.flatnonzero((b.fellows > 0).any(axis=1)):
        yield {
            "group": int(b.group[i]) + 1,
            "start_s": _seconds(about, found, int(b.first[i])),
            "end_s": _seconds(about, found, int(b.last[i]) + 1),
            "members": int(b.took_part[i, list(found.groups[b.group[i]])].sum()),
        }


def shown_order(found: "Found", names: int) -> list[int]:
    """The names that are drawn: groups first, then the busiest."""
    grouped = [m for group in found.groups for m in group]
    joined = [m for epoch in found.epochs for m in epoch.members]
    return list(dict.fromkeys([*grouped, *joined, *range(names)]))[:SHOWN]


def _pairs(about: About, found: "Found", order: Sequence[int]) -> pl.DataFrame:
    """Every pair of the drawn names."""
    draws, index = found.evidence.best, pair_index(len(about.names))
    a, b = (np.asarray(order)[side] for side in np.triu_indices(len(order), 1))
    pairs = index[a, b]
    busy = draws.scale.active.sum(axis=1).astype(np.float64)
    together, expected = (each[:, pairs].sum(axis=0).astype(np.float64) for each in (draws.observed, draws.expected))
    columns = {
        "name": [about.names[i] for i in a],
        "other": [about.names[i] for i in b],
        "together": together,
        "expected": expected,
        "lift": np.where(expected > 0, together / np.where(expected > 0, expected, 1), np.nan),
        "association": (together - expected) / np.maximum(np.sqrt(busy[a] * busy[b]) - expected, 1),
        "associated": found.evidence.edges[:, pairs].any(axis=0),
    }
    return pl.DataFrame(columns, schema=PAIRS, nan_to_null=True)


def _activity(about: About, found: "Found", order: Sequence[int]) -> pl.DataFrame:
    """How much of each longer window each drawn name is active, for a heat map."""
    scale = found.evidence.best.scale
    windows = scale.active.shape[1]
    wide = max(1, round(fitting_window_s(windows * scale.window_s, None, 200) / scale.window_s))
    starts = np.arange(0, max(windows - wide // 2, 1), wide)  # a last one of a few windows would stand out by chance
    share = np.add.reduceat(scale.active[list(order)], starts, axis=1, dtype=np.float64)
    share /= np.diff(np.append(starts, windows))
    columns = {
        "name": np.repeat([about.names[i] for i in order], len(starts)),
        "start_s": np.tile(about.offset_s + starts * scale.window_s, len(order)),
        "window_s": np.full(share.size, wide * scale.window_s),
        "active_share": share.ravel(),
    }
    return pl.DataFrame(columns, schema=ACTIVITY)
