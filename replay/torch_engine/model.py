"""A model: its weights in one piece on the host, and a skeleton that runs with whatever its parameters point at."""

import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from replay.torch_engine.arena import Arena
from replay.torch_engine.attention import NAME, paged_attention
from replay.torch_engine.device import Device, host_free_bytes
from replay.torch_engine.kv import Shape
from toolkit.errors import InputFailure, SettingFailure

ALIGN = 256  # bytes between the starts of two parameters are a multiple of this
NOT_SERVED = ("sliding_attention", "chunked_attention", "linear_attention")


class Model:
    """Weights on the host, and on the device while it is loaded (a Tenant of the arena)."""

    def __init__(self, name: str, module: Any, device: Device):
        self.name, self.device, self.module = name, device, module
        self.config = module.config.get_text_config()
        self.shape = _shape(self.config, next(module.parameters()).dtype)
        self.first = self.pages = 0
        self._parts = _layout(module)
        self.size = sum(-(-p.nbytes // ALIGN) * ALIGN for p, _ in self._parts)
        self.host = device.host_bytes(self.size)
        self._arena: Arena | None = None
        for parameter, at in self._parts:
            _as(self.host, parameter, at).copy_(parameter.data)
        self.drop()

    @property
    def loaded(self) -> bool:
        return self._arena is not None

    def bring(self, arena: Arena) -> "Future[float]":
        """Begin to copy the weights into their place; the future is how long it took, in seconds."""
        self.pages = arena.pages_of(self.size)
        arena.settle(self)
        self.device.wait()
        self._arena = arena
        return _beside(self._copy)

    def _copy(self) -> float:
        assert self._arena is not None
        began = time.perf_counter()
        target = self._arena.span(self.first, self.size)
        if not self.device.is_gpu:
            target.copy_(self.host)
            return time.perf_counter() - began
        stream = torch.cuda.Stream(self.device.at)
        with torch.cuda.stream(stream):
            target.copy_(self.host, non_blocking=True)
        stream.synchronize()
        return time.perf_counter() - began

    def point(self) -> None:
        """Let the skeleton use the weights where they are now."""
        assert self._arena is not None
        here = self._arena.span(self.first, self.size)
        for parameter, at in self._parts:
            parameter.data = _as(here, parameter, at)

    def leave(self) -> None:
        """Give the weights' memory back; the others slide together."""
        assert self._arena is not None
        arena, self._arena = self._arena, None
        self.drop()
        arena.leave(self)
        self.device.wait()

    def drop(self) -> None:
        """Let the skeleton use nothing: a step without weights must fail."""
        for parameter, _ in self._parts:
            parameter.data = parameter.data.new_empty(0)


def build(name: str, source: Path | dict[str, Any], device: Device, *, dtype: Any = None, seed: int = 0) -> Model:
    """A model from a folder with config.json, and weights where it has any; or from a config of `model_type` and so on.

    Without weights they are random, by `seed`. Nothing is ever downloaded.
    """
    config = _config(name, source)
    dtype = dtype or device.dtype
    _refuse(name, config)
    module = _module(name, source, config, device, dtype, seed)
    module.eval().requires_grad_(False)
    return Model(name, module, device)


def _config(name: str, source: Path | dict[str, Any]) -> Any:
    if isinstance(source, dict):
        kind = {"model_type": "llama", **source}
        return AutoConfig.for_model(kind.pop("model_type"), **kind)
    try:
        return AutoConfig.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        what = f"cannot be read as a model ({str(error).splitlines()[0]})"
        raise InputFailure(what, where=str(source), hint="name a folder with a config.json") from error


def _module(name: str, source: Path | dict[str, Any], config: Any, device: Device, dtype: Any, seed: int) -> Any:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, paged_attention)
    if isinstance(source, Path) and any(source.glob("*.safetensors")):
        return AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, attn_implementation=NAME, local_files_only=True
        ).to(device.at)
    _check_room(name, config, dtype)
    devices = [device.at] if device.is_gpu else []
    with torch.random.fork_rng(devices), torch.device(device.at):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=NAME)


def _check_room(name: str, config: Any, dtype: Any) -> None:
    """Refuse what the host has no memory for before an hour of swapping."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config, dtype=dtype)
    need, have = sum(p.nbytes for p in skeleton.parameters()), host_free_bytes()
    if need > have:
        raise SettingFailure(
            f"has {need / 2**30:.1f} GiB of weights, of which the host needs a copy; {have / 2**30:.1f} GiB are free",
            where=f"model {name}",
            hint="choose a smaller model, such as --model-preset tiny-llama",
        )


def _refuse(name: str, config: Any) -> None:
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ()) & set(NOT_SERVED)
    if getattr(text, "kv_lora_rank", None) or kinds or getattr(text, "attn_logit_softcapping", None):
        what = f"has {', '.join(sorted(kinds)) or 'attention'} that this engine does not compute"
        raise SettingFailure(
            what, where=f"model {name}", hint="choose one whose layers all attend to the whole context"
        )


def _shape(config: Any, dtype: Any) -> Shape:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(config.num_hidden_layers, heads, dim, dtype)


def _layout(module: Any) -> list[tuple[Any, int]]:
    """Each parameter with where it begins; one that is tied to another counts once."""
    found, at = [], 0
    for parameter in module.parameters():
        found.append((parameter, at))
        parameter.full_shape = parameter.shape
        at += -(-parameter.nbytes // ALIGN) * ALIGN
    return found


def _as(memory: Any, parameter: Any, at: int) -> Any:
    """The part of `memory` that is a parameter's."""
    shape = parameter.full_shape
    size = shape.numel() * parameter.dtype.itemsize
    return memory[at : at + size].view(parameter.dtype).view(shape)


def _beside(work: Any) -> "Future[float]":
    """Do `work` in a thread of its own, so that what is loaded goes on serving."""
    import threading

    done: Future[float] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done
