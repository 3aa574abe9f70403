"""Pieces of work on Ray: every one once, by results as here, whatever dies."""

import threading
from pathlib import Path

import pytest

from tests.on_ray.conftest import Three
from tests.on_ray.pieces import Slow, prepared, worked
from toolkit.executors import Failed
from toolkit.on_ray import RayTasks

pytest.importorskip("ray", reason="Ray is not installed; make test-ray does")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


def test_every_item_once_and_what_fails_is_said(three: Three) -> None:
    executor = RayTasks("ray")
    results = dict(executor.map(worked, range(8)))
    assert results[3] == Failed("three: does not fit")
    assert isinstance(results[4], Failed)
    assert results[4].said == "ValueError: a bug"
    assert "Traceback" in str(results[4].detail)
    assert isinstance(results[5], Failed)
    assert "its process died" in results[5].said
    assert [results[i] for i in (0, 1, 2, 6, 7)] == [0, 1, 4, 36, 49]
    assert executor.spent.again == 3  # the bug once, the death twice
    assert "core-hours" in executor.spent.said()


def test_a_worker_that_cannot_be_prepared_says_why(three: Three) -> None:
    results = dict(RayTasks("ray", prepare=prepared).map(worked, [1]))
    assert results == {1: Failed("here: cannot serve")}


def test_a_lost_node_costs_only_what_was_under_way_on_it(three: Three, tmp_path: Path) -> None:
    executor = RayTasks("ray")
    threading.Timer(2.5, three.lose).start()
    results = dict(executor.map(Slow(tmp_path), range(12)))
    assert results == {item: -item for item in range(12)}
    begun = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
    assert len(begun) - len(set(begun)) <= 1
