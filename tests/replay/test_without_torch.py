"""The in-process engine where PyTorch is not installed."""

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
