"""What every placement must do (toolkit.placing.Placement), as functions that raise AssertionError."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote, unquote

import numpy as np
import polars as pl

from toolkit import plugins, specs
from toolkit.errors import SettingFailure
from toolkit.placing import ABSENT, READY, Action, Evict, Facts, Load, Migrate, Offload, Resize, View, Wait
from toolkit.runs import Run, RunWriter
from toolkit.scheduler_contract import check_documentation
from toolkit.schema import TRACE, conform
from toolkit.traces import TraceInfo

SEEDS = range(6)
STUCK_S = 20.0  # that a model may be asked for while GPUs that would take it are empty
BESIDE = "more than other models' weights leave"
NOWHERE = "brought its model to no GPU"


class Refused(SettingFailure):
    """A placement's own refusal, before the replay."""


class Watched:
    """Another placement (`inside`, quoted), each of whose views and answers is checked.

    With `every_tick` it says of none that it can be left out.
    """

    def __init__(self, inside: str, every_tick: bool = False):
        self.every_tick = every_tick
        self.inside = plugins.create("placement", unquote(inside))
        self.empty_since: tuple[int, float] = (-1, 0.0)

    def __getattr__(self, name: str) -> Any:
        if name in ("inside", "every_tick") or (name == "rests" and self.every_tick):
            raise AttributeError(name)
        return getattr(self.inside, name)

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts, self.share = facts, getattr(self.inside, "least_kv_share", 0.05)
        try:
            actions: Sequence[Action] = self.inside.begin(facts)
        except SettingFailure as refusal:
            raise Refused(str(refusal)) from refusal
        self._check_actions(actions)
        return actions

    def decide(self, view: View) -> Sequence[Action]:
        self._check_room(view)
        actions: Sequence[Action] = self.inside.decide(view)
        self._check_actions(actions)
        self._check_use(view, actions)
        return actions

    def _check_actions(self, actions: Sequence[Action]) -> None:
        for action in actions:
            assert isinstance(action, Load | Evict | Migrate | Resize | Offload | Wait), f"{action!r} is no action"

    def _check_room(self, view: View) -> None:
        """What stands on each GPU, counted model by model, is within its memory and no more than the view says."""
        counted = np.zeros(len(view.weight_bytes))
        for m, gpus in enumerate(view.gpus):
            counted[list(gpus)] += self.facts.weight_bytes[m] * view.resident[m]
        most = self.facts.memory_bytes * (1 - self.share)
        assert (counted <= view.weight_bytes + 1).all(), f"weights of {counted} bytes, {view.weight_bytes} are counted"
        assert (view.weight_bytes <= most + 1).all(), f"weights of {view.weight_bytes} bytes on GPUs for {most}"

    def _check_use(self, view: View, actions: Sequence[Action]) -> None:
        """Whoever waits longest for a GPU does not wait while enough of them are empty."""
        asked = [m for m in np.flatnonzero(view.waiting).tolist() if view.state[m] == ABSENT]
        first = min(asked, key=lambda m: (view.oldest_s[m], m), default=-1)
        taking = view.weight_bytes < 1
        if first >= 0:
            taking &= self.facts.weight_bytes[first] + 1 < self.facts.memory_bytes * (1 - self.share)
        if actions or first < 0 or taking.sum() < self.facts.width[first]:
            self.empty_since = (-1, view.now_s)
        elif self.empty_since[0] != first:
            self.empty_since = (first, view.now_s)
        name = self.facts.models[first]
        assert view.now_s - self.empty_since[1] <= STUCK_S or first < 0 or self.empty_since[0] < 0, (
            f"{name} waits since {self.empty_since[1]:.1f} s, at {view.now_s:.1f} s still, while GPUs are empty"
        )


def check_placement(spec: str, seeds: Iterable[int] = SEEDS) -> None:
    """Hold a placement to its contract: `NAME[:key=value,…]` when it is registered, else `FILE.py:CLASS[:…]`.

    It replays small random traces on small random clusters, some with too little memory for all models; a placement may
    refuse those that are full, before the replay, with a SettingFailure.
    """
    check_documentation(spec, "placement")
    for seed in seeds:
        check_replay(spec, seed)
    check_many(spec)


