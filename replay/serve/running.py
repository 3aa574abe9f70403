"""From settings to a server that runs until it is told to stop."""

import asyncio
import errno
import os
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from replay.http.endpoint import Endpoint
from replay.http.open_files import open_as_many_as_may_be
from replay.latency_models.choosing import served_by
from replay.serve.batching import Batching
from replay.serve.faults import faults
from replay.serve.metrics import Metrics
from replay.serve.pace import Pace
from replay.serve.server import Connection, House
from replay.serve.step_time import StepTime
from replay.simulation.hardware import gpu_preset, kv_blocks, model_preset
from replay.simulation.lowering import lower
from replay.simulation.setup import Limits, bounded
from toolkit.errors import SettingFailure


@dataclass(frozen=True)
class Settings:
    """What `trace serve` was told."""

    host: str
    port: int
    gpu: str
    model_preset: str
    latency: str
    tensor_parallel: int
    kv_blocks: int | None
    block_tokens: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int | None
    prefix_caching: bool
    served_model_name: str | None
    time_scale: float
    fault: str
    log: str | None
    seed: int


def engine(settings: Settings) -> Batching:
    """The engine that serves."""
    gpu, model = gpu_preset(settings.gpu), model_preset(settings.model_preset)
    blocks = settings.kv_blocks or kv_blocks(
        gpu, model, settings.block_tokens, tensor_parallel=settings.tensor_parallel
    )
    limits = Limits(
        kv_blocks=blocks,
        block_tokens=settings.block_tokens,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_model_len=min(
            settings.max_model_len or model.max_position_embeddings, blocks * settings.block_tokens
        ),  # what does not fit alone is refused, for it could never run
        prefix_caching=settings.prefix_caching,
    )
    latency = served_by(settings.latency, settings.gpu, settings.model_preset, settings.tensor_parallel)
    limits = bounded(limits)
    tables = lower(latency, limits.max_num_batched_tokens, limits.max_num_seqs, limits.max_model_len)
    return Batching(limits, StepTime(tables))


def run(settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    open_as_many_as_may_be()
    drawn = faults(settings.fault, settings.seed)
    made = engine(settings)
    try:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    name = settings.served_model_name or settings.model_preset
    pace, end = Pace(loop, made, settings.time_scale), loop.create_future()
    house = House(name, pace, drawn, random.Random(settings.seed), Metrics(name), end)
    with _appended(settings.log) as house.log:
        try:
            loop.run_until_complete(_serve(loop, house, settings))
        finally:
            loop.close()


@contextmanager
def _appended(path: str | None) -> Iterator[IO[bytes] | None]:
    """The file to log to, written line by line; null without one."""
    if path is None:
        yield None
        return
    try:
        with Path(path).open("ab", buffering=0) as file:
            yield file
    except OSError as error:
        raise SettingFailure(f"cannot be written ({error.strerror or error})", where=f"--log {path}") from error


async def _serve(loop: asyncio.AbstractEventLoop, house: House, settings: Settings) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, house.stop)
    try:
        server = await loop.create_server(lambda: Connection(house), settings.host, settings.port, backlog=4096)
    except OSError as error:
        said = errno.errorcode.get(error.errno or 0, "")
        own = isinstance(error, socket.gaierror) or not error.errno  # its numbers are no errno's
        why = str(error.strerror or error) if own else os.strerror(error.errno or 0)
        hint = "choose another --port" if said == "EADDRINUSE" else None
        raise SettingFailure(why, where=f"{settings.host}:{settings.port}", hint=hint) from error
    at = Endpoint("http", settings.host, server.sockets[0].getsockname()[1], "")
    limits = house.pace.engine.limits
    click.echo(
        f"serving {house.model} on one simulated {settings.gpu} ({limits.kv_blocks:,} KV blocks of "
        f"{limits.block_tokens}) at {at.url}; Ctrl-C ends it"
    )
    try:
        await house.end
    finally:
        server.close()
        house.pace.close()
