"""ServeGen's parameters come back: each window's requests, burstiness and lengths."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import zstandard

from toolkit.errors import InputFailure
from toolkit.protocols import Planted
from workloads.generators.rhythm import RateChange, Rhythm
from workloads.generators.servegen import ServeGen

WINDOW_S = 600.0


def plant(span_s: float, rhythm: Rhythm | None = None, seed: int = 1, **settings: Any) -> Planted:
    return ServeGen(**settings).plant(span_s, rhythm or Rhythm(), np.random.default_rng(seed))


def requests(planted: Planted, span_s: float) -> pl.DataFrame:
    return pl.concat(planted.requests([span_s / 3, span_s / 2, span_s]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clients over three windows; the second has no lengths in the first two, and none at all of outputs."""
    (tmp_path / "chunk-0-trace.csv").write_text("0,10,2,Gamma,9,9\n600,0,0,,0,0\n1200,5,1.5,Weibull,9,9\n")
    (tmp_path / "chunk-3-trace.csv").write_text("0,1,1,Gamma,1,1\n600,2,1,Gamma,1,1\n1200,4,1,Gamma,1,1\n")
    (tmp_path / "chunk-0-dataset.json").write_text(
        '{"0": {"input_tokens": "{100: 0.25, 300: 0.75}", "output_tokens": "{7: 1.0}"},'
        ' "1200": {"input_tokens": "{50: 1.0}", "output_tokens": "{8: 0.5, 9: 0.5}"}}'
    )
    (tmp_path / "chunk-3-dataset.json").write_text(
        '{"0": {"input_tokens": "{}", "output_tokens": "{}"},'
        ' "1200": {"input_tokens": "{5: 1}", "output_tokens": "{}"}}'
    )
    return tmp_path


def measured(frame: pl.DataFrame) -> dict[tuple[str, float], tuple[int, float]]:
    """Requests and gap CV of each client and window."""
    found = frame.with_columns(window=pl.col("arrival_s") // WINDOW_S * WINDOW_S).group_by("tenant", "window")
    gap = pl.col("arrival_s").diff()
    return {(t, w): (n, cv) for t, w, n, cv in found.agg(pl.len(), cv=gap.std() / gap.mean()).iter_rows()}


def test_counts_burstiness_and_lengths_of_made_parameters_come_back(folder: Path) -> None:
    frame = requests(plant(1_800, folder=folder), 1_800)
    found = measured(frame)
    assert {key: n for key, (n, _) in found.items()} == {
        ("client-0", 0.0): 6000, ("client-0", 1200.0): 3000,
        ("client-3", 0.0): 600, ("client-3", 600.0): 1200, ("client-3", 1200.0): 2400,
    }  # fmt: skip
    for key, cv in {("client-0", 0.0): 2.0, ("client-0", 1200.0): 1.5, ("client-3", 1200.0): 1.0}.items():
        assert found[key][1] == pytest.approx(cv, rel=0.12)
    early = frame.filter(pl.col("tenant") == "client-0", pl.col("arrival_s") < 600)
    shares = dict(early["prompt_tokens"].value_counts(normalize=True).iter_rows())
    assert shares == pytest.approx({100.0: 0.25, 300.0: 0.75}, abs=4.5 * (0.1875 / 6000) ** 0.5)
    late = frame.filter(pl.col("tenant") == "client-0", pl.col("arrival_s") >= 1_200)
    assert late["prompt_tokens"].unique().to_list() == [50.0]
    assert late["output_tokens"].unique().sort().to_list() == [8.0, 9.0]


def test_what_is_borrowed_or_missing_is_told(folder: Path) -> None:
    planted = plant(1_800, folder=folder)
    other = requests(planted, 1_800).filter(pl.col("tenant") == "client-3")
    assert (other["prompt_tokens"].unique().to_list(), other["output_tokens"].null_count()) == ([5.0], 4_200)
    assert planted.notes == (
        "1 clients have no lengths published (about 4,200 requests): the stream's are used, or they stay null.",
    )


def test_the_truth_is_the_parameters(folder: Path) -> None:
    truth = plant(1_200, folder=folder, from_s=600.0, load=0.5).truth
    rates = truth.filter(pl.col("parameter") == "rate_per_s").sort("tenant", "start_s")
    assert rates.select("tenant", "start_s", "value").rows() == [
        ("client-0", 600.0, 2.5), ("client-3", 0.0, 1.0), ("client-3", 600.0, 2.0),
    ]  # fmt: skip


@pytest.mark.parametrize(("load", "expected"), [(0.1, 1_320), (2.5, 33_000)])
def test_load_takes_a_share_or_more(folder: Path, load: float, expected: int) -> None:
    n = len(requests(plant(1_800, folder=folder, load=load), 1_800))
    assert abs(n - expected) < 4.5 * expected**0.5


def test_the_busiest_clients_and_the_hour_of_the_day(folder: Path) -> None:
    assert requests(plant(1_800, folder=folder, clients=1), 1_800)["tenant"].unique().to_list() == ["client-0"]
    rhythm = Rhythm(changes=(RateChange(300.0, 3.0),))
    first = requests(plant(600, rhythm, folder=folder, clients=1), 600)
    assert len(first) == 12_000
    assert (first["arrival_s"] < 300).mean() == pytest.approx(0.25, abs=0.06)


def test_a_tar_is_read_as_its_folder(folder: Path, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file in sorted(folder.glob("chunk-*")):
            archive.add(file, f"language/{file.name}")
    (tmp_path / "all.tar.zst").write_bytes(zstandard.compress(packed.getvalue()))
    first, second = (requests(plant(1_800, folder=f), 1_800) for f in (folder, tmp_path / "all.tar.zst"))
    assert first.equals(second)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("chunk-0-trace.csv", "0,1,1,Gamma,1,1\n", "fewer than two windows"),
        ("chunk-0-trace.csv", "0,1,1,Gamma,1,1\n600,1,1,Gamma,1,1\n1800,1,1,Gamma,1,1\n", "not evenly spaced"),
        (
            "chunk-0-trace.csv",
            "0,1,1,Gamma,1,1\n600,1,1,Zipf,1,1\n",
            "the window at 600.0 s has no rate, CV and family",
        ),
        ("chunk-0-trace.csv", "0,x,1,Gamma,1,1\n600,1,1,Gamma,1,1\n", "is no table of six columns"),
        ("chunk-0-dataset.json", "{", "is no mapping of windows to lengths"),
        ("chunk-0-dataset.json", '{"0": 5}', "is no mapping of windows to lengths"),
        ("chunk-0-dataset.json", '{"0": {"input_tokens": {"5": 1.0}}}', "a distribution is no text"),
        ("chunk-0-dataset.json", '{"0": {"input_tokens": "{5: -1, 6: 1}"}}', "a probability below 0"),
        ("chunk-0-dataset.json", '{"0": {"input_tokens": "{5000000000: 1}"}}', "token counts outside 0 to 2147483647"),
        ("chunk-0-dataset.json", '{"0": {"input_tokens": "{a: b}", "output_tokens": "{1: 1}"}}', "is no {tokens"),
    ],
)
def test_bad_parameters_are_told_in_one_line(folder: Path, file: str, text: str, said: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(InputFailure, match=said) as caught:
        requests(plant(600, folder=folder), 600)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["all.tar.zst", "all.tar.gz", "all.tar"])
