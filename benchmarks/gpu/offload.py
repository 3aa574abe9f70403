"""Decoding with a part of the layers on the host: streamed in for every token, or computed there.

`streamed`: weights come from pinned memory while the layer before computes. `computed`: hidden states go to the host
and back, and its CPUs compute the layers, as llama.cpp does. One request, greedy; layers leave from the first on.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.setting import Point, Setting
from benchmarks.gpu.shapes import config, fitting
from replay.torch_engine.device import Device

SHARES = (1.0, 0.98, 0.96, 0.94, 0.92, 0.9, 0.8, 0.6, 0.4, 0.2, 0.0)
CONTEXT, SLOW, BRIEF = 32, 24, 6  # tokens: before, and decoded when streamed and when computed
ENOUGH_S = 4.0  # of decoding at one point


def points(at: Setting) -> Iterator[Point]:
    names = [n for n in fitting(at, 0.3) if n in ("1b", "8b")] or fitting(at, 0.3)[:1]
    for name in names:
        held = Held(at, name)
        layers = config(name, at.smoke)["num_hidden_layers"]
        for hosted in sorted({round((1 - share) * layers) for share in SHARES}):
            for way in ("streamed", "computed") if hosted else ("resident",):
                what = {"model": name, "way": way, "layers": layers, "hosted": hosted}
                yield Point(what, lambda h=hosted, w=way, held=held: held.decoded(h, w), 30)
        held.close()


class Held:
    """A model whose layers can be put on the host, built when it is first needed."""

    def __init__(self, at: Setting, name: str):
        self.at, self.name, self._module = at, name, None

    def close(self) -> None:
        self._module = None
        if self.at.device.is_gpu:
            torch.cuda.empty_cache()

    @property
    def module(self) -> Any:
        if self._module is None:
            self._module = _built(self.at, self.name)
        return self._module

    def decoded(self, hosted: int, way: str) -> dict[str, Any]:
        """Seconds of each token after the first two, with so many layers on the host."""
        layers = self.module.model.layers
        put: Callable[[Any, int, Device], Any] = {"streamed": Streamed, "computed": Computed}.get(way, _nothing)
        away = put(layers, hosted, self.at.device)
        try:
            with torch.inference_mode():
                steps = _decode(self.module, self.at, SLOW if way != "computed" else BRIEF)
        finally:
            if away is not None:
                away.undo()
        size = sum(p.nbytes for p in layers[0].parameters())
        return {"token_s": steps, "layer_bytes": size, "threads": torch.get_num_threads()}


def _nothing(layers: Any, hosted: int, device: Device) -> None:
    return None


def _built(at: Setting, name: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    made = AutoConfig.for_model("llama", **config(name, at.smoke))
    with torch.random.fork_rng([at.device.at] if at.device.is_gpu else []), torch.device(at.device.at):
        torch.manual_seed(at.seed)
        module = AutoModelForCausalLM.from_config(made, dtype=at.device.dtype, attn_implementation="sdpa")
    return module.eval().requires_grad_(False)


def _decode(module: Any, at: Setting, count: int) -> list[float]:
    """Each token's seconds, at most `count` and about ENOUGH_S of them; the first two warm up."""
    tokens = torch.randint(0, 500, (1, CONTEXT), generator=torch.Generator().manual_seed(at.seed)).to(at.device.at)
    answer = module(input_ids=tokens, use_cache=True, logits_to_keep=1)
    took: list[float] = []
    while len(took) < 4 or (len(took) < count + 2 and sum(took) < ENOUGH_S):
        began = time.perf_counter()
        token = answer.logits[:, -1:].argmax(-1)
        answer = module(input_ids=token, past_key_values=answer.past_key_values, use_cache=True)
        at.device.wait()
        took.append(time.perf_counter() - began)
    return took[2:]


