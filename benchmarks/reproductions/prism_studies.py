"""What is replayed to reproduce Prism (2505.04021): clusters, workloads and sweeps, as the YAML files they become.

Model sizes follow Prism's evaluation where it names them (8 models); those of the 18 and 58 are ours, of the sizes that
it counts (43 of 1-3B, 8 of 4-8B, 3 of 9-30B, 4 of 31-70B). Which of the Arena trace's adapters the 8 and 18 serve, by
the number in their names, the shifts of 10 s and the time scale of 0.2 are the authors' (prism-research, trace.py and
experiments_1). Objectives are each model's P95 on GPUs of its own times 5 (TTFT) and 2 (TPOT), as for its 58 models.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from replay.placements.prism_code import ARBITER as SLACK

SMALL, MIDDLE = ("llama-3.2-1b", "llama-3.2-3b"), "llama-3.1-8b"
KNOWING = ("foresight", "oracle:of=ttft")  # the future
POLICIES = ("static", "muxserve++", "qlm", "serverlessllm", "lru", "prism", "prism-code", "cost-aware", *KNOWING)
ARBITER = {"prism": "moore-hodgson", "prism-code": SLACK}  # beside first come first served
# The numbers of the Arena trace's adapters, the most popular first.
ADAPTERS = (2, 10, 0, 5, 6, 4, 7, 15, 13, 12, 1, 8, 20, 11, 16, 9, 14, 3, 19, 22, 18, 23, 25, 17, 21, 24, 26)
EIGHT = {2: MIDDLE, 14: SMALL[1], 3: SMALL[0], 10: MIDDLE, 5: MIDDLE, 19: SMALL[0], 23: SMALL[0], 24: SMALL[0]}
EIGHTEEN = (5, 10, 4, 17, 2, 10, 23, 2, 10, 14, 19, 14, 18, 14, 21, 2, 6, 19)
EARLIER = (14, 19)  # of those that several models serve, each 10 s apart; the others' come later
SPEED = 5.0
SCALE = [5.0, 2.0]


@dataclass(frozen=True)
class Study:
    """One sweep: `cluster`, `workload` and `axes` are the contents of its YAML files; no workload: the Arena trace."""

    name: str
    cluster: dict[str, Any]
    axes: dict[str, Any]
    workload: dict[str, Any] | None = None
    quick: dict[str, Any] = field(default_factory=dict)  # axes of a trial run


def _cluster(models: Iterable[dict[str, Any]], gpus: int) -> dict[str, Any]:
    return {"gpus": [{"type": "h100", "count": gpus}], "models": list(models)}


def _sized(count: int) -> list[dict[str, Any]]:
    """The first so many of 58 models, the most popular first: every eighth of 8B, others small, seven large."""
    large = {12: ("gemma-2-9b", 1), 24: ("llama-2-13b", 1), 36: ("gemma-2-27b", 1)}
    wide = {18: ("qwen2.5-32b", 2), 30: ("qwen2.5-32b", 2), 42: ("llama-3.3-70b", 4), 54: ("llama-3.1-70b", 4)}
    models = []
    for n in range(count):
        preset, width = {**large, **wide}.get(n, (MIDDLE if n % 7 == 1 else SMALL[n % 2], 1))
        models.append({"name": f"m{n}", "preset": preset, "tensor_parallel": width})
    return models


def rank(adapter: int) -> int:
    """An adapter's place in popularity; 1 is the most popular."""
    return ADAPTERS.index(adapter) + 1


def _stream(name: str, model: str, rate: float, changes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "rate_per_s": rate,
        "models": model,
        "changes": changes,
        "prompt_tokens": {"median": 700, "sigma": 0.6, "maximum": 4096},
        "output_tokens": {"median": 220, "sigma": 0.5, "maximum": 1024},
    }


def _burst(at_s: float, for_s: float, factor: float) -> dict[str, Any]:
    return {"at_s": at_s, "for_s": for_s, "factor": factor, "shape": "pulse"}


