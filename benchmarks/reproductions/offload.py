"""`make reproduce-offload`: preemption and offloading (2605.19593) by their cost models, written below docs/papers/.

python -m benchmarks.reproductions.offload [--out FOLDER]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from benchmarks.reproductions import offload_costs, offload_curves
from benchmarks.reproductions.drawing import write
from benchmarks.reproductions.offload_claims import claims
from benchmarks.reproductions.tables import markdown
from toolkit.runs import versions

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).with_name("offload_page.md.j2")


def page() -> str:
    """The whole page; its words are in offload_page.md.j2."""
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(TEMPLATE.read_text())
    tables = {
        "claims": claims(),
        "totals": offload_costs.totals(),
        "left_out": offload_costs.left_out(),
        "kv_bytes": offload_costs.kv_bytes(),
        "added": offload_costs.added(),
        "progress": offload_costs.progress(),
        "first_order": offload_costs.first_order(),
        "reasons": offload_curves.reasons(),
        "curves": offload_curves.curves(),
        "costly": offload_curves.curves(offload_curves.COSTLY),
        "sensitivity": offload_curves.sensitivity(),
        "by_length": offload_curves.by_length(),
        "prefills": offload_curves.prefills(),
        "public_sweep": offload_curves.public_sweep(),
    }
    return template.render(
        {name: markdown(rows) for name, rows in tables.items()},
        command="make reproduce-offload",
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
        prompt=offload_costs.PROMPT,
        context=offload_curves.CONTEXT,
        link=offload_curves.LINK,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Work it out, and write the page and its figures."""
    parser = argparse.ArgumentParser(description="Reproduce the offloading and preemption paper.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "papers")
    out: Path = parser.parse_args(arguments).out
    for name, svg in {"kv-share": offload_costs.share_figure(), **offload_curves.figures()}.items():
        write(out / "figures" / f"offload-{name}.svg", svg)
    (out / "offload.md").write_text(page())
    print(f"wrote {out / 'offload.md'}")


if __name__ == "__main__":
    main()
