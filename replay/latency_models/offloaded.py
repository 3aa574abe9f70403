"""Step times of a model that has a part of its layers on its GPUs and the rest on their host."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.cluster.machine import Machine
from replay.simulation.hardware import ServedModel
from toolkit.errors import SettingFailure
from toolkit.protocols import LatencyModel

Values = NDArray[np.float64]
WHERE = "offloading"


class Offloaded:
    """`base` with `resident` of the layers (0 to 1) on its GPUs: t(f) = f · GPU + (1 − f) · host + boundary · [f < 1].

    The host does each part of a step (matrices, output projection, attention) in the faster of two ways: its CPUs
    compute it, reading weights and KV from their memory, or the GPUs do, while both stream over the links. So decode
    steps are computed by the CPUs, and large prefills stream. KV of a layer is where the layer is. `host_efficiency` is
    the share of the machine's memory, CPU and link rates that is reached, and `boundary_s` what handing over to the
    host and back takes besides the hidden states' bytes (None: two copies): assumptions.

    `points` are measured: (fraction resident, decode rate as a share of the full rate), rising; the formula is then
    scaled so that a step of one token has the rate on the monotone curve through them. With everything resident the
    times are those of `base`, exactly. `model` is the base's own where it names one.
    """

    def __init__(
        self,
        base: LatencyModel,
        resident: float,
        machine: Machine,
        model: ServedModel | None = None,
        points: Sequence[tuple[float, float]] = (),
        host_efficiency: float = 0.7,
        boundary_s: float | None = None,
    ):
        self.base, self.resident = base, _share(resident)
        self.host = _Host(base, model or _model_of(base), machine, host_efficiency)
        self.model = self.host.model
        self.boundary_s = 2 * machine.copy_s if boundary_s is None else boundary_s
        self.scale = self._scale(points) if points and resident < 1 else 1.0
        self._take_on()

    def dense_s(self, tokens: Values) -> Values:
        between = self.boundary_s + self.host.handed_over_s(tokens)
        return self._split(self.base.dense_s(tokens), lambda: self.host.dense_s(tokens), lambda: between)

    def head_s(self, sequences: Values) -> Values:
        return self._split(self.base.head_s(sequences), lambda: self.host.head_s(sequences))

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        own = self.base.decode_attention_s(sequences, kv_tokens)
        return self._split(own, lambda: self.host.attention_s(own, kv_tokens, kv_tokens))

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        own = self.base.prefill_attention_s(chunk, prior)
        return self._split(own, lambda: self.host.attention_s(own, chunk * (prior + chunk / 2), prior + chunk))

    def _split(self, own: Values, host: Callable[[], Values], between: Callable[[], Values] | None = None) -> Values:
        if self.resident == 1:
            return own
        time = self.resident * own + (1 - self.resident) * host()
        return self.scale * (time if between is None else time + between())

    def _scale(self, points: Sequence[tuple[float, float]]) -> float:
        """What brings the step of one token to the measured rate."""
        one = np.ones(1)
        full = self.base.dense_s(one) + self.base.head_s(one)
        self.scale = 1.0
        worked_out = self.dense_s(one) + self.head_s(one)
        return float((full / worked_out)[0]) / measured_rate(points, self.resident)

    def _take_on(self) -> None:
        """The base's optional members, each for the share of the layers that the GPUs have."""
        for name in ("mixed_attention_s", "skew", "shared_s"):
            found = getattr(self.base, name, None)
            if found is not None:
                setattr(self, name, found if self.resident == 1 else getattr(self, f"_{name}")(found))

    def _mixed_attention_s(self, mixed: Callable[..., Values]) -> Callable[..., Values]:
        def shared(chunk: Values, prior: Values, sequences: Values, context: Values) -> Values:
            apart = self.base.prefill_attention_s(chunk, prior) + _decode_s(self.base, sequences, context)
            together = self.resident * self.scale * (mixed(chunk, prior, sequences, context) - apart)
            return self.prefill_attention_s(chunk, prior) + _decode_s(self, sequences, context) + together

        return shared

    def _skew(self, skew: Any) -> Any:
        return replace(skew, share=skew.share * self.resident)

    def _shared_s(self, shared: Callable[[Values], Values]) -> Callable[[Values], Values]:
        return lambda tokens: self.resident * self.scale * shared(tokens)


