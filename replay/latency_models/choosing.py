"""From `--latency` to a latency model: NAME[:ARGUMENT][,key=value…], or a file that `trace calibrate` wrote."""

from pathlib import Path
from typing import Any

from replay.simulation.hardware import ServedModel, model_preset
from toolkit import plugins
from toolkit.errors import InputFailure, SettingFailure, nearest
from toolkit.protocols import LatencyModel

ABOUT = ("latency", "held_back", "fitted", "source")  # in a file of `trace calibrate`, what is no parameter


def served_by(spec: str, gpu: str, model: str, tensor_parallel: int, ranks: int = 1) -> LatencyModel:
    """What `spec` names, for a GPU, a served model, and instances that share its experts.

    SettingFailure when it was measured on another model, or knows no shared experts.
    """
    named = {"model": model} if _estimates(spec) else {}
    made = latency_model(spec, gpu=gpu, tensor_parallel=tensor_parallel, ranks=ranks, **named)
    measured, served = getattr(made, "model", None), model_preset(model)
    if getattr(made, "ranks", 1) != ranks:
        raise SettingFailure("knows no experts shared by instances", where=spec, hint="use roofline or profile:DIR")
    if isinstance(measured, ServedModel) and measured.num_hidden_layers != served.num_hidden_layers:
        raise SettingFailure(f"is of {measured.name}, but --model-preset is {model}", where=spec)
    return made


def _estimates(spec: str) -> bool:
    """Whether the model works out any model's times; a profile knows itself what it measured."""
    return spec.partition(":")[0] in ("roofline", "aiconfigurator")


def latency_model(spec: str, **known: Any) -> LatencyModel:
    """The model that `spec` names. `known` (gpu, model, tensor_parallel, ranks) goes to the models that take it.

    `profile:DIR` and `table:FILE` take a path; raises SettingFailure with the nearest name.
    """
    if spec.endswith((".yaml", ".yml")) and ":" not in spec:
        return _from_file(Path(spec), known)
    name, _, rest = spec.partition(":")
    items = [item for item in rest.split(",") if item]
    first = items and "=" not in items[0]
    options = dict(_pair(item, spec) for item in items[1 if first else 0 :])
    if first:
        options["path"] = items[0]
    return _make(name, options, known)


def _pair(item: str, spec: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if not equals:
        raise SettingFailure(f"'{item}' is not key=value", where=spec, hint="write NAME:PATH,key=value")
    return key, value


def _make(name: str, options: dict[str, str], known: dict[str, Any]) -> LatencyModel:
    parameters = plugins.parameters(plugins.load("latency_model", name))
    if "path" in options and "path" not in parameters:
        raise SettingFailure(f"takes no path, as '{options['path']}'", where=f"latency model {name}")
    given = {k: v for k, v in known.items() if k in parameters and k not in options and v is not None}
    text = ",".join(f"{key}={value}" for key, value in {**given, **options}.items())
    made: LatencyModel = plugins.create("latency_model", f"{name}:{text}" if text else name)
    return made


def _from_file(path: Path, known: dict[str, Any]) -> LatencyModel:
    """`latency: NAME` with its parameters beside it."""
    import yaml

    try:
        read = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputFailure(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(read, dict) or "latency" not in read:
        hint = f"write it with `trace calibrate`, or {nearest('latency', ['latency: NAME'])}"
        raise InputFailure("does not name its latency model", where=str(path), hint=hint)
    if read["latency"] == "table":
        return _make("table", {"path": str(path)}, known)
    options = {k: str(v) for k, v in read.items() if k not in ABOUT and v is not None}
    return _make(str(read["latency"]), options, known)
