"""Ask every analysis about a trace that is read once, and keep the answers."""

import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import polars as pl

from toolkit import plugins
from toolkit.analysis.whole import Whole
from toolkit.errors import InputFailure, SettingFailure, nearest
from toolkit.gathering import gathered, without_the_empty
from toolkit.protocols import Analysis
from toolkit.schema import OUTCOMES, TABLES
from toolkit.traces import NAMES, Trace, TraceInfo

Tables = dict[str, dict[str, pl.DataFrame]]  # analysis -> table -> frame, as docs/analyses.md lists them
CATEGORIES = (*NAMES, "status")  # few distinct values: grouped by number instead of by text
TOGETHER_ROWS = 20_000_000  # from here on memory counts more than time: what needs all rows runs one after the other
TURN_S = 0.0002
SLICE_ROWS = 2**21  # requests that an analysis is asked about at once
FITS = "scipy.special"  # what they are computed by: a fifth of a second to load, free while a trace is read
LONGEST_S = 100 * 365.25 * 86_400  # what is counted in hours and minutes, empty ones too, has an end
ON_REQUEST = ("drift", "groups", "clients")  # cost more than all the others, so they run only when asked for
LONGEST = (*ON_REQUEST, "lengths", "idle")  # are begun first, so that the last to end are short

Asked = Mapping[str, Mapping[str, Any]]  # the analyses on request that were asked for -> their parameters


def analyse(trace: Trace, asking: Callable[[str], None] = lambda name: None, asked: Asked | None = None) -> Tables:
    """Every analysis' tables, those on request where `asked` names them.

    `asking` is told each name before it runs, and "reading" first; it may be called from several threads.
    """
    check_span(trace.info)
    wanted_too = asked or {}
    questions = {name: plugin(**wanted_too.get(name, {})) for name, plugin in installed(wanted_too).items()}
    asking("reading")
    with ThreadPoolExecutor(1) as beside:
        beside.submit(import_module, FITS)
        frames = collect(trace, questions)

    def answer(name: str) -> dict[str, pl.DataFrame]:
        asking(name)
        question = questions[name]
        frame = frames[question.table]
        return answered(question, pl.DataFrame([frame[column] for column in question.columns]), trace.info)

    alone = [name for name, question in questions.items() if _is_heavy(name, question, frames)]
    answers = {name: answer(name) for name in alone}
    in_turn = dict.fromkeys([*LONGEST, *questions])
    others = [name for name in in_turn if name in questions and name not in answers]
    with ThreadPoolExecutor(2) as crew, _short_turns():
        answers |= zip(others, crew.map(answer, others), strict=True)
    return {name: answers[name] for name in questions}


@contextmanager
def _short_turns() -> Iterator[None]:
    """NumPy lets go of the interpreter at every step: who wants it back does not wait long for the other thread."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)


def answered(question: Any, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
    """Its tables; one that can be asked part by part is asked so, and needs memory for one part at a time."""
    if not _in_slices(question) or frame.height <= SLICE_ROWS:
        answer: dict[str, pl.DataFrame] = question.run(frame, info)
        return answer
    whole = Whole.of(frame["arrival_s"], info) if "arrival_s" in question.columns else Whole(info, frame.height)
    parts = list(frame.iter_slices(SLICE_ROWS))
    if hasattr(question, "glance"):
        whole = replace(whole, seen=[question.glance(part, whole) for part in parts])
    return finished(question, [question.partial(part, replace(whole, part=k)) for k, part in enumerate(parts)], whole)


def finished(question: Any, parts: Sequence[Any], whole: Whole) -> dict[str, pl.DataFrame]:
    """Its tables from what it said of each part."""
    tables: dict[str, pl.DataFrame] = question.finish(parts, whole)
    return tables


def _in_slices(question: Any) -> bool:
    """Whether it says what it finds in a part in little."""
    return hasattr(question, "partial") and not hasattr(question, "joined") and not hasattr(question, "shares")


def _is_heavy(name: str, question: Analysis, frames: Mapping[str, pl.DataFrame]) -> bool:
    """Whether it may need so much memory that nothing should run beside it."""
    in_slices = _in_slices(question) and name not in ON_REQUEST
    return not in_slices and frames[question.table].height >= TOGETHER_ROWS


def check_span(info: TraceInfo) -> None:
    """Refuse times that are hardly all of one unit."""
    if (info.span_s or 0.0) > LONGEST_S:
        years = f"its times span {(info.span_s or 0.0) / LONGEST_S * 100:,.0f} years"
        raise InputFailure(years, where=info.name, hint="are they of one unit? --from and --to leave out strays")


def installed(asked: Collection[str] = ()) -> dict[str, Callable[..., Analysis]]:
    """Every registered analysis, those on request where `asked` holds them; nothing else is even imported.

    A third party's that cannot be loaded is left out with a warning.
    """
    found = {}
    for name, entry in plugins.plugins("analysis").items():
        if name in ON_REQUEST and name not in asked:
            continue
        try:
            found[name] = entry.load()
        except Exception as error:
            if entry.origin == "built-in":
                raise
            warnings.warn(f"analysis '{name}' of {entry.origin} is left out: {error}", stacklevel=2)
    return found


def collect(trace: Trace, questions: Mapping[str, Analysis]) -> dict[str, pl.DataFrame]:
    """The columns that the questions read, of the trace and of what its source measured, from one pass."""
    columns = wanted(questions, "trace")
    frame = trace.frame if trace.numbered is None else without_the_empty(trace.numbered, columns, trace.info.rows_kept)
    narrow = {"trace": _narrow(frame, columns)}
    if trace.outcomes is not None:
        narrow["outcomes"] = _narrow(trace.outcomes, wanted(questions, "outcomes"))
    return {"outcomes": OUTCOMES.to_frame()} | gathered(narrow)


def wanted(questions: Mapping[str, Analysis], table: Literal["trace", "outcomes"]) -> list[str]:
    """The columns of `table` that any question reads, in the table's order."""
    read = set()
    for name, question in questions.items():
        for column in question.columns if question.table == table else ():
            if column not in TABLES[table]:
                raise SettingFailure(
                    f"no column '{column}'", where=f"analysis {name}", hint=nearest(column, TABLES[table])
                )
            read.add(column)
    return [column for column in TABLES[table] if column in read]


def _narrow(frame: pl.LazyFrame, columns: list[str]) -> pl.LazyFrame:
    return frame.select(
        pl.col(column).cast(pl.Categorical) if column in CATEGORIES else pl.col(column) for column in columns
    )


def save(tables: Tables, trace: Trace, summary: bytes, folder: Path) -> list[Path]:
    """Write the tables, analysis.json and report.html into `folder`; the paths written, the report first."""
    page: str = plugins.load("page", "trace")(tables, trace.info)
    contents: dict[str, Any] = {"report.html": page.encode(), "analysis.json": summary}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        frames = {f"{name}_{t}.parquet": frame for name, answer in tables.items() for t, frame in answer.items()}
        for name, frame in frames.items():
            frame.write_parquet(folder / name)
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise InputFailure(what, where=str(folder), hint="choose another folder") from error
    return [folder / name for name in (*contents, *frames)]
