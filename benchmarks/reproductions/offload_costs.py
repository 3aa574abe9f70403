"""The offload paper's preemptions by the cost model: seconds, shares, progress, and where KV transfer counts."""

from dataclasses import replace
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from benchmarks.reproductions.drawing import Line, lines
from replay.cluster.machine import Machine, Method, machine_preset
from replay.cluster.preemption_cost import PreemptionCost, context_of_share, preemption_cost
from replay.latency_models.roofline import Roofline
from replay.simulation.hardware import model_preset

Row = dict[str, object]
MACHINES = {"rtx5000-ada": "RTX 5000 Ada", "rtxa6000": "RTX A6000"}
MODELS = {"qwen2.5-3b": "Qwen2.5-3B", "qwen3-8b": "Qwen3-8B", "qwen2.5-14b": "Qwen2.5-14B"}
CELLS = [(machine, model) for machine in MACHINES for model in MODELS]
TOTAL_S = dict(zip(CELLS, (2.98, 5.16, 7.31, 2.62, 4.06, 5.73), strict=True))
KV_SHARE = {"rtx5000-ada": (0.6, 1.0), "rtxa6000": (0.8, 1.5)}  # per cent
ADDED = {"rtx5000-ada": (1.75, 2.11), "rtxa6000": (1.61, 1.86)}  # per cent of the uninterrupted run
KV_MB = {"qwen2.5-3b": 178.3, "qwen3-8b": 713.1, "qwen2.5-14b": 950.8}  # at 5000 generated tokens
GENERATED = (100, 200, 300, 500, 1000, 2000, 3000, 4000, 5000)  # where the paper preempts
PROMPT, RUN = 71, 7000  # tokens: what KV_MB hold besides the generated ones; an uninterrupted run
HOST_S_PER_LAYER = {"qwen2.5-3b": 0.6e-3, "qwen3-8b": 0.98e-3, "qwen2.5-14b": 0.6e-3}  # of an eager step
FASTER = (1, 2, 5, 10, 20)  # reloads


def costs(machine: str, model: str) -> list[PreemptionCost]:
    """One at each of the paper's points of progress."""
    return [preemption_cost(machine_preset(machine), model_preset(model), n + PROMPT) for n in GENERATED]


def totals() -> list[Row]:
    """Mean seconds of a preemption, beside the paper's."""
    rows: list[Row] = []
    for machine, model in CELLS:
        found = costs(machine, model)
        total_s, kv_s = mean(c.total_s for c in found), mean(c.kv_s for c in found)
        low, high = KV_SHARE[machine]
        rows.append({
            "GPU": MACHINES[machine], "model": MODELS[model], "paper, s": f"{TOTAL_S[machine, model]:.2f}",
            "ours, s": f"{total_s:.2f}", "swap, s": f"{total_s - kv_s:.3f}", "KV out and in, s": f"{kv_s:.3f}",
            "KV share, %": f"{100 * kv_s / total_s:.2f}", "paper's range, %": f"{low} to {high}",
        })  # fmt: skip
    return rows


def left_out() -> list[Row]:
    """What the line through two models' swaps says of the third."""
    rows: list[Row] = []
    for machine in MACHINES:
        points = machine_preset(machine).naive_points
        for n, name in enumerate(MODELS.values()):
            (a, s), (b, t) = (p for m, p in enumerate(points) if m != n)
            said = s + (t - s) * (points[n][0] - a) / (b - a)
            off = f"{said - points[n][1]:+.2f} ({100 * (said / points[n][1] - 1):+.0f} %)"
            row = {"GPU": MACHINES[machine], "left out": name, "swap by the other two, s": f"{said:.2f}", "off, s": off}
            rows.append(row)
    return rows


def kv_bytes() -> list[Row]:
    """The paper's megabytes, and the presets' bytes a token."""
    rows: list[Row] = []
    for model, name in MODELS.items():
        each = model_preset(model).kv_bytes_per_token
        rows.append({
            "model": name, "bytes a token": each, "5000 tokens, MB": f"{5000 * each / 1e6:.1f}",
            f"{5000 + PROMPT} tokens, MiB": f"{(5000 + PROMPT) * each / 2**20:.1f}", "paper, MB": str(KV_MB[model]),
        })  # fmt: skip
    return rows


def step_s(machine: str, model: str, host_s_per_layer: float) -> float:
    """Of eager decoding at the run's mean context: what the host issues and what the GPU does run side by side."""
    base, one = Roofline(machine, model, overhead_s=0.0), np.ones(1)
    kv = one * (PROMPT + RUN / 2)
    gpu_s = float((base.dense_s(one) + base.head_s(one) + base.decode_attention_s(1, kv))[0])
    return max(gpu_s, host_s_per_layer * base.model.num_hidden_layers)


