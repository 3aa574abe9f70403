"""What can be replaced: one lazy table a kind, third parties through entry points `trace_toolkit.<kind>s`.

A built-in is an import string, loaded when it is used; so the ground floor names the other packages without importing
them. A plugin is a class whose docstring's first line is its summary and whose keyword arguments are its parameters,
or, for the kinds `reader`, `writer` and `page`, a function.
"""

import importlib
import importlib.util
import inspect
import traceback
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from toolkit.errors import Failure, SettingFailure, nearest

_own_files: dict[str, str] = {}  # policy files that were loaded: as Python names them, and as the user did

BUILTIN: dict[str, dict[str, str]] = {
    "loader": {
        "canonical": "workloads.loaders.canonical:Canonical",
        "columns": "workloads.loaders.columns:Columns",
        "azure-llm": "workloads.loaders.azure_llm:AzureLLM",
        "burstgpt": "workloads.loaders.burstgpt:BurstGPT",
        "alibaba-gentd26": "workloads.loaders.alibaba_gentd26:AlibabaGenTD26",
        "vidur": "workloads.loaders.length_only:Vidur",
        "length-only": "workloads.loaders.length_only:LengthOnly",
        "tracelab-sessions": "workloads.loaders.tracelab_sessions:TraceLabSessions",
        "mooncake": "workloads.loaders.mooncake:Mooncake",
        "qwen-bailian": "workloads.loaders.qwen_bailian:QwenBailian",
        "prism": "workloads.loaders.prism:Prism",
        "weka": "workloads.loaders.weka:Weka",
        "tracelab-rounds": "workloads.loaders.tracelab_rounds:TraceLabRounds",
        "aibrix": "workloads.loaders.aibrix:AIBrix",
        "vtc-results": "workloads.loaders.vtc_results:VTCResults",
        "vllm-bench": "workloads.loaders.vllm_bench:VllmBench",
        "vllm-log": "workloads.loaders.vllm_log:VllmLog",
        "aiperf": "workloads.loaders.aiperf:AIPerf",
        "guidellm": "workloads.loaders.guidellm:GuideLLM",
        "inference-perf": "workloads.loaders.inference_perf:InferencePerf",
    },
    "generator": {
        "poisson": "workloads.generators.poisson:Poisson",
        "gamma": "workloads.generators.gamma:Gamma",
        "weibull": "workloads.generators.weibull:Weibull",
        "markov": "workloads.generators.markov:Markov",
        "on-off": "workloads.generators.on_off:OnOff",
        "groups": "workloads.generators.groups:Groups",
        "servegen": "workloads.generators.servegen:ServeGen",
        "like": "workloads.generators.like:Like",
    },
    "analysis": {
        "arrivals": "toolkit.analysis.arrivals:Arrivals",
        "lengths": "toolkit.analysis.lengths:Lengths",
        "popularity": "toolkit.analysis.popularity:Popularity",
        "idle": "toolkit.analysis.idle:Idle",
        "prefixes": "toolkit.analysis.prefixes:Prefixes",
        "sessions": "toolkit.analysis.sessions:Sessions",
        "latencies": "toolkit.analysis.latencies:Latencies",
        "groups": "toolkit.analysis.groups:Groups",
        "drift": "toolkit.analysis.drift:Drift",
        "clients": "toolkit.analysis.clients:Clients",
    },
    "scheduler": {
        "fcfs": "replay.schedulers.fcfs:FCFS",
        "sjf": "replay.schedulers.sjf:SJF",
        "srpt": "replay.schedulers.srpt:SRPT",
        "ltr": "replay.schedulers.ltr:LTR",
        "trail": "replay.schedulers.trail:TRAIL",
        "mlfq": "replay.schedulers.mlfq:MLFQ",
        "las": "replay.schedulers.las:LAS",
        "priority": "replay.schedulers.priority:Priority",
        "edf": "replay.schedulers.edf:EDF",
        "least-slack": "replay.schedulers.least_slack:LeastSlack",
        "moore-hodgson": "replay.schedulers.moore_hodgson:MooreHodgson",
        "vtc": "replay.schedulers.vtc:VTC",
        "gittins": "replay.schedulers.gittins:Gittins",
        "gittins-boost": "replay.schedulers.gittins_boost:GittinsBoost",
        "distboost": "replay.schedulers.distboost:DistBoost",
        "uniboost": "replay.schedulers.uniboost:UniBoost",
        "driftsched-fifo": "replay.schedulers.driftsched:FIFO",
        "driftsched-priority": "replay.schedulers.driftsched:StrictPriority",
        "driftsched-weighted": "replay.schedulers.driftsched:Weighted",
        "driftsched-sjf": "replay.schedulers.driftsched:ShortestBudget",
        "driftsched-aging": "replay.schedulers.driftsched:Aging",
    },
    "placement": {
        "static": "replay.placements.static:Static",
        "muxserve++": "replay.placements.muxserve:MuxServe",
        "qlm": "replay.placements.qlm:QLM",
        "serverlessllm": "replay.placements.serverlessllm:ServerlessLLM",
        "prism": "replay.placements.prism:Prism",
        "prism-code": "replay.placements.prism_code:PrismCode",
        "lru": "replay.placements.lru:LRU",
        "foresight": "replay.placements.foresight:Foresight",
        "oracle": "replay.placements.oracle:Oracle",
        "cost-aware": "replay.placements.cost_aware:CostAware",
    },
    "latency_model": {
        "roofline": "replay.latency_models.roofline:Roofline",
        "profile": "replay.latency_models.profile:Profile",
        "fit": "replay.latency_models.fit:Fit",
        "table": "replay.latency_models.table:Table",
        "aiconfigurator": "replay.latency_models.aiconfigurator:AIConfigurator",
    },
    "engine": {
        "simulated": "replay.engines.simulated:Simulated",
        "micro-batch": "replay.engines.micro_batch:MicroBatch",
        "cluster": "replay.engines.cluster:ClusterEngine",
        "openai": "replay.engines.openai:OpenAI",
        "transformers": "replay.engines.transformers:Transformers",
    },
    "page": {
        "trace": "reports.trace_page:render",
        "run": "reports.run_page:render",
        "sweep": "reports.sweep_page:render",
    },
    "reader": {
        "trace": "workloads.reading:read",
        "parts": "workloads.parts:read_parts",
        "workload": "workloads.generated_trace:generated",
    },
}

