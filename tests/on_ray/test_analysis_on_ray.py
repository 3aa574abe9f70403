"""`trace analyze --on ray` says byte for byte what it says here, also when a node is lost in the middle."""

import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.on_ray.conftest import Three
from tests.toolkit.test_analyses_in_parts import made, written
from toolkit.cli import main

pytest.importorskip("ray", reason="Ray is not installed; make test-ray does")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


def analysed(named: str, *more: str) -> str:
    done = CliRunner().invoke(main, ["analyze", named, "--json", *more])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_answer_is_the_same_also_when_a_node_is_lost(three: Three, tmp_path: Path) -> None:
    frame = made(np.random.default_rng(2), 60_000, step_s=0, measured=True, sessions=True)
    named = written(frame, list(range(5_000, 60_000, 5_000)), tmp_path)
    here = analysed(named)
    assert analysed(named, "--on", "ray") == here
    timer = threading.Timer(1.0, three.lose)
    timer.start()
    assert analysed(named, "--on", "ray", "--drift") == analysed(named, "--drift")
    timer.join()


def test_workers_read_a_store_themselves(three: Three) -> None:
    (three.objects / "day").mkdir()
    frame = made(np.random.default_rng(2), 12_000, step_s=0, measured=False, sessions=False)
    named = written(frame, list(range(2_000, 12_000, 2_000)), three.objects / "day")
    assert analysed("s3://day/*.parquet", "--on", "ray") == analysed(named)


def test_a_selection_is_refused(three: Three, tmp_path: Path) -> None:
    named = written(made(np.random.default_rng(2), 60, step_s=0, measured=False, sessions=False), [30], tmp_path)
    done = CliRunner().invoke(main, ["analyze", named, "--on", "ray", "--limit", "3"])
    assert done.exit_code == 1
    assert "--on: reads the whole trace; write the selection to a file first" in done.output