def check_replay(spec: str, seed: int) -> None:
    """One outcome a request, nobody left out, every third case the same twice; weights within memory always."""
    cluster, trace = small_case(seed)
    where = f"{spec}, case {seed}"
    try:
        outcomes, events = _replayed(spec, cluster, trace)
    except Refused:
        assert cluster["full"], f"{where}: refuses a cluster that has room for all models"
        return
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from error
    except SettingFailure as failure:
        raise AssertionError(f"{where}: what it does is refused: {failure}") from failure
    assert outcomes["request_id"].to_list() == list(range(len(trace))), f"{where}: not one outcome a request"
    capped = events.filter(pl.col("kind") == "resize").height > 0 or spec.startswith("static")
    for status, why in outcomes.filter(pl.col("status") != "ok").select("status", "error").unique().iter_rows():
        assert status == "rejected", f"{where}: a request ends {status}: {why}"
        assert NOWHERE not in why, f"{where}: {why}"
        assert BESIDE not in why or capped, f"{where}: {why}"
    if seed % 3 == 0:
        again, events_again = _replayed(spec, cluster, trace, every_tick=True)
        what = "two replays differ, the second without ticks left out"
        assert outcomes.equals(again), f"{where}: {what}"
        assert events.equals(events_again), f"{where}: events of {what}"


def check_many(spec: str, models: int = 100, gpus: int = 16) -> None:
    """A hundred models are decided on with actions alone, whatever the view says of them."""
    placement = plugins.create("placement", spec)
    facts = many_facts(models, gpus)
    loads = [a for a in placement.begin(facts) if isinstance(a, Load)]
    rng = np.random.default_rng(5)
    for number in range(40):
        found = list(placement.decide(many_view(facts, loads, 10.0 + number, rng)))
        wrong = next((a for a in found if not isinstance(a, Action)), None)
        assert wrong is None, f"{spec}: {wrong!r} is no action"


def _replayed(
    spec: str, cluster: dict[str, Any], trace: pl.DataFrame, *, every_tick: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """OUTCOMES and EVENTS of a replay on the cluster."""
    engine_class = plugins.load("engine", "cluster")
    cluster_class = get_type_hints(engine_class.__init__)["cluster"]  # the ground floor imports no other package
    node = specs.parse(_yaml({k: v for k, v in cluster.items() if k != "full"}), Path("contract.yaml"))
    watched = f"{__file__}:Watched:inside={quote(spec, safe='')},every_tick={str(every_tick).lower()}"
    engine = engine_class(specs.build(node, cluster_class), watched, band=False)
    info = TraceInfo("contract", "contract", "", len(trace), len(trace), span_s=float(trace["arrival_s"].max()))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        writer = RunWriter(Path(folder), {"run_id": "contract"})
        try:
            assert engine.replay(trace, info, plugins.create("scheduler", "fcfs"), writer, _Unwatched())
        except Exception as error:
            if type(error).__name__ == "Refused":  # of this file's other self, as a policy in a file
                raise Refused(str(error)) from error
            raise
        run = Run.open(Path(folder))
        return run.table("outcomes").sort("request_id").collect(), run.table("events").collect()


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value)
    return text


def small_case(seed: int) -> tuple[dict[str, Any], pl.DataFrame]:
    """A cluster, as its YAML has it, and a trace. `full`: its models need more than half of its memory."""
    rng = np.random.default_rng(seed)
    kinds = (("llama-3.2-1b", 1), ("llama-3.2-3b", 1), ("llama-3.1-8b", 1), ("llama-3.1-8b", 2), ("qwen2.5-14b", 2))
    gpus = [{"type": "h100", "count": int(rng.integers(1, 4))}]
    if seed % 3 == 2:
        gpus.append({"type": "a100-40g", "count": 1})
    count = sum(int(g["count"]) for g in gpus)  # type: ignore[call-overload]
    share = float(rng.choice([0.36, 0.45, 0.9]))
    models = []
    for number in range(int(rng.integers(2, 8))):
        preset, width = kinds[int(rng.integers(len(kinds)))]
        objectives = {"slo_ttft_s": 0.5, "slo_tpot_s": 0.05} if seed % 2 else {}
        models.append({"name": f"m{number}", "preset": preset, "tensor_parallel": min(width, count), **objectives})
    cluster = {
        "gpus": gpus,
        "models": models,
        "gpus_per_host": int(rng.choice([1, 2, 8])),
        "loading": str(rng.choice(["naive", "dram", "parallel"])),
        "limits": {"max_num_seqs": 16, "max_num_batched_tokens": 512},
        "sharing": {"memory_share": share if "qwen2.5-14b" not in str(models) or count > 1 else 0.9},
        "full": share < 0.9,
    }
    return cluster, small_trace(rng, len(models))


