"""What `trace replay` does: from its options to run folders, and back from run folders when resumed."""

import shlex
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import polars as pl
from click.core import ParameterSource

from replay.engines.openai_options import OF_ENDPOINTS
from replay.engines.transformers_options import IN_PROCESS
from replay.explain import checked_request, story
from replay.latency_models.choosing import served_by
from replay.progress import progress
from replay.replayer import Job, Replayer, drop_untouched, open_jobs, split_specs
from replay.shaping import ramped, refuse_circles, warm_up_of
from replay.simulation import checkpoints
from replay.simulation.hardware import ServedModel, gpu_preset, kv_blocks, model_preset
from replay.simulation.setup import Limits
from toolkit import plugins
from toolkit.errors import InputFailure, RunFailure, SettingFailure, printable
from toolkit.gathering import gathered
from toolkit.protocols import Engine
from toolkit.runs import Run, RunWriter, find_runs
from toolkit.selection import NOT_SELECTED
from toolkit.trace_options import open_trace
from toolkit.traces import Trace, TraceInfo

OF_ONE_ENGINE = {
    "gpu", "model_preset", "latency", "tensor_parallel", "kv_blocks", "block_tokens", "max_num_seqs",
    "max_num_batched_tokens", "max_model_len", "prefix_caching", "decode_first", "swap_bytes_per_s", "instances",
    "routing", "async_scheduling", "expert_parallel", "batch_size", "batch_wait_s", "idle_poll_s", "model_path",
    "preempt_by", "watermark",
}  # fmt: skip
OF_SIMULATIONS = {
    "gpu", "latency", "tensor_parallel", "swap_bytes_per_s", "async_scheduling", "watermark", "instances",
    "routing", "expert_parallel", "batch_size", "batch_wait_s", "idle_poll_s",
}  # fmt: skip
OF_MICRO_BATCHES = {"batch_size", "batch_wait_s", "idle_poll_s"}
REAL = ("openai", "transformers")
ON_CLUSTERS = {"simulated": "replay.engines.cluster", "transformers": "replay.engines.transformers_cluster"}
NOT_REPLAYED = ("source_status", "source_ttft_s", "source_e2e_s")


def begin(options: dict[str, Any]) -> bool:
    """Start the replays the options ask for; True when all are finished."""
    given = {**options, "traces": [str(path) for path in options["traces"]], "out": str(options["out"])}
    engines = build_engines(options)
    trace = open_trace(options["traces"], dict(options))
    _say_dropped(trace.info)
    requests = ramped(replayable(trace, options["session_gap_s"]), options["ramp_s"])
    of_one = options["engine"] not in REAL and options["cluster"] is None
    hardware = {name: options[name] for name in ("gpu", "latency", "tensor_parallel")}
    settings = {
        "trace": trace.info.to_dict(),
        "hardware": {**hardware, "model": options["model_preset"]} if of_one else None,
        "seed": None,
        "warm_up": warm_up_of(options["warm_up"]),
        "options": given,
        "command": command_line(given),
    }
    specs = split_specs(options["schedulers"], "--scheduler")
    for engine in engines.values():
        if hasattr(engine, "check"):
            engine.check(requests, specs)
    existed = options["out"].exists()
    jobs = open_jobs(options["out"], specs, engines, settings)
    try:
        return _run(requests, trace, jobs)
    except Exception:
        drop_untouched(jobs)
        if not existed and not any(options["out"].iterdir()):
            options["out"].rmdir()
        raise


def _say_dropped(info: TraceInfo) -> None:
    """Say on stderr which rows cannot be replayed because reading the trace dropped them."""
    reasons = [f"{rows:,} {reason}" for reason, rows in info.dropped.items() if reason != NOT_SELECTED]
    if reasons:
        click.echo(printable(f"{info.name}: rows dropped when it was read: {', '.join(reasons)}"), err=True)


def explain(options: dict[str, Any], request: int) -> None:
    """Print the story of one request under each scheduler."""
    if options["cluster"] is not None:
        raise SettingFailure("explains requests of one engine", where="--explain", hint="leave out --cluster")
    engine = build_engine(options)
    if not hasattr(engine, "explain"):
        raise SettingFailure(
            "explains no request", where=f"--engine {options['engine']}", hint="use --engine simulated"
        )
    trace = open_trace(options["traces"], dict(options))
    requests = ramped(replayable(trace, options["session_gap_s"]), options["ramp_s"])
    for spec in split_specs(options["schedulers"], "--scheduler"):
        rows = engine.explain(
            requests, trace.info, plugins.create("scheduler", spec), checked_request(requests, request)
        )
        click.echo("\n".join([printable(spec), *story(requests, request, rows)]))


