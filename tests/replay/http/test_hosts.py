"""Sending from other hosts, with Ray's part played in this process: outposts are real, and so are their senders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replay.http import hosts
from replay.http.outpost import Outpost
from tests.replay.http.scripted import fine, serving
from tests.replay.http.test_replaying import replay, simple, tags, trace_file
from toolkit.runs import Run


class RayError(Exception):
    """What a lost actor's calls end in."""


class Actor:
    """Calls are made at once; after `lost` none is."""

    def __init__(self, made: Outpost):
        self.made, self.lost = made, False

    def __getattr__(self, name: str) -> Any:
        class Method:
            @staticmethod
            def remote(*arguments: Any) -> Callable[[], Any]:
                return lambda: self.call(name, arguments)

        return Method

    def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if self.lost:
            raise RayError("the host is gone")
        return getattr(self.made, name)(*arguments)

    def end(self) -> None:
        self.lost = True
        process = self.made._process
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, self.made._complaints):
                assert pipe is not None
                pipe.close()
        self.made._clock.close()
        self.made._folder.cleanup()


class Played:
    """As much of Ray as hosts.py asks for; the actor `victim` is lost when its journal has `after` bytes."""

    class exceptions:  # noqa: N801 Ray's own name
        RayError = RayError

    def __init__(self, victim: int = -1, after: int = 0):
        self.victim, self.after = victim, after
        self.actors: list[Actor] = []

    def remote(self, **options: Any) -> Any:
        def of(kind: type) -> Any:
            class Made:
                @staticmethod
                def remote() -> Actor:
                    self.actors.append(Actor(kind()))
                    return self.actors[-1]

            return Made

        return of

    def get(self, calls: Any) -> Any:
        return [call() for call in calls] if isinstance(calls, list) else calls()

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        if 0 <= self.victim < len(self.actors):
            journal = getattr(self.actors[self.victim].made, "_journal", None)
            if journal is not None and journal.exists() and journal.stat().st_size >= self.after:
                self.kill(self.actors[self.victim])
        return references, []

    def kill(self, actor: Actor) -> None:
        if not actor.lost:
            actor.end()


class Near(Outpost):
    def address(self) -> str:
        return "127.0.0.1"


def play(monkeypatch: pytest.MonkeyPatch, played: Played) -> None:
    monkeypatch.setattr(hosts, "connect", lambda on: played)
    monkeypatch.setattr(hosts, "_Placed", Near)
    monkeypatch.setattr(hosts, "LEAD_S", 0.3)


def test_two_hosts_send_all_and_state_their_clocks_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, Played())
    with serving(fine) as server:
        file, more = trace_file(tmp_path, simple()), ("--workers", 2, "--on", "ray", "--lag-bound-s", 5)
        done = replay(file, tmp_path / "r", "--url", server.url, *more)
        assert sorted(tags(server)) == list(range(40))
    assert done.exit_code == 0, done.output
    assert "40 requests: 40 ok" in done.output
    assert "send error with clocks up to" in done.output
    info = Run.open(tmp_path / "r" / "fcfs").info
    for worker in info["validity"]["workers"]:
        assert worker["verdict"] == "VALID"
        assert abs(worker["moved_s"]) <= worker["moved_error_s"] < worker["start_error_s"] + 0.1
    assert info["engine"]["on"] == "ray"


@pytest.mark.slow
def test_a_lost_host_leaves_the_rest_to_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, Played(victim=1, after=4000))
    with serving(fine) as server:
        file, more = trace_file(tmp_path, simple(120, 0.03)), ("--workers", 2, "--on", "ray", "--lag-bound-s", 5)
        done = replay(file, tmp_path / "r", "--url", server.url, *more)
        assert done.exit_code == 130, done.output
        assert "the host is gone; what it had not sent is left for --resume" in done.output
        before = Run.open(tmp_path / "r" / "fcfs").table("outcomes").collect()
        assert 60 <= len(before) < 120
        monkeypatch.setattr(hosts, "connect", lambda on: Played())
        again = replay(None, tmp_path / "r")
        assert again.exit_code == 0, again.output
        assert sorted(set(tags(server))) == list(range(120))
    table = Run.open(tmp_path / "r" / "fcfs").table("outcomes").collect()
    assert sorted(table["request_id"]) == list(range(120))
    errors = table.filter(table["status"] == "error")["error"].to_list()
    assert all("was lost at" in error and "the host is gone" in error for error in errors)
    assert len(errors) <= 10


def test_only_what_was_under_way_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "plan.jsonl").write_bytes(b"".join(b'{"id":%d,"arrival_s":%d}\n' % (n, n) for n in range(9)))
    (tmp_path / "journal.jsonl").write_bytes(b'{"id":0}\n{"event":"retry","id":2}\n{"id":1}\n{"id":3')

    class Gone:
        name, plan, journal = "a", tmp_path / "plan.jsonl", tmp_path / "journal.jsonl"

    lines = hosts.in_flight(Gone, 5.5, 3, "power")  # type: ignore[arg-type]
    assert [line["id"] for line in lines] == [2, 3, 4]
    assert lines[0]["error"] == "its host a was lost at 5.500 s: power; whether it was answered is not known"
    assert [line["id"] for line in hosts.in_flight(Gone, 2.0, 9, "power")] == [2]  # type: ignore[arg-type]
