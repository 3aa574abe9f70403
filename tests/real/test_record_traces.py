"""The public record traces come back with the facts that are known of them."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from toolkit.traces import Trace, read_trace


def spread(trace: Trace) -> pl.DataFrame:
    return trace.frame.collect()


def test_mooncake_conversation(shared_traces: Path) -> None:
    trace = read_trace([shared_traces / "mooncake_fast25" / "conversation_trace.jsonl"])
    frame = spread(trace)
    assert (trace.info.format, trace.info.rows_kept, trace.info.dropped) == ("mooncake", 12_031, {})
    assert trace.info.span_s == pytest.approx(3536.999)
    blocks = frame["prefix_blocks"].explode()
    assert (len(blocks), len(blocks) - blocks.n_unique()) == (288_500, 105_710)
    slack = 512 * frame["prefix_blocks"].list.len().cast(pl.Int64) - frame["prompt_tokens"]
    assert slack.is_between(0, 511).all()
    assert frame["arrival_s"].n_unique() == 1_180


def test_prism_arena_is_the_table_beside_it(shared_traces: Path) -> None:
    trace = read_trace([shared_traces / "prism_arena" / "real_trace.pkl"])
    frame = spread(trace)
    truth = pl.read_csv(shared_traces / "prism_arena" / "requests.csv")
    rank = frame["model"].str.extract(r"-(\d+)$").cast(pl.Int64)
    assert frame.height == 1500
    assert trace.info.span_s == 600.0
    assert rank.to_list() == truth["model_rank"].to_list()
    assert frame["arrival_s"].to_list() == pytest.approx(truth["arrival_s"].to_list(), abs=1e-4)
    assert frame["prompt_tokens"].to_list() == truth["prompt_tokens"].to_list()
    assert frame["output_tokens"].to_list() == truth["output_tokens"].to_list()
    assert rank.value_counts(sort=True).head(4).rows() == [(2, 296), (10, 262), (0, 199), (5, 120)]
    assert frame["prompt"].null_count() == 1500


@pytest.mark.slow
def test_weka_sessions_of_the_archive(shared_traces: Path) -> None:
    trace = read_trace([shared_traces / "weka_agentic" / "traces_shared.tar.zst"])
    wanted = [
        "session_id",
        "model",
        "prompt_tokens",
        "output_tokens",
        "source_ttft_s",
        "kind",
        "parent_id",
        "arrival_s",
    ]
    frame = trace.frame.select(wanted).collect()
    main = frame["kind"] == "main"
    assert (frame.height, int(main.sum()), frame["session_id"].n_unique()) == (46_171, 45_535, 663)
    assert (frame["model"].n_unique(), int((frame["output_tokens"] == 0).sum())) == (6, 24)
    assert frame["prompt_tokens"].mean() == pytest.approx(122_700, rel=1e-3)
    assert frame["output_tokens"].mean() == pytest.approx(441.6, abs=0.05)
    assert frame["source_ttft_s"].count() == 3_908
    assert frame["parent_id"].null_count() == 663
    assert frame["arrival_s"].null_count() == frame.height


def test_weka_raw_sessions(shared_traces: Path) -> None:
    trace = read_trace([shared_traces / "weka_agentic" / "sample_raw"])
    frame = spread(trace)
    assert trace.info.format == "weka"
    assert frame["session_id"].n_unique() == 14
    assert frame["parent_id"].null_count() == 14
    assert (frame["think_s"].drop_nulls() >= 0).all()


def test_tracelab_rounds(shared_traces: Path) -> None:
    trace = read_trace([shared_traces / "tracelab_examples" / "round_trace.jsonl"])
    frame = spread(trace)
    assert (frame.height, frame["session_id"].n_unique()) == (19, 2)
    assert sorted(frame["model"].unique()) == ["claude-opus-4-8", "gpt-5.4"]
    assert frame.filter(turn=0, model="claude-opus-4-8")["source_e2e_s"].item() == pytest.approx(11.496)
    assert trace.outcomes is not None
    assert trace.outcomes.select(pl.col("cached_tokens").max()).collect().item() == 47_506


@pytest.mark.parametrize(("name", "rows"), [("8min_up_and_down", 2_026), ("5s", 203)])
def test_aibrix_lines_hold_several_requests(name: str, rows: int, shared_traces: Path) -> None:
    trace = read_trace([shared_traces / "aibrix_workload" / f"{name}.jsonl"])
    assert (trace.info.format, trace.info.rows_kept, trace.info.dropped) == ("aibrix", rows, {})


VTC_ROWS = {
    "FCFS_all_results_on_off_overload": 2_400,
    "FCFS_all_results_overload": 2_700,
    "FCFS_all_results_poisson_short_long_2": 2_850,
    "VTC_all_results_dist_shift": 1_889,
    "VTC_all_results_on_off_overload": 2_400,
    "VTC_all_results_poisson_short_long_2": 5_700,
}


@pytest.mark.parametrize(("name", "rows"), VTC_ROWS.items())
def test_vtc_results_are_measured_runs_of_two_tenants(name: str, rows: int, shared_traces: Path) -> None:
    trace = read_trace([shared_traces / "vtc_results" / f"{name}.jsonl"])
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert (trace.info.rows_kept, outcomes.height, outcomes["tenant"].n_unique()) == (rows, rows, 2)
    assert (outcomes["first_token_s"] >= outcomes["arrival_s"]).all()
    assert (outcomes["finish_s"] >= outcomes["first_token_s"]).all()


def test_vtc_means_are_the_published_ones(shared_traces: Path) -> None:
    trace = read_trace([shared_traces / "vtc_results" / "FCFS_all_results_overload.jsonl"])
    assert spread(trace)["source_e2e_s"].mean() == pytest.approx(496.1370925955419)


@pytest.mark.parametrize(
    ("machine", "limits"),
    [
        ("RTX4090_Llama-3.1-8B", "max_num_seqs=256, max_num_batched_tokens=2048"),
        ("RTXPRO6000_Qwen3-30B-A3B", "max_num_seqs=128, max_num_batched_tokens=2048"),
    ],
)
def test_engine_logs_keep_their_order_of_events(machine: str, limits: str, shared_validation: Path) -> None:
    trace = read_trace([shared_validation / "vllm_0_19" / machine / "vllm" / "requests.jsonl"])
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert (trace.info.format, outcomes.height) == ("vllm-log", 300)
    assert limits in trace.info.notes[1]
    times = [outcomes[name] for name in ("arrival_s", "start_s", "first_token_s", "finish_s")]
    assert all((later >= earlier).all() for earlier, later in pairwise(times))
    assert (outcomes["start_s"] - outcomes["arrival_s"]).min() == pytest.approx(0, abs=0.005)
