"""Weka's agentic coding sessions: turns with think time, nested sub-agents, prefix blocks named within the session."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from toolkit.errors import InputFailure
from toolkit.protocols import LoadOptions, Scan
from workloads.fields import BLOCKS, NAME, NUMBER, TEXT, TOKENS, Kind, Row, optional, shown
from workloads.outline import outline
from workloads.records import as_object, check, document_frame, need, need_list

OFFSET = Kind(pl.UInt64(), "a whole number from 0")
FIELDS = {
    "session_id": NAME,
    "turn": TOKENS,
    "source_id": TEXT,
    "parent_source_id": TEXT,
    "think_s": NUMBER,
    "kind": TEXT,
    "model": optional(TEXT),
    "in": TOKENS,
    "out": TOKENS,
    "hash_ids": optional(BLOCKS),
    "block_offset": OFFSET,
    "ttft": optional(NUMBER),
    "api_time": optional(NUMBER),
}
BLOCK_TOKENS = 64
SESSION_RELATIVE = "times are relative to each session: sessions have no arrival until starts are assigned"
SUB_AGENTS = (
    "a sub-agent's first request follows the request that launched it, its later ones follow each other; the next "
    "request of the session waits out the recorded think time, which covers the sub-agent's work"
)


class Weka:
    """Weka agentic JSON, one session a file: turns, think time, nested sub-agents, hash_ids of 64-token blocks."""

    def sniff(self, head: bytes, name: str) -> float:
        return 1.0 if {"id", "requests", "hash_id_scope", "block_size"} <= outline(head) else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        frame = document_frame(paths, FIELDS, _session).select(
            "session_id",
            "turn",
            "source_id",
            "parent_source_id",
            "think_s",
            "kind",
            "model",
            "drop_reason",
            row_hash=pl.col("source_id").hash(),  # requests have names, so none repeats another
            prompt_tokens="in",
            output_tokens="out",
            # names that are unique within a session become unique in the trace: a session shares one 64-bit offset
            prefix_blocks=pl.col("hash_ids") + pl.col("block_offset"),
            source_ttft_s="ttft",
            source_e2e_s="api_time",
        )
        return Scan(
            frame=frame,
            time_unit=None,
            time_unit_reason="the source has no arrival times, only seconds within a session",
            block_tokens=BLOCK_TOKENS,
            block_scope="session",
            notes=(SESSION_RELATIVE, SUB_AGENTS),
        )


def _session(document: Any, where: str) -> Iterator[Row]:
    """The session's requests, each followed by those of the sub-agents that it launched."""
    name = str(need(document, "id", where))
    _check_blocks(document, where)
    chain = _Chain(name, "main", where, scope=name if document.get("hash_id_scope") == "local" else "")
    for number, request in enumerate(need_list(document, "requests", where)):
        if as_object(request, where).get("type") == "subagent":
            yield from _sub_agent(request, number, chain)
        else:
            yield chain.row(request, f"{name}#{number}")


def _sub_agent(agent: dict[str, Any], number: int, launcher: "_Chain") -> Iterator[Row]:
    chain = _Chain(launcher.session, str(agent.get("subagent_type", "subagent")), launcher.where, launcher.scope)
    chain.last_id, chain.ended_s, chain.from_s = launcher.last_id, launcher.ended_s, _start_s(agent, launcher.where)
    for position, request in enumerate(need_list(agent, "requests", launcher.where)):
        yield chain.row(as_object(request, launcher.where), f"{launcher.session}#{number}.{position}")


class _Chain:
    """Requests of one agent, each of which waits for the one before."""

    def __init__(self, session: str, kind: str, where: str, scope: str):
        self.session, self.kind, self.where, self.scope = session, kind, where, scope
        self.offset = int.from_bytes(blake2b(scope.encode(), digest_size=8).digest()) if scope else 0
        self.turn, self.from_s = 0, 0.0
        self.last_id: str | None = None
        self.ended_s: float | None = None

    def row(self, request: dict[str, Any], source_id: str) -> Row:
        begins_s = self.from_s + _seconds(request, "t", self.where)
        row = {
            **request,
            "block_offset": self.offset,
            "session_id": self.session,
            "turn": self.turn,
            "source_id": source_id,
            "parent_source_id": self.last_id,
            "think_s": self._think_s(request, begins_s),
            "kind": self.kind,
        }
        took_s = request.get("api_time")
        self.ended_s = begins_s + took_s if isinstance(took_s, (int, float)) else None
        self.last_id, self.turn = source_id, self.turn + 1
        return row

    def _think_s(self, request: dict[str, Any], begins_s: float) -> float | None:
        """As recorded; for a sub-agent's first request, and where none is recorded, the gap after the parent."""
        if self.last_id is None:
            return None
        if self.turn > 0 and request.get("think_time") is not None:
            return _seconds(request, "think_time", self.where)
        return max(0.0, begins_s - self.ended_s) if self.ended_s is not None else None


def _start_s(agent: dict[str, Any], where: str) -> float:
    """When a sub-agent began: `t` is when a completed one ended, and when an asynchronous one was launched."""
    t, took_ms = _seconds(agent, "t", where), agent.get("duration_ms")
    return t - took_ms / 1000 if isinstance(took_ms, (int, float)) else t


def _seconds(record: dict[str, Any], key: str, where: str) -> float:
    value = need(record, key, where)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise InputFailure(f"'{key}' is {shown(value)}, not a number of seconds", where=where)


def _check_blocks(document: dict[str, Any], where: str) -> None:
    size = document.get("block_size", BLOCK_TOKENS)
    if size != BLOCK_TOKENS:
        raise InputFailure(f"'block_size' is {shown(size)}, not {BLOCK_TOKENS}", where=where)