class Streamed:
    """Layers that share two places on the device; the next one's weights come while one computes."""

    def __init__(self, layers: Any, hosted: int, device: Device):
        self.device, self.layers = device, [layers[n] for n in range(hosted)]
        self._there = [[p.data for p in layer.parameters()] for layer in self.layers]
        self._host = [_flat(data, device) for data in self._there]
        self._places = [torch.empty_like(self._host[0], device=device.at) for _ in range(2)]
        self._copying = torch.cuda.Stream(device.at) if device.is_gpu else None
        self._came, self._left = ([torch.cuda.Event(), torch.cuda.Event()] if device.is_gpu else [] for _ in range(2))
        self._turn = 0
        self._bring(0)
        self._hooks = [hook for n, layer in enumerate(self.layers) for hook in self._hooked(n, layer)]

    def _hooked(self, number: int, layer: Any) -> list[Any]:
        return [
            layer.register_forward_pre_hook(lambda module, arguments: self._begin(number)),
            layer.register_forward_hook(lambda module, arguments, out: self._end()),
        ]

    def _bring(self, turn: int) -> None:
        """Begin to copy the weights of that turn's layer to the place that the one before the last has left."""
        place, source = self._places[turn % 2], self._host[turn % len(self.layers)]
        if self._copying is None:
            place.copy_(source)
            return
        with torch.cuda.stream(self._copying):
            if turn > 1:
                self._copying.wait_event(self._left[turn % 2])
            place.copy_(source, non_blocking=True)
            self._came[turn % 2].record(self._copying)

    def _begin(self, number: int) -> None:
        turn = self._turn
        assert turn % len(self.layers) == number
        self._bring(turn + 1)
        if self._copying is not None:
            torch.cuda.current_stream(self.device.at).wait_event(self._came[turn % 2])
        at = 0
        for parameter, data in zip(self.layers[number].parameters(), self._there[number], strict=True):
            parameter.data = self._places[turn % 2][at : at + data.numel()].view(data.shape)
            at += data.numel()

    def _end(self) -> None:
        if self._copying is not None:
            self._left[self._turn % 2].record(torch.cuda.current_stream(self.device.at))
        self._turn += 1

    def undo(self) -> None:
        """As it was; the layers had kept their place on the device."""
        self.device.wait()
        for hook in self._hooks:
            hook.remove()
        for layer, there in zip(self.layers, self._there, strict=True):
            for parameter, data in zip(layer.parameters(), there, strict=True):
                parameter.data = data
        self._hooks, self._host, self._places = [], [], []


def _flat(tensors: list[Any], device: Device) -> Any:
    """Their elements in a row, in pinned memory."""
    size = sum(t.numel() for t in tensors)
    flat = torch.empty(size, dtype=tensors[0].dtype, pin_memory=device.is_gpu)
    at = 0
    for tensor in tensors:
        flat[at : at + tensor.numel()].copy_(tensor.flatten())
        at += tensor.numel()
    return flat


class Computed:
    """Layers on the host's CPUs; what they are given goes there, and what they make comes back."""

    def __init__(self, layers: Any, hosted: int, device: Device):
        self.device, self._all, self._were = device, layers, [layers[n] for n in range(hosted)]
        for n, layer in enumerate(self._were):
            layers[n] = OnHost(layer.to("cpu"), device)

    def undo(self) -> None:
        for n, layer in enumerate(self._were):
            self._all[n] = layer.to(self.device.at)


class OnHost(nn.Module):
    """A decoder layer that computes on the CPU; its keys and values stay there."""

    def __init__(self, layer: Any, device: Device):
        super().__init__()
        self.layer, self.device = layer, device

    def __getattr__(self, name: str) -> Any:
        """What the model asks its layers for, such as their kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        out = self.layer(*(_on(a, "cpu") for a in arguments), **{name: _on(a, "cpu") for name, a in named.items()})
        return _on(out, self.device.at)


def _on(value: Any, at: Any) -> Any:
    """A tensor, or a tuple of them, there; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(_on(v, at) for v in value)
    return value.to(at) if isinstance(value, torch.Tensor) else value
