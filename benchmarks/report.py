"""Time, memory and size of `trace report` for N requests a run: python benchmarks/report.py [N] [RUNS]."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reports"))

from synthetic_runs import Recipe, make_run


def measure(folders: list[Path], page: Path) -> str:
    """Make one page in a process of its own and say what it took."""
    command = [
        sys.executable,
        "-c",
        "from toolkit.cli import main; main()",
        "report",
        *map(str, folders),
        "--out",
        str(page),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    size = page.stat().st_size / 1e6
    return f"{wall:6.2f} s wall  {cpu:6.2f} s CPU  {after.ru_maxrss / 1e6:5.2f} GB  {size:5.2f} MB page"


def main(requests: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        recipes = [Recipe(f"policy-{i}", requests, short_first=bool(i % 2)) for i in range(runs)]
        folders = [make_run(Path(scratch), recipe) for recipe in recipes]
        for count in sorted({1, runs}):
            print(f"{count} × {requests:,} requests: {measure(folders[:count], Path(scratch) / 'report.html')}")


if __name__ == "__main__":
    given = [int(a) for a in sys.argv[1:3]]
    main(*given, *(1_000_000, 3)[len(given) :])
