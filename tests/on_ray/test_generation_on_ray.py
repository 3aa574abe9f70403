"""`trace generate --on ray` writes byte for byte what is written here, also when a node is lost in the middle."""

from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.on_ray.conftest import Three
from toolkit.cli import main
from workloads.generate_on_ray import MakingOnRay
from workloads.generate_parts import PartFile

pytest.importorskip("ray", reason="Ray is not installed; make test-ray does")
pytestmark = [pytest.mark.slow, pytest.mark.ray]
WORKLOAD = """
span_s: 8000
streams:
- {rate_per_s: 30, models: {count: 3}, prompt_tokens: {median: 500, sigma: 1}, output_tokens: 40}
- {generator: gamma, cv: 3, rate_per_s: 20, models: b, prompt_tokens: 70, output_tokens: {median: 9, sigma: 1}}
- {rate_per_s: 2, models: c, prompt_tokens: 90, output_tokens: 40, sessions: {turns: 3, think_s: {median: 60}}}
- {rate_per_s: 10, models: d, prompt_tokens: 90, output_tokens: 40}
"""


def generated(spec: Path, out: str, *more: str) -> list[str]:
    """A hash for each part, and one of the truth."""
    folder = spec.parent / out
    words = ["generate", str(spec), "--parts", "--out", str(folder), "--truth", str(folder) + ".parquet", *more]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return [sha256(file.read_bytes()).hexdigest() for file in [*sorted(folder.iterdir()), Path(f"{folder}.parquet")]]


def test_the_parts_are_the_same_also_when_a_node_is_lost(
    three: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node goes with the first file, when other windows are made and wait to be numbered and packed."""
    (tmp_path / "w.yaml").write_text(WORKLOAD)
    here = generated(tmp_path / "w.yaml", "here")
    assert len(here) > 5
    assert generated(tmp_path / "w.yaml", "there", "--on", "ray") == here
    take, taken = MakingOnRay._take, []

    def losing(making: MakingOnRay) -> PartFile | None:
        taken.append(take(making))
        if len(taken) == 1:
            three.lose()
        return taken[-1]

    monkeypatch.setattr(MakingOnRay, "_take", losing)
    assert generated(tmp_path / "w.yaml", "robbed", "--on", "ray") == here