def small_trace(rng: np.random.Generator, models: int, requests: int = 100) -> pl.DataFrame:
    """Bursts of requests with gaps between, of all models but the last; some are long, some follow others."""
    burst = np.sort(rng.integers(0, 6, requests))
    arrival = np.sort(burst * rng.choice([2.0, 30.0, 60.0]) + rng.exponential(1.0, requests))
    asked = rng.integers(0, max(1, models - 1), 6)
    often = np.where(rng.random(requests) < 0.6, asked[burst], rng.integers(0, max(1, models - 1), requests))
    follows = [n - 3 if n % 11 == 10 else None for n in range(requests)]
    frame = pl.DataFrame(
        {
            "arrival_s": arrival - arrival[0],
            "model": [f"m{m}" for m in often],
            "prompt_tokens": np.where(rng.random(requests) < 0.05, 6000, rng.integers(1, 600, requests)),
            "output_tokens": rng.integers(1, 200, requests),
            "parent_id": pl.Series(follows, dtype=pl.Int64),
            "think_s": [None if parent is None else 0.5 for parent in follows],
        }
    )
    return conform(frame.with_row_index("request_id"), TRACE, source="contract")


def many_facts(models: int, gpus: int) -> Facts:
    """Facts of a large cluster, half of whose models fit at once."""
    rng = np.random.default_rng(3)
    weights = rng.choice([2.0, 6.0, 16.0], models) * 2**30
    memory = np.full(gpus, max(float(weights.sum()) * 1.6 / gpus, 24.0 * 2**30))
    rates = rng.exponential(0.1, models)
    return Facts(
        models=tuple(f"m{m}" for m in range(models)),
        gpus=tuple(str(g) for g in range(gpus)),
        host=np.arange(gpus) // 8,
        memory_bytes=memory,
        weight_bytes=weights,
        width=np.where(np.arange(models) % 10 == 9, 2, 1),
        kv_bytes_per_token=np.full(models, 131072.0),
        least_kv_bytes=np.full(models, 2.0**30),
        slo_ttft_s=np.full(models, 0.5),
        slo_tpot_s=np.full(models, 0.05),
        load_s=np.full((models, gpus), 0.7),
        restore_s=np.full(models, 0.5),
        prefill_s_per_token=np.full(models, 3e-5),
        decode_s_per_token=np.full(models, 6e-5),
        requests_per_s=rates,
        tokens_per_s=rates * 500,
        future=tuple(np.sort(rng.uniform(0, 600, 50)) for _ in range(models)),
        peer_links=True,
    )


def many_view(facts: Facts, loads: Sequence[Load], now_s: float, rng: np.random.Generator) -> View:
    """A view of what `loads` brought to such a cluster, a part of it taken off again; one is asked for that is not."""
    models, gpus = len(facts.models), len(facts.gpus)
    there = {a.model: a.gpus for a in loads if a.model % 5}
    state = np.array([READY if m in there else ABSENT for m in range(models)])
    weights = np.zeros(gpus)
    for m, places in there.items():
        weights[list(places)] += facts.weight_bytes[m]
    running = np.where(state == READY, rng.integers(0, 3, models), 0)
    waiting = np.where(state == READY, rng.integers(0, 2, models), 0)
    absent = np.flatnonzero(state == ABSENT)
    waiting[absent[:1]] = 1
    arrived = np.full(models, int(now_s) // 20)
    return View(
        now_s=now_s,
        why="tick" if int(now_s) % 2 else "miss",
        model=-1 if int(now_s) % 2 or not len(absent) else int(absent[0]),
        state=state,
        gpus=tuple(there.get(m, ()) for m in range(models)),
        resident=(state == READY).astype(float),
        moving=np.zeros(models, bool),
        waiting=waiting,
        running=running,
        oldest_s=np.where(waiting > 0, now_s - 1.0, np.nan),
        last_active_s=np.where(running + waiting > 0, now_s, now_s - rng.uniform(0, 100, models)),
        ready_s=np.where(state == READY, 0.0, np.nan),
        kv_bytes=running * 2.0**28,
        kv_limit=np.full(models, np.inf),
        arrived=arrived,
        prompt_tokens=arrived * 400,
        output_tokens=arrived * 100,
        weight_bytes=weights,
        free_bytes=facts.memory_bytes - weights,
    )


class _Unwatched:
    """Never stops a replay."""

    def progress(self, done: int, total: int) -> None: ...

    def stopped(self) -> bool:
        return False
