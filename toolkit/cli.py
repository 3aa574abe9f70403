"""The `trace` command: a table of subcommands, each loaded when it is used."""

import atexit
import errno
import gc
import importlib
import os
import sys
from typing import Any

import click

from toolkit import __version__
from toolkit.errors import Failure, nearest, printable

# In the order of a session.
COMMANDS = {
    "analyze": "toolkit.commands.analyze:analyze",
    "convert": "workloads.commands:convert",
    "generate": "workloads.generate_command:generate",
    "datasets": "workloads.datasets_command:datasets",
    "replay": "replay.commands:replay",
    "sweep": "replay.sweep.commands:sweep",
    "calibrate": "replay.calibrate:calibrate",
    "report": "reports.commands:report",
    "query": "toolkit.commands.query:query",
    "serve": "replay.serve.command:serve",
    "plugins": "toolkit.commands.plugins:plugins",
}

# Before numpy is loaded: OpenBLAS' threads wait by spinning, on cores that analyses share already, and sum in an order
# of their own, so that last digits would depend on the number of cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
OBJECTS_A_COLLECTION = 100_000  # importing makes as many lasting ones; looking through them takes a tenth of a second
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, one's share of it, or the largest file there may be
DAMAGED = "parquet: File out of specification"  # polars' words, when it comes to a damaged page


class Commands(click.Group):
    """Subcommands by import string, listed in the order of a session; expected failures become one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command is called '{printable(args[0])}'; {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        gc.set_threshold(OBJECTS_A_COLLECTION)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            sys.stderr.close()
            ctx.exit(1)
        except Exception as error:
            expected = _expected(error)
            if expected is None:
                raise
            click.echo(f"trace: {expected}", err=True)
            ctx.exit(1)


def _expected(error: Exception) -> Failure | None:
    """The line for what is no bug: a failure, a full disk, a damaged file, a mistake in the user's own policy file."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, OSError) and error.errno in FULL:
        return Failure(f"cannot be written ({error.strerror})", where=_target(error), hint="make room for it")
    if str(error).startswith(DAMAGED):
        return Failure(f"a file is damaged ({str(error).splitlines()[0]})", hint="make or fetch it again")
    from toolkit.plugins import own_mistake

    return own_mistake(error)


def _target(error: OSError) -> str:
    """What could not be written; the system names no file for what was open already, as the output is."""
    return "output" if error.filename is None else str(error.filename)


@atexit.register
def _leave() -> None:
    """Spare Python a last look through all that was imported, which takes a tenth of a second.

    DuckDB needs it: what is not collected then, it takes for leaked and says so.
    """
    if "duckdb" not in sys.modules:
        gc.freeze()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="trace")
def main() -> None:
    """Trace replay and workload analysis for LLM serving."""
