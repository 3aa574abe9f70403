"""A trace in a store that speaks S3 is read like one in a folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.object_store import Store, store
from tests.toolkit.test_analyses_in_parts import READING, Pickling, made, written
from toolkit.analyses import analyse
from toolkit.analyses_in_parts import analyse_parts
from toolkit.analysis_json import as_json
from toolkit.cli import main
from toolkit.parts import open_parts
from toolkit.traces import read_trace
from workloads import objects
from workloads.inputs import find_files

PARTS = 7  # more than a process keeps copies of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket with a trace in parts, and other files."""
    bucket = tmp_path_factory.mktemp("store") / "bucket"
    (bucket / "day").mkdir(parents=True)
    frame = made(np.random.default_rng(3), 700, step_s=0, measured=False, sessions=False)
    written(frame, list(range(100, 700, 100)), bucket / "day")
    (bucket / "day" / "notes.txt").write_text("no trace")
    (bucket / "lengths.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,x,1\n")
    return bucket.parent


@pytest.fixture
def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with store(folder) as serving:
        for name, value in serving.environment.items():
            monkeypatch.setenv(name, value)
        objects._store.cache_clear()
        yield serving


def test_objects_are_found_like_files(served: Store, folder: Path) -> None:
    parts = sorted(path.name for path in (folder / "bucket" / "day").glob("*.parquet"))
    assert len(parts) == PARTS
    for named in ("s3://bucket/day", "s3://bucket/day/", "s3://bucket/*/*.parquet", "s3://bucket/**/*.parquet"):
        assert [file.name for file in find_files([named])] == parts
    assert [str(file) for file in find_files(["s3://bucket/*.csv"])] == ["s3://bucket/lengths.csv"]
    assert [str(file) for file in find_files([f"s3://bucket/day/{parts[2]}"])] == [f"s3://bucket/day/{parts[2]}"]


def test_a_trace_in_a_store_is_the_one_in_the_folder(served: Store, folder: Path) -> None:
    here, there = (read_trace([named]) for named in (folder / "bucket" / "day", "s3://bucket/day"))
    assert there.info == here.info
    assert there.frame.collect().equals(here.frame.collect())


def test_parts_are_copied_where_they_are_read(served: Store, folder: Path) -> None:
    parted = open_parts(["s3://bucket/day"], Pickling(), READING)
    tables = analyse_parts(parted, Pickling())
    whole = read_trace([folder / "bucket" / "day"])
    assert as_json(tables, parted.info) == as_json(analyse(whole), whole.info)
    assert len(objects._latest) == objects.LATEST
    assert all(path.exists() for path in objects._latest.values())


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("s3://", "names no bucket; write s3://BUCKET/FOLDER/*.parquet"),
        ("s3://*/day", "names no bucket"),
        ("s3://key:secret@bucket/day", "s3://…@bucket: the address holds credentials; give them in the environment"),
        ("s3://bucket/day/*.csv", "s3://bucket/day/*.csv: no file matches"),
        ("s3://bucket/night", "s3://bucket/night: no trace file in this folder"),
        (
            "s3://bucket/lengths.csv",
            "s3://bucket/lengths.csv, line 3, column 'prompt_tokens': 'x' is not a whole number",
        ),
    ],
)
def test_what_is_wrong_is_said_of_the_address(served: Store, named: str, said: str) -> None:
    done = CliRunner().invoke(main, ["analyze", named, "--json"])
    assert done.exit_code == 1
    assert said in done.output
    assert "secret" not in done.output


def test_a_store_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    given = os.environ | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    given |= {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    command = [sys.executable, "-c", "from toolkit.cli import main; main()", "analyze", "s3://bucket/day"]
    done = subprocess.run(command, capture_output=True, text=True, env=given)
    assert done.returncode == 1
    assert done.stderr.startswith("trace: s3://bucket/day: cannot be read (")
    assert len(done.stderr.splitlines()) == 1
