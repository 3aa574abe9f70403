"""A host's part of a replay: it keeps the files of one sending process, begins it, and passes on what it says.

The process is the one that sends from a single machine, so whoever carries the messages is not in the timing path.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import orjson

from replay.http.clock_wire import ClockServer
from toolkit.errors import printable

MOST_BYTES = 1 << 24  # of the journal, at once


class Outpost:
    """Runs one sending process on its host; lives in an actor there."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="trace-replay-")
        self._clock = ClockServer()
        self._process: subprocess.Popen[bytes] | None = None
        self._told: dict[str, Any] = {"ready": None, "state": {}, "done": None}
        self._ended = False

    def where(self) -> dict[str, Any]:
        """The host's name, and the port of its clock."""
        return {"host": socket.gethostname(), "port": self._clock.port}

    def show(self) -> float:
        """What the clock shows."""
        import time

        return time.monotonic()

    def begin(self, settings: dict[str, Any], files: dict[str, bytes], environment: dict[str, str]) -> None:
        """Write the files and begin to send; `settings` names them by their last part."""
        folder = Path(self._folder.name)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        here = _placed(settings, folder)
        (folder / "settings.json").write_bytes(orjson.dumps(here))
        self._journal = Path(here["journal"])
        self._complaints = (folder / "complaints").open("w+b")
        command = [sys.executable, "-m", "replay.http.worker", str(folder / "settings.json")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._complaints}
        self._process = subprocess.Popen(command, env=os.environ | environment, **pipes)  # type: ignore[call-overload]
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, message: str) -> None:
        """Pass an order on; replay.http.worker lists them."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(message.encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, journal_at: int) -> dict[str, Any]:
        """What the process said last, and its journal from a place on; `ended` comes after all of it."""
        ended = self._ended
        lines = b""
        if self._journal.exists():
            with self._journal.open("rb") as file:
                file.seek(journal_at)
                lines = file.read(MOST_BYTES)
        if not ended or lines.count(b"\n"):
            return {**self._told, "journal": lines, "ended": None}
        assert self._process is not None
        return {**self._told, "journal": b"", "ended": self._last_words() if self._process.wait() else ""}

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = orjson.loads(line)
            if "ready" in message:
                self._told["ready"] = message["ready"]
            elif "done" in message:
                self._told["done"] = self._told["state"] = message["done"]
            else:
                self._told["state"] = message
        self._process.wait()
        self._ended = True

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return printable(lines[-1]) if lines else f"exit status {self._process.returncode if self._process else None}"


def _placed(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Settings with their files here."""
    here = {name: str(folder / settings[name]) for name in ("plan", "turns", "journal")}
    line = dict(settings["line"])
    if "trace" in line:
        line["trace"] = str(folder / line["trace"])
    ca = str(folder / settings["ca"]) if settings["ca"] else None
    return {**settings, **here, "line": line, "ca": ca}
