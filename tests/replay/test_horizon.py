"""Times that a 64-bit count of picoseconds does not hold are refused, or never come; they do not wrap."""

import polars as pl
import pytest

from replay.placements.static import Static
from replay.schedulers.driftsched import FIFO
from replay.schedulers.fcfs import FCFS
from replay.schedulers.mlfq import MLFQ
from replay.simulation.setup import Limits
from tests.replay.clusters import cluster_of, replay_on
from tests.replay.simulations import Affine, make_trace, simulate
from toolkit.errors import SettingFailure

LIMITS = Limits(kv_blocks=40, max_num_seqs=2, max_num_batched_tokens=64, max_model_len=400)
DAY_S = 86_400.0


def waiting_for(think_s):
    turn = {"arrival_s": 1.0, "prompt_tokens": 9, "output_tokens": 3, "parent_id": 0, "think_s": think_s}
    return make_trace([{"arrival_s": 0.0, "prompt_tokens": 9, "output_tokens": 3}, turn])


def crowd():
    return make_trace([{"arrival_s": 0.01 * n, "prompt_tokens": 40, "output_tokens": 60} for n in range(12)])


@pytest.mark.parametrize("think_s", [104 * DAY_S, 1e30])
def test_a_turn_that_comes_after_all_that_can_be_counted_is_refused(think_s):
    with pytest.raises(SettingFailure, match="lasts longer than 100 days"):
        simulate(waiting_for(think_s), FCFS(), LIMITS)


def test_so_it_is_on_a_cluster():
    with pytest.raises(SettingFailure, match="lasts longer than 100 days"):
        replay_on(cluster_of(["m"]), waiting_for(104 * DAY_S).with_columns(model=pl.lit("m")), Static())


def test_a_replay_that_outlasts_the_clock_is_refused():
    late = make_trace([{"arrival_s": at, "prompt_tokens": 9, "output_tokens": 300} for at in (0.0, 99.9 * DAY_S)])
    with pytest.raises(SettingFailure, match="lasts longer than 100 days"):
        simulate(late, FCFS(), LIMITS, Affine(step_s=1_000.0))


@pytest.mark.parametrize("step_s", [1e6, float("nan")])
def test_a_step_that_takes_days_is_refused(step_s):
    with pytest.raises(SettingFailure, match="parts of steps"):
        simulate(crowd(), FCFS(), LIMITS, Affine(step_s=step_s))


def test_patience_beyond_any_replay_never_ends():
    patient, endless = (simulate(crowd(), MLFQ(starve_s=s), LIMITS).outcomes for s in (50 * DAY_S, 1e9))
    assert patient.equals(endless)


def test_an_observation_beyond_any_replay_never_comes():
    rare, never = (simulate(crowd(), FIFO(feedback_s=s), LIMITS).outcomes for s in (50 * DAY_S, 1e9))
    assert rare.equals(never)
