"""Executors give every item once with its result, say why there is none, and survive a worker that dies."""

import os
from pathlib import Path

import pytest

from toolkit import plugins
from toolkit.errors import SettingFailure
from toolkit.executors import Executor, Failed, InProcess, LocalProcesses


def worked(item: int) -> int:
    if item == 3:
        raise SettingFailure("does not fit", where="three")
    if item == 4:
        raise ValueError("a bug\nwith a second line")
    if item == 5 and os.environ.get("MAY_DIE"):
        os._exit(1)
    return item * item


def expected_of(executor: Executor) -> dict[int, object]:
    results = dict(executor.map(worked, range(8)))
    assert set(results) == set(range(8))
    assert results[3] == Failed("three: does not fit")
    bug = results[4]
    assert isinstance(bug, Failed)
    assert bug.said == "ValueError: a bug"
    assert "Traceback" in str(bug.detail)
    assert [results[i] for i in (0, 1, 2, 6, 7)] == [0, 1, 4, 36, 49]
    return results


def test_here() -> None:
    assert expected_of(InProcess())[5] == 25


def test_a_worker_that_dies_costs_its_own_item_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAY_DIE", "1")
    executor = LocalProcesses(2)
    try:
        died = expected_of(executor)[5]
    finally:
        executor.close()
    assert isinstance(died, Failed)
    assert "its process died" in died.said


def test_a_mistake_in_a_policy_file_is_told_with_its_place(tmp_path: Path) -> None:
    policy = tmp_path / "mine.py"
    policy.write_text("class Mine:\n    def rank(self, requests, now_s):\n        raise ValueError('boom')\n")
    scheduler = plugins.create("scheduler", f"{policy}:Mine")
    [(_, failed)] = InProcess().map(lambda now_s: scheduler.rank(None, now_s), [0.0])
    assert failed == Failed(f"{policy}:3: ValueError: boom; mend rank there")
