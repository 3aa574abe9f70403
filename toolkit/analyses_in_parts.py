"""Ask every analysis about a trace in parts, wherever they are read, and put the answers together.

An analysis that can be asked part by part says what it found in each (`partial`), from which the whole is finished; the
others are given their columns of all parts in one piece, here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from toolkit.analyses import CATEGORIES, Asked, Tables, check_span, finished, installed
from toolkit.analysis.whole import Whole
from toolkit.errors import InputFailure, SettingFailure
from toolkit.executors import Executor, Failed
from toolkit.parts import Part, Parted
from toolkit.protocols import Analysis
from toolkit.schema import OUTCOMES, TABLES
from toolkit.traces import Trace

ACROSS = "parent_id"  # a column that points from one part into another


@dataclass(frozen=True)
class Questions:
    """What a part is asked; `wholes` holds, by analysis, what each must know of all parts."""

    plugins: Mapping[str, Analysis]
    wholes: Mapping[str, Whole] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, plugin in self.plugins.items():
            if ACROSS in plugin.columns:
                hint = "analyse on one machine, with --on local"
                raise SettingFailure(f"reads {ACROSS}, which leads out of a part", where=f"analysis {name}", hint=hint)

    def glances(self, part: Part) -> dict[str, Any]:
        """What the analyses want to know of all parts before they are asked."""
        glancing = {name: plugin for name, plugin in self.plugins.items() if hasattr(plugin, "glance")}
        frames = _frames(part.read(), glancing)
        return {name: glancing[name].glance(frame) for name, frame in frames.items()}

    def answers(self, part: Part) -> dict[str, Any]:
        """A part's share of each answer, or the rows that it needs in one piece."""
        frames = _frames(part.read(), self.plugins)
        return {name: self._answer(name, frame) for name, frame in frames.items()}

    def _answer(self, name: str, frame: pl.DataFrame) -> Any:
        plugin = self.plugins[name]
        if hasattr(plugin, "partial"):
            return plugin.partial(frame, self.wholes[name])
        wanted = getattr(plugin, "rows", None)
        return frame if wanted is None else frame.filter(wanted)


def analyse_parts(
    parted: Parted, executor: Executor, asking: Callable[[str], None] = lambda name: None, asked: Asked | None = None
) -> Tables:
    """Every analysis' tables, as `analyse` gives them for the trace in one piece."""
    check_span(parted.info)
    wanted = asked or {}
    plugins = {name: plugin(**wanted.get(name, {})) for name, plugin in installed(wanted).items()}
    whole = Whole(parted.info, parted.requests, parted.first_s, parted.last_s)
    asking("glancing")
    seen: dict[str, list[Any]] = {}
    for found in in_order(executor, Questions(plugins).glances, parted.parts):
        for name, glance in found.items():
            seen.setdefault(name, []).append(glance)
    wholes = {name: replace(whole, seen=seen.get(name)) for name in plugins}
    asking("reading")
    answers: dict[str, list[Any]] = {name: [] for name in plugins}
    for found in in_order(executor, Questions(plugins, wholes).answers, parted.parts):
        for name, answer in found.items():
            answers[name].append(answer)
    tables = {}
    for name, plugin in plugins.items():
        asking(name)
        tables[name] = _finished(plugin, answers.pop(name), wholes[name])
    return tables


def _finished(plugin: Analysis, answers: list[Any], whole: Whole) -> dict[str, pl.DataFrame]:
    if hasattr(plugin, "finish"):
        return finished(plugin, answers, whole)
    together = pl.concat(answers)
    texts = [name for name in CATEGORIES if name in together.columns]
    return plugin.run(together.with_columns(pl.col(texts).cast(pl.Categorical)), whole.info)


def in_order(executor: Executor, work: Callable[[Part], Any], parts: Sequence[Part]) -> Iterator[Any]:
    """Each part's result, in order of time, as soon as those before it are there."""
    numbered = list(enumerate(parts))
    early: dict[int, Any] = {}
    following = 0
    for (number, _), result in executor.map(_Numbered(work), numbered):
        if isinstance(result, Failed):
            raise RuntimeError(result.detail) if result.detail else InputFailure(result.said)
        early[number] = result
        while following in early:
            yield early.pop(following)
            following += 1


@dataclass(frozen=True)
class _Numbered:
    work: Callable[[Part], Any]

    def __call__(self, item: tuple[int, Part]) -> Any:
        return self.work(item[1])


def _frames(trace: Trace, plugins: Mapping[str, Analysis]) -> dict[str, pl.DataFrame]:
    """The columns that each analysis reads."""
    frames: dict[str, pl.DataFrame] = {}
    outcomes = trace.outcomes if trace.outcomes is not None else OUTCOMES.to_frame().lazy()
    for table, lazy in (("trace", trace.frame), ("outcomes", outcomes)):
        mine = {name: plugin for name, plugin in plugins.items() if plugin.table == table}
        columns = [c for c in TABLES[table] if any(c in plugin.columns for plugin in mine.values())]
        frame = lazy.select(columns).collect(engine="streaming") if mine else pl.DataFrame()
        frames |= {name: frame.select(plugin.columns) for name, plugin in mine.items()}
    return {name: frames[name] for name in plugins}