def test_a_damaged_tar_is_told_in_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz" if name.endswith("gz") else "w") as archive:
        for file in sorted(folder.glob("chunk-*")):
            archive.add(file)
    whole = zstandard.compress(packed.getvalue()) if name.endswith("zst") else packed.getvalue()
    for damaged in (whole[: len(whole) // 2], whole[:60] + bytes(60) + whole[120:]):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputFailure, match=r"all\.tar"):
            plant(600, folder=tmp_path / name)


def test_a_span_beyond_the_data_and_a_folder_without_any_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputFailure, match=r"at most 1800"):
        plant(1_801, folder=folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputFailure, match=r"no chunk-N-trace\.csv"):
        plant(600, folder=tmp_path / "empty")


@pytest.mark.parametrize(("cv", "n"), [(5.0, 60), (8.0, 200), (12.0, 2_000)])
def test_a_high_cv_comes_back_even_from_few_gaps(folder: Path, cv: float, n: int) -> None:
    (folder / "chunk-0-trace.csv").write_text(f"0,{n / 600},{cv},Gamma,1,1\n600,0,0,,,\n1200,0,0,,,\n")
    found = measured(requests(plant(600, folder=folder), 600))
    assert found["client-0", 0.0] == (n, pytest.approx(cv, rel=0.05))


def test_the_published_day_of_a_reasoning_model_comes_back(shared_traces: Path) -> None:
    """Its clients over half the day: counts exactly; CV of big windows that are not extreme within its error."""
    planted = plant(43_200, folder=shared_traces / "servegen/reason/deepseek-r1", from_s=43_200.0)
    frame = pl.concat(planted.requests([20_000.0, 43_200.0]))
    found = measured(frame)
    wide = planted.truth.filter(pl.col("parameter") != "family").pivot(
        "parameter", index=["tenant", "start_s"], values="value"
    )
    told = {(t, w): (round(rate * 600), cv) for t, w, rate, cv in wide.iter_rows()}
    assert {key: n for key, (n, _) in found.items()} == {key: n for key, (n, _) in told.items() if n}
    big = [key for key, (n, cv) in told.items() if n > 1_000 and cv < 3]
    ratio = np.array([found[key][1] / told[key][1] for key in big])
    assert len(big) > 50
    extreme = [key for key, (n, cv) in told.items() if n > 200 and 8 < cv < 0.8 * np.sqrt(n)]
    assert all(found[key][1] == pytest.approx(told[key][1], rel=0.1) for key in extreme)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)
    assert np.quantile(abs(ratio - 1), 0.9) < 0.1
    assert frame["prompt_tokens"].null_count() == 0
    assert planted.notes == ()
