"""A host with a network of its own and a clock 5,000 s ahead, on an uneven way: the stated error bounds the true one.

Linux's namespaces are such a host. They need root, `ip` and `unshare --time`; else the tests skip.
"""

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from replay.http.clock_wire import ask
from replay.http.clocks import aligned

pytestmark = pytest.mark.slow
AHEAD_S = 5000
NAME, OURS, THEIRS = f"trace-{os.getpid()}", "198.18.77.1", "198.18.77.2"
SERVE = f"""
import time
from replay.http.clock_wire import ClockServer
print(ClockServer("{THEIRS}").port, flush=True)
time.sleep(60)
"""


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no namespaces here: {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture
def network() -> Iterator[str]:
    """The name of a network namespace that a link leads into."""
    if not all(map(shutil.which, ("ip", "unshare"))):
        pytest.skip("ip or unshare is not installed")
    ours, theirs = f"o{os.getpid()}", f"t{os.getpid()}"
    run("ip", "netns", "add", NAME)
    try:
        run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", NAME)
        run("ip", "addr", "add", f"{OURS}/30", "dev", ours)
        run("ip", "link", "set", ours, "up")
        for words in (("addr", "add", f"{THEIRS}/30", "dev", theirs), ("link", "set", theirs, "up")):
            run("ip", "-n", NAME, *words)
        yield NAME
    finally:
        subprocess.run(["ip", "netns", "del", NAME], check=False)
        subprocess.run(["ip", "link", "del", ours], check=False, capture_output=True)


@pytest.fixture
def port(network: str) -> Iterator[int]:
    """Where the clock over there answers."""
    ahead = ("unshare", "--time", "--fork", "--kill-child", "--monotonic", str(AHEAD_S))
    command = ("ip", "netns", "exec", network, *ahead, sys.executable, "-c", SERVE)
    root = Path(__file__).parents[3]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    try:
        if not line:
            pytest.skip(f"no time namespace here: {process.stderr.read().strip()}")
        yield int(line)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@contextmanager
def delayed(port: int, there_s: float, back_s: float) -> Iterator[tuple[str, int]]:
    """A way to the clock that is longer one way than the other."""
    listening = socket.create_server(("127.0.0.1", 0))

    def pass_on(source: socket.socket, target: socket.socket, wait_s: float) -> None:
        with suppress(OSError):
            while data := source.recv(64):
                time.sleep(wait_s * random.uniform(1, 1.2))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def relay() -> None:
        asking, _ = listening.accept()
        with asking, socket.create_connection((THEIRS, port)) as clock:
            back = threading.Thread(target=pass_on, args=(clock, asking, back_s))
            back.start()
            pass_on(asking, clock, there_s)
            back.join()

    thread = threading.Thread(target=relay)
    thread.start()
    yield listening.getsockname()
    thread.join()
    listening.close()


@pytest.mark.parametrize(("there_s", "back_s"), [(0.0, 0.0), (0.02, 0.0), (0.0, 0.035), (0.01, 0.005)])
def test_the_stated_error_bounds_the_true_one(port: int, there_s: float, back_s: float) -> None:
    with delayed(port, there_s, back_s) as way:
        found = ask(way, 32)
    seen = aligned(found, found[-1].answered_s)
    wrong_s = abs(seen.offset_s - AHEAD_S)
    assert wrong_s <= seen.error_s
    assert seen.error_s <= (there_s + back_s) / 2 + 0.05
    # Uneven ways make the middle wrong by half their difference: what is stated is used up, and not by chance.
    assert wrong_s >= abs(there_s - back_s) / 2 * 0.5
