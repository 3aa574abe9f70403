"""Executors give every item once with its result, say why there is none, and survive a worker that dies."""

import os

import pytest

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
