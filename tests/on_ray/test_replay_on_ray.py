"""Three hosts send a trace to `trace serve`: complete, on time as far as is stated, and resumable when one is lost."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from tests.on_ray.conftest import Three
from tests.replay.http.test_replaying import simple, trace_file
from toolkit.cli import main
from toolkit.runs import Run

pytest.importorskip("ray", reason="Ray is not installed; make test-ray does")
pytestmark = [pytest.mark.slow, pytest.mark.ray]
SERVE = (sys.executable, "-c", "from toolkit.cli import main; main()", "serve", "--port", "0", "--time-scale", "0.05")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where `trace serve` listens."""
    process = subprocess.Popen(SERVE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = ""
    while (line := process.stdout.readline()) and not (found := re.search(r"http://[\d.]+:\d+", line)):
        said += line
    assert found, said
    yield found.group()
    process.terminate()
    process.wait()
    process.stdout.close()


def replayed(*words: object) -> Result:
    return CliRunner().invoke(main, ["replay", *map(str, words)])


def outcomes(folder: Path) -> pl.DataFrame:
    return Run.open(folder / "fcfs").table("outcomes").collect().sort("request_id")


def test_three_hosts_send_all_and_say_how_exactly(three: Three, url: str, tmp_path: Path) -> None:
    file = trace_file(tmp_path, simple(240, 0.02))
    more = ("--engine", "openai", "--url", url, "--out", tmp_path / "r", "--workers", 3, "--lag-bound-s", 5)
    done = replayed(file, *more, "--on", "ray")
    assert done.exit_code == 0, done.output
    table = outcomes(tmp_path / "r")
    assert table["request_id"].to_list() == list(range(240))
    assert table["status"].unique().to_list() == ["ok"]
    assert table["output_tokens"].to_list() == [2 + n % 5 for n in range(240)]
    validity = Run.open(tmp_path / "r" / "fcfs").info["validity"]
    assert len(validity["workers"]) == 3
    for worker in validity["workers"]:
        assert worker["verdict"] == "VALID"
        assert 0 < worker["start_error_s"] < 0.5
        assert worker["send_error_s"] >= worker["lag_p99_s"] + worker["start_error_s"]
        # Here all hosts have one clock: what it seems to have moved by lies within the stated error.
        assert abs(worker["moved_s"]) <= worker["moved_error_s"]
    assert "send error with clocks up to" in done.output


def test_a_lost_host_costs_what_it_had_under_way(three: Three, url: str, tmp_path: Path) -> None:
    rows = simple(400, 0.03, session_id=None)
    file = trace_file(tmp_path, rows)
    more = ("--engine", "openai", "--url", url, "--out", tmp_path / "r", "--workers", 3, "--lag-bound-s", 5)

    def lose() -> None:
        folder = tmp_path / "r" / "fcfs" / "plan"
        while not any(journal.stat().st_size for journal in folder.glob("journal-*.jsonl")):
            time.sleep(0.1)
        time.sleep(1)
        three.lose()

    thread = threading.Thread(target=lose)
    thread.start()
    done = replayed(file, *more, "--on", "ray")
    thread.join()
    assert done.exit_code == 130, done.output
    assert "what it had not sent is left for --resume" in done.output
    before = outcomes(tmp_path / "r")
    assert 100 < len(before) < 400
    errors = before.filter(pl.col("status") == "error")
    assert len(errors) < 40
    assert errors["error"].str.contains("was lost at").all()
    assert set(before["status"].unique()) <= {"ok", "error"}
    three.whole()
    again = replayed("--resume", tmp_path / "r")
    assert again.exit_code == 0, again.output
    after = outcomes(tmp_path / "r")
    assert after["request_id"].to_list() == list(range(400))
    assert (
        after.filter(pl.col("request_id").is_in(before["request_id"].implode()))["status"].to_list()
        == before["status"].to_list()
    )


def test_the_key_travels_with_the_orders_and_is_written_nowhere(three: Three, url: str, tmp_path: Path) -> None:
    os.environ["TRACE_API_KEY"] = "sk-very-secret"
    try:
        more = ("--engine", "openai", "--url", url, "--out", tmp_path / "r", "--workers", 2, "--lag-bound-s", 5)
        done = replayed(trace_file(tmp_path, simple(5)), *more, "--on", "ray")
    finally:
        del os.environ["TRACE_API_KEY"]
    assert done.exit_code == 0, done.output
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"sk-very-secret" in p.read_bytes()]