PLURAL = {"analysis": "analyses"}


@dataclass(frozen=True)
class Plugin:
    """One entry of a plugin table; nothing is imported until `load`."""

    kind: str
    name: str
    target: str  # "package.module:attribute"
    origin: str  # "built-in", the distribution that registered it, or the file it came from

    def load(self) -> Any:
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


def plugins(kind: str) -> dict[str, Plugin]:
    """Every plugin of `kind` by name, built-ins first. A third party cannot replace a built-in's name."""
    table = {n: Plugin(kind, n, target, "built-in") for n, target in BUILTIN[kind].items()}
    for entry in _installed().select(group=f"trace_toolkit.{plural(kind)}"):
        origin = entry.dist.name if entry.dist else "unknown distribution"
        table.setdefault(entry.name, Plugin(kind, entry.name, entry.value, origin))
    return table


@cache
def _installed() -> Any:  # EntryPoints, or from Python 3.11 what selects like them
    """Every distribution's entry points: reading them takes 10 ms, and a process asks many times."""
    return entry_points()


def load(kind: str, name: str) -> Any:
    """The class or function behind `name`, or behind `FILE.py:ATTRIBUTE` for a policy that is not installed."""
    if ".py:" in name:
        return _load_file(kind, name)
    table = plugins(kind)
    if name not in table:
        raise SettingFailure(f"no {kind} is called '{name}'", hint=nearest(name, table))
    return table[name].load()


def create(kind: str, spec: str) -> Any:
    """An instance from `NAME` or `NAME:key=value,…`; values are parsed to the parameters' annotated types."""
    name, options = split_spec(spec)
    made = load(kind, name)
    try:
        return made(**_typed_options(kind, name, made, options))
    except ValueError as error:
        raise SettingFailure(str(error), where=f"{kind} {name}") from error


