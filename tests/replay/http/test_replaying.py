"""`trace replay --engine openai` as its users run it."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from replay.http.journal import in_use
from tests.replay.http.scripted import Asked, Server, fine, serving, text, usage
from toolkit.cli import main
from toolkit.runs import Run
from toolkit.schema import TRACE, conform
from toolkit.traces import Trace, TraceInfo, write_trace

COMMAND = (sys.executable, "-c", "from toolkit.cli import main; main()", "replay")


def trace_file(folder: Path, rows: list[dict], **known) -> Path:
    path = folder / "t.parquet"
    frame = conform(pl.DataFrame(rows, infer_schema_length=None).with_row_index("request_id"), TRACE, source="test")
    info = TraceInfo("t", "canonical", "0" * 64, len(rows), len(rows), span_s=max(r["arrival_s"] or 0 for r in rows))
    write_trace(Trace(frame.lazy(), TraceInfo(**{**info.to_dict(), **known})), path)
    return path


def simple(count: int = 40, gap_s: float = 0.02, **more) -> list[dict]:
    return [
        {"arrival_s": n * gap_s, "model": "a", "prompt_tokens": 20 + n, "output_tokens": 2 + n % 5, **more}
        for n in range(count)
    ]


def replay(file: Path | None, out: Path, *options: object, env: dict | None = None):
    given = [str(o) for o in options]
    words = ["--resume", str(out)] if file is None else [str(file), "--engine", "openai", "--out", str(out)]
    return CliRunner().invoke(main, ["replay", *words, *given], env=env)


def tags(server: Server) -> list[int]:
    return [asked.tag for asked in server.asked if asked.tag >= 0]


def probed(server: Server) -> int:
    return sum(asked.body.get("user") == "probe" for asked in server.asked)


def test_a_trace_is_sent_and_the_run_says_how(tmp_path):
    with serving(fine) as server:
        done = replay(trace_file(tmp_path, simple()), tmp_path / "r", "--url", server.url, "--lag-bound-s", 0.5)
    assert done.exit_code == 0, done.output
    assert "40 requests: 40 ok" in done.output
    assert "VALID" in done.output
    run = Run.open(tmp_path / "r" / "fcfs")
    outcomes = run.table("outcomes").collect().sort("request_id")
    assert outcomes["request_id"].to_list() == list(range(40))
    assert outcomes["status"].unique().to_list() == ["ok"]
    assert outcomes["prompt_tokens"].to_list() == [20 + n for n in range(40)]
    assert outcomes["output_tokens"].to_list() == [2 + n % 5 for n in range(40)]
    assert outcomes["engine"].unique().to_list() == ["openai"]
    assert (outcomes["sent_s"] >= outcomes["arrival_s"]).all()
    assert (outcomes["first_token_s"] <= outcomes["finish_s"]).all()
    info = run.info
    assert (info["verdict"], info["requests"], info["statuses"]) == ("VALID", 40, {"ok": 40})
    assert info["lengths"] == {"prompts_exact": 1.0, "outputs_exact": 1.0}
    (can,) = info["engine"]["capabilities"].values()
    assert (can["api"], can["usage"], can["priority"]) == ("completions", "honoured", "ignored")
    assert (can["prompts"], can["max_model_len"]) == ("token ids 1000 to 9999", 4096)
    assert info["validity"]["send_lag_s"]["p99"] < 0.5
    assert 0 < info["validity"]["cpu_share"][0] < 1
    assert sorted(path.name for path in run.path.iterdir()) == ["outcomes", "run.json", "wire"]
    assert len(run.table("wire").collect()) == 40
    assert info["command"].startswith("trace replay ")
    assert server.url in info["command"]


def test_a_late_run_is_client_bound_and_exits_3(tmp_path):
    with serving(fine) as server:
        file = trace_file(tmp_path, simple(5))
        done = replay(file, tmp_path / "r", "--url", server.url, "--lag-bound-s", 1e-9)
    assert done.exit_code == 3
    assert "CLIENT-BOUND (P99 send lag is" in done.output
    assert Run.open(tmp_path / "r" / "fcfs").info["verdict"] == "CLIENT-BOUND"


def test_no_secret_is_written_anywhere(tmp_path):
    async def echo(asked: Asked) -> None:
        if asked.tag == 3:
            said = asked.headers["authorization"] + asked.headers["x-team"]
            await asked.answer(401, {"error": said})
        else:
            await fine(asked)

    env = {"TRACE_API_KEY": "sk-do-not-write-me", "TRACE_HEADERS": "X-Team: blue-secret-team\n"}
    with serving(echo) as server:
        done = replay(trace_file(tmp_path, simple(6)), tmp_path / "r", "--url", server.url, env=env)
    assert done.exit_code in (0, 3), done.output
    assert {a.headers["authorization"] for a in server.asked} == {"Bearer sk-do-not-write-me"}
    assert {a.headers["x-team"] for a in server.asked} == {"blue-secret-team"}
    written = b"".join(path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file())
    assert b"do-not-write" not in written + done.output.encode()
    assert b"secret-team" not in written + done.output.encode()
    run = Run.open(tmp_path / "r" / "fcfs")
    assert run.info["engine"]["headers"] == ["Authorization", "X-Team"]
    assert run.table("outcomes").filter(pl.col("request_id") == 3).collect()["error"][0] == (
        "HTTP 401: [secret][secret]"
    )


@pytest.mark.parametrize(
    ("options", "env", "said"),
    [
        ([], {}, "give --url"),
        (["--url", "ftp://x"], {}, "no http or https URL"),
        (["--url", "http://me:pw@x"], {}, "holds a user or a password; put it in TRACE_API_KEY"),
        (["--url", "http://127.0.0.1:1"], {}, "does not answer"),
        (["--url", "http://127.0.0.1:1", "--scheduler", "sjff"], {}, "did you mean 'sjf'?"),
        (["--url", "http://127.0.0.1:1", "--timeout", "frist=3"], {}, "did you mean 'first'?"),
        (["--url", "http://127.0.0.1:1"], {"TRACE_HEADERS": "Host: evil"}, "TRACE_HEADERS"),
        (["--url", "http://127.0.0.1:1"], {"TRACE_API_KEY": "two\r\nlines: x"}, "no header may"),
        (["--url", "http://127.0.0.1:1", "--max-inflight", "2", "--workers", "3"], {}, "--max-inflight"),
        (["--url", "http://127.0.0.1:1", "--send-priority", "--scheduler", "vtc"], {}, "more than a number a request"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(options, env, said, tmp_path):
    refused = replay(trace_file(tmp_path, simple(3)), tmp_path / "r", *options, env=env)
    assert refused.exit_code == 1
    assert said in refused.output
    assert len(refused.output.strip().splitlines()) == 1
    assert not (tmp_path / "r").exists()


def wait_for(condition) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.025)
    raise AssertionError("it did not come to that")


def test_a_bad_moment_says_nothing_of_what_an_endpoint_can_do(tmp_path):
    async def moody(asked: Asked) -> None:
        probe = asked.body.get("user") == "probe" or asked.path == "/v1/models"
        if probe and asked.number % 3 == 0:
            asked.reset()
        elif probe and asked.number % 3 == 1:
            await asked.answer(503, {"error": "busy"}, "Retry-After: 1\r\n")
        else:
            await fine(asked)

    found = {}
    for name, script in (("fine", fine), ("moody", moody)):
        with serving(script) as server:
            done = replay(trace_file(tmp_path, simple(5)), tmp_path / name, "--url", server.url)
        assert done.exit_code in (0, 3), done.output
        found[name] = Run.open(tmp_path / name / "fcfs").info
    can = {name: info["engine"]["capabilities"]["endpoint_1"] | {"url": ""} for name, info in found.items()}
    assert can["moody"] == can["fine"]
    assert found["moody"]["recipes"] == found["fine"]["recipes"]


@pytest.mark.parametrize(
    ("code", "headers", "said"),
    [
        (308, "Location: https://h/v1/models\r\n", "HTTP 308, a redirect to https://h/v1/models: refused; give --url"),
        (401, "", "HTTP 401: not now; see TRACE_API_KEY"),
        (503, "", "HTTP 503: not now; is there an engine behind it?"),
    ],
)
def test_an_endpoint_that_will_not_answer_is_told_from_one_without_a_list(code, headers, said, tmp_path):
    async def refuses(asked: Asked) -> None:
        await asked.answer(code, {"error": "not now"}, headers)

    with serving(refuses) as server:
        done = replay(trace_file(tmp_path, simple(3)), tmp_path / "r", "--url", server.url)
    assert done.exit_code == 1
    assert said in done.output


def test_an_endpoint_that_hangs_is_waited_for_no_longer_than_a_first_token(tmp_path):
    async def hangs(asked: Asked) -> None:
        await fine(asked) if asked.method == "GET" else await asyncio.sleep(30)

    began_s = time.monotonic()
    with serving(hangs) as server:
        options = ["--url", server.url, "--timeout", "first=0.4"]
        done = replay(trace_file(tmp_path, simple(3)), tmp_path / "r", *options)
        assert time.monotonic() - began_s < 5
    assert done.exit_code == 1
    assert "answers no request (completions: no answer within 0.4 s)" in done.output
    assert probed(server) == 1


def test_a_name_that_is_not_among_many_is_said_in_few_words(tmp_path):
    async def many(asked: Asked) -> None:
        await asked.answer(200, {"data": [{"id": f"model-{n:04}"} for n in range(2000)]})

    rows = [{**row, "model": "model-99x"} for row in simple(3)]
    with serving(many) as server:
        done = replay(trace_file(tmp_path, rows), tmp_path / "r", "--url", server.url)
    assert "serves no model 'model-99x'; did you mean 'model-" in done.output
    assert len(done.output) < 300


def test_what_went_wrong_is_said_with_a_reason(tmp_path):
    async def half_wrong(asked: Asked) -> None:
        if asked.tag >= 0 and asked.tag % 2:
            await asked.answer(500, {"error": "out of luck"})
        elif asked.tag >= 0:
            await asked.stream(text(), text(finish="length"), usage(12, 1))
        else:
            await fine(asked)

    with serving(half_wrong) as server:
        done = replay(trace_file(tmp_path, simple(6)), tmp_path / "r", "--url", server.url)
    assert "note: 3 did not end well, such as: error, HTTP 500: out of luck" in done.output
    assert "note: 3 have a usage that disagrees with what came, such as: usage says 1 output tokens" in done.output


@pytest.mark.parametrize("whom", ["all", pytest.param("the first process", marks=pytest.mark.slow)])
def test_a_killed_replay_is_resumed_without_sending_again_what_was_answered(whom, tmp_path):
    file = trace_file(tmp_path, simple(120, 0.01))
    out = tmp_path / "r"
    with serving(fine) as server:
        words = [*COMMAND, file, "--engine", "openai", "--url", server.url, "--out", out]
        killed = subprocess.Popen([str(w) for w in words], stdout=subprocess.DEVNULL, start_new_session=True)
        wait_for(lambda: len(tags(server)) > 50)
        os.killpg(killed.pid, signal.SIGKILL) if whom == "all" else killed.kill()
        killed.wait()
        (journal,) = (out / "fcfs" / "plan").glob("journal-*.jsonl")
        if whom != "all":
            wait_for(lambda: not in_use(journal))
        answered = {json.loads(line)["id"] for line in journal.read_bytes().split(b"\n")[:-1]}
        before, probes = set(tags(server)), probed(server)
        done = replay(None, out)
        after = tags(server)[len(before) :]
        assert probed(server) == probes  # it asks as it did before
    assert done.exit_code in (0, 3), done.output
    assert answered
    assert answered & set(after) == set()
    assert before | set(after) == set(range(120))
    outcomes = Run.open(out / "fcfs").table("outcomes").collect()
    assert outcomes["request_id"].sort().to_list() == list(range(120))
    assert len(Run.open(out / "fcfs").info["stretches"]) == 1


@pytest.mark.parametrize("whom", ["all", pytest.param("the first process", marks=pytest.mark.slow)])
def test_a_terminated_replay_says_how_to_resume_and_does(whom, tmp_path):
    file = trace_file(tmp_path, simple(150, 0.01))
    out = tmp_path / "r"
    with serving(fine) as server:
        words = [*COMMAND, file, "--engine", "openai", "--url", server.url, "--out", out, "--workers", 2]
        stopped = subprocess.Popen(
            [str(w) for w in words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for(lambda: len(tags(server)) > 30)
        os.killpg(stopped.pid, signal.SIGTERM) if whom == "all" else stopped.terminate()
        said = stopped.communicate()[1]
        first = tags(server)
        done = replay(None, out)
    assert stopped.returncode == 130
    assert f"continue with: trace replay --resume {out}" in said
    assert done.exit_code in (0, 3), done.output
    assert len(first) < 150
    assert sorted(tags(server)) == list(range(150))
    run = Run.open(out / "fcfs")
    assert [s["sent"] for s in run.info["stretches"]] == [len(first), 150 - len(first)]
    outcomes = run.table("outcomes").collect().sort("request_id")
    assert outcomes["request_id"].to_list() == list(range(150))
    assert outcomes["arrival_s"].to_list() == pytest.approx([n * 0.01 for n in range(150)])


def test_a_run_is_not_resumed_at_other_endpoints_than_it_was_begun_with(tmp_path):
    file = trace_file(tmp_path, [{**row, "model": "ab"[n % 2]} for n, row in enumerate(simple(150, 0.01))])
    models, out = tmp_path / "m.yaml", tmp_path / "r"
    with serving(fine) as one, serving(fine) as other:
        models.write_text(f"'*': {{url: '{one.url}'}}\n")
        words = [*COMMAND, file, "--engine", "openai", "--models", models, "--out", out]
        stopped = subprocess.Popen([str(w) for w in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: len(tags(one)) > 30)
        stopped.terminate()
        stopped.wait()
        models.write_text(f"a: {{url: '{other.url}'}}\n'*': {{url: '{one.url}'}}\n")
        refused = replay(None, out)
        models.write_text(f"'*': {{url: '{one.url}'}}\n")
        done = replay(None, out)
    assert refused.exit_code == 1
    assert "was begun with other endpoints; restore the file of --models, or start a new run" in refused.output
    assert done.exit_code in (0, 3), done.output
    assert sorted(tags(one)) == list(range(150))


@pytest.mark.parametrize("limit", ["-Sn", "-n"])
def test_no_request_fails_because_few_files_may_be_open_here(limit, tmp_path):
    """The soft limit is raised; where the hard one is as low, requests wait for a connection, and the run says so."""

    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.3 * (asked.tag >= 0))
        await fine(asked)

    with serving(slow) as server:
        words = [*COMMAND, trace_file(tmp_path, simple(100, 0.0)), "--engine", "openai", "--url", server.url]
        command = f"ulimit {limit} 64; exec {shlex.join(str(w) for w in [*words, '--out', tmp_path / 'r'])}"
        subprocess.run(["bash", "-c", command], check=False)
    info = Run.open(tmp_path / "r" / "fcfs").info
    assert info["statuses"] == {"ok": 100}
    full = "no room here for more connections (Too many open files)"
    assert (full in info["validity"]["reasons"]) == (limit == "-n")


def test_schedulers_take_turns_at_the_endpoint(tmp_path):
    with serving(fine) as server:
        file = trace_file(tmp_path, simple(10, 0.01))
        done = replay(file, tmp_path / "r", "--url", server.url, "--scheduler", "fcfs,sjf", "--max-inflight", 2)
    assert done.exit_code in (0, 3), done.output
    assert sorted(tags(server)[:10]) == list(range(10))
    assert sorted(tags(server)[10:]) == list(range(10))


def test_the_scheduler_sends_its_order_as_priority(tmp_path):
    with serving(fine) as server:
        file = trace_file(tmp_path, simple(10, 0.01))
        done = replay(file, tmp_path / "r", "--url", server.url, "--scheduler", "sjf", "--send-priority")
    assert done.exit_code in (0, 3), done.output
    asked = [(a.body["max_tokens"], a.body["priority"]) for a in server.asked if a.tag >= 0]
    assert len({priority for _, priority in asked}) >= 5
    assert f"note: priority is ignored by {server.url}" in done.output
    by_length = sorted(asked)
    assert [p for _, p in by_length] == sorted(p for _, p in asked)


def test_sessions_are_closed_loops_and_shared_out_whole(tmp_path):
    rows = []
    for n in range(8):
        session = {"model": "a", "session_id": f"s{n}", "prompt_tokens": 30, "output_tokens": 3}
        rows.append({"arrival_s": n * 0.02, "turn": 0, "parent_id": None, "think_s": None, **session})
    for n in range(8):
        session = {"model": "a", "session_id": f"s{n}", "prompt_tokens": 30, "output_tokens": 3}
        rows.append({"arrival_s": 0.5, "turn": 1, "parent_id": n, "think_s": 0.1, **session})
    with serving(fine) as server:
        done = replay(trace_file(tmp_path, rows), tmp_path / "r", "--url", server.url, "--workers", 2)
    assert done.exit_code in (0, 3), done.output
    outcomes = Run.open(tmp_path / "r" / "fcfs").table("outcomes").collect().sort("request_id")
    first, second = outcomes[:8], outcomes[8:]
    assert second["arrival_s"].to_list() == pytest.approx((first["finish_s"] + 0.1).to_list())
    assert sorted(tags(server)) == list(range(16))


def test_prefix_blocks_are_the_same_tokens_again(tmp_path):
    rows = [
        {"arrival_s": 0.0, "prompt_tokens": 40, "output_tokens": 2, "prefix_blocks": [7, 8]},
        {"arrival_s": 0.1, "prompt_tokens": 52, "output_tokens": 2, "prefix_blocks": [7, 8, 9]},
        {"arrival_s": 0.2, "prompt_tokens": 40, "output_tokens": 2, "prefix_blocks": [5, 8]},
    ]
    with serving(fine) as server:
        replay(trace_file(tmp_path, rows, block_tokens=16, block_scope="global"), tmp_path / "r", "--url", server.url)
    first, second, third = (a.body["prompt"] for a in sorted(server.asked, key=lambda a: a.tag) if a.tag >= 0)
    assert [len(p) for p in (first, second, third)] == [40, 52, 40]
    assert first[:32] == second[:32]
    assert first[32:36] != second[32:36]
    assert third[:16] != first[:16]
    assert third[16:32] == first[16:32]


def test_the_traces_own_text_is_sent_where_it_has_any(tmp_path):
    rows = [{"arrival_s": 0.0, "prompt_tokens": 3, "output_tokens": 2, "prompt": 'say "hé" \\ now'}]
    with serving(fine) as server:
        replay(trace_file(tmp_path, rows), tmp_path / "r", "--url", server.url)
    assert [a.body["prompt"] for a in server.asked if a.tag >= 0] == ['say "hé" \\ now']


def test_models_are_routed_by_the_map(tmp_path):
    file = trace_file(tmp_path, [{**row, "model": "ab"[n % 2]} for n, row in enumerate(simple(10))])
    with serving(fine) as one, serving(fine) as other:
        (tmp_path / "m.yaml").write_text(f"a: {{model: big, url: '{other.url}'}}\n'*': {{model: small}}\n")
        done = replay(file, tmp_path / "r", "--url", one.url, "--models", tmp_path / "m.yaml")
    assert done.exit_code in (0, 3), done.output
    assert {a.body["model"] for a in one.asked if a.tag >= 0} == {"small"}
    assert {a.body["model"] for a in other.asked if a.tag >= 0} == {"big"}
    assert sorted(tags(one)) == [1, 3, 5, 7, 9]
    assert sorted(tags(other)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("models", "load"), [("ab" * 60, ()), ("a" * 2000 + "b" * 60, ("--concurrency", 600))])
def test_an_endpoint_that_is_gone_takes_no_other_with_it(models, load, tmp_path):
    async def gone(asked: Asked) -> None:
        await asyncio.sleep(0.3 * (asked.tag >= 0))
        asked.reset() if asked.tag >= 0 else await fine(asked)

    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.8 * (asked.tag >= 0))
        await fine(asked)

    rows = [{**row, "model": model} for row, model in zip(simple(len(models), 0.01), models, strict=True)]
    with serving(gone) as one, serving(slow) as other:
        (tmp_path / "m.yaml").write_text(f"a: {{url: '{one.url}'}}\nb: {{url: '{other.url}'}}\n")
        done = replay(trace_file(tmp_path, rows), tmp_path / "r", "--models", tmp_path / "m.yaml", *load)
    assert done.exit_code in (0, 3), done.output
    statuses = Run.open(tmp_path / "r" / "fcfs").info["statuses"]
    assert statuses["ok"] == models.count("b") == len(tags(other))
    assert statuses["error"] == len(tags(one))
    assert statuses["cancelled"] == models.count("a") - len(tags(one)) > 0


def test_an_endpoint_of_chat_alone_is_found_and_its_words_are_counted(tmp_path):
    async def chat(asked: Asked) -> None:
        if asked.method == "GET":
            await asked.answer(200, {"data": [{"id": "served"}]})
        elif asked.path != "/v1/chat/completions":
            await asked.answer(404, {"error": "no such path"})
        elif "ignore_eos" in asked.body or "min_tokens" in asked.body or "user" in asked.body:
            await asked.answer(422, {"detail": "extra fields not permitted"})
        else:
            words = len(asked.body["messages"][0]["content"].split())
            count = asked.body["max_tokens"]
            await asked.stream(
                {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
                *[{"choices": [{"delta": {"content": "x"}, "finish_reason": None}]}] * count,
                {"choices": [{"delta": {}, "finish_reason": "length"}]},
                {"choices": [], "usage": {"prompt_tokens": 2 * words + 9, "completion_tokens": count}},
            )

    rows = [{"arrival_s": 0.02 * n, "prompt_tokens": 41 + 2 * n, "output_tokens": 4} for n in range(5)]
    with serving(chat) as server:
        done = replay(trace_file(tmp_path, rows), tmp_path / "r", "--url", server.url)
    assert done.exit_code in (0, 3), done.output
    info = Run.open(tmp_path / "r" / "fcfs").info
    (can,) = info["engine"]["capabilities"].values()
    assert (can["api"], can["ignore_eos"], can["min_tokens"]) == ("chat", "refused", "refused")
    assert can["prompts"].startswith("words, 2 tokens each and 9 more")
    assert info["lengths"] == {"prompts_exact": 1.0, "outputs_exact": 1.0}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not here")
def test_a_server_nobody_vouches_for_is_refused_unless_its_authority_is_named(tmp_path):
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 -subj /CN=elsewhere"
    subprocess.run([*words.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    file = trace_file(tmp_path, simple(8))
    with serving(fine, tls=context) as server:
        url = server.url.replace("http:", "https:")
        refused = replay(file, tmp_path / "no", "--url", url)
        misnamed = replay(file, tmp_path / "no", "--url", url.replace("127.0.0.1", "localhost"), "--ca", certificate)
        trusted = replay(file, tmp_path / "yes", "--url", url, "--ca", certificate)
    assert refused.exit_code == misnamed.exit_code == 1
    assert "TLS: self-signed certificate" in refused.output
    assert "TLS: Hostname mismatch, certificate is not valid for 'localhost'" in misnamed.output
    assert trusted.exit_code in (0, 3), trusted.output
    assert Run.open(tmp_path / "yes" / "fcfs").info["statuses"] == {"ok": 8}


@pytest.mark.slow
def test_a_full_disk_ends_the_replay_in_one_line_and_it_resumes(tmp_path):
    import resource

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    file, out = trace_file(tmp_path, simple(150, 0.005)), tmp_path / "r"
    with serving(fine) as server:
        words = [str(w) for w in (*COMMAND, file, "--engine", "openai", "--url", server.url, "--out", out)]
        full = subprocess.run(words, capture_output=True, text=True, preexec_fn=little_room, check=False)
        (journal,) = (out / "fcfs" / "plan").glob("journal-*.jsonl")
        answered = {json.loads(line)["id"] for line in journal.read_bytes().split(b"\n")[:-1]}
        before = len(tags(server))
        done = replay(None, out)
    assert full.returncode == 1
    assert len(full.stderr.strip().splitlines()) == 1
    assert "File too large" in full.stderr
    assert f"trace replay --resume {out / 'fcfs'}" in full.stderr
    assert done.exit_code in (0, 3), done.output
    assert 40 < len(answered) < 150
    assert answered & set(tags(server)[before:]) == set()
    outcomes = Run.open(out / "fcfs").table("outcomes").collect()
    assert outcomes["request_id"].sort().to_list() == list(range(150))


def test_a_prompt_that_nobody_could_make_is_refused_at_once(tmp_path):
    file = trace_file(tmp_path, [{**row, "prompt_tokens": 2_000_000_000} for row in simple(1)])
    refused = replay(file, tmp_path / "r", "--url", "http://127.0.0.1:9")
    assert refused.exit_code == 1
    assert "a prompt of 2,000,000,000 tokens is more than can be made" in refused.output
    assert not (tmp_path / "r").exists()
