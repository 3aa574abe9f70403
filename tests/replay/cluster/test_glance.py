"""What stands at each model, gathered in compiled code, against all requests looked at one by one."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from replay.cluster import driver
from replay.cluster.controller import Controller
from replay.simulation.state import DECODING, PREFILLING, PS, WAITING
from tests.replay.clusters import Chaotic, cluster_of, replay_on, several
from toolkit.placing import View

MODELS = ("a", "b", "c")


def checked(controller: Controller, view: View) -> View:
    """The view, once every request has been looked at."""
    requests = controller.state.requests.view(np.ndarray)
    for m in range(len(MODELS)):
        mine = requests[controller.hosting.model_of == m]
        waiting = mine[mine["status"] == WAITING]
        assert view.waiting[m] == len(waiting)
        assert view.running[m] == np.isin(mine["status"], (PREFILLING, DECODING)).sum()
        if len(waiting):
            assert view.oldest_s[m] == waiting["arrival"].min() / PS
        else:
            assert np.isnan(view.oldest_s[m])
    return view


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_placement_sees_who_waits_longest(monkeypatch: pytest.MonkeyPatch, seed: int, turns: bool) -> None:
    seen = []

    def view_of(controller: Controller, *asked: Any) -> View:
        seen.append(checked(controller, real(controller, *asked)))
        return seen[-1]

    real = driver.view_of
    monkeypatch.setattr(driver, "view_of", view_of)
    trace = several(MODELS, 150, 30.0, seed)
    if turns:
        parent = pl.when(pl.col("request_id") % 3 > 0).then(pl.col("request_id").cast(pl.Int64) - 1)
        session = (pl.col("request_id") // 3).cast(pl.String)
        trace = trace.with_columns(model=pl.col("model").gather(pl.int_range(pl.len()) // 3 * 3))
        trace = trace.with_columns(parent_id=parent, session_id=session, think_s=0.2)
    replay_on(cluster_of(MODELS, gpus=1), trace, Chaotic(seed))
    assert sum(bool((view.waiting > 1).any()) for view in seen) > 10
