"""What is known of drift in public traces comes back: Azure's conversation outputs drift, its code outputs do not."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from toolkit.analysis.drift import Drift
from toolkit.traces import Trace, read_trace

Tables = dict[str, pl.DataFrame]


def azure(shared_traces: Path, part: str) -> Trace:
    return read_trace([shared_traces / "azure_llm_2023" / f"AzureLLMInferenceTrace_{part}.csv"])


@pytest.fixture(scope="module")
def conversation(shared_traces: Path) -> Tables:
    trace = azure(shared_traces, "conv")
    return Drift().run(trace.frame.select(Drift.columns).collect(), trace.info)


def test_conversation_outputs_drift_away_for_half_an_hour_and_come_back(conversation: Tables) -> None:
    summary = conversation["summary"].filter(pl.col("column") == "output_tokens").row(0, named=True)
    assert summary["verdict"] == "drift"
    points = conversation["change_points"].filter(pl.col("column") == "output_tokens")
    minutes = points["time_s"].to_numpy() / 60
    assert np.abs(minutes - 21.9).min() < 1
    assert np.abs(minutes - 46.8).min() < 1
    low = points.filter(pl.col("time_s").is_between(1200, 1400)).row(0, named=True)
    assert low["after"] < 0.6 * low["before"]
    reference = conversation["windows"].filter(pl.col("column") == "output_tokens")["ks_reference"]
    assert reference.max() == pytest.approx(0.55, abs=0.05)


def test_its_cause_is_more_the_mix_of_prompt_lengths_than_change_within_them(conversation: Tables) -> None:
    summary = conversation["summary"].filter(pl.col("column") == "output_tokens").row(0, named=True)
    assert summary["cause_by"] == "prompt_tokens"
    assert summary["mix"] == pytest.approx(0.64, abs=0.1)
    assert summary["own"] + summary["mix"] == pytest.approx(1)


def test_shuffled_conversation_does_not_drift(shared_traces: Path) -> None:
    trace = azure(shared_traces, "conv")
    frame = trace.frame.select(Drift.columns).collect()
    lengths = frame.select("prompt_tokens", "output_tokens").sample(fraction=1, shuffle=True, seed=3)
    found = Drift().run(frame.with_columns(lengths.get_columns()), trace.info)
    assert set(found["summary"]["verdict"]) == {"none"}
    assert found["windows"]["ks_reference"].max() < 0.15  # type: ignore[operator]


def test_code_outputs_do_not_drift(shared_traces: Path) -> None:
    trace = azure(shared_traces, "code")
    found = Drift().run(trace.frame.select(Drift.columns).collect(), trace.info)
    assert dict(found["summary"].select("column", "verdict").iter_rows())["output_tokens"] == "none"
