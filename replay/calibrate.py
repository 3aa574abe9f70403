"""`trace calibrate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from replay.calibration.engine_log import EngineLog

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
COLUMNS = ("mean_error", "p50_error", "p90_error", "p99_error", "mape")


@click.command(short_help="Build a latency model from a profile or a run, or check one against a real engine's log.")
@click.option("--check", "log", type=FOLDER, metavar="LOGDIR", help="Replay a real run's log and print the errors.")
@click.option("--profile", type=FOLDER, metavar="DIR", help="Use the layer profile in this folder.")
@click.option("--run", type=FOLDER, metavar="RUN", help="Fit step times to this run folder.")
@click.option(
    "--instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="With --run: identical engines that served it.",
)
@click.option(
    "--max-num-batched-tokens",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="With --run: the engine's limit.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the latency model (YAML).")
@click.option("--model-preset", help="The model, where a log or a profile names none or one without preset.")
@click.option("--tensor-parallel", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate(
    log: Path | None,
    profile: Path | None,
    run: Path | None,
    instances: int,
    max_num_batched_tokens: int,
    out: Path | None,
    model_preset: str | None,
    tensor_parallel: int,
    as_json: bool,
) -> None:
    """Build a latency model from a profile or a run, or check one against a real engine's log.

    Example: trace calibrate --run runs/fcfs --out latency.yaml
    """
    if sum(given is not None for given in (log, profile, run)) != 1:
        raise click.UsageError("give one of --check, --profile and --run")
    if log is not None:
        _check(log, model_preset, as_json)
        return
    if out is None:
        raise click.UsageError("give --out: where to write the latency model")
    if profile is not None:
        _write(_of_profile(profile, model_preset, tensor_parallel), out, as_json)
    elif run is not None:
        _write(_of_run(run, instances, max_num_batched_tokens), out, as_json)


def _check(folder: Path, model: str | None, as_json: bool) -> None:
    import orjson

    from replay.calibration.check import check
    from replay.calibration.engine_log import read_log

    log = read_log(folder, model)
    found = check(log)
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    click.echo(f"{folder.name}: {found['requests']:,} requests, {found['preemptions']:,} preemptions simulated")
    click.echo(_limits(log))
    for note in found["notes"]:
        click.echo(f"  {note}")
    click.echo("  " + " " * 6 + "".join(f"{name.replace('_error', ''):>9}" for name in COLUMNS))
    for metric in ("ttft", "tpot", "e2e"):
        click.echo("  " + f"{metric.upper():6}" + "".join(_cell(found[metric], name) for name in COLUMNS))


def _cell(errors: dict[str, float], name: str) -> str:
    return f"{100 * errors[name]:{'' if name == 'mape' else '+'}8.1f}%"


def _limits(log: "EngineLog") -> str:
    limits = log.limits
    return (
        f"  {limits.instances} instance(s), {limits.kv_blocks:,} KV blocks of {limits.block_tokens}, max_num_seqs "
        f"{limits.max_num_seqs}, max_num_batched_tokens {limits.max_num_batched_tokens:,}, planned ahead: "
        f"{'yes' if limits.async_scheduling else 'no'}"
    )


def _of_profile(folder: Path, model: str | None, tensor_parallel: int) -> dict[str, Any]:
    """A latency model that reads the profile where it lies, and how well its tables predict knots left out of them."""
    from replay.calibration.knots import held_back_knots
    from replay.latency_models.profile import Profile
    from replay.latency_models.profile_tables import find_profile

    found = find_profile(folder, tensor_parallel).resolve()
    Profile(str(found), model, tensor_parallel)
    given = {"model": model} if model else {}
    parameters = {"path": str(found), "tensor_parallel": tensor_parallel, **given}
    return {"latency": "profile", **parameters, "held_back": held_back_knots(found)}


def _of_run(folder: Path, instances: int, budget: int) -> dict[str, Any]:
    from replay.calibration.fitting import fit_run
    from toolkit.errors import RunFailure
    from toolkit.runs import Run

    run = Run.open(folder)
    if not run.finished:
        raise RunFailure("is not finished", where=str(folder), hint="trace replay --resume continues it")
    endpoints = len(run.info["engine"].get("capabilities", ()))
    if instances < endpoints:
        hint = f"give --instances {endpoints} or more where they are alike, else calibrate on a run of one"
        raise RunFailure(f"was served at {endpoints} endpoints", where=str(folder), hint=hint)
    made = fit_run(run.table("outcomes"), str(folder), instances, budget)
    blocks = run.table("timeline").select("kv_total_blocks").max().collect().item()
    if blocks is not None:
        made["fitted"]["kv_blocks"] = blocks // (instances // endpoints if endpoints else 1)
    return {"latency": "fit", **made, "source": run.name}


def _write(made: dict[str, Any], out: Path, as_json: bool) -> None:
    import orjson
    import yaml

    from toolkit.errors import RunFailure

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(yaml.safe_dump(made, sort_keys=False))
    except OSError as error:
        hint = "give --out a file that can be written"
        raise RunFailure(f"cannot be written ({error.strerror})", where=str(out), hint=hint) from error
    if as_json:
        click.echo(orjson.dumps(made, option=orjson.OPT_INDENT_2))
        return
    held = ", ".join(f"{name} {value:.4g}" for name, value in made["held_back"].items())
    click.echo(f"{out}: latency model '{made['latency']}'; held back: {held}")
    fitted = made.get("fitted", {})
    if outside := fitted.get("outside_s"):
        click.echo(f"  {1e3 * outside:.2g} ms of a reply pass outside of the engine's steps: no simulation has them")
    if blocks := fitted.get("kv_blocks"):
        click.echo(f"  the engine has {blocks:,} KV blocks: simulate it with --kv-blocks {blocks}")