def split_spec(spec: str) -> tuple[str, dict[str, str]]:
    """Split `NAME:key=value,…` into the name (which may be `FILE.py:CLASS`) and its raw options."""
    head, _, tail = spec.partition(":")
    if head.endswith(".py"):
        attribute, _, tail = tail.partition(":")
        head = f"{head}:{attribute}"
    options = {}
    for item in filter(None, tail.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise SettingFailure(f"'{item}' is not key=value", where=spec, hint="write NAME:key=value,key=value")
        options[key.strip()] = value.strip()
    return head, options


def parameters(plugin_class: Any) -> dict[str, dict[str, Any]]:
    """A plugin's parameters: name -> {"type", "default"}, read from its signature."""
    found = {}
    for name, p in _signature(plugin_class).items():
        kind = p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", str(p.annotation))
        found[name] = {"type": kind, "default": None if p.default is p.empty else p.default}
    return found


def _signature(plugin: Any) -> dict[str, inspect.Parameter]:
    """A plugin's parameters; where it passes `**others` on, those of the class it extends too."""
    own = dict(inspect.signature(plugin).parameters)
    passed_on = [name for name, p in own.items() if p.kind is p.VAR_KEYWORD]
    for name in passed_on:
        del own[name]
    if passed_on and inspect.isclass(plugin):
        return own | {name: p for name, p in _signature(plugin.__base__).items() if name not in own}
    return own


def summary(plugin: Any) -> str:
    """The first line of a plugin's docstring."""
    return (inspect.getdoc(plugin) or "").split("\n", 1)[0]


def plural(kind: str) -> str:
    return PLURAL.get(kind, kind + "s")


def _typed_options(kind: str, name: str, made: Any, options: dict[str, str]) -> dict[str, Any]:
    signature = _signature(made)
    typed: dict[str, Any] = {}
    for key, raw in options.items():
        if key not in signature:
            raise SettingFailure(f"no parameter '{key}'", where=f"{kind} {name}", hint=nearest(key, signature))
        typed[key] = _parse(raw, signature[key].annotation, where=f"{kind} {name}, {key}")
    needed = [key for key, p in signature.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    for key in needed:
        if key not in typed:
            raise SettingFailure(f"needs the parameter '{key}'", where=f"{kind} {name}", hint=f"write {name}:{key}=…")
    return typed


def _parse(raw: str, annotation: Any, *, where: str) -> Any:
    wanted = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    base = wanted.removesuffix(" | None")
    if base != wanted and raw.lower() in ("none", "null"):
        return None
    try:
        if base == "bool":
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[raw.lower()]
        value = {"int": int, "float": float}.get(base, str)(raw)
        if value != value:
            raise ValueError("a number that is none")
        return value
    except (ValueError, KeyError) as error:
        raise SettingFailure(f"'{raw}' is not {base}", where=where) from error


def _load_file(kind: str, name: str) -> Any:
    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise SettingFailure("no such file", where=path, hint=f"a {kind} in a file is written FILE.py:CLASS")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _own_files[str(spec.origin)] = path
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise SettingFailure(f"is not Python ({error.msg})", where=f"{path}:{error.lineno}") from error
    if not hasattr(module, attribute):
        own = [
            name for name, made in vars(module).items() if inspect.isclass(made) and made.__module__ == module.__name__
        ]
        raise SettingFailure(f"no '{attribute}' in it", where=path, hint=nearest(attribute, own))
    made = getattr(module, attribute)
    if not inspect.isclass(made):
        raise SettingFailure(f"'{attribute}' is no class", where=path, hint=f"a {kind} in a file is FILE.py:CLASS")
    return made


def own_mistake(error: Exception) -> Failure | None:
    """The line for what was raised in a policy file of the user's, with its place there; null for anything else."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in _own_files]
    if not frames or isinstance(error, Failure):
        return None
    where = f"{_own_files[frames[-1].filename]}:{frames[-1].lineno}"
    return SettingFailure(f"{type(error).__name__}: {error}", where=where, hint=f"mend {frames[-1].name} there")
