"""`trace generate --like TRACE`: the workload of one stream that is like a given trace."""

from pathlib import Path

from toolkit.errors import InputFailure, SettingFailure
from toolkit.traces import read_trace
from workloads.generate_spec import Settings, Workload
from workloads.generators.like import Like
from workloads.generators.likeness import NEEDS
from workloads.generators.stream import Stream


def likeness(path: str, *, span_s: float | None, load: float, models: int | None) -> Workload:
    """A workload for `span_s` seconds (by default the trace's own) like the trace at `path`."""
    info = read_trace([path]).info
    if not info.span_s:
        raise InputFailure("cannot be fitted", where=info.name, hint=NEEDS)
    try:
        settings = Settings(span_s or info.span_s, clock_step_s=info.clock_step_s, epoch=info.epoch)
        generator = Like(Path(path), load, models)
    except ValueError as error:
        raise SettingFailure(str(error), where=f"--like {path}") from error
    name = f"like-{info.name}"
    digest = f"{info.sha256} {settings.span_s} {load} {models}"
    return Workload(settings, ((Stream("like", name), generator),), name, digest)
