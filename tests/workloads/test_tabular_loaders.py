"""The tabular formats, each on rows made here: what every column becomes."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from toolkit.traces import Trace, read_trace


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str, name: str = "trace.csv") -> Trace:
        path = tmp_path / name
        path.write_text(text)
        return read_trace([path])

    return read


def column(trace: Trace, name: str) -> list[Any]:
    return trace.frame.select(name).collect().to_series().to_list()


def test_azure_2023_keeps_every_tick_of_100_ns(read):
    stamps = ["03.0000001", "03.0000008", "03.5000000", "04.0000001"]
    rows = "".join(f"2023-11-16 18:17:{s},{i},{i}\n" for i, s in enumerate(stamps))
    trace = read("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    assert column(trace, "arrival_s") == [0.0, 7e-7, 0.4999999, 1.0]
    assert trace.info.clock_step_s == pytest.approx(1e-7)
    assert trace.info.epoch == "2023-11-16T18:17:03.0000001"
    assert trace.info.time_unit == "datetime"


def test_azure_2024_applies_the_zone_and_reads_whole_seconds(read):
    rows = (
        "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,2399,6\n2024-05-10 02:00:02+02:00,76,15\n"
    )
    trace = read("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    assert column(trace, "arrival_s") == [0.0, 0.99007, 1.99007]
    assert column(trace, "prompt_tokens") == [2162, 2399, 76]
    assert column(trace, "output_tokens") == [5, 6, 15]


def test_burstgpt_before_v3_has_no_latencies(read):
    trace = read(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,0,1087,API log\n"
    )
    frame = trace.frame.collect()
    assert frame["source_status"].to_list() == ["ok", "failed"]
    assert frame["kind"].to_list() == ["Conversation log", "API log"]
    assert frame["session_id"].null_count() == 2
    assert trace.outcomes is None
    assert trace.info.epoch is None


def test_burstgpt_v3_is_read_by_name_with_sessions_and_outcomes(read):
    trace = read(
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "19440110.0,s1,4.5,ChatGPT,472,18,490,Conversation log\n"
        "19440120.5,,0.25,GPT-4,1087,0,1087,API log\n"
    )
    frame = trace.frame.collect()
    assert frame["arrival_s"].to_list() == [0.0, 10.5]
    assert frame["session_id"].to_list() == ["s1", None]
    assert frame["prompt_tokens"].to_list() == [472, 1087]
    assert frame["source_e2e_s"].to_list() == [4.5, 0.25]
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert outcomes["finish_s"].to_list() == [4.5, 10.75]
    assert outcomes["status"].to_list() == ["ok", "error"]
    assert outcomes["first_token_s"].null_count() == 2


def test_gentd26_counts_characters_tenants_and_repeats_of_whole_rows(read):
    head = (
        "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,negative_prompt_length,"
        "num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora\n"
    )
    same = "2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0,63.0,26.0,1.0,30.0,M0,0\n"
    more_steps = same.replace("30.0", "40.0")
    rest = "2024-11-15 18:16:14,INPAINTING,FAILED,43.0,G1,,,1.0,40.0,,0\n"
    trace = read(head + same + same + more_steps + rest)
    frame = trace.frame.collect()
    assert trace.info.token_unit == "characters"
    assert trace.info.duplicates == 1
    assert frame["tenant"].to_list() == ["G0", "G0", "G0", "G1"]
    assert frame["model"].to_list() == ["M0", "M0", "M0", None]
    assert frame["prompt_tokens"].to_list() == [63, 63, 63, None]
    assert frame["output_tokens"].null_count() == 4
    assert frame["source_e2e_s"].to_list() == [32, 32, 32, 43]
    assert frame["source_status"].to_list() == ["SUCCEED"] * 3 + ["FAILED"]
    assert frame["arrival_s"].to_list() == [0, 0, 0, 4704]


def test_vidur_arrivals_are_seconds(read):
    trace = read("arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,4808,10\n0.052,3180,8\n")
    assert column(trace, "arrival_s") == [0.0, 0.052]
    assert trace.info.time_unit == "s"


def test_lengths_without_times_have_null_arrivals_in_source_order(read):
    trace = read(
        "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n374,44,418,8.5\n9,1,10,9.0\n374,44,418,8.5\n"
    )
    assert column(trace, "arrival_s") == [None, None, None]
    assert column(trace, "prompt_tokens") == [374, 9, 374]
    info = trace.info
    assert (info.span_s, info.time_unit, info.clock_step_s, info.duplicates) == (None, None, None, 1)
    assert "arrival_s is null" in info.notes[0]


SESSIONS = "0,{a}0,0,100,10,300\n0,{a}1,110,50,5,150\n0,{a}2,165,1,1,0\n1,{b}0,0,7,2,9\n"


def test_rounds_follow_each_other_after_the_tool_s_wait(read):
    header = "session_id,arrival_time,round_idx,prefix_len,input_len,output_len,tool_wait_after_ms\n"
    trace = read(header + SESSIONS.format(a="1000,", b="1350,"))
    frame = trace.frame.collect()
    assert frame["session_id"].to_list() == ["0", "0", "1", "0"]
    assert frame["arrival_s"].to_list() == [0.0, 0.3, 0.35, 0.45]
    assert frame["parent_id"].to_list() == [None, 0, None, 1]
    assert frame["think_s"].to_list() == [None, 0.3, None, 0.15]
    assert frame["turn"].to_list() == [0, 1, 0, 2]
    assert frame["prompt_tokens"].to_list() == [100, 160, 7, 166]
    assert "earliest" in trace.info.notes[0]


def test_rounds_without_session_starts_have_null_arrivals(read):
    header = "session_id,round_idx,prefix_len,input_len,output_len,tool_wait_after_ms\n"
    trace = read(header + SESSIONS.format(a="", b=""))
    frame = trace.frame.collect()
    assert frame["arrival_s"].null_count() == 4
    assert frame["parent_id"].to_list() == [None, 0, 1, None]
    assert trace.info.span_s is None


def test_a_trace_is_lazy_and_can_be_collected_twice(read):
    trace = read("arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,1,2\n0.25,3,4\n")
    assert isinstance(trace.frame, pl.LazyFrame)
    assert trace.frame.collect().equals(trace.frame.collect())
