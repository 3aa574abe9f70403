"""The catalogue is well-formed, and fetching resumes, checks, and says what to do when it cannot."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from toolkit.cli import main
from toolkit.errors import InputFailure
from toolkit.plugins import BUILTIN
from workloads.catalogue import Published, read_catalogue
from workloads.fetching import fetch

CONTENT = bytes(range(256)) * 20_000  # 5 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT at /file.csv with ranges; breaks off after `limit` bytes and notes what was asked."""

    def __init__(self) -> None:
        self.content, self.etag, self.limit, self.status = CONTENT, '"one"', None, None
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.csv"

    limit: int | None
    status: int | None

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and handler.headers.get("If-Range") != self.etag:
            wanted, start = None, 0
        status = self.status or (206 if wanted else 200)
        if start > len(self.content):
            status = 416
        handler.send_response(status)
        handler.send_header("ETag", self.etag)
        body = self.content[start:] if status < 400 else b""
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.limit])


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_a_file_is_fetched_whole_and_checked(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path, digest = fetch(Published(server.url, len(CONTENT), DIGEST), tmp_path, lambda *p: seen.append(p))
    assert (path.read_bytes(), digest) == (CONTENT, DIGEST)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in tmp_path.iterdir()] == ["file.csv"]
    fetch(Published(server.url, len(CONTENT), DIGEST), tmp_path)
    assert len(server.ranges) == 1, "what is there is not fetched again"


def test_a_download_that_broke_off_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.limit = 1_500_000
    with pytest.raises(InputFailure, match=r"broke off .*; run the same command again to go on from 1,500,000 bytes"):
        fetch(Published(server.url, None, DIGEST), tmp_path)
    assert not (tmp_path / "file.csv").exists()
    server.limit = None
    path, _ = fetch(Published(server.url, None, DIGEST), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1500000-"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(server: Server, tmp_path: Path) -> None:
    server.limit = 1_000
    with pytest.raises(InputFailure):
        fetch(Published(server.url), tmp_path)
    server.limit, server.etag, server.content = None, '"two"', b"other"
    path, _ = fetch(Published(server.url), tmp_path)
    assert path.read_bytes() == b"other"


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.csv.partial").write_bytes(CONTENT + b"more")
    (tmp_path / "file.csv.tag").write_text(server.etag)
    path, _ = fetch(Published(server.url, None, DIGEST), tmp_path)
    assert path.read_bytes() == CONTENT


def test_corrupt_content_never_gets_the_name(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(InputFailure, match=r"file\.csv\.wrong: is not the published file.*remove it and fetch again"):
        fetch(Published(server.url, len(CONTENT), DIGEST), tmp_path)
    assert not (tmp_path / "file.csv").exists()
    server.content = CONTENT
    assert fetch(Published(server.url, len(CONTENT), DIGEST), tmp_path)[0].read_bytes() == CONTENT


def test_a_wrong_file_of_that_name_is_left_alone_and_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("mine")
    with pytest.raises(InputFailure, match="is not the published file"):
        fetch(Published(server.url, None, DIGEST), tmp_path)
    assert (tmp_path / "file.csv").read_text() == "mine"
    assert server.ranges == []


def test_offline_and_refusals_say_what_to_do(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(InputFailure, match=r"the server answers 404 .*; look at the data set's page"):
        fetch(Published(server.url), tmp_path)
    with pytest.raises(InputFailure, match=r"cannot be reached .*; this machine may be offline"):
        fetch(Published("http://127.0.0.1:9/file.csv"), tmp_path)


@pytest.mark.parametrize("url", ["ftp://host/file", "file:///etc/passwd", "http://host/", "http://host/a/.."])
def test_only_files_of_the_web_are_fetched(url: str) -> None:
    with pytest.raises(ValueError, match="http or https"):
        Published(url)


def test_the_catalogue_names_loaders_that_exist_and_claims_nothing_twice() -> None:
    entries = read_catalogue()
    assert {"azure-llm-2024-conv", "burstgpt-1", "mooncake-toolagent", "qwen-bailian-a", "servegen"} <= set(entries)
    for name, entry in entries.items():
        assert entry.format is None or entry.format in BUILTIN["loader"], name
        assert entry.page.startswith("https://"), name
        assert entry.licence, name
    digests = [file.sha256 for entry in entries.values() for file in entry.files if file.sha256]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("azure-llm-2023-conv", "azure_llm_2023/AzureLLMInferenceTrace_conv.csv"),
        ("azure-llm-2023-code", "azure_llm_2023/AzureLLMInferenceTrace_code.csv"),
        ("mooncake-conversation", "mooncake_fast25/conversation_trace.jsonl"),
        ("prism-arena", "prism_arena/real_trace.pkl"),
        ("vidur-splitwise-conv", "length_only/vidur_splitwise_conv.csv"),
    ],
)
def test_the_catalogue_tells_the_files_that_are_here_as_they_are(name: str, file: str, shared_traces: Path) -> None:
    (published,) = read_catalogue()[name].files
    data = (shared_traces / file).read_bytes()
    assert (published.bytes, published.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_command_lists_shows_and_fetches(server: Server, tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(
        f"small:\n  title: Small\n  page: https://example.org\n  licence: none\n  files: [{{url: '{server.url}'}}]\n"
        "closed:\n  title: Closed\n  page: https://example.org\n  licence: none\n  how: ask them\n"
    )
    option = ["--catalogue", str(catalogue)]
    shown = CliRunner().invoke(main, ["datasets", "list", "--json", *option])
    assert list(orjson.loads(shown.stdout)) == ["small", "closed"]
    shown = CliRunner().invoke(main, ["datasets", "show", "small", *option])
    assert "unknown bytes, sha256 unknown" in shown.stdout
    shown = CliRunner().invoke(main, ["datasets", "fetch", "small", "--out", str(tmp_path / "got"), *option])
    assert shown.exit_code == 0, shown.output
    assert f"sha256 {DIGEST} (the catalogue knows no checksum" in shown.stdout
    shown = CliRunner().invoke(main, ["datasets", "fetch", "closed", *option])
    assert (shown.exit_code, shown.stderr.count("\n")) == (1, 1)
    shown = CliRunner().invoke(main, ["datasets", "show", "smal", *option])
    assert "did you mean 'small'?" in shown.stderr


def test_the_list_says_each_licence_as_its_help_does() -> None:
    shown = CliRunner().invoke(main, ["datasets", "list"]).stdout.splitlines()
    told = {line.split()[0]: line.split()[1] for line in shown}
    assert told["azure-llm-2023-conv"] == "CC-BY-4.0"
    assert told["lmsys-chat-1m"] == "LMSYS-Chat-…"
