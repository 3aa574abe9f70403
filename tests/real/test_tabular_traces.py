"""The published facts of the public tabular traces come back exactly."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from toolkit.errors import InputFailure
from toolkit.traces import Trace, read_trace


def read(path: Path, **options) -> Trace:
    trace = read_trace([path], **options)
    assert trace.info.rows_read == trace.info.rows_kept + sum(trace.info.dropped.values())
    return trace


@pytest.mark.parametrize(
    ("name", "rows", "span_s", "gap_cv"), [("code", 8_819, 3435.948056, 13.2), ("conv", 19_366, 3501.721937, 1.09)]
)
def test_azure_2023(shared_traces: Path, name: str, rows: int, span_s: float, gap_cv: float):
    trace = read(shared_traces / "azure_llm_2023" / f"AzureLLMInferenceTrace_{name}.csv")
    info, frame = trace.info, trace.frame.collect()
    assert (info.format, info.rows_kept, info.dropped, info.span_s) == ("azure-llm", rows, {}, span_s)
    assert (info.sorted, info.duplicates, info.time_unit) == (True, 0, "datetime")
    assert frame.select("prompt_tokens", "output_tokens").min().row(0) >= (1, 1)
    gaps = np.diff(frame["arrival_s"].to_numpy())
    assert gaps.std(ddof=1) / gaps.mean() == pytest.approx(gap_cv, rel=0.01)
    vidur = read(shared_traces / "length_only" / f"vidur_splitwise_{name}.csv").frame.collect()
    assert frame.select("prompt_tokens", "output_tokens").equals(vidur.select("prompt_tokens", "output_tokens"))
    assert frame["arrival_s"].to_numpy() == pytest.approx(vidur["arrival_s"].to_numpy(), abs=1e-12)


def test_azure_2023_code_has_its_long_silence(shared_traces: Path):
    frame = read(shared_traces / "azure_llm_2023" / "AzureLLMInferenceTrace_code.csv").frame.collect()
    assert frame["arrival_s"].diff().max() == pytest.approx(217, abs=1)
    assert frame["prompt_tokens"].max() == 7437


def test_gentd26(shared_traces: Path):
    trace = read(shared_traces / "alibaba_genai_2026" / "lora_request_trace.csv")
    info, frame = trace.info, trace.frame.collect()
    assert (info.rows_kept, info.sorted, info.duplicates, info.clock_step_s) == (26_823, True, 19, 1.0)
    assert (info.epoch, info.span_s) == ("2024-11-15T16:57:50", 1_989_367.0)
    assert info.token_unit == "characters"
    statuses = dict(frame["source_status"].value_counts().iter_rows())
    assert statuses == {"SUCCEED": 26_392, "FAILED": 398, "PENDING": 30, "PROCESSING": 3}
    assert frame["tenant"].drop_nulls().n_unique() == 4_247
    assert frame["model"].drop_nulls().n_unique() == 86
    assert (frame["model"].null_count(), frame["prompt_tokens"].null_count()) == (25, 25)
    assert (frame["model"] == "M0002").sum() / 26_823 == pytest.approx(0.307, abs=5e-4)
    assert frame["arrival_s"].diff().max() == 47_958
    assert set(frame["kind"]) == {"TXT_2_IMG", "IMG_2_IMG", "INPAINTING"}


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("vidur_arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv", 28_257),
        ("etalon_bwb_stats_llama2_tokenizer_filtered_v2.csv", 33_768),
        ("etalon_sharegpt_8k_filtered_stats_llama2_tokenizer.csv", 30_731),
    ],
)
def test_lengths_without_times(shared_traces: Path, name: str, rows: int):
    trace = read(shared_traces / "length_only" / name)
    assert (trace.info.format, trace.info.rows_kept, trace.info.span_s) == ("length-only", rows, None)
    assert trace.frame.select(pl.col("arrival_s").null_count()).collect().item() == rows


def test_arena_table_equals_the_pickle(shared_traces: Path):
    folder = shared_traces / "prism_arena"
    columns = {"model": "model_rank"}
    table = read(folder / "requests.csv", columns=columns)
    frame = table.frame.collect()
    assert (table.info.rows_kept, table.info.span_s) == (1_500, 600.0)
    top = frame["model"].value_counts(sort=True).head(4).rows()
    assert top == [("2", 296), ("10", 262), ("0", 199), ("5", 120)]


def test_tracelab_sessions(shared_traces: Path):
    folder = shared_traces / "tracelab_examples"
    many = read(folder / "multi_session_large.csv")
    frame = many.frame.collect()
    assert (many.info.rows_kept, frame["session_id"].n_unique()) == (303, 48)
    assert frame["parent_id"].null_count() == 48
    grown = frame.join(frame, left_on="parent_id", right_on="request_id", suffix="_before")
    assert (grown["turn"] == grown["turn_before"] + 1).all()
    one = read(folder / "session_workload_example.csv")
    assert one.info.rows_kept == 11
    assert one.frame.collect()["arrival_s"].null_count() == 11


def test_mooncake_s_clock_is_three_seconds(shared_traces: Path):
    info = read(shared_traces / "mooncake_fast25" / "conversation_trace.jsonl").info
    assert (info.rows_kept, info.span_s) == (12_031, 3536.999)
    assert info.clock_step_s == pytest.approx(3.0, abs=0.003)


@pytest.mark.parametrize("part", ["reason/deepseek-r1", "language_m-mid_trace-csv-only.tar.zst"])
def test_servegen_s_parameters_are_not_requests(shared_traces: Path, part: str):
    with pytest.raises(InputFailure, match="describe clients"):
        read_trace([shared_traces / "servegen" / part])


def test_container_metrics_are_not_a_trace(shared_traces: Path):
    with pytest.raises(InputFailure, match="no known trace format"):
        read_trace([shared_traces / "alibaba_genai_2026" / "qps.tar.gz"])
