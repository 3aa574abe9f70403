"""The page of one GPU: each measurement as a table, beside what a paper says of it where one does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median as middle
from typing import Any

from benchmarks.gpu import tails
from benchmarks.gpu.machine_entry import largest, median
from benchmarks.gpu.results import Line, Results
from benchmarks.reproductions.tables import markdown
from toolkit.readable import number, percent, seconds

Row = dict[str, object]
PAGE_BYTES = 2 * 2**20


def page(results: Results, off: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Sections of what was measured; what was not is named at the end."""
    smoke = "**A smoke test with tiny models on a CPU: none of these numbers means anything.**\n\n"
    head = f"# {results.device}\n\n{smoke if results.facts['smoke'] else ''}{_about(results)}\n"
    sections: list[tuple[str, Callable[[Results], Iterator[str]]]] = [
        ("Loading and evicting weights", _weights),
        ("KV memory out and in", _kv),
        ("Pages", _pages),
        ("Preemption", _preemption),
        ("Layers on the host", _offload),
        ("Steps", lambda r: _steps(off)),
        ("The order of requests", _order),
        ("KV memory shared or split", _sharing),
    ]
    made = [(title, "\n\n".join(write(results))) for title, write in sections]
    body = "\n".join(f"## {title}\n\n{text}\n" for title, text in made if text)
    missing = [title for title, text in made if not text]
    return "\n".join([head, body, *_ends(results, missing)]).rstrip() + "\n"


def _about(results: Results) -> str:
    facts = results.facts
    link = f"PCIe {facts['pcie_generation']} x{facts.get('pcie_lanes', '?')}, " if "pcie_generation" in facts else ""
    return (
        f"Written by `python -m benchmarks.gpu.tables` of what `make gpu` measured: {results.said}; {link}"
        f"{facts['cores']} cores, {facts['system']}, Python {facts['python']}, seed {facts['seed']}, "
        f"{facts['repeats']} repeats unless said. Medians, with the least and the most in brackets. Models are random "
        "Llamas of usual shapes; engine and schedulers are those of `--engine transformers`. Its attention gathers KV "
        "and its steps are issued one kernel at a time, so steps are slower than a paged kernel's with CUDA graphs."
    )


def _ends(results: Results, missing: Sequence[str]) -> Iterator[str]:
    if missing:
        yield f"Not measured: {', '.join(missing).lower()}.\n"
    if results.failed:
        yield "## What failed\n"
        rows: list[Row] = [
            {
                "measurement": line["measurement"],
                "point": str(line["point"]),
                "because": line["error"].replace("|", "/"),
            }
            for line in results.failed
        ]
        yield markdown(rows)


def _spread(line: Line, name: str) -> str:
    found = line[name]
    return f"{seconds(found['median'])} [{seconds(found['low'])}, {seconds(found['high'])}]"


def _rate(size: float, took: float) -> str:
    return number(size / took / 1e9)


def _weights(results: Results) -> Iterator[str]:
    rows: list[Row] = []
    for line in results.of("weights"):
        what = line["point"]
        for name in ("load_s", "cached_s", "cold_s"):
            if name in line:
                files = {"cached_s": "file, cached", "cold_s": f"file on {line.get('filesystem')}, not cached"}
                rows.append({
                    "model": what["model"], "GB": number(what["bytes"] / 1e9), "from": files.get(name, what["way"]),
                    "load": _spread(line, name), "GB/s": _rate(what["bytes"], median(line, name)),
                })  # fmt: skip
    if rows:
        yield markdown(rows)
        yield (
            "Prism (2505.04021) loads 1B to 8B within 0.7 s and 14B in 1.3 s from pageable memory, into engines that "
            "are up; 3.1 to 7.2 s where each load starts an engine. `staged-N`: from pageable memory through pinned "
            "buffers by N threads. `tensors`: a copy for each tensor of the model."
        )
    freed = largest(results, way="memory")
    if freed is not None:
        got, given = _spread(freed, "allocate_s"), _spread(freed, "evict_s")
        size = number(freed["point"]["bytes"] / 1e9)
        yield f"Getting {size} GB from the driver takes {got}, giving them back {given}."
    for line in results.of("weights", way="start"):
        parts = ", ".join(f"{word} {seconds(median(line, f'{name}_s'))}" for name, word in STARTING.items())
        yield f"A process that is ready to load takes {_spread(line, 'start_s')}: {parts}."


STARTING = {"import_torch": "torch", "import_transformers": "transformers", "context": "CUDA's context"}


