"""The README and the guides say what happens: every `$ ` command in a console block is run and its output compared.

A line `…` stands for any lines, `…` within a line for any text; a Python block after "`NAME.py`:" is a file there. With
UPDATE_DOCS=1 the outputs that have no line `…` are written anew instead, the seconds that something took as `…`.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from toolkit.cli import main
from toolkit.plugins import BUILTIN, load, parameters
from toolkit.views import MACROS, VIEWS

ROOT = Path(__file__).parents[1]
GUIDES = ["README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
FILE = re.compile(r"`(\w+\.py)`:\n```python\n(.*?)```", re.DOTALL)
STEP = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
TERMINAL = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
UPDATE = bool(os.environ.get("UPDATE_DOCS"))


def run(command: str, folder: Path) -> str:
    """What the command prints, both streams, as in a terminal 100 columns wide."""
    words = command.replace("\\\n", " ") if command.startswith("trace ") else ""
    shown = called(shlex.split(words)[1:], folder) if words and not UPDATE else of_shell(command, folder)
    return "".join(f"{line.rstrip()}\n" for line in shown.splitlines())


def of_shell(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, shell=True, cwd=folder, env=os.environ | TERMINAL | {"PATH": path}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    ).stdout  # fmt: skip


def called(words: list[str], folder: Path) -> str:
    """`trace WORDS` in this process, which has read its libraries and compiled code already."""
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown), redirect_stderr(shown):
        patch.chdir(folder)
        for name, value in TERMINAL.items():
            patch.setenv(name, value)
        with suppress(SystemExit):
            main(words, prog_name="trace")
    shown.seek(0)
    return shown.read()


def pattern(expected: str) -> str:
    text = re.escape(expected).replace("…\\\n", "(?:.*\n)*?")
    return text.replace("…", ".*")


@pytest.mark.parametrize("guide", GUIDES)
def test_the_commands_print_what_the_guide_shows(guide: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets", ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / guide).read_text()
    for name, code in FILE.findall(text):
        (tmp_path / name).write_text(code)
    for block in BLOCK.findall(text):
        for command, expected in STEP.findall(block):
            shown = run(command, tmp_path)
            if UPDATE and "…\n" not in expected.splitlines(keepends=True):
                lasting = re.sub(r"in [\d.]+ s(?=$|;)", "in … s", shown, flags=re.MULTILINE)
                text = text.replace(f"$ {command}\n{expected}", f"$ {command}\n{lasting}", 1)
            else:
                assert re.fullmatch(pattern(expected), shown), f"$ {command}\n{shown}"
    if UPDATE:
        (ROOT / guide).write_text(text)


@pytest.mark.parametrize(("kind", "folder"), [("loader", "workloads/loaders"), ("scheduler", "replay/schedulers")])
def test_the_readme_links_each_loader_and_scheduler_to_its_file(kind: str, folder: str) -> None:
    linked = dict(
        re.findall(rf"^\| \[`([\w-]+)`\]\(({folder}/\w+\.py)\)", (ROOT / "README.md").read_text(), re.MULTILINE)
    )
    built_in = {n: target.partition(":")[0].replace(".", "/") + ".py" for n, target in BUILTIN[kind].items()}
    assert linked == built_in


def test_the_schedulers_guide_names_every_scheduler_parameter_and_predictor() -> None:
    from replay.schedulers.size_based import PREDICTORS

    text = (ROOT / "docs/schedulers.md").read_text()
    rows = dict(re.findall(r"^\| \[`([\w-]+)`\]\((.*)", text, re.MULTILINE))
    assert set(rows) == set(BUILTIN["scheduler"])
    shared = {*parameters(load("scheduler", "sjf")), *parameters(load("scheduler", "driftsched-fifo"))}
    for name in rows:
        known = parameters(load("scheduler", name))
        assert [key for key in known if f"`{key}`" not in text] == [], name
        assert [key for key in known if f"`{key}`" not in rows[name] and key not in shared] == [], name
    assert [name for name in PREDICTORS if f"| `{name}` |" not in text] == []


def test_links_lead_somewhere() -> None:
    for guide in [*GUIDES, "CONTRIBUTING.md", "datasets/README.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / guide).read_text()):
            assert ((ROOT / guide).parent / target).exists(), f"{guide}: {target}"


def test_the_sql_guide_names_every_view_column_and_macro() -> None:
    text = (ROOT / "docs/sql.md").read_text()
    for view, (_, _, columns) in VIEWS.items():
        section = text.partition(f"## {view}\n")[2].partition("\n## ")[0]
        assert [c for c in columns if f"`{c}`" not in section] == [], view
    assert [call for call in MACROS if f"`{call}`" not in text] == []


def test_every_command_is_in_the_reference() -> None:
    from toolkit.cli import COMMANDS

    text = (ROOT / "docs/cli.md").read_text()
    assert [name for name in COMMANDS if f"$ trace {name} --help" not in text] == []
