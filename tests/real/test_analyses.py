"""Published facts about real traces come back from the analyses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.toolkit.analysis.conftest import dispersion
from toolkit.analyses import Tables, analyse
from toolkit.analysis_json import shape
from toolkit.traces import read_trace


def ask(path: Path) -> tuple[Tables, dict[str, Any]]:
    trace = read_trace([path])
    tables = analyse(trace)
    return tables, shape(tables, trace.info)


@pytest.fixture(scope="module")
def mooncake(shared_traces: Path) -> tuple[Tables, dict[str, Any]]:
    return ask(shared_traces / "mooncake_fast25" / "conversation_trace.jsonl")


@pytest.fixture(scope="module")
def prism(shared_traces: Path) -> tuple[Tables, dict[str, Any]]:
    return ask(shared_traces / "prism_arena" / "real_trace.pkl")


@pytest.mark.parametrize(
    ("part", "rows", "span_s", "cv"), [("code", 8819, 3435.948, 13.2), ("conv", 19366, 3501.722, 1.09)]
)
def test_azure_2023(shared_traces: Path, part: str, rows: int, span_s: float, cv: float) -> None:
    tables, answer = ask(shared_traces / "azure_llm_2023" / f"AzureLLMInferenceTrace_{part}.csv")
    assert answer["trace"]["rows_kept"] == rows
    assert answer["arrivals"]["span_s"] == pytest.approx(span_s, abs=5e-4)
    assert answer["arrivals"]["gap_cv"] == pytest.approx(cv, abs=0.05 if cv > 2 else 0.005)
    assert answer["models"] is answer["prefixes"] is answer["sessions"] is None
    if part == "code":
        assert tables["arrivals"]["summary"]["gap_max_s"][0] == pytest.approx(217, abs=0.5)
        assert answer["prompt_tokens"]["max"] == 7437


def test_mooncake_prefixes(mooncake: tuple[Tables, dict[str, Any]]) -> None:
    tables, answer = mooncake
    assert (answer["prefixes"]["block_hits"], answer["prefixes"]["blocks"]) == (105_710, 288_500)
    assert round(answer["prefixes"]["block_hit_ratio"], 5) == 0.36641
    assert answer["prefixes"]["prefix_hits"] == 105_710  # its hashes chain
    assert tables["prefixes"]["cache"]["block_hits"][-1] == 105_710


def test_mooncakes_clock_hides_its_burstiness(mooncake: tuple[Tables, dict[str, Any]], shared_traces: Path) -> None:
    _, answer = mooncake
    assert answer["arrivals"]["clock_step_s"] == pytest.approx(3, abs=0.01)
    assert answer["arrivals"]["zero_gap_share"] == pytest.approx(0.9, abs=0.01)
    assert answer["arrivals"]["gap_cv"] is None
    assert answer["arrivals"]["gap_fits"] == []
    assert min(row["window_s"] for row in answer["arrivals"]["dispersion"]) > 3
    frame = read_trace([shared_traces / "mooncake_fast25" / "conversation_trace.jsonl"]).frame
    unguarded = dict(dispersion(frame.collect()["arrival_s"].to_numpy(), None).select("window_s", "index").iter_rows())
    assert round(unguarded[1.0], 1) == 7.9
    assert round(unguarded[10.0], 1) == 2.1


def test_prisms_shares_and_idle_intervals(prism: tuple[Tables, dict[str, Any]]) -> None:
    tables, answer = prism
    top = [(row["model"].rsplit("-", 1)[1], row["requests"]) for row in answer["models"]["top"][:4]]
    assert top == [("2", 296), ("10", 262), ("0", 199), ("5", 120)]
    assert answer["models"]["count"] == 27
    models = tables["idle"]["models"]
    assert (models["idle_per_h"].median(), models["idle_per_h"].max()) == pytest.approx((48, 138))
    cv = models["rate_cv"].to_numpy()
    assert round(float(np.median(cv)), 2) == 0.93
    assert (round((cv > 1).mean(), 2), round((cv > 0.5).mean(), 2)) == (0.48, 0.85)
    assert answer["idle"]["mean"] / 27 == pytest.approx(0.615, abs=5e-4)


def test_prisms_lengths(prism: tuple[Tables, dict[str, Any]]) -> None:
    _, answer = prism
    prompt, output = answer["prompt_tokens"], answer["output_tokens"]
    assert [round(prompt[q]) for q in ("p50", "p90", "p99", "mean")] == [40, 432, 902, 136]
    assert [round(output[q]) for q in ("p50", "p90", "p99", "mean")] == [211, 513, 785, 256]


def test_alibabas_models_and_tenants(shared_traces: Path) -> None:
    _, answer = ask(shared_traces / "alibaba_genai_2026" / "lora_request_trace.csv")
    assert (answer["models"]["count"], answer["tenants"]["count"]) == (86, 4247)
    assert answer["models"]["top"][0]["model"] == "M0002"
    assert round(answer["models"]["top"][0]["share"], 3) == 0.307
    assert answer["arrivals"]["gap_max_s"] == 47_958


def test_measured_latencies_of_a_benchmark(shared_traces: Path) -> None:
    _, answer = ask(shared_traces / "vtc_results" / "VTC_all_results_dist_shift.jsonl")
    assert answer["latencies"]["status"]["ok"] == answer["trace"]["rows_kept"]
    assert answer["latencies"]["ttft_s"]["p50"] < answer["latencies"]["e2e_s"]["p50"]


def test_sessions_of_an_agent(shared_traces: Path) -> None:
    _, answer = ask(shared_traces / "weka_agentic" / "sample_raw")
    assert answer["arrivals"] is None
    assert answer["sessions"]["count"] == 14
    assert answer["sessions"]["think_source"] == "recorded"
    assert answer["prefixes"]["scope"] == "session"
