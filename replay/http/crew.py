"""The sending processes and who watches over them."""

import os
import selectors
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import orjson

from toolkit.errors import RunFailure, printable

LEAD_S = 0.3  # between the order to start and the start
LOOK_S = 0.1
READY_S = 60.0
GRACE_S = 5.0  # what is under way may end in, after a stop


class Crew:
    """Workers that start at one instant. `states` is what each said last."""

    def __init__(self, settings: Sequence[Path], run: Path):
        self._run = run
        self._complaints = [tempfile.TemporaryFile() for _ in settings]  # noqa: SIM115 closed by `close`
        self._processes = [_spawn(path, file) for path, file in zip(settings, self._complaints, strict=True)]
        self._selector = selectors.DefaultSelector()
        self._unread = [b""] * len(settings)
        self.ready: list[dict[str, Any] | None] = [None] * len(settings)
        self.states: list[dict[str, Any]] = [{}] * len(settings)
        self.done: list[dict[str, Any] | None] = [None] * len(settings)
        for k, process in enumerate(self._processes):
            assert process.stdout is not None
            self._selector.register(process.stdout, selectors.EVENT_READ, k)

    def start(self, from_s: float) -> float:
        """Start all at once; the instant (time.monotonic) that is the trace's second `from_s`."""
        until_s = time.monotonic() + READY_S
        while not all(self.ready):
            if time.monotonic() > until_s:
                raise RunFailure("the sending processes do not start", where="replay")
            self._look()
        at_s = time.monotonic() + LEAD_S
        self._tell(f"start {at_s!r} {from_s!r}")
        return at_s

    def watch(self, look: Callable[[], None], stopped: Callable[[], bool]) -> bool:
        """Until all have ended, calling `look` now and then; False when they were told to stop."""
        told = False
        while self._selector.get_map():
            self._look()
            look()
            if not told and stopped():
                told = True
                self._tell(f"stop {GRACE_S}")
        for k in range(len(self._processes)):
            self._check(k)
        return not told

    def _tell(self, message: str) -> None:
        for process in self._processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write(message.encode() + b"\n")
                process.stdin.flush()

    def _look(self) -> None:
        for key, _ in self._selector.select(LOOK_S):
            k, data = key.data, os.read(key.fd, 1 << 16)
            if not data:
                self._selector.unregister(key.fileobj)
                if self.done[k] is None:
                    self._check(k)
                continue
            *lines, self._unread[k] = (self._unread[k] + data).split(b"\n")
            for line in lines:
                self._hear(k, orjson.loads(line))

    def _hear(self, k: int, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.ready[k] = message["ready"]
        elif "done" in message:
            self.done[k] = self.states[k] = message["done"]
        else:
            self.states[k] = message

    def _check(self, k: int) -> None:
        """Raise RunFailure when a worker has ended otherwise than by being done."""
        if self._processes[k].wait() != 0 or self.done[k] is None:
            hint = f"what was answered is kept; go on with: trace replay --resume {shlex.quote(str(self._run))}"
            raise RunFailure(f"a sending process ended ({self._last_words(k)})", where=f"worker {k}", hint=hint)

    def _last_words(self, k: int) -> str:
        file = self._complaints[k]
        file.seek(0)
        lines = file.read().decode(errors="replace").strip().splitlines()
        code = self._processes[k].returncode
        return printable(lines[-1]) if lines else f"exit status {code}"

    def close(self) -> None:
        """End whoever has not ended; their journals hold what was answered."""
        for process in self._processes:
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        for process, file in zip(self._processes, self._complaints, strict=True):
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
            file.close()
        self._selector.close()


@contextmanager
def crew(settings: Sequence[Path], run: Path) -> Iterator[Crew]:
    """Workers for as long as the block runs."""
    made = Crew(settings, run)
    try:
        yield made
    finally:
        made.close()


def _spawn(settings: Path, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "replay.http.worker", str(settings)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints)
