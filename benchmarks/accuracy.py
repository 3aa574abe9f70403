"""`make accuracy`: our replay of real engine logs beside the errors their source publishes for its own simulator."""

import sys
import time
from pathlib import Path

from replay.calibration.check import check
from replay.calibration.engine_log import read_log

# Mean TTFT, TPOT, E2E: LLMServingSim (casys-kaist, commit 5daddb2) against the same logs.
PUBLISHED = {
    "RTX4090_Llama-3.1-8B": (0.006, 0.002, 0.005),
    "RTXPRO6000_Llama-3.1-8B": (-0.040, -0.010, -0.018),
    "RTXPRO6000_Qwen3-30B-A3B": (-0.136, -0.017, -0.022),
    "RTXPRO6000_Qwen3-32B": (0.013, 0.008, 0.010),
}
COLUMNS = ("mean_error", "p50_error", "p90_error", "p99_error", "mape")


def main(folder: Path) -> None:
    """Check every log below `folder`."""
    logs = sorted(path.parent.parent for path in folder.glob("*/vllm/requests.jsonl"))
    if not logs:
        sys.exit(f"{folder}: no log of a real engine here; name a folder of them: make accuracy LOGS=…")
    print(f"{'':36}" + "".join(f"{name.replace('_error', ''):>8}" for name in COLUMNS) + "   published mean")
    for log in logs:
        began = time.perf_counter()
        found = check(read_log(log))
        for place, metric in enumerate(("ttft", "tpot", "e2e")):
            ours = "".join(f"{100 * found[metric][name]:+8.1f}" for name in COLUMNS)
            theirs = f"{100 * PUBLISHED[log.name][place]:+8.1f}" if log.name in PUBLISHED else f"{'–':>8}"
            print(f"{log.name:30} {metric.upper():5}{ours} {theirs}  %")
        for note in found["notes"]:
            print(f"  {note}")
        print(f"  {found['requests']} requests replayed in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
