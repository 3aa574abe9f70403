"""Ask every analysis about a trace in parts, wherever they are read, and put the answers together.

What an analysis finds in a part comes here where it is small (`partial`). Where it is not, it stays where it was found:
what parts that follow each other hold is joined there two by two (`joined`), and rows that belong together are brought
together there (`shares`). An analysis that can do none of this is given its columns of all parts in one piece, there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import polars as pl

from toolkit.analyses import CATEGORIES, Asked, Tables, check_span, finished, installed
from toolkit.analysis.whole import Whole
from toolkit.errors import SettingFailure
from toolkit.executors import Executor, Keeping, result_of
from toolkit.parts import Part, Parted
from toolkit.protocols import Analysis
from toolkit.schema import OUTCOMES, TABLES
from toolkit.traces import Trace

ACROSS = "parent_id"  # a column that points from one part into another
SHARE_ROWS = 8_000_000  # requests whose rows are brought together at once, about
Plugins = Mapping[str, Any]  # analyses


@dataclass(frozen=True)
class Questions:
    """What a part is asked; `wholes` holds, by analysis, what each must know of all parts."""

    plugins: Plugins
    shares: int = 1  # into which rows are parted that belong together
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
        return {name: glancing[name].glance(frame, self.wholes[name]) for name, frame in frames.items()}

    @property
    def kept(self) -> list[str]:
        """Whose finds of a part stay where they are: an analysis that shares out rows has several."""
        kept = [name for name, plugin in self.plugins.items() if hasattr(plugin, "joined") or _is_whole(plugin)]
        sharing = [name for name, plugin in self.plugins.items() if hasattr(plugin, "shares")]
        return kept + [name for name in sharing for _ in range(self.shares)]

    def answers(self, number: int, part: Part) -> list[Any]:
        """What is small of each answer, by analysis; then what stays, as in `kept`."""
        frames = _frames(part.read(), self.plugins)
        small, kept, shared = dict[str, Any](), list[Any](), list[Any]()
        for name, plugin in self.plugins.items():
            whole = replace(self.wholes[name], part=number)
            if hasattr(plugin, "shares"):
                shared += plugin.shares(frames[name], whole, self.shares)
            elif _is_whole(plugin):
                kept.append(_with_categories(frames[name]))
            elif hasattr(plugin, "joined"):
                kept.append(plugin.partial(frames[name], whole))
            else:
                small[name] = plugin.partial(frames[name], whole)
        return [small, *kept, *shared]


def analyse_parts(
    parted: Parted, executor: Keeping, asking: Callable[[str], None] = lambda name: None, asked: Asked | None = None
) -> Tables:
    """Every analysis' tables, as `analyse` gives them for the trace in one piece."""
    check_span(parted.info)
    wanted = asked or {}
    plugins = {name: plugin(**wanted.get(name, {})) for name, plugin in installed(wanted).items()}
    whole = Whole(parted.info, parted.requests, parted.first_s, parted.last_s)
    asking("glancing")
    seen: dict[str, list[Any]] = {}
    for found in in_order(executor, Questions(plugins, wholes=dict.fromkeys(plugins, whole)).glances, parted.parts):
        for name, glance in found.items():
            seen.setdefault(name, []).append(glance)
    wholes = {name: replace(whole, seen=seen.get(name)) for name in plugins}
    asking("reading")
    answers = _answers(Questions(plugins, 1 + parted.requests // SHARE_ROWS, wholes), parted.parts, executor)
    tables = {}
    for name, plugin in plugins.items():
        asking(name)
        tables[name] = _finished(plugin, answers.pop(name), wholes[name])
    return tables


def _answers(questions: Questions, parts: Sequence[Part], executor: Keeping) -> dict[str, list[Any]]:
    """What each analysis found: in each part, in each share of the rows, or in all."""
    kept, ask = questions.kept, questions.answers
    read = [executor.begin(ask, number, part, results=1 + len(kept)) for number, part in enumerate(parts)]
    begun: dict[str, list[Any]] = {name: [] for name in kept}
    for name, *finds in zip(kept, *(of_part[1:] for of_part in read), strict=True):
        plugin, whole = questions.plugins[name], questions.wholes[name]
        if hasattr(plugin, "shares"):
            begun[name] += executor.begin(partial(_gathered, plugin, whole), *finds)
        elif _is_whole(plugin):
            begun[name] += executor.begin(partial(_in_one_piece, plugin, whole), *finds)
        else:
            begun[name] += executor.begin(partial(_last, plugin, whole), _together(plugin, finds, executor))
    answers: dict[str, list[Any]] = {name: [] for name in questions.plugins}
    for smalls, *_ in read:
        for name, small in executor.end(smalls).items():
            answers[name].append(small)
    return answers | {name: [executor.end(one) for one in own] for name, own in begun.items()}


def _together(plugin: Any, finds: list[Any], executor: Keeping) -> Any:
    """What all parts hold together, neighbours two by two."""
    join = partial(_joined, plugin)
    while len(finds) > 1:
        pairs = zip(finds[::2], finds[1::2], strict=False)
        alone = finds[-1:] if len(finds) % 2 else []
        finds = [executor.begin(join, earlier, later)[0] for earlier, later in pairs] + alone
    return finds[0]


def _joined(plugin: Any, earlier: Any, later: Any) -> list[Any]:
    return [plugin.joined(earlier, later)]


def _last(plugin: Any, whole: Whole, find: Any) -> list[Any]:
    return [finished(plugin, [find], whole)]


def _gathered(plugin: Any, whole: Whole, *rows: pl.DataFrame) -> list[Any]:
    return [plugin.partial(pl.concat(rows), whole)]


def _in_one_piece(plugin: Analysis, whole: Whole, *frames: pl.DataFrame) -> list[Any]:
    return [plugin.run(pl.concat(frames), whole.info)]


def _is_whole(plugin: Analysis) -> bool:
    """Whether it can be asked about the whole trace only."""
    return not hasattr(plugin, "partial")


def _with_categories(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(name).cast(pl.Categorical) for name in CATEGORIES if name in frame.columns)


def _finished(plugin: Analysis, answers: list[Any], whole: Whole) -> dict[str, pl.DataFrame]:
    """Its tables from what it found, where these are not all that came."""
    if hasattr(plugin, "joined") or _is_whole(plugin):
        tables: dict[str, pl.DataFrame] = answers[0]
        return tables
    return finished(plugin, answers, whole)


def in_order(executor: Executor, work: Callable[[Part], Any], parts: Sequence[Part]) -> Iterator[Any]:
    """Each part's result, in order of time, as soon as those before it are there."""
    numbered = list(enumerate(parts))
    early: dict[int, Any] = {}
    following = 0
    for (number, _), result in executor.map(_Numbered(work), numbered):
        early[number] = result_of(result)
        while following in early:
            yield early.pop(following)
            following += 1


@dataclass(frozen=True)
class _Numbered:
    work: Callable[[Part], Any]

    def __call__(self, item: tuple[int, Part]) -> Any:
        return self.work(item[1])


def _frames(trace: Trace, plugins: Plugins) -> dict[str, pl.DataFrame]:
    """The columns that each analysis reads."""
    frames: dict[str, pl.DataFrame] = {}
    outcomes = trace.outcomes if trace.outcomes is not None else OUTCOMES.to_frame().lazy()
    for table, lazy in (("trace", trace.frame), ("outcomes", outcomes)):
        mine = {name: plugin for name, plugin in plugins.items() if plugin.table == table}
        columns = [c for c in TABLES[table] if any(c in plugin.columns for plugin in mine.values())]
        frame = lazy.select(columns).collect(engine="streaming") if mine else pl.DataFrame()
        frames |= {name: frame.select(plugin.columns) for name, plugin in mine.items()}
    return {name: frames[name] for name in plugins}
