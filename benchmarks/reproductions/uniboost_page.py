"""The page of UniBoost's reproduction, docs/papers/uniboost.md; its words are in uniboost_page.md.j2."""

from pathlib import Path

import polars as pl
from jinja2 import Environment, StrictUndefined

from benchmarks.reproductions import uniboost_claims as claims
from benchmarks.reproductions import uniboost_readings as readings
from benchmarks.reproductions.tables import markdown
from benchmarks.reproductions.uniboost_figures import draw_all
from benchmarks.reproductions.uniboost_mixes import BLOCK_S, CHAT, MIXES, REASONING, Lengths
from benchmarks.reproductions.uniboost_runs import ENGINES, GPU, LOOKS, SWAP_BYTES_PER_S, engine_of
from benchmarks.reproductions.uniboost_saturation import SATURATED
from benchmarks.reproductions.uniboost_tables import cells, detail, over_loads, policies, study
from toolkit.runs import versions

TEMPLATE = Path(__file__).with_name("uniboost_page.md.j2")


def write_page(found: pl.DataFrame, folder: Path, command: str) -> str:
    """Write the page and its figures into `folder`; returns what to tell."""
    count = draw_all(found, folder / "figures")
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(TEMPLATE.read_text())
    (folder / "uniboost.md").write_text(template.render(**_content(found, command)))
    return f"wrote {folder / 'uniboost.md'} and {count} figures"


def _content(found: pl.DataFrame, command: str) -> dict[str, object]:
    loads = found.filter(part="loads")
    return {
        "command": command,
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "replays": f"{found.height:,}",
        "seeds": found["seed"].n_unique(),
        "requests": f"{loads['requests'][0]:,}",
        "detailed": f"{found.filter(part='detail')['requests'][0]:,}",
        "squarely": readings.squarely(loads),
        "judged": claims.judged(loads),
        "paper": claims.paper_table(loads),
        "ablation": claims.ablation(loads),
        "saturated": f"{SATURATED:g}",
        "looks": LOOKS,
        "swap": f"{SWAP_BYTES_PER_S / 1e9:g}",
        "block": f"{BLOCK_S:g}",
        "mixes": {name: f"{share:.0%}" for name, share in MIXES.items()},
        "lengths": markdown([_lengths("reasoning", REASONING), _lengths("chat", CHAT)]),
        "engines": markdown([_engine(name, model) for name, model in ENGINES.items()]),
        "offered": _offered(loads),
        "policies": markdown(
            found.filter(part="detail").unique("policy", maintain_order=True)[["policy", "spec"]].to_dicts()
        ),
        "gamma": [(where, study(cell)) for where, cell in cells(found, "gamma")],
        "rarest": readings.rarest(found),
        "constants": readings.constants(found),
        "mistakes": readings.mistakes(found),
        "open": [(where, study(cell)) for where, cell in cells(found, "open")],
        "wrong": [(where, study(_numbered(cell))) for where, cell in cells(found, "wrong")],
        "contrasts": {part: [(w, study(c)) for w, c in cells(found, part)] for part in ("recompute", "prefill-first")},
        "loads": [(*map(str, key), _by_load(cell)) for key, cell in loads.group_by(*PLACE, maintain_order=True)],
        "details": [(where, detail(cell, "ttlt"), detail(cell, "ttft")) for where, cell in cells(found, "detail")],
    }


PLACE = ("workload", "engine")


def _by_load(cell: pl.DataFrame) -> dict[str, str]:
    said = {"ttlt_mean": "Mean TTLT", "ttlt_p99": "P99 TTLT", "ttft_p99": "P99 TTFT"}
    return {text: over_loads(cell, metric) for metric, text in said.items()}


def _numbered(cell: pl.DataFrame) -> pl.DataFrame:
    """What SRPT believes, numbered as in the figure; FCFS is what the others are held against."""
    names = {name: f"{place + 1}. {name}" for place, name in enumerate(policies(cell)) if name != "FCFS"}
    return cell.with_columns(policy=pl.col("policy").replace(names))


def _lengths(name: str, kind: Lengths) -> dict[str, object]:
    def said(median: float, sigma: float, ends: tuple[int, int]) -> str:
        return f"{median:,.0f}; {sigma:g}; {ends[0]:,} … {ends[1]:,}"

    return {
        "requests": name,
        "prompt tokens: median; σ; ends": said(kind.prompt_median, kind.prompt_sigma, kind.prompt_ends),
        "output tokens: median; σ; ends": said(kind.output_median, kind.output_sigma, kind.output_ends),
        "source [ours]": kind.source,
    }


def _engine(name: str, model: str) -> dict[str, object]:
    limits = engine_of(name, True, False).limits
    tokens = limits.kv_blocks * limits.block_tokens
    places, budget = limits.max_num_seqs, limits.max_num_batched_tokens
    return {"engine": name, "model": model, "GPU": GPU, "KV tokens": tokens, "places": places, "tokens a step": budget}


def _offered(loads: pl.DataFrame) -> str:
    measured = pl.col("utilisation", "decode_s_per_token", "prefill_s_per_token", "root").mean()
    rows = loads.group_by(*PLACE, "rho", maintain_order=True).agg(measured)
    return markdown(
        [
            {
                "workload": row["workload"],
                "engine": row["engine"],
                "ρ": row["rho"],
                "utilisation": row["utilisation"],
                "α decode, µs": 1e6 * row["decode_s_per_token"],
                "α prefill, µs": 1e6 * row["prefill_s_per_token"],
                "root of γ, /s": row["root"],
            }
            for row in rows.iter_rows(named=True)
        ]
    )
