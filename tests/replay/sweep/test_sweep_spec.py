"""SWEEP.yaml: what is wrong is named by its line, and what is right becomes a grid."""

from pathlib import Path

import pytest

from replay.sweep.points import grid
from replay.sweep.spec import load_sweep
from toolkit.errors import InputFailure

HEAD = "trace: t.parquet\ncluster: cluster.yaml\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("placments: [static]\n", "sweep.yaml:3: no key 'placments' here; did you mean 'placements'?"),
        ("placements: [static,\n  statik]\n", "sweep.yaml:4: no placement is called 'statik'; did you mean 'static'?"),
        ("placements: ['static:kw=rate']\n", "sweep.yaml:3: no parameter 'kw'; known: kv"),
        ("schedulers: [fcfs]\nload: [1, 0]\n", "sweep.yaml:1: load holds 0; it must be above 0"),
        ("gpus: [1, two]\n", "sweep.yaml:3: 'two' is not a whole number"),
        ("gpus: [1, 1]\n", "gpus holds 1 twice"),
        ("slo_scale: [[5, 2, 1]]\n", "sweep.yaml:3: has 3 items, not 2"),
        ("seeds: [0, 1]\nsample: 1\n", "with sample 1 all seeds are the same"),
        ("workload: w.yaml\n", "give either a trace or a workload"),
        ("search:\n  over: gpus\n  from: 1\n", "sweep.yaml:4: 'to' is missing"),
        ("search: {over: gpu, from: 1, to: 2}\n", "sweep.yaml:3: 'gpu' is not a choice here; did you mean 'gpus'?"),
        ("search:\n  over: gpus\n  from: 0.5\n  to: 2\n", "sweep.yaml:4: from and to are numbers of GPUs"),
        ("search: {over: load, form: 1, to: 2}\n", "no key 'form' here; did you mean 'from'?"),
    ],
)
def test_mistakes_are_named_by_their_line(spec: Path, text: str, said: str) -> None:
    spec.write_text(HEAD + text)
    with pytest.raises(InputFailure) as failure:
        load_sweep(spec)
    assert said in str(failure.value)


def test_a_mistake_in_the_cluster_is_named_by_its_own_line(spec: Path) -> None:
    (spec.parent / "other.yaml").write_text("gpus: [{type: h1000}]\nmodels: [{name: a, preset: llama-3.1-8b}]\n")
    spec.write_text("trace: t.parquet\ncluster: other.yaml\n")
    with pytest.raises(InputFailure, match=r"other\.yaml:1: no preset 'h1000'"):
        load_sweep(spec)


def test_the_grid_is_every_combination_and_fcfs_is_always_there(spec: Path) -> None:
    spec.write_text(
        HEAD + "placements: [static, 'static:kv=rate']\nschedulers: [srpt]\ngpus: [1, 2]\nload: [1, 2, 4]\n"
        "slo_scale: [3, [5, 2]]\nseeds: [0, 1]\n"
    )
    points = grid(*load_sweep(spec))
    assert len(points) == len(set(points)) == 2 * 2 * 2 * 3 * 2 * 2
    assert {p.scheduler for p in points} == {"fcfs", "srpt"}
    assert {p.slo_scale for p in points} == {(3.0, 3.0), (5.0, 2.0)}
    keys = {p.key("x") for p in points}
    assert len(keys) == len(points)
    assert not keys & {p.key("y") for p in points}


def test_what_is_searched_over_is_no_part_of_the_grid_unless_listed(spec: Path) -> None:
    search = "search: {over: gpus, from: 1, to: 4}\n"
    spec.write_text(HEAD + search)
    assert grid(*load_sweep(spec)) == []
    spec.write_text(HEAD + search + "gpus: [2, 3]\n")
    assert {p.gpus for p in grid(*load_sweep(spec))} == {2, 3}


def test_one_seed_keeps_the_whole_trace_and_several_a_share(spec: Path) -> None:
    spec.write_text(HEAD)
    assert load_sweep(spec)[0].share == 1
    spec.write_text(HEAD + "seeds: [0, 1]\n")
    assert load_sweep(spec)[0].share == 0.9
