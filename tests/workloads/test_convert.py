"""`trace convert` as its user meets it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from click.testing import CliRunner, Result

from toolkit.cli import main
from toolkit.runs import Run
from toolkit.schema import OUTCOMES, TRACE
from toolkit.traces import NAMES

CSV = "arrival_s,prompt_tokens,output_tokens,model\n0.5,10,1,a\n,20,2,b\n2.5,30,3,b\n"
MEASURED = "arrival_s,finish_s,first_token_s,prompt_tokens,output_tokens\n0,3,1,10,5\n1,9,2,20,6\n"


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "requests.csv"
    path.write_text(CSV)
    return path


def test_it_states_what_was_read_and_writes_the_table(source: Path, tmp_path: Path):
    result = convert(source, tmp_path / "t.parquet")
    assert result.exit_code == 0, result.output
    assert "rows     3 read = 2 kept + 1 dropped (no arrival time)" in result.output
    assert "unit     s (column 'arrival_s' names its unit)" in result.output
    assert "time     2 s, 1 requests/s" in result.output
    frame = pl.read_parquet(tmp_path / "t.parquet")
    assert frame.schema == {**TRACE, **dict.fromkeys(NAMES, pl.Categorical())}
    assert frame["prompt_tokens"].to_list() == [10, 30]
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_json_carries_the_same_facts(source: Path, tmp_path: Path):
    facts = orjson.loads(convert(source, tmp_path / "t.parquet", "--json").output)
    assert facts["trace"]["rows_read"] == 3
    assert facts["trace"]["dropped"] == {"no arrival time": 1}
    assert facts["trace"]["span_s"] == 2.0
    assert facts["bytes"] == (tmp_path / "t.parquet").stat().st_size


def test_a_selection_is_written_and_stated(source: Path, tmp_path: Path):
    result = convert(source, tmp_path / "t.parquet", "--model", "b", "--map", "tenant=model")
    assert "no column" not in result.output
    result = convert(source, tmp_path / "t.parquet", "--model", "b")
    assert "1 kept + 1 dropped (no arrival time) + 1 dropped (not selected)" in result.output
    assert pl.read_parquet(tmp_path / "t.parquet")["arrival_s"].to_list() == [0.0]


def test_measured_latencies_become_a_run(tmp_path: Path):
    path = tmp_path / "measured.csv"
    path.write_text(MEASURED)
    result = convert(path, tmp_path / "run", "--run")
    assert result.exit_code == 0, result.output
    run = Run.open(tmp_path / "run")
    assert run.finished
    assert run.name == "run"
    assert run.info["trace"]["rows_kept"] == 2
    outcomes = run.table("outcomes").collect()
    assert outcomes.schema == OUTCOMES
    assert outcomes["finish_s"].to_list() == [3.0, 9.0]
    assert outcomes["run_id"].unique().to_list() == [run.info["run_id"]]
    again = convert(path, tmp_path / "run", "--run")
    assert again.exit_code == 1
    assert "holds a run already" in again.output


def test_a_source_without_latencies_makes_no_run(source: Path, tmp_path: Path):
    result = convert(source, tmp_path / "run", "--run")
    assert result.exit_code == 1
    assert "the source measured no latencies" in result.output
    assert not (tmp_path / "run").exists()


def test_a_forgotten_target_never_overwrites_a_source(source: Path, tmp_path: Path):
    assert convert(source).exit_code == 2
    assert "must end in .parquet" in convert(source, source).output
    foreign = tmp_path / "part.parquet"
    pl.DataFrame({"arrival_s": [1.0]}).write_parquet(foreign)
    result = convert(source, foreign)
    assert result.exit_code == 1
    assert "is there already and was not written by trace convert" in result.output
    assert pl.read_parquet(foreign).columns == ["arrival_s"]


def test_its_own_output_may_be_written_again(source: Path, tmp_path: Path):
    for _ in range(2):
        assert convert(source, tmp_path / "t.parquet").exit_code == 0


def test_a_folder_that_does_not_exist_is_one_line(source: Path, tmp_path: Path):
    result = convert(source, tmp_path / "nowhere" / "t.parquet")
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_an_input_failure_is_one_line_and_exit_1(tmp_path: Path):
    result = convert(tmp_path / "absent.csv", tmp_path / "t.parquet")
    assert result.exit_code == 1
    assert result.output.startswith("trace: ")
    assert result.output.count("\n") == 1


WATCHED = """
import pathlib, sys, threading, time
from toolkit.cli import main