def _kv(results: Results) -> Iterator[str]:
    rows: list[Row] = []
    for line in results.of("kv"):
        what = line["point"]
        rows.append({
            "model": what["model"], "tokens": what["tokens"], "MB": number(what["bytes"] / 1e6),
            "copies": f"{what['copies']} ({what['layout']})", "host memory": what["host"],
            "out": _spread(line, "out_s"), "in": _spread(line, "in_s"),
            "out, GB/s": _rate(what["bytes"], median(line, "out_s")),
            "in, GB/s": _rate(what["bytes"], median(line, "in_s")),
        })  # fmt: skip
    if rows:
        yield markdown(rows)
        yield (
            "The offloading paper (2605.19593) has 9 to 12 GB/s out and 13 to 16 GB/s in, tensor by tensor over PCIe "
            "4.0, which is `layers` with `fresh` memory here. The machine's `kv_out_bytes_per_s`, `kv_in_bytes_per_s` "
            "and `copy_s` are a fit to the rows of pinned memory."
        )


def _pages(results: Results) -> Iterator[str]:
    rows: list[Row] = []
    for line in results.of("pages"):
        what = line["point"]
        times = {f"{name}, µs": number(1e6 * median(line, f"{name}_s")) for name in CALLS}
        busy = what["gpu"] if line.get("busy_throughout", True) else "busy at first"
        rows.append({"page, MiB": what["page_bytes"] // 2**20, "opened at once": what["row"], "GPU": busy, **times})
    if rows:
        yield markdown(rows)
        yield (
            "kvcached (Prism's) states for an A100 and 2 MB: create 193, map 1.5, open 36 and unmap 26 µs. `open` is "
            "cuMemSetAccess, for all pages of a row in one call; `call` is a call that does nothing."
        )


CALLS = ("call", "create", "map", "open", "unmap", "release")


def _preemption(results: Results) -> Iterator[str]:
    rows: list[Row] = []
    for line in results.of("preempt"):
        what, t = line["point"], {name: median(line, f"{name}_s") for name in PARTS}
        total, kv = sum(t.values()), t["preempt"] + t["restore"]
        rows.append({
            "model": what["model"], "intruder": what["intruder"], "produced": what["produced"],
            "context": what["prompt"] + what["produced"],
            **{word: _spread(line, f"{name}_s") for name, word in PARTS.items()},
            "total": seconds(total), "KV share": percent(kv / total),
            "KV share, weights from a file": _share_from_file(results, what["model"], kv),
            "recompute instead": _spread(line, "recompute_s"), "KV came back the same": "yes" if line["same"] else "NO",
        })  # fmt: skip
    if rows:
        yield markdown(rows)
        yield (
            "`unload` gives pages back within the engine's one allocation; `reload` is one copy from pinned memory. "
            "*KV share, weights from a file*: had the weights been read from a file that is not cached."
        )
        yield from _progress(results)


PARTS = {"preempt": "KV out", "evict": "unload", "load": "reload", "restore": "KV in"}


def _share_from_file(results: Results, model: str, kv_s: float) -> str | None:
    """As in the paper, whose reloads read from a drive."""
    line = next(results.of("weights", model=model, way="file"), None)
    return None if line is None else percent(kv_s / (kv_s + median(line, "cold_s")))


def _progress(results: Results) -> Iterator[str]:
    """The paper's claims, judged by the points with its prompt."""
    for model in dict.fromkeys(line["point"]["model"] for line in results.of("preempt")):
        paper = [line for line in results.of("preempt", model=model) if line["point"]["prompt"] == 71]
        same = [line for line in results.of("preempt", model=model) if line["point"]["prompt"] != 71]
        swaps = [median(line, "evict_s") + median(line, "load_s") for line in paper]
        kvs = [median(line, "preempt_s") + median(line, "restore_s") for line in paper]
        if len(paper) < 2:
            continue
        totals = [a + b for a, b in zip(swaps, kvs, strict=True)]
        shares = [kv / total for kv, total in zip(kvs, totals, strict=True)]
        made = [line["point"]["produced"] for line in paper]
        yield (
            f"**{model}.** From {min(made)} to {max(made)} tokens produced, the swap of weights varies by "
            f"{percent(max(swaps) / min(swaps) - 1)}, the whole by "
            f"{percent(max(totals) / min(totals) - 1)}; KV is {percent(min(shares))} to {percent(max(shares))} of it. "
            + _same_context(same)
            + "The paper: independent of progress, KV 0.6 to 1.5 %, with reloads of 1.8 s and more from a drive; it "
            "expects KV to count once reloads are ten times as fast, as they are here from pinned memory."
        )


def _same_context(lines: Sequence[Line]) -> str:
    by_context: dict[int, list[float]] = {}
    for line in lines:
        what = line["point"]
        whole = sum(median(line, f"{name}_s") for name in PARTS)
        by_context.setdefault(what["prompt"] + what["produced"], []).append(whole)
    said = [
        f"With {context} tokens of context, of which 1 to most were produced, the whole varies by "
        f"{percent(max(totals) / min(totals) - 1)}. "
        for context, totals in by_context.items()
        if len(totals) > 1
    ]
    return "".join(said)


def _offload(results: Results) -> Iterator[str]:
    for model in dict.fromkeys(line["point"]["model"] for line in results.of("offload")):
        full = next((median(x, "token_s") for x in results.of("offload", model=model, way="resident")), None)
        rows: list[Row] = []
        lines = {(x["point"]["hosted"], x["point"]["way"]): x for x in results.of("offload", model=model)}
        for hosted in sorted({hosted for hosted, _ in lines}):
            found = {way: lines.get((hosted, way)) for way in ("resident", "streamed", "computed")}
            layers = next(line["point"]["layers"] for line in found.values() if line)
            row: Row = {"layers on the GPU": f"{layers - hosted} of {layers}", "share": percent(1 - hosted / layers)}
            for way in ("streamed", "computed"):
                line = found[way] or found["resident"]
                row[f"{way}, tokens/s"] = number(1 / median(line, "token_s")) if line else None
                row[f"{way}, of all resident"] = percent(full / median(line, "token_s")) if line and full else None
            rows.append(row)
        yield f"**{model}**, one request:"
        yield markdown(rows)
        if full is not None:
            yield _boundary(full, lines)
    if results.lines.get("offload"):
        yield (
            "`streamed`: weights of layers on the host come from pinned memory for each token. `computed`: the host's "
            "CPUs compute them. The offloading paper (llama.cpp, `computed`) states shapes without numbers: strongly "
            "convex for small models, smoother for 70B."
        )


def _boundary(full: float, lines: Mapping[tuple[int, str], Line]) -> str:
    """Where half of the rate is lost, and which way is faster where."""
    said = []
    for way in ("streamed", "computed"):
        times = sorted((x["point"]["hosted"], median(x, "token_s")) for (_, w), x in lines.items() if w == way)
        lost = next((hosted for hosted, took in times if took > 2 * full), None)
        half = "never" if lost is None else f"from {lost} layers on the host"
        said.append(f"{way}: half of the rate is lost {half}")
    return "; ".join(said) + "."


def _steps(off: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    for model, found in off.items():
        rows: list[Row] = [
            {
                "decodes": x["decodes"], "KV tokens": x["kv_tokens"], "prefill tokens": x["prefill_tokens"],
                "before them": x["prior_tokens"], "step": seconds(x["step_s"]), "by the table": seconds(x["told_s"]),
                "off": f"{100 * x['off']:+.0f} %",
            }
            for x in found
        ]  # fmt: skip
        mixed = [abs(x["off"]) for x in found if x["decodes"] and x["prefill_tokens"]]
        apart = f", {percent(middle(mixed))} for batches of both kinds, which it was not made of" if mixed else ""
        yield f"**{model}**; the table is off by {percent(middle(abs(x['off']) for x in found))} (median){apart}."
        yield markdown(rows)


def _order(results: Results) -> Iterator[str]:
    lines = list(results.of("order"))
    if lines:
        yield markdown(tails.by_policy(lines))
        yield from tails.against_srpt(lines)
        first = lines[0]
        seeds = ", ".join(sorted({str(line["point"]["seed"]) for line in lines}))
        yield (
            f"A random {first['point']['model']}, at most {first['max_num_seqs']} requests at a time, KV swapped; "
            f"bursty requests at {number(first['requests_per_s'])}/s, a fifth of them long, at a load of "
            f"{first['point']['load']:g} of full steps; seeds {seeds} together, each by itself in the differences. SJF "
            "and SRPT know the true lengths, UniBoost does not."
        )


def _sharing(results: Results) -> Iterator[str]:
    lines = list(results.of("sharing"))
    if lines:
        first = lines[0]
        yield markdown(tails.by_split(lines))
        yield (
            f"{first['point']['models']} random models of the shape {first['point']['model']} that are busy in turn, "
            f"{number(first['kv_bytes'] / 1e9)} GB of KV memory: shared as it is needed, or the same share for each. A "
            "load of 1 is full steps of one model all the time. A request's objectives are a multiple (*scale*) of its "
            "prefill and of a full step. Prism reports 2.3 to 3.5 times as many requests within 99 % of TTFT "
            "objectives on two GPUs with eight models; of its three parts (sharing, placement, arbitration) only the "
            "first is here. Mapping pages is not in it."
        )
