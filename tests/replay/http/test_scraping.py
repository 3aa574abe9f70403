"""What servers say on `/metrics`, as TIMELINE rows."""

import pytest

from replay.http.asking import dial_of
from replay.http.endpoint import endpoint
from replay.http.scraping import Scraper, rows
from replay.serve.metrics import Metrics
from tests.replay.http.scripted import Asked, serving
from tests.replay.http.test_replaying import replay, simple, trace_file
from tests.replay.http.test_serve import served
from toolkit.runs import Run
from toolkit.schema import TIMELINE

VLLM = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b \\"c\\""} 3.0
vllm:num_requests_waiting{engine="0",model_name="a b \\"c\\""} 12.0
vllm:kv_cache_usage_perc{engine="0",model_name="a b \\"c\\""} 0.25
vllm:cache_config_info{block_size="16",num_gpu_blocks="400"} 1.0
"""
SGLANG = b"""sglang:num_running_reqs{model_name="m",priority="",tp_rank="0"} 2.0
sglang:num_running_reqs{model_name="m",priority="1",tp_rank="0"} 2.0
sglang:num_queue_reqs{model_name="m",priority="",tp_rank="0"} 0.0
sglang:token_usage{model_name="m",priority="",tp_rank="0"} 0.25
sglang:max_total_num_tokens{model_name="m",priority="",tp_rank="0"} 4000.0
"""
OLDER_SGLANG = b'sglang:num_running_reqs{model_name="m"} 2.0\nsglang:num_queue_reqs{model_name="m"} 0.0\n'
LLAMA = b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 4\n"


@pytest.mark.parametrize(
    ("page", "model", "queue", "running", "used", "total"),
    [
        (VLLM, 'a b "c"', 12, 3, 100, 400),
        (SGLANG, "m", 0, 2, 1000, 4000),
        (OLDER_SGLANG, "m", 0, 2, None, None),
        (LLAMA, None, 4, 1, None, None),
    ],
)
def test_each_engines_names_are_known(page, model, queue, running, used, total):
    (row,) = rows(page, 1.5, "http://h")
    assert (row["model"], row["queue"], row["running"]) == (model, queue, running)
    assert (row["kv_used_blocks"], row["kv_total_blocks"]) == (used, total)
    assert (row["time_s"], row["gpu"]) == (1.5, "http://h")
    assert set(row) <= set(TIMELINE)


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"1e300", b"-1", b"many"])
def test_what_is_no_number_is_left_out(value):
    page = VLLM.replace(b" 12.0", b" " + value).replace(b'"400"', b'"' + value + b'"')
    (row,) = rows(page, 1.5, "http://h")
    assert (row["queue"], row["running"], row["kv_total_blocks"]) == (None, 3, None)


def test_engines_behind_one_endpoint_are_added_up():
    """With data parallelism vLLM tells of each by itself."""
    other = VLLM.replace(b'engine="0"', b'engine="1"').replace(b" 0.25", b" 0.75")
    (row,) = rows(VLLM + other, 1.5, "h")
    assert (row["queue"], row["running"], row["kv_used_blocks"], row["kv_total_blocks"]) == (24, 6, 400, 800)
    (row,) = rows((VLLM + other).replace(b" 12.0", b" 2e9").replace(b'"400"', b'"2e9"'), 1.5, "h")
    assert (row["queue"], row["kv_total_blocks"]) == (2**31 - 1, 2**31 - 1)


@pytest.mark.parametrize("model", ['a "b"', "a\\b", "a\nb", "a\\nb", "模型,{x}"])
def test_a_models_name_is_what_it_was(model):
    page = Metrics(model).text({"num_requests_running": 1.0})
    assert [row["model"] for row in rows(page.encode(), 0.0, "h")] == [model]


def test_a_server_that_was_away_is_asked_again():
    away = range(2, 9)

    async def script(asked: Asked) -> None:
        await asked.answer(503 if asked.number in away else 200, VLLM, "Content-Type: text/plain\r\n")

    with serving(script) as server:
        target = endpoint(server.url)
        dial = dial_of(target, (2, ("127.0.0.1", server.port)), None)
        scraper = Scraper([(target, dial)], 0.0, every_s=0.0)
        for _ in range(12):
            scraper.look()
    assert len(scraper.frame()) == 12 - len(away)


def test_other_pages_tell_nothing():
    assert rows(b"<html>", 0.0, "h") == rows(b"http_requests_total 5\n", 0.0, "h") == []


def test_a_replay_keeps_what_the_server_said(tmp_path):
    with served("--time-scale", 0.2) as url:
        done = replay(trace_file(tmp_path, simple(60, 0.03)), tmp_path / "r", "--url", url)
    assert done.exit_code in (0, 3), done.output
    timeline = Run.open(tmp_path / "r" / "fcfs").table("timeline").collect()
    assert len(timeline) >= 2
    assert timeline["model"].unique().to_list() == ["llama-3.1-8b"]
    assert (timeline["kv_total_blocks"] > 1000).all()
    assert timeline["time_s"].is_sorted()
