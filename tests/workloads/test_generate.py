"""`trace generate`: one schema, one order, one numbering, the same bytes for the same seed."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import polars as pl
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from toolkit.cli import main
from toolkit.errors import Failure
from toolkit.schema import TRACE, TRUTH
from toolkit.specs import parse
from toolkit.traces import read_trace
from workloads import generate as generating
from workloads.generate import About, Cuts, Size, Streams, Windows, generate, together
from workloads.generate_parts import PartFile, generate_parts, packed
from workloads.generate_spec import Workload, read_spec, workload
from workloads.generators.numbering import numbered

EVERYTHING = """
- {name: a, generator: gamma, rate_per_s: 1, cv: 2, models: {count: 5, zipf: 1}, daily: {amplitude: 0.5},
   prompt_tokens: {median: 100, sigma: 1}, output_tokens: {median: 50, sigma: 1}, prediction: {sigma: 0.3},
   drift: [{column: output_tokens, at_s: 300, factor: 2}], tiers: {x: {share: 1, slo_ttft_s: 1}, y: {}}}
- {name: b, generator: on-off, rate_per_s: 1, on_s: 60, off_s: 60, models: m, tenants: {count: 3},
   prompt_tokens: {median: 30, sigma: 1}, output_tokens: {family: gamma, mean: 50, cv: 1},
   sessions: {turns: 3, think_s: {median: 30}}, prefixes: {system_tokens: 128, documents: 3, block_tokens: 32}}
- {name: c, generator: groups, models: {count: 4}, background_per_s: 0.2,
   groups: [{size: 2, rate_per_s: 1, every_s: 200, for_s: 50}]}
