"""What size-based schedulers believe of output lengths, and what distributions of lengths hold."""

import numpy as np
import polars as pl
import pytest

from replay.schedulers.length_distributions import PRIOR, LengthDistributions
from replay.schedulers.size_based import PREDICTORS, SizeBased
from replay.simulation.setup import Limits
from tests.replay.simulations import make_trace, simulate
from toolkit import plugins
from toolkit.errors import InputFailure, SettingFailure


def trace(output_tokens: list[int | None], **columns: object) -> pl.DataFrame:
    rows = pl.DataFrame({"output_tokens": output_tokens}, schema={"output_tokens": pl.Int32})
    given = {name: pl.Series(values) for name, values in columns.items()}
    return make_trace(rows.with_columns(arrival_s=pl.int_range(pl.len()) * 1.0, prompt_tokens=pl.lit(10), **given))


@pytest.fixture(scope="module")
def many() -> pl.DataFrame:
    return trace(np.random.default_rng(1).integers(1, 2_000, 20_000).tolist())


def believed(requests: pl.DataFrame, **settings: object) -> np.ndarray:
    return SizeBased(**settings).output_tokens(requests)  # type: ignore[arg-type]


def test_the_oracle_knows_and_takes_an_unknown_length_for_the_median():
    assert believed(trace([30, 10, None, 50])).tolist() == [30, 10, 30, 50]
    assert believed(trace([None, None])).tolist() == [1, 1]


def test_noise_has_a_median_ratio_of_one_and_the_spread_that_was_asked_for(many):
    error = np.log(believed(many, predictor="noisy", sigma=0.7) / many["output_tokens"].to_numpy())
    assert np.median(error) == pytest.approx(0.0, abs=4 * 0.7 * 1.2533 / np.sqrt(len(many)))
    assert error.std() == pytest.approx(0.7, rel=0.03)
    assert (believed(many, predictor="noisy", sigma=0.0) == many["output_tokens"].to_numpy()).all()


@pytest.mark.parametrize("predictor", [name for name in PREDICTORS if name != "column"])
def test_a_request_is_believed_the_same_whenever_it_is_asked_about(many, predictor):
    policy = SizeBased(predictor=predictor)
    first = policy.output_tokens(many)
    few = many[[17, 3, 19_999]]
    assert policy.output_tokens(few).tolist() == first[[17, 3, 19_999]].tolist()
    assert policy.predicted(np.array([3, 17])).tolist() == first[[3, 17]].tolist()
    assert np.array_equal(first, SizeBased(predictor=predictor).output_tokens(many))


def test_another_seed_is_other_noise(many):
    one, two = (believed(many, predictor="noisy", seed=seed) for seed in (0, 1))
    assert (one != two).mean() > 0.99


