"""`trace serve`: the simulated engine over HTTP, and a replay against it."""

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from replay.http import asking
from replay.http.endpoint import endpoint
from replay.http.rows import Row
from replay.http.targets import address_of
from replay.serve.chunks import Voice
from replay.serve.faults import faults
from tests.replay.http.scripted import rows, send
from toolkit.errors import SettingFailure

SERVE = (sys.executable, "-c", "from toolkit.cli import main; main()", "serve", "--port", "0")
SCALE = ("--time-scale", "0.05")


@contextmanager
def served(*options: object) -> Iterator[str]:
    """Its URL."""
    process = subprocess.Popen([*SERVE, *map(str, options)], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().partition(" at ")[2].partition(";")[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def url():
    with served(*SCALE, "--max-num-seqs", 4, "--max-model-len", 4096) as found:
        yield found


@pytest.fixture(scope="module")
def one_by_one():
    """Serves a model called 'served', a request at a time."""
    with served("--served-model-name", "served", "--time-scale", 0.4, "--max-num-seqs", 1) as found:
        yield found


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def post(url: str, path: str, **body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_both_apis_answer_with_the_tokens_asked_for(url):
    code, plain = post(url, "/v1/completions", prompt=[5, 6, 7], max_tokens=4, ignore_eos=True)
    assert (code, plain["usage"]["prompt_tokens"], plain["usage"]["completion_tokens"]) == (200, 3, 4)
    assert plain["choices"][0]["text"] == " token after token after"
    hello = [{"role": "user", "content": "two words"}]
    code, chat = post(url, "/v1/chat/completions", messages=hello, max_tokens=2, min_tokens=2)
    assert (code, chat["usage"]["prompt_tokens"], chat["choices"][0]["message"]["content"]) == (200, 4, " token after")


def test_a_message_may_come_in_parts(url):
    parts = [{"type": "text", "text": "two words"}, {"type": "text", "text": "and three more"}]
    code, chat = post(url, "/v1/chat/completions", messages=[{"role": "user", "content": parts}], max_tokens=1)
    assert (code, chat["usage"]["prompt_tokens"]) == (200, 7)
    for content in (None, 5, ["words"], [{"type": "image_url", "image_url": {"url": "x"}}]):
        code, said = post(url, "/v1/chat/completions", messages=[{"role": "user", "content": content}])
        assert (code, "a text, or parts" in said["error"]["message"]) == (400, True)


def test_who_asks_for_another_protocol_is_answered_in_this_one(url):
    with socket.create_connection(("127.0.0.1", port_of(url))) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        said = b"".join(iter(lambda: client.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 200 OK")


def spoken(url, *said):
    """What comes back on one connection for what is said on it, each after the answer before."""
    heard = []
    with socket.create_connection(("127.0.0.1", port_of(url)), timeout=10) as client:
        for each in said:
            client.sendall(each)
            heard.append(client.recv(65_536))
    return heard


def test_who_asks_for_the_head_alone_gets_no_body(url):
    head, get = spoken(url, *(f"{method} /health HTTP/1.1\r\nHost: x\r\n\r\n".encode() for method in ("HEAD", "GET")))
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert head.endswith(b"\r\n\r\n")
    assert get.startswith(head)
    assert get.endswith(b'{"status":"ok"}')


def test_who_waits_for_leave_to_send_a_body_gets_it(url):
    body = b'{"prompt": [1, 2], "max_tokens": 1}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    leave, reply = spoken(url, head, body)
    assert leave == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert reply.startswith(b"HTTP/1.1 200 OK")
    assert b'"prompt_tokens":2' in reply


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"prompt": [1] * 4000, "max_tokens": 200}, 400, "maximum context length is 4096"),
        ({"prompt": "x", "priority": "high"}, 400, "priority"),
        ({"prompt": "x", "max_tokens": 0}, 400, "max_tokens must be at least 1"),
        ({"prompt": {"a": 1}}, 400, "prompt must be"),
        ({"prompt": ""}, 400, "empty"),
        ({"prompt": "x", "model": "gpt-4"}, 404, "does not exist"),
    ],
)
def test_what_vllm_refuses_is_refused(url, body, code, said):
    status, reply = post(url, "/v1/completions", **body)
    assert status == code
    assert said in reply["error"]["message"]


def test_another_model_than_the_served_one_is_an_outcome_that_says_so(url):
    line = send(port_of(url), [Row(0, 0.0, 50, 10)]).only
    assert (line["status"], line["error"]) == ("error", "HTTP 404: The model `served` does not exist.")


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_stream_comes_token_by_token(one_by_one, api):
    line = send(port_of(one_by_one), [Row(0, 0.0, 50, 10)], api=api).only
    assert (line["status"], line["output_tokens"], line["chunks"]) == ("ok", 10, 10)
    assert line["prompt_tokens"] == (52 if api == "chat" else 50)
    step_s = (line["finish_s"] - line["first_token_s"]) / 9
    assert 0.001 < step_s < 0.02


@pytest.mark.parametrize("chat", [False, True])
def test_a_stream_says_what_a_document_says_and_never_repeats_itself(chat):
    voice = Voice(0, "m", chat)
    events = [json.loads(voice.token(n, "length" if n == 4 else None).split(b"data: ")[1]) for n in range(5)]
    said = [e["choices"][0]["delta"]["content"] if chat else e["choices"][0]["text"] for e in events]
    whole = json.loads(voice.document(5, {}).partition(b"\r\n\r\n")[2])["choices"][0]
    assert "".join(said) == (whole["message"]["content"] if chat else whole["text"])
    assert all(one != two for one, two in pairwise(said))


def test_metrics_have_vllms_names(url):
    post(url, "/v1/completions", prompt=[1, 2], max_tokens=3, ignore_eos=True)
    with urllib.request.urlopen(url + "/metrics") as reply:
        text = reply.read().decode()
    counts = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "num_preemptions_total")
    times = ("time_to_first_token_seconds_bucket", "request_queue_time_seconds_sum")
    for name in (*counts, *times, "prefix_cache_hits_total"):
        assert f"vllm:{name}{{" in text
    assert 'vllm:generation_tokens_total{model_name="llama-3.1-8b"}' in text


