"""The command itself: what it says of a command that does not exist."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from toolkit.cli import main
from toolkit.errors import nearest


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("analyse", "no command is called 'analyse'; did you mean 'analyze'?"),
        ("xyz", "no command is called 'xyz'; known: analyze, calibrate,"),
    ],
)
def test_an_unknown_command_names_the_nearest(word: str, said: str) -> None:
    shown = CliRunner().invoke(main, [word, "t.csv"])
    assert (shown.exit_code, said in shown.stderr) == (2, True), shown.output


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("toolkit.commands.plugins._print", full)
    shown = CliRunner().invoke(main, ["plugins"])
    assert (shown.exit_code, shown.stderr) == (
        1,
        "trace: output: cannot be written (No space left on device); make room for it\n",
    )


def test_a_hint_does_not_list_hundreds_of_names() -> None:
    hint = nearest("quite else", [f"file-{n:03}.csv" for n in range(400)])
    assert hint.endswith("file-059.csv and 340 more")


def test_a_command_leaves_without_a_word() -> None:
    call = "from toolkit.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", call, "query", "SELECT 1"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
