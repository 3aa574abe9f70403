"""The offload paper's decode curves by the hyperbola: their shape by model and GPU, its reasons, what it depends on."""

from dataclasses import dataclass

import numpy as np

from benchmarks.reproductions.drawing import Line, lines
from replay.cluster.machine import machine_preset
from replay.latency_models.offloaded import Offloaded
from replay.latency_models.roofline import Roofline
from toolkit.protocols import LatencyModel

Row = dict[str, object]
MACHINES = {"rtx5000-ada": "RTX 5000 Ada", "rtxa6000": "RTX A6000"}
MODELS = {"llama-3-8b-q4": "Llama-3-8B", "qwen3-32b-q4": "Qwen3-32B", "llama-2-70b-q4": "Llama-2-70B"}
CELLS = [(machine, model) for model in MODELS for machine in MACHINES]
SHOWN = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.94, 0.98)
LENGTHS = (50, 150, 300, 500, 1000, 5000)
CONTEXT = 320  # tokens: a short prompt and half of the middle output length
SWEEP = ((0, 2.89), (8, 3.58), (16, 4.24), (24, 5.61), (32, 7.26), (40, 12.5), (48, 43.18))  # layers, tokens/s
SWEEP_LAYERS = 48
LINK = "https://inventivehq.com/blog/vram-offload-cliff-gpu-layers-benchmark"


@dataclass(frozen=True)
class Setting:
    """What the curves depend on besides model and GPU."""

    host_efficiency: float = 0.7
    boundary_s: float | None = None
    overhead_s: float = 0.0005
    context: int = CONTEXT


DEFAULT = Setting()
COSTLY = Setting(boundary_s=0.005)


def decode_s(model: LatencyModel, context: int) -> float:
    """A step of one request."""
    one = np.ones(1)
    return float((model.dense_s(one) + model.head_s(one) + model.decode_attention_s(1, one * context))[0])


def times(machine: str, model: str, at: Setting = DEFAULT) -> tuple[float, float, float]:
    """(On the GPU, on the host, at the boundary) in seconds a token."""
    base = Roofline(machine, model, overhead_s=at.overhead_s)
    none, bare = (
        Offloaded(base, 0.0, machine_preset(machine), host_efficiency=at.host_efficiency, boundary_s=between)
        for between in (at.boundary_s, 0.0)
    )
    host = decode_s(bare, at.context)
    return decode_s(base, at.context), host, decode_s(none, at.context) - host


def rate(machine: str, model: str, resident: float, at: Setting = DEFAULT) -> float:
    """The decode rate as a share of the full one."""
    base = Roofline(machine, model, overhead_s=at.overhead_s)
    host = machine_preset(machine)
    made = Offloaded(base, resident, host, host_efficiency=at.host_efficiency, boundary_s=at.boundary_s)
    return decode_s(base, at.context) / decode_s(made, at.context)


def reasons() -> list[Row]:
    """The three times of each curve."""
    rows: list[Row] = []
    for machine, model in CELLS:
        gpu, host, between = times(machine, model)
        rows.append({
            "model": MODELS[model], "GPU": MACHINES[machine], "full rate, tokens/s": f"{1 / gpu:.1f}",
            "on the GPU, ms": f"{1e3 * gpu:.1f}", "on the host, ms": f"{1e3 * host:.0f}", "ratio": f"{host / gpu:.2f}",
            "boundary, ms": f"{1e3 * between:.2f}", "boundary over GPU, %": f"{100 * between / gpu:.1f}",
        })  # fmt: skip
    return rows


def curves(at: Setting = DEFAULT) -> list[Row]:
    """Normalised rates by the share resident, in per cent."""
    return [
        {"model": MODELS[model], "GPU": MACHINES[machine]}
        | {f"{share:.0%}": f"{100 * rate(machine, model, share, at):.0f}" for share in SHOWN}
        | {"gained in the last 2 %": f"{100 * gained(machine, model, at):.0f}"}
        for machine, model in CELLS
    ]


def gained(machine: str, model: str, at: Setting = DEFAULT) -> float:
    """Of what full residency gains over none, the share that its last 2 % bring."""
    none, nearly = (rate(machine, model, share, at) for share in (0.0, 0.98))
    return (1 - nearly) / (1 - none)


