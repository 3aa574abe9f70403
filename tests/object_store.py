"""A stand-in for a store that speaks S3, over a folder: lists objects, tells their size, gives ranges of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

STAMP = "2026-01-01T00:00:00.000Z"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Store(ThreadingHTTPServer):
    """`asked` are the requests as they came: method, path and range."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.folder = folder
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def environment(self) -> dict[str, str]:
        return ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_port}"}


@contextmanager
def store(folder: Path) -> Iterator[Store]:
    """Serve the folders in `folder` as buckets."""
    serving = Store(folder)
    thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield serving
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        bucket, _, key = unquote(url.path).strip("/").partition("/")
        asked, whole = parse_qs(url.query), self.server.folder / bucket / key
        self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        if "list-type" in asked:
            prefix, delimiter = (asked.get(name, [""])[0] for name in ("prefix", "delimiter"))
            self._answer(200, _listing(self.server.folder / bucket, prefix, delimiter))
        elif whole.is_file():
            content, wanted = whole.read_bytes(), self.headers.get("Range")
            if wanted is None:
                self._answer(200, content)
            else:
                first, last = wanted.removeprefix("bytes=").split("-")
                self._answer(206, content[int(first) : int(last) + 1], f"bytes {first}-{last}/{len(content)}")
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, content: bytes, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"1"')
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Silent."""


def _listing(root: Path, prefix: str, delimiter: str) -> bytes:
    keys = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    keys = [key for key in keys if key.startswith(prefix)]
    folders = sorted({prefix + rest[0] + "/" for key in keys if len(rest := key.removeprefix(prefix).split("/")) > 1})
    if delimiter:
        keys = [key for key in keys if "/" not in key.removeprefix(prefix)]
    objects = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{(root / key).stat().st_size}</Size>"
        f"<LastModified>{STAMP}</LastModified></Contents>"
        for key in keys
    )
    common = "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders if delimiter)
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{objects}{common}</ListBucketResult>".encode()
