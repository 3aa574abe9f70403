"""One request at a time, for what is asked before and beside a replay."""

import asyncio
from typing import Any

import orjson

from replay.http.deadlines import WAIT_S
from replay.http.endpoint import Endpoint, tls
from replay.http.exchange import Exchange
from replay.http.pool import Address, Dial, Pool
from replay.http.rows import Row

CLOSING_S = 0.005  # a few turns of the loop, in which the connection goes


def dial_of(target: Endpoint, address: Address, ca: str | None, connect_s: float = 10.0) -> Dial:
    return Dial(address, target.host, tls(ca) if target.scheme == "https" else None, connect_s)


def get(target: Endpoint, dial: Dial, path: str, wait_s: float = WAIT_S) -> Exchange:
    return asyncio.run(_ask(dial, target.head("GET", path), wait_s))


def post(target: Endpoint, dial: Dial, path: str, body: dict[str, Any], wait_s: float = WAIT_S) -> Exchange:
    data = orjson.dumps(body)
    return asyncio.run(_ask(dial, target.head("POST", path, len(data)) + data, wait_s))


def parsed(exchange: Exchange) -> Any:
    """The JSON of a 200 reply; null for anything else."""
    if exchange.failure is not None or exchange.status_code != 200:
        return None
    try:
        return orjson.loads(b"".join(exchange.parts))
    except orjson.JSONDecodeError:
        return None


async def _ask(dial: Dial, data: bytes, wait_s: float) -> Exchange:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Exchange] = loop.create_future()
    pool = Pool(loop, dial, reuse=True, ended=lambda e: None if answer.done() else answer.set_result(e))
    exchange = Exchange(Row(0, 0.0, None, None), data, loop.time())
    pool.send(exchange)
    late = None
    try:
        await asyncio.wait_for(answer, wait_s)
    except TimeoutError:
        late = ("timeout", f"no answer within {wait_s:g} s")
    finally:
        pool.close()
        await asyncio.sleep(CLOSING_S)
    exchange.failure = late or exchange.failure  # closing a connection fails what is under way on it
    return exchange
