"""Ask every analysis about a trace in parts, wherever they are read, and put the answers together.

What an analysis finds in a part comes here where it is small (`partial`). Where it is not, it stays where it was found:
what parts that follow each other hold is joined there two by two (`joined`), and rows that belong together are brought
together there (`shares`). An analysis that can do none of this is given its columns of all parts in one piece, there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import polars as pl

from toolkit.analyses import Asked, Tables, check_span, collect, installed
from toolkit.analysis.looks import finished, looks_again
from toolkit.analysis.whole import Whole
from toolkit.errors import SettingFailure
from toolkit.executors import Keeping
from toolkit.parts import Part, Parted
from toolkit.protocols import Analysis
from toolkit.traces import Trace

ACROSS = "parent_id"  # a column that points from one part into another
SHARE_ROWS = 8_000_000  # requests whose rows are brought together at once, about
Plugins = Mapping[str, Any]  # analyses


@dataclass(frozen=True)
class Questions:
    """What a part is asked; `wholes` holds, by analysis, what each knows of all parts."""

    plugins: Plugins
    wholes: Mapping[str, Whole]
    shares: int = 1  # into which rows are parted that belong together

    def __post_init__(self) -> None:
        for name, plugin in self.plugins.items():
            if ACROSS in plugin.columns:
                hint = "analyse on one machine, with --on local"
                raise SettingFailure(f"reads {ACROSS}, which leads out of a part", where=f"analysis {name}", hint=hint)

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
                kept.append(frames[name])
            elif hasattr(plugin, "joined"):
                kept.append(plugin.partial(frames[name], whole))
            else:
                small[name] = plugin.partial(frames[name], whole)
        return [small, *kept, *shared]

    def second_looks(self, number: int, part: Part) -> list[Any]:
        """What those that look twice find when they know of all parts, by analysis."""
        found = {}
        for name, frame in _frames(part.read(), self.plugins).items():
            plugin = self.plugins[name]
            found[name] = plugin.second(plugin.again(frame), replace(self.wholes[name], part=number))
        return [found]


def analyse_parts(
    parted: Parted, executor: Keeping, asking: Callable[[str], None] = lambda name: None, asked: Asked | None = None
) -> Tables:
    """Every analysis' tables, as `analyse` gives them for the trace in one piece."""
    check_span(parted.info)
    wanted = asked or {}
    plugins: dict[str, Any] = {name: plugin(**wanted.get(name, {})) for name, plugin in installed(wanted).items()}
    wholes = dict.fromkeys(plugins, Whole(parted.info, parted.requests, parted.first_s, parted.last_s))
    asking("reading")
    answers = _answers(Questions(plugins, wholes, 1 + parted.requests // SHARE_ROWS), parted.parts, executor)
    twice = {name: plugin for name, plugin in plugins.items() if looks_again(plugin)}
    for name, plugin in twice.items():
        wholes[name] = replace(wholes[name], seen=plugin.told(answers[name], wholes[name]))
    asking("reading again")
    second = _second_looks(Questions(twice, wholes), parted.parts, executor)
    tables = {}
    for name, plugin in plugins.items():
        asking(name)
        tables[name] = _finished(plugin, answers.pop(name), second.get(name, []), wholes[name])
    return tables


def _second_looks(questions: Questions, parts: Sequence[Part], executor: Keeping) -> dict[str, list[Any]]:
    """What each analysis that looks twice found in each part."""
    begun = [executor.begin(questions.second_looks, number, part)[0] for number, part in enumerate(parts)]
    found = [executor.end(one) for one in begun]
    return {name: [of_part[name] for of_part in found] for name in questions.plugins}


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
    return [finished(plugin, [find], [], whole)]


def _gathered(plugin: Any, whole: Whole, *rows: pl.DataFrame) -> list[Any]:
    return [plugin.partial(pl.concat(rows), whole)]


def _in_one_piece(plugin: Analysis, whole: Whole, *frames: pl.DataFrame) -> list[Any]:
    return [plugin.run(pl.concat(frames), whole.info)]


def _is_whole(plugin: Analysis) -> bool:
    """Whether it can be asked about the whole trace only."""
    return not hasattr(plugin, "partial")


def _finished(plugin: Analysis, answers: list[Any], second: list[Any], whole: Whole) -> dict[str, pl.DataFrame]:
    """Its tables from what it found, where these are not all that came."""
    if hasattr(plugin, "joined") or _is_whole(plugin):
        tables: dict[str, pl.DataFrame] = answers[0]
        return tables
    return finished(plugin, answers, second, whole)


def _frames(trace: Trace, plugins: Plugins) -> dict[str, pl.DataFrame]:
    """The columns that each analysis reads."""
    tables = collect(trace, plugins)
    return {name: tables[plugin.table].select(plugin.columns) for name, plugin in plugins.items()}
