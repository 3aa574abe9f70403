"""From URLs to addresses that answer, and from a trace's models to who serves them."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.http.endpoint import Endpoint, endpoint
from replay.http.pool import Address
from toolkit.errors import SettingFailure, nearest
from toolkit.specs import build, load

ANY = "*"
CONNECT_S = 10.0


@dataclass(frozen=True)
class Served:
    """Where a model of the trace is served, and as what; null: by --url, and under its own name."""

    model: str | None = None
    url: str | None = None


def read_models(path: Path) -> dict[str, Served]:
    """Read a map of trace models (`*`: all others) to what serves them."""
    return dict(build(load(path), dict[str, Served]))


def address_of(target: Endpoint) -> Address:
    """The first address of the host, which must accept a connection."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise SettingFailure(f"no address for '{target.host}' ({error.strerror})", where="--url") from error
    why = ""
    for family, _, _, _, address in found:
        try:
            with socket.create_connection((str(address[0]), int(address[1])), timeout=CONNECT_S):
                return int(family), tuple(address)
        except OSError as error:
            why = error.strerror or str(error)
    raise SettingFailure(f"{target.url} does not answer ({why})", where="--url", hint="is the server running?")


@dataclass(frozen=True)
class Routes:
    """`of` is each request's route, a number of `table`: (endpoint, served model)."""

    endpoints: list[Endpoint]
    table: list[tuple[int, str]]
    of: NDArray[np.int64]


def routes(trace: pl.DataFrame, urls: Sequence[str], models: Mapping[str, Served], served: Any) -> Routes:
    """A route for each of the trace's models. `served(endpoint)` lists what an endpoint serves.

    A model goes where the map says, else to `urls` in turn; under the name the map says, else its own where the
    endpoint serves that, else the only one that it serves.
    """
    endpoints: dict[Endpoint, int] = {}
    table: dict[tuple[int, str], int] = {}
    names = trace["model"].unique(maintain_order=True).to_list()
    _check_known(models, names)
    number: dict[Any, list[int]] = {}
    for name in names:
        entry = models.get(name or ANY) or models.get(ANY) or Served()
        for url in [entry.url] if entry.url else urls:
            target = endpoint(url)
            at, names_there = endpoints.setdefault(target, len(endpoints)), served(target)
            key = (at, entry.model or _name_for(name, target, names_there))
            number.setdefault(name, []).append(table.setdefault(key, len(table)))
    turn = trace.select(pl.int_range(pl.len()).over("model")).to_series().to_numpy()
    of = [number[name][t % len(number[name])] for name, t in zip(trace["model"], turn, strict=True)]
    return Routes(list(endpoints), list(table), np.array(of, np.int64))


def _check_known(models: Mapping[str, Served], names: Sequence[str | None]) -> None:
    known = [n for n in names if n is not None]
    for name in models:
        if name != ANY and name not in known:
            raise SettingFailure(f"the trace has no model '{name}'", where="--models", hint=nearest(name, known))


def _name_for(name: str | None, target: Endpoint, served: Sequence[str]) -> str:
    if name in served and name is not None:
        return name
    if len(served) == 1:
        return served[0]
    hint = "say which in a file for --models, as in: '*': {model: NAME}"
    what = f"{target.url} serves no model '{name}'" if served else f"{target.url} lists no models"
    raise SettingFailure(what, where="--url", hint=f"{nearest(name or '', served)}; {hint}" if served else hint)