class _Host:
    """The times of a whole model on the host."""

    def __init__(self, base: LatencyModel, model: ServedModel, machine: Machine, efficiency: float):
        self.base, self.model = base, model
        self.flops_per_s = machine.cpu_flops_per_s * efficiency
        self.bytes_per_s = machine.dram_bytes_per_s * efficiency
        links = int(getattr(base, "tensor_parallel", 1))
        self.link_bytes_per_s = machine.host_link_bytes_per_s * efficiency
        self.streamed_per_s = min(self.link_bytes_per_s * links, self.bytes_per_s)

    def dense_s(self, tokens: Values) -> Values:
        m = self.model
        experts = m.moe_layers * m.expert_parameters
        reached = m.num_experts * (1 - (1 - m.num_experts_per_tok / max(m.num_experts, 1)) ** tokens)
        read = (m.dense_parameters + experts * reached) * m.bytes_per_value
        flops = 2.0 * tokens * (m.dense_parameters + experts * m.num_experts_per_tok)
        return self._faster(self.base.dense_s(tokens), flops, read)

    def head_s(self, sequences: Values) -> Values:
        parameters = self.model.head_parameters
        read = np.where(sequences > 0, parameters * self.model.bytes_per_value, 0.0)
        return self._faster(self.base.head_s(sequences), 2.0 * parameters * sequences, read)

    def attention_s(self, own: Values, pairs: Values, kv_tokens: Values) -> Values:
        """`own`: what the GPUs take; `pairs`: query-key pairs a head."""
        m = self.model
        width = m.kv_lora_rank * 2 + m.qk_rope_head_dim if m.kv_lora_rank else 2 * m.head_dim
        flops = 2.0 * m.num_hidden_layers * m.num_attention_heads * width * pairs
        return self._faster(own, flops, kv_tokens * m.kv_bytes_per_token)

    def handed_over_s(self, tokens: Values) -> Values:
        """Hidden states to the host and back, of two bytes a value."""
        return 2 * 2 * self.model.hidden_size * tokens / self.link_bytes_per_s

    def _faster(self, own: Values, flops: Values, read: Values) -> Values:
        computed = np.maximum(flops / self.flops_per_s, read / self.bytes_per_s)
        return np.minimum(computed, np.maximum(own, read / self.streamed_per_s))


def measured_rate(points: Sequence[tuple[float, float]], resident: float) -> float:
    """The decode rate, as a share of the full one, on the monotone curve through measured points and (1, 1)."""
    from scipy.interpolate import PchipInterpolator

    at, rates = np.array([*points, *([] if points[-1][0] == 1 else [(1.0, 1.0)])]).T
    rising = (np.diff(at) > 0).all() and (np.diff(rates) >= 0).all()
    if not rising or at[0] < 0 or at[-1] != 1 or rates[0] <= 0 or rates[-1] != 1:
        hint = "write [fraction resident, rate as a share of the full rate], both rising, to [1, 1]"
        raise SettingFailure("the measured points are no such curve", where=WHERE, hint=hint)
    if resident < at[0]:
        raise SettingFailure(
            f"nothing was measured at {resident:g} resident or less", where=WHERE, hint="add a point for 0"
        )
    return min(1.0, float(PchipInterpolator(at, rates)(resident)))


def _decode_s(model: LatencyModel, sequences: Values, context: Values) -> Values:
    """Decode attention of arrays of batches."""
    found = np.empty(np.broadcast(sequences, context).shape)
    for count in np.unique(sequences):
        at = sequences == count
        found[at] = model.decode_attention_s(int(count), context[at] * count)
    return found


def _share(resident: float) -> float:
    if not 0 <= resident <= 1:
        raise SettingFailure(f"{resident:g} of the layers cannot be resident", where=WHERE, hint="give 0 to 1")
    return resident


def _model_of(base: LatencyModel) -> ServedModel:
    model = getattr(base, "model", None)
    if not isinstance(model, ServedModel):
        raise SettingFailure("the latency model does not say what it serves", where=WHERE, hint="give model=")
    return model
