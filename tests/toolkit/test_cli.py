"""The command itself: what it says of a command that does not exist."""

import pytest
from click.testing import CliRunner

from toolkit.cli import main


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
