"""The served engine a step at a time: what it may never do."""

from hypothesis import given, settings
from hypothesis import strategies as st

from replay.planning.jobs import Job
from replay.serve.batching import Batching, Parts
from replay.serve.tokens import numbered
from replay.simulation.setup import Limits

BLOCK = 4
LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 30), st.booleans()), min_size=1, max_size=12)


def affine(parts: Parts) -> float:
    return 0.01 + 0.0001 * sum(tokens for _, tokens in parts)


def engine(kv_blocks: int = 30, **more) -> Batching:
    limits = Limits(kv_blocks, block_tokens=BLOCK, max_num_seqs=4, max_num_batched_tokens=16, **more)
    return Batching(limits, affine)


def job(n: int, prompt: int, output: int, priority: int = 0, tokens: list | None = None) -> Job:
    said = numbered(tokens or [(n, t) for t in range(prompt)], output)
    return Job(n, prompt, output, 0.0, rank=float(priority), tokens=said)


def jobs_of(lengths: list[tuple[int, int, bool]]) -> list[Job]:
    """Some begin alike."""
    return [job(n, p, o, tokens=list(range(p)) if alike else None) for n, (p, o, alike) in enumerate(lengths)]


def run(made: Batching, jobs: list[Job], heard: list, check=lambda step: None) -> float:
    now_s = 0.0
    for each in jobs:
        made.submit(each, heard.append)
    while (step := made.begin(now_s)) is not None:
        check(step)
        now_s += step.duration_s
        made.end(step, now_s)
    return now_s


@given(LENGTHS)
@settings(max_examples=60, deadline=None)
def test_every_token_comes_once_within_all_limits_and_nothing_stays_held(lengths):
    made, heard = engine(), []
    jobs = jobs_of(lengths)

    def check(step) -> None:
        assert sum(tokens for _, tokens in step.parts) <= 16
        assert len(made.running) <= 4
        assert made.memory.used == len({block for j in made.running for block in j.blocks}) <= 30
        assert len({id(j) for j, _ in step.parts}) == len(step.parts)

    run(made, jobs, heard, check)
    assert [heard.count(j) for j in jobs] == [output for _, output, _ in lengths]
    assert (made.memory.used, made.memory.free) == (0, 30)
    assert made.waiting == 0


@given(LENGTHS, st.integers(0, 11), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_a_client_that_goes_leaves_nothing_behind(lengths, who, when):
    made, heard = engine(), []
    jobs = jobs_of(lengths)
    gone, steps = jobs[who % len(jobs)], []

    def check(step) -> None:
        steps.append(step)
        if len(steps) == when + 1 and not gone.ended:
            made.cancel(gone)

    run(made, jobs, heard, check)
    assert made.memory.used == 0
    assert all(heard.count(j) == j.output for j in jobs if j is not gone)


def test_who_lacks_memory_is_preempted_and_still_ends():
    made, heard = engine(kv_blocks=16), []
    jobs = [job(n, 8, 40) for n in range(3)]
    run(made, jobs, heard)
    assert made.preemptions > 0
    assert [heard.count(j) for j in jobs] == [40] * 3
    assert jobs[0].preemptions == 0


def test_a_prompt_that_was_there_before_is_found():
    made, heard = engine(), []
    same = list(range(21))
    first, second = (job(n, 21, 2, tokens=same) for n in range(2))
    run(made, [first], heard)
    run(made, [second], heard)
    assert (first.cached, second.cached) == (0, 20)


def test_an_answer_is_found_by_the_turn_that_repeats_it():
    made, heard = engine(), []
    first = job(0, 21, 20, tokens=list("abcdefghijklmnopqrstu"))
    turn = job(1, 50, 2, tokens=[*"abcdefghijklmnopqrstu", *["token", "after"] * 10, *"and so on"])
    run(made, [first], heard)
    run(made, [turn], heard)
    assert turn.cached == 40


def test_what_was_used_least_recently_gives_way():
    made, heard = engine(kv_blocks=12), []
    again = {name: [job(n, 17, 1, tokens=[name] * 17) for n in range(2)] for name in "abc"}
    for name in ("a", "b", "c"):
        run(made, [again[name][0]], heard)
    for name in ("c", "b", "a"):
        run(made, [again[name][1]], heard)
    assert [again[name][1].cached for name in "cba"] == [16, 16, 12]  # the last block of who came first


def test_without_a_cache_nothing_is_found():
    made, heard = engine(prefix_caching=False), []
    for n in range(2):
        again = job(n, 21, 2, tokens=list(range(21)))
        run(made, [again], heard)
    assert again.cached == 0


def test_the_smallest_priority_runs_first():
    made, heard = engine(), []
    jobs = [job(n, 16, 1, priority=-n) for n in range(4)]
    run(made, jobs, heard)
    assert [j.number for j in heard] == [3, 2, 1, 0]


def test_a_step_takes_what_its_tokens_take():
    assert round(run(engine(), [job(0, 20, 3)], []), 6) == round(0.01 * 4 + 0.0001 * (20 + 2), 6)
