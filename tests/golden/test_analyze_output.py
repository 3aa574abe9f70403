"""What `trace analyze --json` says of a small trace, number by number.

The trace is made here from integers alone. After a change that is meant to change the numbers, write them anew with
`python tests/golden/test_analyze_output.py` and read the difference.
"""

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
from click.testing import CliRunner

from toolkit.cli import main

EXPECTED = Path(__file__).parent / "analyze" / "small.json"


def small_trace() -> pl.DataFrame:
    """400 requests: bursts of uneven gaps, three models, two tenants, sessions that grow, blocks that repeat."""
    rows = []
    tick = 0
    for i in range(400):
        tick += 1 + (i * i * 7 + 3) % 23 + (900 if i % 97 == 96 else 0)
        session, turn = i % 37, i // 37
        blocks = [1000 * session + b for b in range(turn + 1)]
        rows.append(
            {
                "arrival_s": tick / 16,
                "model": "abc"[(i * 5) % 7 % 3],
                "tenant": "x" if i % 4 else "y",
                "session_id": f"s{session}",
                "turn": turn + 1,
                "prompt_tokens": 16 * turn + 1 + (i * 11) % 16,
                "output_tokens": 1 + (i * i) % 61,
                "prefix_blocks": blocks,
                "source_e2e_s": (1 + i % 9) / 4,
            }
        )
    return pl.DataFrame(rows)


def answer(folder: Path) -> dict[str, Any]:
    path = folder / "small.parquet"
    small_trace().write_parquet(path)
    result = CliRunner().invoke(main, ["analyze", str(path), "--json"], catch_exceptions=False)
    found: dict[str, Any] = json.loads(result.stdout)
    del found["trace"]["sha256"]  # of the Parquet file, whose bytes are its writer's
    return found


def differences(found: Any, expected: Any, where: str = "") -> list[str]:
    if isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        return [d for key in expected for d in differences(found[key], expected[key], f"{where}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        return [
            d for i, pair in enumerate(zip(found, expected, strict=True)) for d in differences(*pair, f"{where}[{i}]")
        ]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (found, expected))
    same = math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9) if numbers else found == expected
    return [] if same else [f"{where}: {found!r} instead of {expected!r}"]


def test_analyze_says_the_same_numbers(tmp_path: Path) -> None:
    assert differences(answer(tmp_path), json.loads(EXPECTED.read_text())) == []


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        EXPECTED.write_text(json.dumps(answer(Path(folder)), indent=1) + "\n")
