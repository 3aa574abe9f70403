"""A placement with alternatives follows the one that does best on the same requests."""

from pathlib import Path

import polars as pl
import pytest

from replay.cluster.attaining import NAMES, attainments
from replay.cluster.driver import ClusterDriver
from replay.cluster.hindsight import best_in_hindsight
from replay.engines.cluster import ClusterEngine
from replay.placements.oracle import Oracle
from replay.schedulers.fcfs import FCFS
from tests.replay.clusters import cluster_of, replay_on, several
from tests.replay.simulations import Unwatched
from toolkit import plugins
from toolkit.errors import SettingFailure
from toolkit.runs import Run, RunWriter
from toolkit.traces import TraceInfo

CLUSTER = cluster_of(list("abcde"), gpus=2, weight_bytes=30 * 2**30)  # five models, of which four fit


def _trace(ttft_s: float | None = 0.03, tpot_s: float | None = 0.008) -> pl.DataFrame:
    slo = [pl.lit(ttft_s, pl.Float64).alias("slo_ttft_s"), pl.lit(tpot_s, pl.Float64).alias("slo_tpot_s")]
    return several(list("abcde"), 150, 4.0, seed=2).with_columns(slo)


def _engine_run(spec: str, trace: pl.DataFrame, folder: Path, gpus: int = 2) -> Run:
    info = TraceInfo("test", "test", "", len(trace), len(trace), span_s=float(trace["arrival_s"].max()))  # type: ignore[arg-type]
    cluster = cluster_of(list("abcde"), gpus=gpus, weight_bytes=30 * 2**30)
    writer = RunWriter(folder, {"run_id": "test"})
    assert ClusterEngine(cluster, spec, band=False).replay(trace, info, FCFS(), writer, Unwatched())
    return Run.open(folder)


def _outcomes(run: Run) -> pl.DataFrame:
    return run.table("outcomes").sort("request_id").collect()


@pytest.mark.parametrize("of", NAMES)
def test_the_oracle_meets_as_many_objectives_as_the_best_of_all(of: str, tmp_path: Path) -> None:
    trace = _trace()
    found: dict[str, float] = {}
    for spec in Oracle.alternatives:
        try:
            driver = replay_on(CLUSTER, trace, plugins.create("placement", spec)).driver
        except SettingFailure:
            continue
        found[spec] = attainments(driver)[NAMES[of]] or 0.0
    run = _engine_run(f"oracle:of={of}", trace, tmp_path / "oracle")
    assert min(found.values()) < max(found.values()) < 1
    assert found[run.info["follows"]] == max(found.values())
    followed = _engine_run(run.info["follows"], trace, tmp_path / "followed")
    assert _outcomes(run).equals(_outcomes(followed))
    assert followed.info["follows"] is None


def test_without_objectives_who_serves_and_answers_soonest_is_best(tmp_path: Path) -> None:
    trace = _trace(None, None)
    follows = str(_engine_run("oracle", trace, tmp_path / "oracle").info["follows"])
    means = {}
    for spec in ("foresight", "lru", "qlm", follows):
        outcomes = replay_on(CLUSTER, trace, plugins.create("placement", spec)).outcomes
        assert outcomes["status"].eq("ok").all()
        means[spec] = (outcomes["first_token_s"] - outcomes["arrival_s"]).mean()
    assert means[follows] == min(means.values())  # type: ignore[type-var]


def test_who_refuses_is_passed_over_and_when_all_do_the_refusal_is_said(tmp_path: Path) -> None:
    trace = _trace()
    with pytest.raises(SettingFailure, match="not all models fit"):
        _engine_run("static", trace, tmp_path / "static")
    assert _engine_run("oracle", trace, tmp_path / "oracle").info["follows"] not in ("static", "muxserve++")
    large = cluster_of(list("ab"), gpus=1, weight_bytes=68 * 2**30)

    def prepare(placement: object) -> ClusterDriver:
        return replay_on(large, several(list("ab"), 5, 1.0), placement).driver  # type: ignore[arg-type]

    follows = best_in_hindsight("oracle", prepare, None)
    assert follows == Oracle.alternatives[0]
    with pytest.raises(SettingFailure, match="fits on 0 GPUs"):
        prepare(plugins.create("placement", follows))
