"""Formats are recognised from content; what is not recognised is refused with what to do."""

from pathlib import Path

import pytest

from toolkit import plugins
from toolkit.errors import InputFailure, SettingFailure
from toolkit.traces import read_trace

HEADS = {
    "azure-llm": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n",
    "burstgpt": "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "19440110.0,,4.5,GPT-4,100,20,120,API log\n",
    "alibaba-gentd26": "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,"
    "negative_prompt_length,checkpoint_model_version_id\n2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0,63.0,26.0,M0\n",
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n",
    "length-only": "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n374,44,418,8.5\n",
    "tracelab-sessions": "session_id,arrival_time,round_idx,prefix_len,input_len,output_len,tool_wait_after_ms\n"
    "0,117,0,0,2318,200,300\n",
    "columns": "arrival_s,prompt_tokens,output_tokens\n0.5,1,1\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_content_decides_whatever_the_file_is_called(tmp_path: Path, name: str):
    path = tmp_path / "misleading.json"
    path.write_text(HEADS[name])
    assert read_trace([path]).info.format == name


@pytest.mark.parametrize("name", HEADS)
def test_exactly_one_loader_is_sure(name: str):
    sure = [n for n, p in plugins.plugins("loader").items() if p.load()().sniff(HEADS[name].encode(), "x.csv") >= 0.3]
    assert sure[0] == name or name in ("length-only", "columns")
    assert name in sure


def test_an_unknown_table_names_formats_and_the_way_out(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text("when,who\n1,2\n")
    with pytest.raises(InputFailure, match=r"no known trace format \(it begins 'when,who'\).*azure-llm.*--map"):
        read_trace([path])


def test_a_near_miss_names_the_nearest_format(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text("TIMESTAMP,ContextTokens,Generated\n2023-11-16 18:15:46,1,2\n")
    with pytest.raises(InputFailure, match="closest is azure-llm"):
        read_trace([path])
    with pytest.raises(InputFailure, match="no column 'GeneratedTokens'; did you mean 'Generated'"):
        read_trace([path], format="azure-llm")


def test_files_of_two_formats_are_refused(tmp_path: Path):
    for number, name in enumerate(("azure-llm", "vidur")):
        (tmp_path / f"{number}.csv").write_text(HEADS[name])
    with pytest.raises(InputFailure, match=r"1\.csv: is not 'azure-llm' like .*0\.csv"):
        read_trace([tmp_path])


def test_an_unknown_format_names_the_nearest(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text(HEADS["burstgpt"])
    with pytest.raises(SettingFailure, match="no loader is called 'burst-gpt'; did you mean 'burstgpt'"):
        read_trace([path], format="burst-gpt")


@pytest.mark.parametrize("name", ["chunk-0-trace.csv", "chunk-12-dataset.json"])
def test_parameters_of_clients_are_not_requests(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_text("0,1.5,1.2,Gamma,0.6,1.1\n")
    with pytest.raises(InputFailure, match=r"describe clients .*not requests; name a trace with one row a request"):
        read_trace([path])


def test_a_fixed_format_refuses_a_mapping(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text(HEADS["burstgpt"])
    with pytest.raises(SettingFailure, match="names are fixed"):
        read_trace([path], format="burstgpt", columns={"model": "Log Type"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"arrival_s\tprompt_tokens\n0\t5\n", "separated by tabs; separate them by commas"),
        (b"arrival_s;prompt_tokens\n0;5\n", "separated by semicolons; separate them by commas"),
        (b'[{"arrival_s": 0, "prompt_tokens": 5}]', "it is one JSON array; write one object a line"),
        ('{"arrival_s": 0, "prompt_tokens": 5, "model": "é"}\n'.encode("latin-1"), "not UTF-8; save it as UTF-8"),
        ("arrival_s,prompt_tokens\n0,5\n".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
    ],
)
def test_a_table_written_otherwise_is_told_how_to_be_written(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputFailure) as refused:
        read_trace([tmp_path / "t.csv"])
    assert said in str(refused.value)
