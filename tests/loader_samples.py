"""A tiny file of every format, with numbers of our own, for the contract test and the formats' own tests."""

import io
import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any


def lines(records: list[Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def mooncake() -> bytes:
    rows = [(0, 700, 20, [1, 2]), (1500, 1100, 5, [1, 3, 4]), (1500, 30, 9, [5])]
    return lines([dict(zip(("timestamp", "input_length", "output_length", "hash_ids"), r, strict=True)) for r in rows])


def qwen_bailian() -> bytes:
    keys = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "type", "turn", "hash_ids")
    rows = [
        (11, -1, 0.25, 33, 4, "text", 1, [7, 8, 9]),
        (12, -1, 1.5, 10, 2, "search", 1, [5]),
        (13, 11, 2.75, 50, 6, "text", 2, [7, 8, 9, 10]),
        (14, 13, 9.0, 70, 6, "text", 3, [7, 8, 9, 10, 11]),
        (15, 3, 9.5, 20, 1, "image", 2, [1, 2]),
    ]
    return lines([dict(zip(keys, row, strict=True)) for row in rows])


def prism_value(request: type) -> list[Any]:
    requests = []
    for number, (adapter, prompt, length, output, moment) in enumerate(
        [(2, "Hello Hello ", 2, 9, 0.5), (7, "Why is it?", 4, 513, 1.25), (2, "Hello ", 1, 3, 2.0)]
    ):
        made = request()
        made.__dict__ |= {
            "req_id": number,
            "model_dir": "base-7b",
            "adapter_dir": f"dummy-lora-{adapter}",
            "prompt": prompt,
            "prompt_len": length,
            "output_len": output,
            "req_time": moment,
        }
        requests.append(made)
    return [["dummy-lora-2", "dummy-lora-7"], requests]


def prism(protocol: int = 4) -> bytes:
    """A pickle of trace.Request objects, made with a module of that name that exists only meanwhile."""
    module = types.ModuleType("trace")
    module.Request = type("Request", (), {"__module__": "trace"})  # type: ignore[attr-defined]
    before, sys.modules["trace"] = sys.modules.get("trace"), module
    try:
        out = io.BytesIO()
        pickle.Pickler(out, protocol).dump(prism_value(module.Request))
        return out.getvalue()
    finally:
        if before is None:
            del sys.modules["trace"]
        else:
            sys.modules["trace"] = before


def weka_session() -> dict[str, Any]:
    def request(t: float, size: int, blocks: list[int], think: float, **more: Any) -> dict[str, Any]:
        common = {"t": t, "type": "n", "model": "big", "in": size, "out": 10, "hash_ids": blocks}
        return {**common, "stop": "tool_use", "api_time": 2.0, "think_time": think, **more}

    agent = {
        "t": 10.0, "type": "subagent", "agent_id": "agent_001", "subagent_type": "Explore", "duration_ms": 7500,
        "status": "completed",
        "requests": [request(0.0, 64, [8], 0.0, model="small"), request(3.0, 128, [8, 9], 1.0, model="small")],
    }  # fmt: skip
    launched = {
        **agent,
        "t": 13.0,
        "duration_ms": None,
        "status": "async_launched",
        "requests": [request(0.5, 9, [9], 0)],
    }
    requests = [
        request(0.0, 100, [1, 2], 0.0, ttft=0.4),
        agent,
        request(11.0, 200, [1, 2, 3], 9.0),
        launched,
        request(20.0, 210, [1, 2, 3, 4], 7.0, api_time=None),
    ]
    return {"id": "s-1", "models": ["big"], "block_size": 64, "hash_id_scope": "local", "requests": requests}


def weka() -> bytes:
    return json.dumps(weka_session()).encode()


def tracelab_rounds() -> bytes:
    def event(kind: str, stamp: str) -> dict[str, str]:
        return {"event_type": kind, "timestamp": f"2026-02-03T04:05:{stamp}Z"}

    common = {"provider": "p", "project": "proj", "session_id": "p:1", "model": "m"}
    sizes = {"input_tokens_total": 500, "prefix_tokens": 300, "output_tokens": 40}
    first = [event("user_message", "01.000"), event("reasoning", "03.000"), event("tool_call", "04.500")]
    second = [event("tool_result", "05.000"), event("tool_result", "06.250"), event("text", "08.000")]
    rounds = [(0, "user_message", first), (1, "tool_result", second)]
    return lines(
        [
            {**common, "round_index": n, **sizes, "timing_events": events, "first_input_event_type": kind}
            for n, kind, events in rounds
        ]
    )


def aibrix() -> bytes:
    def request(size: int, output: int, prompt: str) -> dict[str, Any]:
        return {"Prompt Length": size, "Output Length": output, "prompt": prompt}

    return lines(
        [
            {"timestamp": 21, "requests": [request(5, 2, "a"), request(6, 3, "b")]},
            {"timestamp": 4000, "requests": [request(7, 4, "c")]},
        ]
    )


def vtc_results() -> bytes:
    keys = ("adapter_dir", "prompt_len", "output_len", "request_latency", "first_token_latency", "req_time")
    rows = [("lora-0", 256, 256, 12.5, 0.75, 0.5), ("lora-1", 128, 64, 3.0, 0.25, 1.0)]
    responses = [dict(zip(keys, row, strict=True)) for row in rows]
    return lines([{"config": {"num_adapters": 2}, "result": {"total_time": 20.0, "responses": responses}}])


def vllm_bench_result() -> dict[str, Any]:
    return {
        "date": "20260101-000000", "backend": "vllm", "model_id": "some/model", "num_prompts": 3,
        "duration": 4.0, "completed": 2, "total_input_tokens": 60, "request_throughput": 0.5,
        "input_lens": [10, 20, 30], "output_lens": [3, 4, 0], "ttfts": [0.5, 0.25, 0.0],
        "itls": [[0.125, 0.25], [0.5], []], "start_times": [100.0, 101.5, 102.0],
        "generated_texts": ["x", "y", ""], "errors": ["", "", "Bad Gateway"],
    }  # fmt: skip


def vllm_bench() -> bytes:
    return json.dumps(vllm_bench_result()).encode()


def vllm_log() -> bytes:
    keys = (
        "request_id",
        "input_toks",
        "output_toks",
        "arrival_time",
        "queued_ts",
        "scheduled_ts",
        "first_token_ts",
        "last_token_ts",
    )
    rows = [
        ("bench-0", 10, 3, 1_700_000_000.0, 50.5, 51.0, 51.5, 53.0),
        ("bench-1", 20, 4, 1_700_000_002.0, 52.25, 52.25, 52.5, 54.0),
    ]
    return lines([dict(zip(keys, row, strict=True)) for row in rows])


def aiperf_records() -> list[dict[str, Any]]:
    start = 1_759_813_207_000_000_000

    def about(number: int, at_ms: int, took_ms: int, **more: Any) -> dict[str, Any]:
        times = {"request_start_ns": start + at_ms * 10**6, "request_end_ns": start + (at_ms + took_ms) * 10**6}
        names = {"x_request_id": f"r{number}", "x_correlation_id": f"c{number // 2}", "turn_index": number % 2}
        return {**names, **times, "benchmark_phase": "profiling", "was_cancelled": False, **more}

    def metrics(ttft: float, gaps: list[float], output: int) -> dict[str, Any]:
        return {
            "input_sequence_length": {"value": 55, "unit": "tokens"},
            "time_to_first_token": {"value": ttft, "unit": "ms"},
            "inter_chunk_latency": {"value": gaps, "unit": "ms"},
            "output_sequence_length": {"value": output, "unit": "tokens"},
        }

    refused = {"code": 499, "type": "RequestCancellationError", "message": "cancelled"}
    return [
        {"metadata": about(9, 0, 50, benchmark_phase="warmup"), "metrics": metrics(5, [1], 2), "error": None},
        {
            "metadata": about(0, 1000, 300, credit_issued_ns=start + 999 * 10**6),
            "metrics": metrics(250, [20, 30], 3),
            "error": None,
        },
        {"metadata": about(1, 2000, 400), "metrics": metrics(100, [10], 7), "error": None},
        {
            "metadata": about(2, 3000, 1, was_cancelled=True),
            "metrics": {"error_isl": {"value": 77, "unit": "tokens"}},
            "error": refused,
        },
    ]


def aiperf() -> bytes:
    return lines(aiperf_records())


def guidellm_report() -> dict[str, Any]:
    def request(at: float, ttft: float | None, took: float, **more: Any) -> dict[str, Any]:
        first = None if ttft is None else at + ttft
        timings = {
            "targeted_start": at - 0.125,
            "request_start": at,
            "first_token_iteration": first,
            "request_end": at + took,
        }
        info = {"status": "completed", "timings": timings, "error": None}
        return {"info": info, "prompt_tokens": 64, "output_tokens": 16, **more}

    failed = request(103.0, None, 1.0, output_tokens=None)
    failed["info"]["error"] = "connection refused"
    requests = {
        "successful": [request(100.125, 0.25, 2.0), request(102.0, 0.5, 3.0, cached_tokens=32)],
        "errored": [failed],
        "incomplete": [request(104.0, 0.25, 1.0)],
    }
    benchmark = {"type_": "generative_benchmark", "config": {"strategy": {"type_": "constant"}}, "requests": requests}
    return {
        "metadata": {"version": 1, "guidellm_version": "0.8.1"},
        "args": {"model": "some/model"},
        "benchmarks": [benchmark],
    }


def guidellm() -> bytes:
    return json.dumps(guidellm_report()).encode()


def inference_perf_requests() -> list[dict[str, Any]]:
    def request(start: float, chunks: list[float], usage: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        answer = {"output_tokens": 3, "server_usage": usage, "chunk_times": chunks, "output_token_times": chunks}
        about = {"request_metrics": {"text": {"input_tokens": 64}}, "response_metrics": answer, "lora_adapter": None}
        body = json.dumps({"model": "some/model", "prompt": "x"})
        ends = {"start_time": start, "end_time": start + 2.0}
        return {**ends, "request": body, "response": "", "info": {**about, **more}, "error": None}

    counted = {"prompt_tokens": 60, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 16}}
    failed = request(104.0, [], None)
    failed["error"] = {"error_type": "ServerTimeoutError", "error_msg": "too late"}
    first = request(100.0, [100.5, 101.0], counted, lora_adapter="poems")
    return [first, request(102.0, [102.25, 103.0], None), failed]


def inference_perf() -> bytes:
    return json.dumps(inference_perf_requests(), indent=2).encode()


RECORDS = {
    "mooncake": ("trace.jsonl", mooncake),
    "qwen-bailian": ("qwen.jsonl", qwen_bailian),
    "prism": ("real_trace.pkl", prism),
    "weka": ("s-1.json", weka),
    "tracelab-rounds": ("rounds.jsonl", tracelab_rounds),
    "aibrix": ("workload.jsonl", aibrix),
    "vtc-results": ("results.jsonl", vtc_results),
    "vllm-bench": ("result.json", vllm_bench),
    "vllm-log": ("requests.jsonl", vllm_log),
    "aiperf": ("profile_export.jsonl", aiperf),
    "guidellm": ("benchmarks.json", guidellm),
    "inference-perf": ("per_request_lifecycle_metrics.json", inference_perf),
}
TABLES = {
    "azure-llm": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-01-02 03:04:05.1234567,10,2\n2023-01-02 03:04:06.0000000,20,3\n",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,10,2,12,Conversation log\n9,GPT-4,20,3,23,API log\n",
    "alibaba-gentd26": "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,"
    "negative_prompt_length,num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora\n"
    "2024-01-01 00:00:00,TXT_2_IMG,SUCCEED,3.5,g1,100,20,1,30,M1,2\n",
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,10,2\n1.25,20,3\n",
    "length-only": "num_prefill_tokens,num_decode_tokens\n10,2\n20,3\n",
    "tracelab-sessions": "session_id,round_idx,prefix_len,input_len,output_len,tool_wait_after_ms\n"
    "s1,0,0,100,10,500\ns1,1,110,20,5,0\n",
    "columns": "arrival_s,prompt_tokens,output_tokens\n0.5,10,2\n1.5,20,3\n",
}


def write(name: str, folder: Path) -> Path:
    """The sample of format `name` as a file in `folder`."""
    file_name, content = RECORDS[name] if name in RECORDS else (f"{name}.csv", lambda: TABLES[name].encode())
    path = folder / file_name
    path.write_bytes(content())
    return path