peak = 0

def watch():  # memory of its own: pages of the mapped source are the system's to take back
    global peak
    while True:
        status = pathlib.Path("/proc/self/status").read_text()
        peak = max(peak, int(status.partition("RssAnon:")[2].split()[0]) // 1024)
        time.sleep(0.01)

threading.Thread(target=watch, daemon=True).start()
main(sys.argv[1:], standalone_mode=False)
print(peak, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_source_in_order_is_converted_in_bounded_memory(tmp_path: Path):
    """Twice the rows, hardly more memory; polars reads ahead by some 300 MB, so both sources are longer than that."""
    small, _ = converted(tmp_path, 8_000_000)
    large, file_mb = converted(tmp_path, 16_000_000)
    assert large < small + 100
    assert large < 0.85 * file_mb


def converted(folder: Path, rows: int) -> tuple[int, int]:
    """Peak memory and the source's size, in MB."""
    path = folder / f"{rows}.csv"
    write_burstgpt(path, rows)
    command = [sys.executable, "-c", WATCHED, "convert", str(path), str(folder / f"{rows}.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert pl.scan_parquet(folder / f"{rows}.parquet").select(pl.len()).collect().item() == rows
    return int(done.stderr.split()[-1]), path.stat().st_size // 2**20


def write_burstgpt(path: Path, rows: int) -> None:
    rng, chunk = np.random.default_rng(1), 1_000_000
    tokens = rng.integers(1, 4096, (2, chunk))
    frame = pl.DataFrame(
        {
            "Timestamp": np.sort(rng.integers(0, chunk, chunk)),
            "Model": np.where(tokens[0] % 2, "ChatGPT", "GPT-4"),
            "Request tokens": tokens[0],
            "Response tokens": tokens[1],
            "Total tokens": tokens.sum(0),
            "Log Type": np.where(tokens[1] % 2, "Conversation log", "API log"),
        }
    )
    with path.open("wb") as file:
        for first in range(0, rows, chunk):
            frame.with_columns(pl.col("Timestamp") + first).write_csv(file, include_header=first == 0)


def test_a_damaged_page_is_one_line(tmp_path: Path):
    pl.DataFrame({"arrival_s": np.arange(5000) + 0.25, "prompt_tokens": np.arange(5000)}).write_parquet(
        tmp_path / "t.parquet"
    )
    whole = bytearray((tmp_path / "t.parquet").read_bytes())
    whole[4:2000] = bytes(1996)
    (tmp_path / "t.parquet").write_bytes(whole)
    result = convert(tmp_path / "t.parquet", tmp_path / "out.parquet")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


def test_a_damaged_page_of_a_canonical_trace_is_one_line(source: Path, tmp_path: Path):
    many = "".join(f"{i},{i % 77},{i % 13},a\n" for i in range(5000))
    source.write_text(f"arrival_s,prompt_tokens,output_tokens,model\n{many}")
    assert convert(source, tmp_path / "t.parquet").exit_code == 0
    whole = bytearray((tmp_path / "t.parquet").read_bytes())
    whole[4:2000] = bytes(1996)
    (tmp_path / "t.parquet").write_bytes(whole)
    result = convert(tmp_path / "t.parquet", tmp_path / "out.parquet")
    assert result.exit_code == 1
    assert result.stderr.startswith("trace: a file is damaged (parquet: File out of specification")
    assert result.stderr.count("\n") == 1