def resume(folder: Path) -> bool:
    """Finish the unfinished runs in `folder`; each continues from its checkpoint. True when all are finished."""
    open_runs = [run for run in find_runs([folder]) if not run.finished]
    if not open_runs:
        click.echo(f"{folder}: every run is finished already")
    finished = True
    for group in _alike(open_runs):
        options = dict(group[0].info["options"])
        trace = open_trace([Path(p) for p in options["traces"]], dict(options))
        _check_same(trace, group[0])
        engines = build_engines(options)
        jobs = [_job(run, engines) for run in group]
        _say_what_starts_over(group, jobs)
        requests = ramped(replayable(trace, options["session_gap_s"]), options.get("ramp_s"))
        finished &= _run(requests, trace, jobs)
    return finished


def _say_what_starts_over(runs: Iterable[Run], jobs: Iterable[Job]) -> None:
    for run, job in zip(runs, jobs, strict=True):
        why = getattr(job.engine, "starts_over", None)
        if why is not None and not (run.path / checkpoints.NAME).exists():
            click.echo(f"{printable(str(run.path))}: starts over: {why}", err=True)


def _job(run: Run, engines: Mapping[str | None, Engine]) -> Job:
    placement = run.info.get("placement", {}).get("spec")
    return Job(run.info["scheduler"]["spec"], RunWriter(run.path, run.info), engines[placement])


def build_engines(options: dict[str, Any]) -> dict[str | None, Engine]:
    """The engines the options describe: one for each placement on a cluster, else one (None)."""
    _refuse_of_others(options["engine"])
    if options["engine"] == "simulated" and options["band"] and options.get("warm_up"):
        hint = "replay without bands, by --no-band"
        raise SettingFailure("cannot be left out of the bands of step time", where="--warm-up", hint=hint)
    if options["cluster"] is None:
        for name, option in (("placements", "--placement"), ("slo_scale", "--slo-scale")):
            if options[name]:
                raise SettingFailure("needs a cluster", where=option, hint="describe it with --cluster CLUSTER.yaml")
        return {None: build_engine(options)}
    if options["engine"] not in ON_CLUSTERS:
        raise SettingFailure(f"is not served by --engine {options['engine']}", where="--cluster")
    hint = "leave it out; CLUSTER.yaml says what there is, docs/many-models.md its keys"
    _refuse(OF_ONE_ENGINE, "is of one engine, not of a --cluster", hint)
    specs = split_specs(options["placements"] or ("static",), "--placement")
    from_options = import_module(ON_CLUSTERS[options["engine"]]).from_options
    return {spec: from_options(options, spec) for spec in specs}


def _refuse_of_others(engine: str) -> None:
    """Refuse what only another engine would heed."""
    if engine != "openai":
        _refuse(OF_ENDPOINTS, "is of --engine openai", "leave it out")
    if engine != "transformers":
        _refuse(IN_PROCESS, "is of --engine transformers", "leave it out")
    if engine in REAL:
        names = OF_ONE_ENGINE if engine == "openai" else OF_SIMULATIONS
        _refuse(names, f"is not of --engine {engine}", "leave it out")
    else:
        _refuse({"lag_bound_s"}, "is of engines that are sent to", "leave it out")
    if engine != "micro-batch":
        _refuse(OF_MICRO_BATCHES, "is of --engine micro-batch", "leave it out")


def _refuse(names: set[str], what: str, hint: str) -> None:
    """Nothing that was said may be passed over in silence."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name in names:
            raise SettingFailure(what, where=parameter.opts[0], hint=hint)


def build_engine(options: dict[str, Any]) -> Engine:
    """The engine the options describe."""
    if options["engine"] in REAL:
        made: Engine = _module(options["engine"]).from_options(options)
        return made
    gpu, model, gpus = gpu_preset(options["gpu"]), model_preset(options["model_preset"]), options["tensor_parallel"]
    ranks = _ranks(options, model)
    split = {"tensor_parallel": gpus, "expert_parallel": ranks}
    blocks = options["kv_blocks"] or kv_blocks(gpu, model, options["block_tokens"], **split)
    limits = Limits(
        kv_blocks=blocks,
        watermark_blocks=int(options["watermark"] * blocks),
        block_tokens=options["block_tokens"],
        max_num_seqs=options["max_num_seqs"],
        max_num_batched_tokens=options["max_num_batched_tokens"],
        max_model_len=options["max_model_len"] or model.max_position_embeddings,
        prefix_caching=options["prefix_caching"],
        prefill_first=not options["decode_first"],
        async_scheduling=options["async_scheduling"],
        lockstep=ranks > 1,
        instances=options["instances"],
        routing=options["routing"],
        swap_s_per_token=model.kv_bytes_per_token / rate if (rate := options["swap_bytes_per_s"]) else 0.0,
    )
    latency = served_by(options["latency"], options["gpu"], options["model_preset"], gpus, ranks)
    closed = options["sessions"] == "closed"
    if options["engine"] == "micro-batch":
        protocol = {name: options[name] for name in ("batch_size", "batch_wait_s", "idle_poll_s")}
        micro_batch: Engine = plugins.load("engine", "micro-batch")(latency, limits, closed, **protocol)
        return micro_batch
    simulated: Engine = plugins.load("engine", "simulated")(latency, limits, band=options["band"], closed=closed)
    return simulated


def _module(engine: str) -> Any:
    """Where a real engine is; what only it needs is imported with it."""
    return import_module(f"replay.engines.{engine}")


def _ranks(options: dict[str, Any], model: ServedModel) -> int:
    """Instances that share the model's experts; 1 where each has all of them."""
    if not options["expert_parallel"]:
        return 1
    if options["instances"] == 1:
        raise SettingFailure("one instance has none to share with", where="--expert-parallel", hint="give --instances")
    if not model.num_experts:
        raise SettingFailure(f"{options['model_preset']} has no experts", where="--expert-parallel")
    return int(options["instances"])