def bursty(models: int, span_s: float, rate: float) -> dict[str, Any]:
    """Models of Zipf popularity over a thin background, three quarters of them in groups that burst together."""
    size = max(2, models // 8)
    groups = [
        {"name": f"g{g}", "size": size, "rate_per_s": 6 * rate / models, "every_s": 300, "for_s": 60,
         "participation": 0.9, "jitter_s": 5}
        for g in range(max(1, min(6, 3 * models // (4 * size))))
    ]  # fmt: skip
    stream = {
        "name": "groups",
        "generator": "groups",
        "models": {"count": models, "zipf": 1.0, "name": "m{}"},
        "background_per_s": rate / 2,
        "groups": groups,
        "prompt_tokens": {"median": 120, "sigma": 1.1, "maximum": 4096},
        "output_tokens": {"median": 210, "sigma": 0.8, "maximum": 1024},
    }
    return {"name": "bursty-groups", "span_s": span_s, "streams": [stream]}


def bursts_of_two(strict: str, lax: str) -> dict[str, Any]:
    """Two models at once: short prompts now and then, and long ones in bursts that keep the GPU busy with prefills."""
    long = {"prompt_tokens": {"median": 3000, "sigma": 0.5, "maximum": 8192}}
    streams = [_stream(strict, strict, 6.0, []), {**_stream(lax, lax, 1.0, [_burst(60, 120, 8.0)]), **long}]
    return {"name": "strict-and-lax", "span_s": 240, "streams": streams}


def two_models() -> Study:
    """Figure 2's case: two models in turns, then at once; each at times needs more KV than half a GPU."""
    streams = [
        _stream("first", "first", 1.0, [_burst(40, 50, 40.0), _burst(220, 60, 12.0)]),
        _stream("second", "second", 1.0, [_burst(130, 50, 40.0), _burst(220, 60, 12.0)]),
    ]
    models = [{"name": name, "preset": MIDDLE} for name in ("first", "second")]
    axes = {"placements": list(POLICIES), "slo_scale": [SCALE], "seeds": list(range(5))}
    workload = {"name": "two-models", "span_s": 320, "streams": streams}
    return Study("two-models", _cluster(models, 1), axes, workload, {"seeds": [0, 1]})


def eight_models() -> Study:
    """Eight models on two GPUs, by load."""
    models = [{"name": f"m{a}", "preset": preset, "rank": rank(a)} for a, preset in EIGHT.items()]
    axes = {
        "placements": list(POLICIES),
        "load": [1, 2, 4, 8, 16],
        "slo_scale": [SCALE],
        "seeds": list(range(5)),
        "speed": SPEED,
    }
    return Study("eight-models", _cluster(models, 2), axes, None, {"seeds": [0, 1], "load": [2, 8]})


def objectives() -> Study:
    """The eight models at one load, by how strict the objectives are."""
    eight = eight_models()
    axes = {**eight.axes, "load": [4], "slo_scale": [[s, s] for s in (2, 5, 10, 20)]}
    return Study("objectives", eight.cluster, axes, None, {"seeds": [0, 1], "slo_scale": [[5, 5], [20, 20]]})


def eighteen_models() -> Study:
    """Eighteen models by GPUs; those that serve the same adapter are shifted by ten seconds each."""
    seen: dict[int, int] = {}
    models = []
    for n, adapter in enumerate(EIGHTEEN):
        preset = "gemma-2-9b" if n == 8 else MIDDLE if n % 4 == 0 else SMALL[n % 2]
        shift_s = (-10.0 if adapter in EARLIER else 10.0) * seen.get(adapter, 0)
        models.append({"name": f"m{n}", "preset": preset, "rank": rank(adapter), "shift_s": shift_s})
        seen[adapter] = seen.get(adapter, 0) + 1
    axes = {
        "placements": list(POLICIES),
        "gpus": [2, 3, 4, 6, 8],
        "load": [4],
        "slo_scale": [SCALE],
        "seeds": list(range(5)),
        "speed": SPEED,
    }
    return Study("eighteen-models", _cluster(models, 8), axes, None, {"seeds": [0, 1], "gpus": [2, 4]})


def many_models() -> Study:
    """Fifty-eight models by GPUs, in bursty groups."""
    axes = {
        "placements": list(POLICIES),
        "gpus": [8, 12, 16, 24],
        "slo_scale": [SCALE],
        "seeds": list(range(5)),
    }
    quick = {"seeds": [0], "gpus": [8, 16]}
    return Study("fifty-eight-models", _cluster(_sized(58), 40), axes, bursty(58, 600.0, 12.0), quick)


def _prism(name: str, key: str, values: Iterable[float]) -> Study:
    placements = [f"prism:{key}={value:g}" for value in values]
    axes = {"placements": placements, "schedulers": ["moore-hodgson"], "slo_scale": [SCALE], "seeds": list(range(5))}
    workload = bursty(24, 900.0, 6.0)
    return Study(name, _cluster(_sized(24), 2), axes, workload, {"seeds": [0]})


def idle_threshold() -> Study:
    """How long a model may be idle before it can be evicted."""
    return _prism("idle-threshold", "idle_s", (2, 5, 10, 20, 30, 45, 60, 90, 150, 300))


def window() -> Study:
    """Over how long token rates are averaged."""
    return _prism("window", "window_s", (5, 15, 30, 60, 120, 300))


def threshold() -> Study:
    """How much less the pressure elsewhere must be for a model to migrate; the paper does not say."""
    return _prism("tau", "tau", (0.003, 0.01, 0.03, 0.1, 0.3, 1.0))


def contention(share: float) -> Study:
    """The eight models at one load when running beside another model costs this share of a step."""
    eight = eight_models()
    chosen = ["static", "muxserve++", "lru", "prism", "prism-code", "cost-aware", *KNOWING]
    cluster = {**eight.cluster, "sharing": {"contention": share}}
    axes = {**eight.axes, "load": [4], "placements": chosen}
    return Study(f"contention-{share:g}", cluster, axes, None, {"seeds": [0]})


def regime(models: int) -> Study:
    """So many models of different sizes on two GPUs, at the same load: where placement by KV pressure wins."""
    axes = {
        "placements": ["static", "muxserve++", "lru", "prism", "prism:kvpr=after", "prism-code", *KNOWING],
        "slo_scale": [SCALE],
        "load": [1, 2],
        "seeds": list(range(5)),
    }
    presets = (MIDDLE, SMALL[0], "llama-2-13b", SMALL[1])
    hosted = [{"name": f"m{n}", "preset": presets[n % 4]} for n in range(models)]
    return Study(f"regime-{models}", _cluster(hosted, 2), axes, bursty(models, 600.0, 8.0), {"seeds": [0], "load": [1]})


def churn() -> Study:
    """Five models on three GPUs that hold one each, 49 hours: two popular, three now and then."""
    rates = (0.02, 0.01, 0.0006, 0.0004, 0.0002)
    streams = [{**_stream(f"m{n}", f"m{n}", rate, []), "name": f"s{n}"} for n, rate in enumerate(rates)]
    models = [{"name": f"m{n}", "preset": "qwen2.5-32b"} for n in range(5)]
    axes = {
        "placements": [p for p in POLICIES if p not in ("static", "muxserve++")],
        "slo_scale": [SCALE],
        "seeds": list(range(5)),
    }
    workload = {"name": "churn", "span_s": 49 * 3600, "streams": streams}
    quick = {"seeds": [0], "placements": ["lru", "prism", "prism-code"]}  # the others decide every half or whole second
    return Study("churn", _cluster(models, 3), axes, workload, quick)


STUDIES = (
    two_models(),
    eight_models(),
    objectives(),
    eighteen_models(),
    many_models(),
    idle_threshold(),
    window(),
    threshold(),
    *(contention(share) for share in (0.0, 0.5, 1.0)),
    *(regime(models) for models in (2, 4, 8, 10)),
    churn(),
)
