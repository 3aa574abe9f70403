"""The in-process engine where PyTorch is not installed."""

import ast
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from toolkit.cli import main


def test_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "replay.engines.transformers_replay", raising=False)
    for name in [name for name in sys.modules if name.startswith("replay.torch_engine.")]:
        monkeypatch.delitem(sys.modules, name)
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n")
    out = tmp_path / "runs"
    shown = CliRunner().invoke(main, ["replay", str(trace), "--engine", "transformers", "--out", str(out)])
    assert shown.exit_code == 1
    assert "needs torch and transformers" in shown.output
    assert "pip install 'trace-toolkit[gpu]'" in shown.output
    assert shown.output.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("folder", "ours", "others"),
    [
        (
            "torch_engine",
            ("replay.torch_engine", "replay.planning", "toolkit.errors", "toolkit.placing"),
            {"torch", "transformers"},
        ),
        ("planning", ("replay.planning", "toolkit.errors"), set()),
    ],
)
def test_the_engine_itself_needs_nothing_but_torch_transformers_and_numpy(
    folder: str, ours: tuple[str, ...], others: set[str]
) -> None:
    """A GPU machine may have no more."""
    others = others | {"numpy", *sys.stdlib_module_names}
    for file in (Path(__file__).parents[2] / "replay" / folder).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert [n for n in names if n.partition(".")[0] not in others and not n.startswith(ours)] == [], file
