"""Ask every analysis about a trace that is read once, and keep the answers."""

import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from toolkit import plugins
from toolkit.analysis.whole import Whole
from toolkit.errors import InputFailure
from toolkit.gathering import gathered
from toolkit.protocols import Analysis
from toolkit.schema import OUTCOMES
from toolkit.survey import Survey, wanted
from toolkit.traces import NAMES, Trace, TraceInfo

Tables = dict[str, dict[str, pl.DataFrame]]  # analysis -> table -> frame, as docs/analyses.md lists them
CATEGORIES = (*NAMES, "status")  # few distinct values: grouped by number instead of by text
MANY = 1_000_000  # requests of a stored trace, from which they are looked at while they are read
FITS = "scipy.special"  # what they are computed by: a fifth of a second to load, free while a trace is read
LONGEST_S = 100 * 365.25 * 86_400  # what is counted in hours and minutes, empty ones too, has an end
ON_REQUEST = ("drift", "groups", "clients")  # cost more than all the others, so they run only when asked for

Asked = Mapping[str, Mapping[str, Any]]  # the analyses on request that were asked for -> their parameters


def analyse(trace: Trace, asking: Callable[[str], None] = lambda name: None, asked: Asked | None = None) -> Tables:
    """Every analysis' tables, those on request where `asked` names them.

    `asking` is told "reading", and each name before it is answered; it may be called from several threads.
    """
    check_span(trace.info)
    wanted_too = asked or {}
    questions = {name: plugin(**wanted_too.get(name, {})) for name, plugin in installed(wanted_too).items()}
    asking("reading")
    with ThreadPoolExecutor(1) as beside, ThreadPoolExecutor(2) as crew:
        beside.submit(import_module, FITS)
        survey = Survey(questions, trace.info, crew, asking)
        whole = _known(trace)
        if whole is not None and trace.numbered is not None:
            survey.of_stored(trace.numbered, whole)
            survey.of_table("outcomes", OUTCOMES.to_frame(), Whole(trace.info, 0))
        else:
            for table, frame in collect(trace, questions).items():
                survey.of_table(table, frame, Whole.of(frame, trace.info))
        answers = survey.answers()
    return {name: answers[name] for name in questions}


def _known(trace: Trace) -> Whole | None:
    """What parts have to know of all, where a long trace's file tells before it is read."""
    if trace.numbered is None or trace.outcomes is not None or trace.info.rows_kept < MANY:
        return None
    arrival = trace.numbered.select("arrival_s")
    if arrival.filter(pl.col("arrival_s").is_null()).head(1).collect().height:
        return None
    first_s, last_s = (end.collect().item() for end in (arrival.head(1), arrival.tail(1)))
    return Whole(trace.info, trace.info.rows_kept, first_s, last_s)


def check_span(info: TraceInfo) -> None:
    """Refuse times that are hardly all of one unit."""
    if (info.span_s or 0.0) > LONGEST_S:
        long = (info.span_s or 0.0) / LONGEST_S * 100
        years = f"its times span {f'{long:,.0f}' if long < 1e12 else f'{long:.3g}'} years"
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
    narrow = {"trace": _narrow(trace.frame if trace.numbered is None else trace.numbered, columns)}
    if trace.outcomes is not None:
        narrow["outcomes"] = _narrow(trace.outcomes, wanted(questions, "outcomes"))
    return {"outcomes": OUTCOMES.to_frame()} | gathered(narrow)


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
