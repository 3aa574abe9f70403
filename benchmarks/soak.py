"""Nothing lost, nothing doubled: a long replay against a server that fails at random, dies, and comes back.

    python -m benchmarks soak [--minutes 30] [--per-s 30] [--kills 2] [--restarts 2] [--save]

`trace serve` draws a fault for one request in eight, and is killed and started again; the replay is killed by SIGKILL
and resumed. By the server's own log, each offered request must have one outcome, be seen as often as its outcome says
that it was tried (once more if it was under way when the replay was killed), and never again once it was answered.
"""

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.http_replay import RESULTS, trace, wait_for
from benchmarks.machine import TRACE, facts
from toolkit.runs import Run

FAULTS = (
    "reset:0.015,cut:0.015,stall:0.003,malformed:0.015,error:0.015,usage:0.015,type:0.01,busy:0.015,unavailable:0.015,"
    "failure:0.01"
)
WAITS = "connect=3,first=5,gap=3,total=60"
DOWN_S = 1.5


@dataclass
class Soak:
    """One replay and its server, in a folder."""

    folder: Path
    port: int
    server: subprocess.Popen[bytes]
    replay: subprocess.Popen[bytes]
    answered: list[tuple[set[int], int]] = field(default_factory=list)  # at each kill, and how long the log was

    @property
    def out(self) -> Path:
        return self.folder / "run" / "fcfs"

    @property
    def log(self) -> Path:
        return self.folder / "served.log"

    def restart(self) -> None:
        """The server dies and comes back."""
        self.server.kill()
        self.server.wait()
        time.sleep(DOWN_S)
        self.server = served(self.port, self.log)

    def kill(self) -> None:
        """The replay dies, and is resumed."""
        self.replay.send_signal(signal.SIGKILL)
        self.replay.wait()
        time.sleep(3.0)  # its sender notices, and ends
        self.answered.append((answered(self.out), len(seen(self.log))))
        self.replay = run("--resume", self.folder / "run")


def served(port: int, log: Path) -> subprocess.Popen[bytes]:
    seed = random.randrange(1_000_000)
    words = ["serve", "--port", port, "--time-scale", 0.1, "--fault", FAULTS, "--seed", seed, "--log", log]
    process = subprocess.Popen([*TRACE, *map(str, words)], stdout=subprocess.DEVNULL)
    wait_for(port)
    if process.poll() is not None:
        sys.exit(f"the server cannot listen at port {port}")
    return process


def lasting_port() -> int:
    """A free port that the system gives nobody while the server is down: below those that it chooses itself."""
    for port in random.sample(range(15_000, 30_000), 100):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) != 0:
                return port
    sys.exit("no port is free")


def run(*words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*TRACE, "replay", *map(str, words)], stdout=subprocess.DEVNULL)


def answered(run_folder: Path) -> set[int]:
    """The requests whose outcome is on disk."""
    found = set(Run.open(run_folder).table("outcomes").select("request_id").collect()["request_id"])
    for journal in (run_folder / "plan").glob("journal-*.jsonl"):
        lines = journal.read_bytes().split(b"\n")[:-1]
        found |= {line["id"] for line in map(json.loads, lines) if "event" not in line}
    return found


def seen(log: Path) -> list[tuple[int, str]]:
    """(request, fault) of each that the server read, in order; the probe's are left out."""
    pairs = [line.split() for line in log.read_text().splitlines()]
    return [(int(user[3:]), fault) for user, fault in pairs if user.startswith("REQ")]


def soak(minutes: float, per_s: float, kills: int, restarts: int) -> dict[str, Any]:
    count = round(60 * minutes * per_s)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trace(count, per_s, folder / "trace.parquet", prompt_tokens=96)
        port = lasting_port()
        server = served(port, folder / "served.log")
        url = f"http://127.0.0.1:{port}"
        words = [folder / "trace.parquet", "--engine", "openai", "--url", url, "--timeout", WAITS, "--workers", 2]
        held = Soak(folder, port, server, run(*words, "--out", folder / "run"))
        try:
            disturb(held, minutes, kills, restarts)
            held.replay.wait()
        finally:
            for process in (held.replay, held.server):
                process.kill()
                process.wait()
        return judged(held, count) | {"minutes": minutes, "kills": kills, "restarts": restarts, "faults": FAULTS}


def disturb(held: Soak, minutes: float, kills: int, restarts: int) -> None:
    """Kill the replay and the server, each at moments of its own."""
    began_s = time.monotonic()
    plan = [(n + 0.5, held.kill, kills) for n in range(kills)] + [
        (n + 0.8, held.restart, restarts) for n in range(restarts)
    ]
    for at_s, act in sorted(((60 * minutes * n / of, act) for n, act, of in plan), key=lambda pair: pair[0]):
        time.sleep(max(0.0, began_s + at_s - time.monotonic()))
        if held.replay.poll() is None:
            act()


def judged(held: Soak, count: int) -> dict[str, Any]:
    """What was lost, what was doubled."""
    outcomes = Run.open(held.out).table("outcomes").collect()
    per_request = Counter(outcomes["request_id"].to_list())
    log = seen(held.log)
    times_seen = Counter(request for request, _ in log)
    tries = dict(outcomes.select("request_id", "attempts").iter_rows())
    again = [n for n, times in times_seen.items() if times > tries.get(n, 0)]
    under_way = set().union(*({n for n, _ in log[:at]} - known for known, at in held.answered))
    after = [n for known, at in held.answered for n, _ in log[at:] if n in known]
    return {
        "requests": count,
        "outcomes": outcomes.height,
        "lost": sum(n not in per_request for n in range(count)),
        "doubled": sum(times > 1 for times in per_request.values()),
        "sent again though answered": len(after),
        "sent more often than its outcome says": len([n for n in again if n not in under_way]),
        "sent again after a kill": len([n for n in again if n in under_way]),
        "answered by somebody else": outcomes.filter(
            pl.col("status") == "ok", ~pl.col("request_id").is_in(list(times_seen))
        ).height,
        "statuses": dict(Counter(outcomes["status"].to_list()).most_common()),
        "faults drawn": dict(Counter(fault for _, fault in log if fault != "-").most_common()),
        "attempts": int(outcomes["attempts"].sum()),
        "seen by the server": len(log),
        "outcomes without a reason": outcomes.filter(pl.col("status") != "ok", pl.col("error").is_null()).height,
    }


BAD = (
    "lost",
    "doubled",
    "sent again though answered",
    "sent more often than its outcome says",
    "answered by somebody else",
    "outcomes without a reason",
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A long replay against a server that fails at random.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--per-s", type=float, default=30.0)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args(arguments)
    found = soak(given.minutes, given.per_s, given.kills, given.restarts)
    print(json.dumps(found, indent=1))
    if given.save:
        save(found)
    if any(found[name] for name in BAD):
        sys.exit("requests were lost or doubled")


def save(found: dict[str, Any]) -> None:
    (RESULTS / "soak.json").write_text(json.dumps({"machine": facts(), **found}, indent=1) + "\n")
    rows = "\n".join(f"| {name} | {said(value)} |" for name, value in found.items())
    (RESULTS / "soak.md").write_text(f"# Soak\n\n{__doc__}\n{facts()}\n\n| | |\n|---|---|\n{rows}\n")


def said(value: Any) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in value.items()) if isinstance(value, dict) else f"{value}"


if __name__ == "__main__":
    main()