def added() -> list[Row]:
    """What a preemption adds to a run of 7000 tokens, with and without the host's time."""
    rows: list[Row] = []
    for machine, model in CELLS:
        low, high = ADDED[machine]
        gpu, step = (step_s(machine, model, host) for host in (0.0, HOST_S_PER_LAYER[model]))
        told = TOTAL_S[machine, model]
        ours = 100 * told / (RUN * step)
        rows.append({
            "GPU": MACHINES[machine], "model": MODELS[model],
            "a step as the paper's range implies, ms": f"{told / RUN / high * 1e5:.1f} to {told / RUN / low * 1e5:.1f}",
            "GPU alone, ms": f"{1e3 * gpu:.1f}", "with the host, ms": f"{1e3 * step:.1f}",
            "added, %": f"{ours:.2f}", "paper's range, %": f"{low} to {high}",
            "within": "yes" if low <= round(ours, 2) <= high else "no",
        })  # fmt: skip
    return rows


def progress() -> list[Row]:
    """The least and the most a preemption costs, by when it comes."""
    rows: list[Row] = []
    for machine, model in CELLS:
        found = costs(machine, model)
        rows.append({
            "GPU": MACHINES[machine], "model": MODELS[model],
            "after 100 tokens, s": f"{found[0].total_s:.3f}", "after 5000, s": f"{found[-1].total_s:.3f}",
            "more, %": f"{100 * (found[-1].total_s / found[0].total_s - 1):.1f}",
            "KV share after 100, %": f"{100 * found[0].kv_share:.2f}",
            "after 5000, %": f"{100 * found[-1].kv_share:.1f}",
        })  # fmt: skip
    return rows


def hastened(machine: Machine, times: float) -> Machine:
    """A machine whose naive loads take so many times less."""
    points = tuple((size, seconds / times) for size, seconds in machine.naive_points)
    rate, start_s = machine.storage_bytes_per_s * times, machine.engine_start_s / times
    return replace(machine, naive_points=points, storage_bytes_per_s=rate, engine_start_s=start_s)


def cases() -> list[tuple[str, Machine, str, Method]]:
    """(Name, machine, model, how it loads) by which KV transfer is judged."""
    made = [
        (f"{MODELS[model]}, {MACHINES[machine]}, reload × {times}", hastened(machine_preset(machine), times), model)
        for model in MODELS for machine in MACHINES for times in (1, 10)
    ]  # fmt: skip
    prism = machine_preset("h100-sxm")
    return [
        *((*case, "naive") for case in made),
        *((f"{MODELS[m]}, {MACHINES[g]}, from DRAM", machine_preset(g), m, "dram") for m in MODELS for g in MACHINES),
        *((f"{m}, Prism's H100, parallel", prism, m, "parallel") for m in ("llama-3.1-8b", "qwen2.5-14b")),
    ]


def first_order() -> list[Row]:
    """The KV share at 5000 tokens, and the contexts at which KV transfer is a tenth and a half of the cost."""
    rows: list[Row] = []
    for name, machine, model, method in cases():
        preset = model_preset(model)
        contexts = [context_of_share(machine, preset, share, method) for share in (0.1, 0.5)]
        found = preemption_cost(machine, preset, 5000 + PROMPT, method)
        rows.append({
            "case": name, "swap, s": f"{found.swap_s:.2f}", "KV share at 5000, %": f"{100 * found.kv_share:.1f}",
            "a tenth from, tokens": f"{contexts[0]:,.0f}", "a half from, tokens": f"{contexts[1]:,.0f}",
        })  # fmt: skip
    return rows


def share_figure() -> str:
    """The KV share against the context: 8B on the slower workstation, reloads ever faster; and on Prism's hosts."""
    tokens = np.geomspace(100, 131072, 60)
    drawn = [("from SSD, as measured", 1), ("5 times as fast", 5), ("10 times as fast", 10), ("20 times as fast", 20)]
    ada = machine_preset("rtx5000-ada")
    series = [_shares(name, tokens, hastened(ada, times), "naive") for name, times in drawn]
    series.append(_shares("H100, parallel loading", tokens, machine_preset("h100-sxm"), "parallel"))
    title = f"{MODELS['qwen3-8b']}: the share of a preemption that KV transfer takes"
    return lines(title, "context, tokens", "share of the cost, %", series, log_x=True)


def _shares(name: str, tokens: NDArray[np.float64], machine: Machine, method: Method) -> Line:
    model = model_preset("qwen3-8b")
    found = [100 * preemption_cost(machine, model, n, method).kv_share for n in tokens]
    return Line(name, tokens.tolist(), found, dashed=method == "parallel")
