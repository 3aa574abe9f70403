"""Replays of real engines' logs, with nothing fitted to them, within the bounds that the documentation states."""

from pathlib import Path
from typing import Any

import pytest

from replay.calibration.check import check
from replay.calibration.engine_log import read_log

# Largest absolute error of the mean TTFT, TPOT, E2E, and of E2E a request.
BOUNDS = {
    "RTX4090_Llama-3.1-8B": {"ttft": 0.03, "tpot": 0.01, "e2e": 0.02, "mape": 0.02},
    "RTXPRO6000_Qwen3-30B-A3B": {"ttft": 0.12, "tpot": 0.01, "e2e": 0.015, "mape": 0.02},
}


@pytest.mark.parametrize("name", list(BOUNDS))
def test_the_replay_is_as_near_to_the_real_engine_as_documented(shared_validation: Path, name: str) -> None:
    folder = shared_validation / "vllm_0_19" / name
    if not folder.is_dir():
        pytest.skip(f"no log of {name}")
    found: dict[str, Any] = check(read_log(folder))
    for metric in ("ttft", "tpot", "e2e"):
        assert abs(found[metric]["mean_error"]) < BOUNDS[name][metric], metric
    assert found["e2e"]["mape"] < BOUNDS[name]["mape"]