- {name: d, generator: markov, states: [{rate_per_s: 0, mean_s: 100}, {rate_per_s: 3, mean_s: 50}]}
"""


def described(streams: str = EVERYTHING, top: str = "span_s: 900") -> Workload:
    return workload(parse(f"{top}\nstreams:\n{streams}", Path("w.yaml")), "w", "")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["generate", *map(str, arguments)])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "w.yaml").write_text(f"span_s: 900\nstreams:{EVERYTHING}")
    return tmp_path / "w.yaml"


def test_one_seed_one_file_another_seed_another(spec: Path, tmp_path: Path) -> None:
    for name, seed in {"one": 7, "two": 7, "three": 8}.items():
        done = run(
            spec, "--out", tmp_path / f"{name}.parquet", "--truth", tmp_path / f"{name}_t.parquet", "--seed", seed
        )
        assert done.exit_code == 0, done.output
    one, two, three = ((tmp_path / f"{n}.parquet").read_bytes() for n in ("one", "two", "three"))
    assert one == two
    assert one != three
    assert (tmp_path / "one_t.parquet").read_bytes() == (tmp_path / "two_t.parquet").read_bytes()
    hashes = {read_trace([tmp_path / f"{name}.parquet"]).info.sha256 for name in ("one", "two", "three")}
    assert len(hashes) == 2


def test_the_file_is_a_canonical_trace_and_the_truth_a_table(spec: Path, tmp_path: Path) -> None:
    run(spec, "--out", tmp_path / "t.parquet", "--truth", tmp_path / "truth.parquet", "--seed", 7)
    trace = read_trace([tmp_path / "t.parquet"])
    frame = trace.frame.collect()
    assert frame.schema == TRACE
    assert (trace.info.rows_kept, trace.info.format, trace.info.block_tokens) == (len(frame), "canonical", 32)
    assert pl.read_parquet(tmp_path / "truth.parquet").schema == TRUTH
    assert frame["prefix_blocks"].drop_nulls().list.len().min() >= 4
    assert not list(tmp_path.glob("*.partial"))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**63), span_s=st.floats(1, 2_000), rows=st.sampled_from([300, 2_000, 400_000]))
def test_rows_are_numbered_in_arrival_order_and_parents_come_first(
    seed: int, span_s: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "MOST_ROWS", rows)
    frame = pl.concat([pl.DataFrame(schema=TRACE), *Windows(described(top=f"span_s: {span_s}"), seed)], how="diagonal")
    assert frame["request_id"].to_list() == list(range(len(frame)))
    assert frame["arrival_s"].is_sorted()
    assert frame["arrival_s"].is_between(0, span_s).all()
    follows = frame.filter(pl.col("turn") > 0)
    assert follows["parent_id"].null_count() == 0
    assert (follows["parent_id"] < follows["request_id"]).all()
    assert frame.filter(pl.col("parent_id").is_not_null()).height == follows.height
    assert frame.filter(pl.col("prompt_tokens") < 1).is_empty()


def test_a_run_out_of_windows_is_the_same_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    """How a trace is cut into windows changes no arrival of a stream that draws nothing else."""
    stream = "- {generator: gamma, rate_per_s: 5, cv: 2, daily: {amplitude: 0.9}}\n"
    whole = pl.concat(list(Windows(described(stream), 3)))
    monkeypatch.setattr(generating, "MOST_ROWS", 50)
    parts = pl.concat(list(Windows(described(stream), 3)))
    assert (whole["arrival_s"] - parts["arrival_s"]).abs().max() < 1e-9


def test_streams_do_not_disturb_each_other() -> None:
    alone = pl.concat(list(Windows(described("- {rate_per_s: 2, name: a, models: x}\n"), 3)))
    both = pl.concat(
        list(Windows(described("- {rate_per_s: 2, name: a, models: x}\n- {rate_per_s: 9, models: y}\n"), 3))
    )
    assert alone["arrival_s"].equals(both.filter(pl.col("model") == "x")["arrival_s"])


def test_a_number_of_requests_and_a_clock(tmp_path: Path) -> None:
    top = "span_s: 900\nrequests: 500\nclock_step_s: 0.5\nname: short\nepoch: '2026-01-01T00:00:00'"
    made = generate(described("- {rate_per_s: 5}\n", top), tmp_path / "t.parquet", 1)
    frame = pl.read_parquet(tmp_path / "t.parquet")
    assert (len(frame), made.info.rows_kept, made.info.name) == (500, 500, "short")
    assert (frame["arrival_s"] % 0.5 == 0).all()
    assert read_trace([tmp_path / "t.parquet"]).info.epoch == "2026-01-01T00:00:00"


def test_the_command_tells_what_it_made(spec: Path, tmp_path: Path) -> None:
    done = run(spec, "--out", tmp_path / "t.parquet", "--span", 400, "--json")
    told = orjson.loads(done.stdout)
    assert told["trace"]["rows_kept"] == len(pl.read_parquet(tmp_path / "t.parquet"))
    assert told["planted"]["drift"] == 2
    assert run(spec, "--out", tmp_path / "t.parquet").stdout.splitlines()[-1].startswith("wrote ")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--span", "-1"], 1, "--span: span_s must be above 0"),
        (["--load", "2"], 2, "--load and --models are for --like"),
        (["--truth", "{out}"], 2, "--truth would take the place of the trace"),
        (["--like", "x.csv"], 2, "give either SPEC.yaml or --like TRACE"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    spec: Path, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    options = [option.format(out=tmp_path / "t.parquet") for option in options]
    done = run(spec, "--out", tmp_path / "t.parquet", *options)
    assert (done.exit_code, said in done.stderr) == (code, True), done.output
    assert not (tmp_path / "t.parquet").exists()


def test_files_of_others_are_not_overwritten_and_an_empty_trace_is_told(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("span_s: 1\nstreams: [{rate_per_s: 0.000001}]\n")
    (tmp_path / "t.parquet").write_text("mine")
    assert "was not written by trace" in run(tmp_path / "w.yaml", "--out", tmp_path / "t.parquet").stderr
    assert "must end in .parquet" in run(tmp_path / "w.yaml", "--out", tmp_path / "t.csv").stderr
    done = run(tmp_path / "w.yaml", "--out", tmp_path / "u.parquet")
    assert (done.exit_code, "nothing arrives in span_s" in done.stderr) == (1, True)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["t.parquet", "w.yaml"]


def test_parts_hold_the_rows_of_the_whole_whoever_makes_the_streams(tmp_path: Path) -> None:
    made = described("- {rate_per_s: 2, name: a, models: x}\n- {rate_per_s: 9, models: y}\n")
    whole = generate(made, tmp_path / "whole.parquet", 3)

    class Apart:
        """Streams made by two, one of whom begins anew in the middle."""

        def __init__(self, workload: Workload, seed: int) -> None:
            self.makers = [Streams(workload, seed, [0]), Streams(workload, seed, [1])]
            self.about = About.of(workload, seed, [t for m in self.makers for t in m.truth], [(), ()])

        def files(self, progress: object) -> Iterator[PartFile]:
            cuts, ends = Cuts(made.settings), list[float]()
            while not cuts.all:
                if len(ends) == 3:
                    self.makers[1] = Streams(made, 3, [1])
                    for end_s in ends:
                        self.makers[1].upto(end_s)
                ends.append(cuts.next())
                parts, first = [part for maker in self.makers for part in maker.upto(ends[-1])], cuts.requests
                if kept := cuts.made(Size.of(parts)):
                    yield packed(numbered(together(parts, None, kept), first, None), self.about)

    parts = generate_parts(made, tmp_path / "parts", 3)
    generate_parts(made, tmp_path / "apart", 3, making=Apart)
    assert_frame_equal(pl.read_parquet(tmp_path / "parts/*.parquet"), pl.read_parquet(tmp_path / "whole.parquet"))
    assert (parts.info, parts.truth.equals(whole.truth)) == (whole.info, True)
    files = [sorted((tmp_path / name).iterdir()) for name in ("parts", "apart")]
    assert len(files[0]) > 3
    assert [a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True)] == [True] * len(files[0])
    with pytest.raises(Failure, match="is there already"):
        generate_parts(made, tmp_path / "parts", 3)


def test_an_epoch_that_is_no_moment_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("span_s: 1\nepoch: yesterday\nstreams: [{rate_per_s: 9}]\n")
    done = run(tmp_path / "w.yaml", "--out", tmp_path / "t.parquet")
    assert (done.exit_code, "w.yaml:1: epoch 'yesterday' is not an ISO 8601 time" in done.stderr) == (1, True)


@pytest.mark.parametrize("epoch", ["2026-01-31T12:00:00", "2026-01-31 12:00:00", "2026-01-31", '"2026-01-31"'])
def test_an_epoch_needs_no_quotes(epoch: str, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(f"span_s: 1\nepoch: {epoch}\nstreams: [{{rate_per_s: 9}}]\n")
    assert read_spec(tmp_path / "w.yaml").settings.epoch == epoch.strip('"')


def test_a_folder_of_parts_that_cannot_be_made_is_one_line(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(spec, "--out", tmp_path / "file" / "parts", "--parts")
    assert (done.exit_code, "file/parts: cannot be made" in done.stderr) == (1, True)