def test_ranked_believes_the_lengths_themselves_in_another_order(many):
    lengths = many["output_tokens"].to_numpy()
    found = believed(many, predictor="ranked", sigma=0.5)
    assert np.array_equal(np.sort(found), np.sort(lengths))
    order = np.argsort(lengths * SizeBased(sigma=0.5).noise(many), kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert np.array_equal(believed(many, predictor="ranked", sigma=0.0), lengths)


def test_adversarial_reverses_the_order():
    assert believed(trace([5, 1, 9, 7]), predictor="adversarial").tolist() == [7, 9, 1, 5]


def test_biased_multiplies():
    assert believed(trace([5, 1]), predictor="biased", bias=3.0).tolist() == [15, 3]


def test_a_class_mean_is_over_the_trace_and_a_stale_one_over_its_beginning():
    requests = trace([10, 100, 30, 300, 20, 50], tenant=["a", "b", "a", "b", "a", "c"])
    by = {"by": "tenant"}
    assert believed(requests, predictor="class-mean", **by).tolist() == [20, 200, 20, 200, 20, 50]
    stale = believed(requests, predictor="stale", share=1 / 3, **by)
    assert stale.tolist() == [10, 100, 10, 100, 10, 55]  # of c nothing was seen: the mean of what was


def test_a_column_of_the_trace_is_believed():
    requests = trace([1, 1, 1], predicted_output_tokens=[8, None, 4])
    assert believed(requests, predictor="column").tolist() == [8, 6, 4]
    with pytest.raises(SettingFailure, match="no predicted_output_tokens"):
        believed(trace([1, 2]), predictor="column")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"predictor": "oracel"}, "oracle"),
        ({"sigma": -1.0}, "sigma"),
        ({"bias": 0.0}, "bias"),
        ({"share": 0.0}, "share"),
        ({"by": "modle"}, "model"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(SettingFailure, match=message):
        SizeBased(**settings)


def test_outcomes_say_what_was_believed():
    requests = trace([5, 1, 9])
    sjf = plugins.create("scheduler", "sjf:predictor=biased,bias=2")
    outcomes = simulate(requests, sjf, Limits(kv_blocks=100)).outcomes
    assert outcomes["predicted_output_tokens"].to_list() == [10, 2, 18]


def test_bins_are_a_quantum_and_then_grow():
    lengths = LengthDistributions("trace", "none", 10, 2.0, most_tokens=100)
    assert lengths.edges.tolist() == [0, 10, 20, 40, 80, 160]
    lengths.rows(trace([1, 9, 10, 19, 20, 100]))
    assert lengths.shares()[0] == pytest.approx(np.array([2, 2, 1, 0, 1]) / 6)


def test_a_rare_class_borrows_from_all():
    lengths = LengthDistributions("trace", "tenant", 10, 2.0, most_tokens=40)
    rows = lengths.rows(trace([5] * 39 + [30], tenant=["a"] * 39 + ["b"]))
    assert rows.tolist() == [0] * 39 + [1]
    rare = (np.array([0, 0, 1, 0]) + PRIOR * np.array([39, 0, 1, 0]) / 40) / (1 + PRIOR)
    assert lengths.shares()[1] == pytest.approx(rare)


def test_training_sees_the_first_tenth_and_online_nothing_until_told():
    requests = trace([5] * 10 + [30] * 90)
    train, online = (LengthDistributions(source, "none", 10, 2.0, most_tokens=40) for source in ("train", "online"))
    train.rows(requests)
    online.rows(requests)
    assert train.shares()[0].tolist() == [1, 0, 0, 0]
    assert online.shares()[0].tolist() == [0.25] * 4
    online.add(np.zeros(2, np.int64), np.array([12, 10**9]))
    assert online.shares()[0].tolist() == [0, 0.5, 0, 0.5]


def test_lengths_are_read_from_a_file(tmp_path):
    for name, write in (("l.csv", pl.DataFrame.write_csv), ("l.parquet", pl.DataFrame.write_parquet)):
        write(pl.DataFrame({"output_tokens": [5, 15, None]}), tmp_path / name)
        given = LengthDistributions(str(tmp_path / name), "none", 10, 2.0, most_tokens=40)
        given.rows(trace([30]))
        assert given.shares()[0].tolist() == [0.5, 0.5, 0, 0]
    with pytest.raises(InputFailure, match="no output_tokens can be read"):
        LengthDistributions(str(tmp_path / "none.csv"), "none", 10, 2.0).rows(trace([30]))
    with pytest.raises(SettingFailure, match="ratio"):
        LengthDistributions("trace", "none", 10, 1.0)


def test_gittins_learns_online_from_what_has_ended():
    """Short requests end first, so an old one is known to be long and yields."""
    policy = plugins.create("scheduler", "gittins:lengths=online,quantum=10,ratio=2")
    requests = trace([5, 200])
    policy.rank(requests, 0.0)
    before = np.array(policy.curve.offsets)
    ended = pl.DataFrame({"request_id": [0] * 50, "status": ["ok"] * 50, "output_tokens": [5] * 45 + [200] * 5})
    policy.observe(ended, 10.0)
    after = np.array(policy.curve.offsets)
    assert after.shape == before.shape
    assert after[0, 0] < before[0, 0]
    assert after[0, 1] > 5 * after[0, 0]
