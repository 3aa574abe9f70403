"""Where requests go: an http or https URL, its TLS settings, and the headers that only the environment knows."""

import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from replay.http.sse import CUT
from toolkit.errors import SettingFailure

KEY, HEADERS = "TRACE_API_KEY", "TRACE_HEADERS"
SECRET = "[secret]"
TELLING = 4  # characters of a secret; fewer tell nothing
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
NAMED = re.compile(r"=([^\s;,]+)")  # as in a cookie's `session=…;`
OWN = {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "expect", "upgrade"}


@dataclass(frozen=True)
class Endpoint:
    """An HTTP/1.1 server and the path its API stands under."""

    scheme: str
    host: str
    port: int
    path: str  # before /v1, without a slash at its end

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    def head(self, method: str, path: str, length: int | None = None) -> bytes:
        """A request's first lines, with the environment's headers; `length` is its body's."""
        lines = [f"{method} {self.path}{path} HTTP/1.1", f"Host: {self.authority}"]
        lines += [f"{name}: {value}" for name, value in secret_headers().items()]
        if length is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def endpoint(url: str) -> Endpoint:
    """Read a URL; with or without /v1 at its end. SettingFailure for one that will not do."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise SettingFailure(f"is no URL ({error})", where="--url", hint="write http://HOST:PORT") from error
    if parts.username is not None or parts.password is not None:
        raise SettingFailure("holds a user or a password", where="--url", hint=f"put it in {KEY} or {HEADERS}")
    if parts.query or parts.fragment:
        raise SettingFailure("holds a query or a fragment", where="--url", hint=f"put a key in {KEY} or {HEADERS}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingFailure(f"'{url}' is no http or https URL", where="--url", hint="write http://HOST:PORT")
    if not re.fullmatch(r"[!-~]*", parts.hostname + parts.path):
        raise SettingFailure("holds a character that no URL may", where="--url")
    if not all(0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split(".")):
        raise SettingFailure(f"'{parts.hostname}' is no name of a host", where="--url")
    port = {"http": 80, "https": 443}[parts.scheme] if port is None else port
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return Endpoint(parts.scheme, parts.hostname, port, path)


def secret_headers() -> dict[str, str]:
    """The headers that the environment gives: TRACE_API_KEY as a bearer token, TRACE_HEADERS as `Name: value` lines."""
    headers = {"Authorization": f"Bearer {os.environ[KEY].strip()}"} if os.environ.get(KEY) else {}
    for line in filter(str.strip, os.environ.get(HEADERS, "").splitlines()):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not TOKEN.fullmatch(name) or name.lower() in OWN:
            raise SettingFailure("has a line that is no header of yours", where=HEADERS, hint="write lines Name: value")
        headers = {kept: told for kept, told in headers.items() if kept.lower() != name.lower()} | {name: value}
    for name, value in headers.items():
        if not re.fullmatch(r"[\t -~\x80-\xff]*", value):
            raise SettingFailure(f"the value of {name} has a character that no header may", where="environment")
    return headers


def secrets() -> list[str]:
    """What must never be written: the values of the secret headers, the words in them, and what is after a `=`."""
    values = secret_headers().values()
    words = {word for value in values for word in (value, *value.split(), *NAMED.findall(value)) if len(word) >= 6}
    return sorted(words - {"Bearer"}, key=len, reverse=True)


def redacted(text: str | None, hidden: list[str]) -> str | None:
    """`text` without what must never be written: a server may say it back, and the end of that may be cut off."""
    if not text:
        return text
    for word in hidden:
        text = text.replace(word, SECRET)
        for length in range(len(word) - 1, TELLING - 1, -1):
            text = text.replace(word[:length] + CUT, SECRET + CUT)
    return text


def tls(ca: str | None) -> ssl.SSLContext:
    """Verifies the server by the system's authorities, or by those in the file `ca`."""
    if ca is not None and not Path(ca).is_file():
        raise SettingFailure("no such file", where="--ca", hint="give a PEM file of certificates to trust")
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        raise SettingFailure(f"{ca} holds no certificate ({error})", where="--ca") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