def replayable(trace: Trace, session_gap_s: float | None) -> pl.DataFrame:
    """The trace in memory, without what a replay does not read; InputFailure when nothing, or not all, can be replayed.

    Where no request has an arrival (length tables, sessions without a common clock), those that follow no other start
    `session_gap_s` apart, in the trace's order.
    """
    frame = gathered({"trace": trace.frame.drop(NOT_REPLAYED)})["trace"]
    if frame.is_empty():
        raise InputFailure("no request is left to replay", where=trace.info.name, hint="widen the selection")
    refuse_circles(frame, trace.info.name)
    waits = pl.col("parent_id").is_not_null() & pl.col("think_s").is_not_null()
    without = frame.select((pl.col("arrival_s").is_null() & ~waits).sum()).item()
    if not without:
        return frame
    if session_gap_s is None or frame["arrival_s"].null_count() < len(frame):
        hint = "let them start one after the other with --session-gap-s S, or give arrivals with --map arrival_s=…"
        raise InputFailure(
            f"{without:,} requests have no arrival and follow no other", where=trace.info.name, hint=hint
        )
    starts = pl.when(~waits).then(((~waits).cum_sum() - 1) * session_gap_s)
    return frame.with_columns(arrival_s=starts)


def command_line(options: dict[str, Any]) -> str:
    """The command that repeats a run."""
    declared = click.get_current_context().command.params
    words = ["trace", "replay", *options["traces"]]
    for parameter in declared:
        if not isinstance(parameter, click.Option) or parameter.name not in options or parameter.name == "resume":
            continue
        value = options[parameter.name]
        if value == parameter.default or value is None or value == ():
            continue
        if isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
            continue
        given = value if parameter.multiple else [value]
        for one in given:
            words += [parameter.opts[0], *(str(v) for v in (one if parameter.nargs > 1 else [one]))]
    return shlex.join(words)


def _run(requests: pl.DataFrame, trace: Trace, jobs: Sequence[Job]) -> bool:
    bars = [job.name for job in jobs if not getattr(job.engine, "shows_progress", False)]
    with progress(bars, len(requests)) as report, interrupted_by_sigterm():
        finished = Replayer(requests, trace.info, report).run(jobs)
    for job in jobs:
        click.echo(_line(job.writer))
    return finished


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM stops a replay as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def client_bound(folder: Path) -> bool:
    """Whether a run in `folder` was not sent on time."""
    return any(run.info.get("verdict") == "CLIENT-BOUND" for run in find_runs([folder]))


def _line(writer: RunWriter) -> str:
    info = writer.info
    if info["state"] != "finished":
        return f"{writer.path}: unfinished"
    if "verdict" in info:
        from replay.http.verdict import said

        return f"{writer.path}: {said(info)}"
    rho = f"{info['utilisation']:.2f}" if info["utilisation"] is not None else "unknown"
    return (
        f"{writer.path}: {info['requests']:,} requests, {info['steps']:,} steps, {info['preemptions']:,} preemptions, "
        f"load ρ {rho}, simulated in {info['simulation_cpu_s']:.2f} s{_follows(info)}"
        f"{_not_served(writer.path)}{_left_out(info)}"
    )


def _follows(info: Mapping[str, Any]) -> str:
    """Whom a placement follows that has tried others before."""
    return f"; follows {info['follows']}" if info.get("follows") else ""


def _not_served(path: Path) -> str:
    """How many requests did not end well, and why one of those did not whose reason is the commonest."""
    failed = Run.open(path).table("outcomes").filter(pl.col("status") != "ok")
    why = failed.group_by("status", "error").len().sort("len", "error", descending=True).collect()
    if why.is_empty():
        return ""
    status, error, _ = why.row(0)
    return f"; {why['len'].sum():,} not served, such as: {status}, {error}"


def _left_out(info: Mapping[str, Any]) -> str:
    return "".join(f"; {count:,} left out, {reason}" for reason, count in info.get("left_out", {}).items())


def _alike(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs begun by the same command, together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if "options" not in run.info:
            raise RunFailure("was not made by `trace replay`", where=str(run.path), hint="only its runs are resumed")
        groups.setdefault(str(run.info["command"]), []).append(run)
    return list(groups.values())


def _check_same(trace: Trace, run: Run) -> None:
    if trace.info.sha256 != run.info["trace"]["sha256"]:
        hint = "restore the file the run was begun with, or start a new run"
        raise RunFailure("the trace has changed since the run was begun", where=str(run.path), hint=hint)