def sensitivity() -> list[Row]:
    """The rate at 90 % resident and what the last 2 % bring, a setting a row."""
    settings = {
        "as above": DEFAULT, "host reaches 0.5 of its rates": Setting(host_efficiency=0.5),
        "host reaches 0.9": Setting(host_efficiency=0.9), "host reaches 0.2": Setting(host_efficiency=0.2),
        "boundary 1 ms": Setting(boundary_s=0.001), "boundary 5 ms": COSTLY,
        "boundary 20 ms": Setting(boundary_s=0.02), "no launch overhead": Setting(overhead_s=0.0),
        "launch overhead 3 ms": Setting(overhead_s=0.003),
    }  # fmt: skip
    return [
        {"setting": name}
        | {f"{MODELS[m]}, 90 %": f"{100 * rate('rtx5000-ada', m, 0.9, at):.0f}" for m in MODELS}
        | {f"{MODELS[m]}, last 2 %": f"{100 * gained('rtx5000-ada', m, at):.0f}" for m in MODELS}
        for name, at in settings.items()
    ]


def by_length() -> list[Row]:
    """The rate at 90 % resident by output length, at the mean context."""
    return [
        {"model": MODELS[model], "GPU": MACHINES[machine]}
        | {f"{n} tokens": f"{100 * rate(machine, model, 0.9, Setting(context=70 + n // 2)):.1f}" for n in LENGTHS}
        for machine, model in CELLS
    ]


def prefills() -> list[Row]:
    """Seconds of a prompt by the share resident, and from how many tokens on streaming beats the host's CPUs."""
    rows: list[Row] = []
    for machine, model in CELLS:
        base, host = Roofline(machine, model), machine_preset(machine)
        found = [Offloaded(base, share, host) for share in (1.0, 0.9, 0.5, 0.0)]
        row: Row = {"model": MODELS[model], "GPU": MACHINES[machine]}
        row |= {f"{m.resident:.0%}, s": f"{_prefill_s(m, 1024):.2f}" for m in found}
        rows.append(row | {"streams from, tokens": _streams_from(found[-1])})
    return rows


def public_sweep() -> list[Row]:
    """A public measurement of every eighth layer, beside the line through its two ends."""
    host, gpu = 1 / SWEEP[0][1], 1 / SWEEP[-1][1]
    rows: list[Row] = []
    for layers, measured in SWEEP:
        share = layers / SWEEP_LAYERS
        ours = 1 / (share * gpu + (1 - share) * host)
        off = f"{100 * (ours / measured - 1):+.0f}"
        rows.append({"layers on the GPU": layers, "measured, tokens/s": measured, "ours": f"{ours:.2f}", "off, %": off})
    return rows


def figures() -> dict[str, str]:
    """The curves with little and with much at the boundary."""
    little = "Decode rate by the share of layers on the GPU (handing over: two copies)"
    much = "Decode rate by the share of layers on the GPU (handing over: 5 ms)"
    return {"curves": _figure(little, DEFAULT), "curves-boundary": _figure(much, COSTLY)}


def _figure(title: str, at: Setting) -> str:
    shares = np.append(np.linspace(0, 0.999, 100), 1.0)
    series = [
        Line(
            f"{MODELS[model]}, {MACHINES[machine]}",
            (100 * shares).tolist(),
            [100 * rate(machine, model, float(f), at) for f in shares],
        )
        for machine, model in CELLS
    ]
    return lines(title, "layers on the GPU, %", "rate, % of full residency", series)


def _prefill_s(model: LatencyModel, prompt: int) -> float:
    tokens, one = np.array([float(prompt)]), np.ones(1)
    return float((model.dense_s(tokens) + model.head_s(one) + model.prefill_attention_s(tokens, one * 0))[0])


def _streams_from(none: Offloaded) -> int:
    """Tokens from which the CPUs would take longer than the weights take over the link: then times stop rising."""
    tokens = np.arange(1.0, 2049.0)
    computed = 2.0 * tokens * none.model.dense_parameters / none.host.flops_per_s
    streamed = none.model.dense_parameters * none.model.bytes_per_value / none.host.streamed_per_s
    return int(tokens[np.argmax(computed > streamed)])