def test_models_are_listed(url):
    target = endpoint(url + "/v1")
    listed = asking.parsed(asking.get(target, asking.dial_of(target, address_of(target), None), "/v1/models"))
    assert [(m["id"], m["max_model_len"]) for m in listed["data"]] == [("llama-3.1-8b", 4096)]


def test_faults_are_what_they_say_and_each_request_has_one_outcome(tmp_path):
    kinds, log = "reset:0.1,cut:0.1,malformed:0.1,error:0.1,type:0.1,failure:0.1,usage:0.1,busy:0.1", tmp_path / "log"
    with served("--fault", kinds, "--log", log, "--seed", 3, "--served-model-name", "served", *SCALE) as url:
        sent = send(port_of(url), rows(300, gap_s=0.004), retries=1)
    assert [line["id"] for line in sent.outcomes] == list(range(300))
    found = Counter(_kind(line) for line in sent.outcomes)
    for kind in ("before headers", "within the body", "malformed", "in the stream", "content type", "HTTP 500", "ok"):
        assert found[kind] > 5, found
    assert sum("usage says 1 output" in (line["disagrees"] or "") for line in sent.outcomes) > 5
    assert any(line["attempts"] == 2 and line["status"] == "ok" for line in sent.outcomes)
    told = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert told == {f"REQ{line['id']}": line["attempts"] for line in sent.outcomes}


def _kind(line: dict) -> str:
    known = ("before headers", "within the body", "malformed", "in the stream", "content type", "HTTP 500", "HTTP 429")
    error = line["error"] or "ok"
    return next((kind for kind in known if kind in error), error)


def test_priority_runs_first(one_by_one):
    plan = [Row(n, 0.0, 12, 20, priority=0 if n == 7 else 1) for n in range(8)]
    sent = send(port_of(one_by_one), plan)
    order = [line["id"] for line in sorted(sent.outcomes, key=lambda line: line["first_token_s"])]
    assert order.index(7) <= 1


@pytest.mark.parametrize(
    ("text", "said"), [("rest:0.1", "did you mean 'reset'"), ("reset:2", "from 0 to 1"), ("reset:x", "KIND:CHANCE")]
)
def test_faults_that_cannot_be_are_said(text, said):
    with pytest.raises(SettingFailure, match=said):
        faults(text, 0)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_address_with_colons_is_a_url_that_can_be_asked():
    with served(*SCALE, "--host", "::1") as found:
        assert found.startswith("http://[::1]:")
        assert post(found, "/v1/completions", prompt="one two", max_tokens=2)[0] == 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_that_cannot_be_written_ends_the_server_in_one_line():
    process = subprocess.Popen(
        [*SERVE, "--log", "/dev/full"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    url = process.stdout.readline().partition(" at ")[2].partition(";")[0]
    with pytest.raises(ConnectionError):
        post(url, "/v1/completions", prompt="one two", max_tokens=2)
    said = process.communicate(timeout=10)[1]
    assert (process.returncode, said) == (1, "trace: --log /dev/full: cannot be written (No space left on device)\n")


def test_a_host_without_an_address_is_one_line():
    refused = subprocess.run([*SERVE, "--host", "300.1.1.1"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr) == (1, "trace: 300.1.1.1:0: Name or service not known\n")


def test_a_port_in_use_is_one_line(url):
    refused = subprocess.run([*SERVE, "--port", str(port_of(url))], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip().endswith("Address already in use; choose another --port")
