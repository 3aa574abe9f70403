"""Who watches over the sending processes says which of them ended, and at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from replay.http import crew, replaying
from toolkit.errors import RunFailure

WORKS = "import sys; sys.stdin.read()"
DIES = "import sys; sys.exit('out of luck')"


def test_a_worker_that_dies_is_named_while_the_others_still_work(tmp_path, monkeypatch):
    def spawn(settings: Path, complaints) -> subprocess.Popen:
        command = [sys.executable, "-c", settings.name]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints)

    monkeypatch.setattr(crew, "_spawn", spawn)
    with (
        crew.crew([Path(WORKS), Path(DIES)], tmp_path / "my run") as workers,
        pytest.raises(RunFailure, match=r"worker 1: .*\(out of luck\).*trace replay --resume '.*my run'"),
    ):
        workers.watch(lambda: None, lambda: False)


def test_a_full_disk_is_said_in_one_line(tmp_path):
    with (
        pytest.raises(RunFailure, match=r"cannot be written \(No space left.*--resume '.*my run'"),
        replaying.written_to(tmp_path / "my run" / "plan"),
    ):
        raise OSError(28, "No space left on device")
