"""Prism's published measures come back, and public traces without groups give none."""

from pathlib import Path

import pytest

from toolkit import plugins
from toolkit.traces import read_trace


def ask(path: Path, **settings: object) -> dict[str, object]:
    from toolkit.groups_json import shape

    trace = read_trace([path])
    analysis = plugins.load("analysis", "groups")(**settings)
    return shape(analysis.run(trace.frame.select(analysis.columns).collect(), trace.info))


@pytest.mark.parametrize(
    ("active_s", "switches", "without_first"), [(120.0, 228, 222), (60.0, 276, 270), (10.0, 3246, 3240)]
)
def test_prisms_switches_of_the_arena_trace(
    shared_traces: Path, active_s: float, switches: int, without_first: int
) -> None:
    answer = ask(shared_traces / "prism_arena" / "real_trace.pkl", active_s=active_s)
    prism = answer["prism"]
    assert isinstance(prism, dict)
    assert round(prism["switches_per_hour"]) == switches
    assert round(prism["switches_per_hour_without_first"]) == without_first
    assert (prism["idle_per_h_p50"], prism["idle_per_h_max"]) == pytest.approx((48, 138))
    assert [round(prism[f"rate_cv_{k}"], 2) for k in ("p50", "above_1_share", "above_half_share")] == [0.93, 0.48, 0.85]
    if active_s == 120:
        assert prism["mean_active_share"] == pytest.approx(0.615, abs=5e-4)
        assert answer["verdict"] == "none"


def test_23_days_of_image_generation_hold_no_group(shared_traces: Path) -> None:
    answer = ask(shared_traces / "alibaba_genai_2026" / "lora_request_trace.csv")
    assert (answer["verdict"], answer["groups"]) == ("none", [])
    assert answer["tested"] == 63
    assert 0.05 < answer["power_group"] < 0.5  # most active windows are no more than noise
