"""`trace query`: the views agree with the metrics, results stream, and nothing but the views can be touched."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from click.testing import CliRunner, Result

from toolkit import metrics, results, sources
from toolkit.cli import main
from toolkit.commands.query import guide
from toolkit.errors import Failure
from toolkit.runs import RunWriter
from toolkit.schema import OUTCOMES, STATUSES, TIMELINE, TRACE, conform
from toolkit.sql import database, select, views
from toolkit.traces import Trace, TraceInfo, write_trace
from toolkit.views import EXAMPLES, METRICS, VIEWS

HOSTILE = "x'; DROP VIEW outcomes; --\"*[?]"


def outcomes(n: int, seed: int = 1) -> pl.DataFrame:
    """Requests of every status, with every latency missing now and then."""
    rng = np.random.default_rng(seed)
    arrival = np.sort(rng.uniform(0, 100, n))
    start = arrival + rng.exponential(1, n)
    first = start + rng.exponential(1, n)
    frame = pl.DataFrame(
        {
            "request_id": np.arange(n),
            "model": rng.choice(["a", "b", HOSTILE], n),
            "arrival_s": arrival,
            "sent_s": arrival + 0.01,
            "start_s": start,
            "first_token_s": first,
            "finish_s": first + rng.exponential(2, n),
            "alone_s": rng.uniform(0.1, 1, n),
            "output_tokens": rng.integers(0, 4, n),
            "slo_ttft_s": rng.choice([0.5, 2.0], n),
            "slo_tpot_s": rng.choice([0.1, 1.0], n),
            "status": rng.choice(STATUSES, n),
        }
    )
    gaps = ["start_s", "first_token_s", "finish_s", "alone_s", "slo_ttft_s", "slo_tpot_s", "output_tokens"]
    return frame.with_columns(pl.when(pl.lit(rng.random(n) > 0.1)).then(pl.col(c)).alias(c) for c in gaps)


def make_run(path: Path, frame: pl.DataFrame, **info: object) -> Path:
    writer = RunWriter.create(path, {"run_id": path.name, "scheduler": "fcfs", "limits": {"kv_blocks": 7}, **info})
    for part in frame.iter_slices(max(1, len(frame) // 3 + 1)):
        writer.append("outcomes", part)
    ticks = pl.DataFrame({"time_s": [0.0, 60.0], "queue": [0, 5]})
    writer.append("timeline", conform(ticks, TIMELINE, source="test"))
    writer.finish()
    return path


def make_trace(path: Path, **columns: list[object]) -> Path:
    frame = conform(pl.DataFrame({"request_id": [0, 1], "arrival_s": [0.0, 1.0], **columns}), TRACE, source="test")
    info = TraceInfo(name=path.stem, format="canonical", sha256="", rows_read=2, rows_kept=2)
    write_trace(Trace(frame.lazy(), info), path)
    return path


def ask(sql: str, **named: object) -> list[dict[str, object]]:
    with database(**named) as connection:  # type: ignore[arg-type]
        file = io.BytesIO()
        results.write_json(select(connection, sql), file)
        found: list[dict[str, object]] = orjson.loads(file.getvalue())
        return found


def cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["query", *map(str, arguments)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "one", outcomes(600))


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trace(tmp_path_factory.mktemp("traces") / "small.parquet", tenant=["t", None], prompt_tokens=[1, 2])


def test_the_views_metrics_are_those_of_polars(run: Path) -> None:
    expected = outcomes(600).with_columns(
        *metrics.LATENCIES.values(),
        metrics.SEND_LAG,
        metrics.meets_ttft(pl.col("slo_ttft_s")).alias("ttft_met"),
        metrics.meets_tpot(pl.col("slo_tpot_s")).alias("tpot_met"),
    )
    joint = pl.all_horizontal(pl.col("ttft_met", "tpot_met").fill_null(True))
    either = pl.any_horizontal(pl.col("ttft_met", "tpot_met").is_not_null())
    expected = expected.with_columns(slo_met=pl.when(either).then(joint))
    found = pl.DataFrame(ask("FROM outcomes ORDER BY request_id", runs=[run]), schema_overrides=OUTCOMES)
    for name in METRICS:
        kept = expected[name].fill_nan(None) if expected[name].dtype.is_float() else expected[name]
        assert kept.null_count() not in (0, len(kept)) or name == "send_lag_s"
        assert found[name].is_null().equals(kept.is_null()), name
        assert found[name].drop_nulls().to_list() == pytest.approx(kept.drop_nulls().to_list(), rel=1e-12), name


def test_macros_of_quantiles_attainment_and_goodput_agree_with_numpy(run: Path) -> None:
    sql = "SELECT p99(ttft_s) AS p99, p999(ttft_s) AS p999, attainment(slo_met) AS met, "
    sql += "goodput(slo_met, arrival_s, finish_s) AS good FROM outcomes"
    (found,) = ask(sql, runs=[run])
    frame = pl.DataFrame(ask("FROM outcomes", runs=[run]), infer_schema_length=None)
    ttft = frame["ttft_s"].drop_nulls().to_numpy()
    span = frame["finish_s"].max() - frame["arrival_s"].min()  # type: ignore[operator]
    assert found["p99"] == pytest.approx(np.quantile(ttft, 0.99))
    assert found["p999"] == pytest.approx(np.quantile(ttft, 0.999))
    assert found["met"] == pytest.approx(frame["slo_met"].drop_nulls().mean())
    assert found["good"] == pytest.approx(frame["slo_met"].sum() / span)


def test_goodput_and_attainment_are_unknown_without_objectives(tmp_path: Path) -> None:
    frame = outcomes(20).with_columns(slo_ttft_s=None, slo_tpot_s=None)
    sql = "SELECT attainment(slo_met) AS met, goodput(slo_met, arrival_s, finish_s) AS good FROM outcomes"
    assert ask(sql, runs=[make_run(tmp_path / "r", frame)]) == [{"met": None, "good": None}]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep that is not begun."""
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "sweep.json").write_bytes(b"{}")
    return folder


def test_every_documented_column_is_there(run: Path, trace: Path, sweep: Path) -> None:
    with database(runs=[run], traces=[trace], sweep=sweep) as connection:
        found = views(connection)
    for name, (_, _, columns) in VIEWS.items():
        assert found[name][: len(columns)] == list(columns)


def test_run_json_is_flattened(run: Path) -> None:
    assert ask("SELECT run, scheduler, limits_kv_blocks, state FROM runs", runs=[run]) == [
        {"run": "one", "scheduler": "fcfs", "limits_kv_blocks": 7, "state": "finished"}
    ]


def test_several_runs_carry_their_names_and_mixed_settings_become_text(tmp_path: Path, run: Path) -> None:
    other = make_run(
        tmp_path / "two",
        outcomes(5),
        name=HOSTILE,
        scheduler={"name": "srpt", "spec": "s-2"},
        limits={"kv_blocks": "?"},
    )
    sql = "SELECT run, scheduler, count(*) AS n FROM outcomes GROUP BY ALL ORDER BY n"
    assert ask(sql, runs=[run, other]) == [
        {"run": HOSTILE, "scheduler": "srpt", "n": 5},
        {"run": "one", "scheduler": "fcfs", "n": 600},
    ]
    assert ask("SELECT limits_kv_blocks AS k FROM runs ORDER BY k", runs=[run, other]) == [{"k": "7"}, {"k": "?"}]
    assert ask("SELECT run FROM runs WHERE run = 'two'", runs=[tmp_path]) == []


def test_runs_of_one_name_do_not_pass_for_one(tmp_path: Path) -> None:
    for day, requests in (("monday", 3), ("tuesday", 5)):
        make_run(tmp_path / day / "fcfs", outcomes(requests), name="fcfs")
    days = [tmp_path / "monday", tmp_path / "tuesday", tmp_path / "monday" / ".." / "monday"]
    found = ask("SELECT run, count(*) AS n FROM outcomes GROUP BY run ORDER BY run", runs=days)
    assert found == [{"run": "monday/fcfs", "n": 3}, {"run": "tuesday/fcfs", "n": 5}]
    assert [row["run"] for row in ask("SELECT run FROM runs ORDER BY run", runs=days)] == [
        "monday/fcfs",
        "tuesday/fcfs",
    ]


def test_traces_of_one_name_do_not_pass_for_one(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens,finish_s\n0,1,1,2\n")
    named = [tmp_path / place / "t.csv" for place in ("a", "b", "a")]
    assert ask("SELECT trace_name FROM trace ORDER BY 1", traces=named) == [{"trace_name": f"{n}/t.csv"} for n in "ab"]
    assert ask("SELECT run FROM outcomes ORDER BY 1", traces=named) == [{"run": f"{n}/t.csv"} for n in "ab"]


def test_a_run_without_rows_has_empty_views(tmp_path: Path) -> None:
    empty = RunWriter.create(tmp_path / "r", {"run_id": "r"})
    assert ask("SELECT count(*) AS n, max(ttft_s) AS m FROM outcomes", runs=[empty.path]) == [{"n": 0, "m": None}]


def test_canonical_parquet_is_scanned_where_it_lies_and_other_formats_are_converted(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = tmp_path / "other.csv"
    csv.write_text("arrival_s,model,prompt_tokens\n0,m,5\n1,m,7\n")
    sql = "SELECT trace_name, sum(prompt_tokens) AS tokens FROM trace GROUP BY ALL ORDER BY ALL"
    assert ask(sql, traces=[trace, csv]) == [
        {"trace_name": "other", "tokens": 12},
        {"trace_name": "small", "tokens": 3},
    ]
    monkeypatch.setattr(sources, "read_trace", lambda paths: pytest.fail("a canonical file was converted"))
    assert len(ask(sql, traces=[trace])) == 1


def test_what_a_source_measured_is_an_outcome(tmp_path: Path) -> None:
    source = tmp_path / "measured.csv"
    source.write_text("arrival_s,output_tokens,first_token_s,finish_s\n0,2,0.5,1\n1,3,1.5,4\n")
    assert ask("SELECT run, max(e2e_s) AS e FROM outcomes GROUP BY run", traces=[source]) == [
        {"run": "measured", "e": 3.0}
    ]
    assert ask("SELECT run, state FROM runs", traces=[source]) == [{"run": "measured", "state": "finished"}]


def test_analysis_tables_are_views_whatever_their_names(tmp_path: Path) -> None:
    name = 'a"b; DROP VIEW x'
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / f"{name}.parquet")
    pl.DataFrame({"x": [2]}).write_parquet(tmp_path / "arrivals_rate.parquet")
    assert ask("SELECT x FROM arrivals_rate", analysis=tmp_path) == [{"x": 2}]
    assert ask('SELECT x FROM "a""b; DROP VIEW x"', analysis=tmp_path) == [{"x": 1}]


def test_an_analysis_table_cannot_take_a_views_name(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "Outcomes.parquet")
    with pytest.raises(Failure, match="has the name of a view"):
        ask("SELECT 1", analysis=tmp_path)


def test_paths_with_quotes_and_wildcards_name_only_themselves(tmp_path: Path) -> None:
    make_run(tmp_path / "ab", outcomes(3))
    hostile = make_run(tmp_path / "a*'", outcomes(5))
    assert ask("SELECT count(*) AS n FROM outcomes", runs=[hostile]) == [{"n": 5}]
    star = make_trace(tmp_path / "t*.parquet")
    make_trace(tmp_path / "tx.parquet")
    assert ask("SELECT count(*) AS n FROM trace", traces=[star]) == [{"n": 2}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{folder}/*')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM read_json('{file}')",
        "SELECT * FROM read_parquet('{parquet}')",
        "SELECT * FROM parquet_metadata('{parquet}')",
        "SELECT * FROM sniff_csv('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM '{parquet}'",
        "SELECT * FROM '{folder}/*.parquet'",
        "SELECT * FROM query('SELECT * FROM read_text(''{file}'')')",
        "SELECT * FROM frame",
        "COPY outcomes TO '{folder}/stolen.csv'",
        "COPY (SELECT 1) TO '{folder}/stolen.parquet'",
        "EXPLAIN ANALYZE COPY outcomes TO '{folder}/stolen.csv'",
        "EXPORT DATABASE '{folder}/stolen'",
        "ATTACH '{folder}/stolen.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA enable_logging",
        "CALL enable_logging()",
        "DROP VIEW outcomes",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO outcomes SELECT * FROM outcomes",
        "WITH x AS (SELECT 1) INSERT INTO outcomes SELECT * FROM x",
        "SELECT 1; SELECT 2",
        "",
    ],
)
def test_nothing_but_the_views_can_be_touched(sql: str, run: Path, tmp_path: Path) -> None:
    frame = pl.DataFrame({"secret": [1]})
    file, parquet = tmp_path / "secret.csv", tmp_path / "secret.parquet"
    file.write_text("secret\n")
    frame.write_parquet(parquet)
    before = sorted(tmp_path.iterdir())
    result = cli(sql.format(file=file, folder=tmp_path, parquet=parquet), "--run", run)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("trace: SQL: ")
    assert result.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_files_can_be_read_when_asked_but_not_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    allowed = cli(f"FROM '{tmp_path}/x.csv'", "--run", run, "--allow-files", "--format", "csv")
    assert allowed.stdout == "a,b\n1,2\n"
    assert cli(f"COPY outcomes TO '{tmp_path}/y.csv'", "--run", run, "--allow-files").exit_code == 1
    assert not (tmp_path / "y.csv").exists()


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELECT modle FROM outcomes", "did you mean 'model'?"),
        ("SELECT o.modle FROM outcomes o", "did you mean 'model'?"),
        ("SELECT state FROM outcomes", "it is in runs"),
        ("SELECT * FROM outcome", "did you mean 'outcomes'?"),
        ("SELECT * FROM trace", "it needs --trace"),
        ("SELECT * FROM 'no.csv'", "--allow-files"),
        ("SELECT p98(ttft_s) FROM outcomes", 'Did you mean "p9'),
        ("SELEC 1", "syntax error"),
        ("SELECT CAST(model AS INTEGER) FROM outcomes", "Could not convert"),
    ],
)
def test_an_error_is_one_line_with_the_nearest_name(sql: str, hint: str, run: Path) -> None:
    result = cli(sql, "--run", run)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert hint in result.stderr


def test_a_damaged_part_is_one_line(tmp_path: Path) -> None:
    broken = make_run(tmp_path / "r", outcomes(30))
    next((broken / "outcomes").iterdir()).write_bytes(b"no parquet")
    result = cli("SELECT sum(arrival_s) FROM outcomes", "--run", broken)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


def test_the_guide_lists_every_view_and_its_examples_run(run: Path, trace: Path, sweep: Path, tmp_path: Path) -> None:
    pl.DataFrame({"window_s": [1.0]}).write_parquet(tmp_path / "arrivals_dispersion.parquet")
    shown = cli()
    assert (shown.exit_code, shown.stdout) == (0, guide() + "\n")
    folder = {"--run": run, "--trace": trace, "--analysis": tmp_path, "--sweep": sweep}
    for sql, option in EXAMPLES.items():
        assert sql in shown.stdout
        assert cli(sql, option, folder[option]).exit_code == 0, sql


def test_a_pipe_to_write_into_stays_one(trace: Path, tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    answer = cli("SELECT count(*) AS n FROM trace", "--trace", trace, "--format", "csv", "--out", pipe)
    reader.join()
    assert (answer.exit_code, read, pipe.is_fifo()) == (0, [b"n\n2\n"], True)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_to_write_into_stays_one(trace: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest.csv"
    link.symlink_to(tmp_path / "today.csv")
    for _ in range(2):
        assert cli("SELECT count(*) AS n FROM trace", "--trace", trace, "--format", "csv", "--out", link).exit_code == 0
        assert (tmp_path / "today.csv").read_text() == "n\n2\n"
        assert link.is_symlink()


def test_without_sql_the_views_at_hand_are_listed(run: Path) -> None:
    shown = cli("--run", run).stdout
    assert "outcomes\n" in shown
    assert "limits_kv_blocks" in shown
    assert "trace\n" not in shown


def test_formats(run: Path, tmp_path: Path) -> None:
    sql = "SELECT [1, 2] AS l, 'a,\"b' AS t, NULL AS n, sum(2::BIGINT) AS s, 1 AS s, INTERVAL 1 DAY AS i, 1.5 AS d"
    assert cli(sql, "--run", run, "--format", "csv").stdout.splitlines()[0] == "l,t,n,s,s_1,i,d"
    assert cli(sql, "--run", run, "--format", "csv").stdout.splitlines()[1].startswith('"[1,2]","a,""b",,2,1,')
    (row,) = orjson.loads(cli(sql, "--run", run, "--format", "json").stdout)
    assert {k: row[k] for k in "ltnsd"} == {"l": [1, 2], "t": 'a,"b', "n": None, "s": 2, "d": 1.5}
    target = tmp_path / "x.parquet"
    assert cli("SELECT sum(output_tokens) AS s FROM outcomes", "--run", run, "--format", "parquet").exit_code == 1
    cli("SELECT sum(output_tokens) AS s FROM outcomes", "--run", run, "--format", "parquet", "--out", target)
    assert pl.read_parquet(target).schema == {"s": pl.Int64}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("form", "text"), [("csv", "a\n"), ("json", "[]\n"), ("table", "a\n─\n")])
def test_no_rows_still_have_their_columns(form: str, text: str, run: Path) -> None:
    assert cli("SELECT 1 AS a WHERE false", "--run", run, "--format", form).stdout == text


def test_a_long_table_says_that_it_is_cut(run: Path) -> None:
    lines = cli("SELECT request_id FROM outcomes", "--run", run).stdout.splitlines()
    assert len(lines) == 2 + results.SHOWN_ROWS + 1
    assert lines[-1] == "… only the first 40 shown; --format csv has every row"
    assert len(cli("SELECT request_id FROM outcomes LIMIT 40", "--run", run).stdout.splitlines()) == 42


def test_a_wide_table_is_turned_and_text_cannot_drive_the_terminal(run: Path) -> None:
    lines = cli("FROM outcomes", "--run", run).stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split()[:2] == ["run", "one"]
    assert "\x1b" not in cli("SELECT chr(27) || '[2J' AS x", "--run", run).stdout


def test_rows_arrive_as_a_stream(run: Path) -> None:
    with database(runs=[run]) as connection:
        answer = select(connection, "SELECT * FROM range(1000000000000)")
        started = time.monotonic()
        results.write_table(answer, io.BytesIO(), 100)
        assert time.monotonic() - started < 5


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_stops_a_query(run: Path) -> None:
    sql = "SELECT sum(sqrt(a.range * b.range)) FROM range(10000000) a, range(10000000) b"
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a background job ignores it
    code = f"{listen}; from toolkit.cli import main; main(['query', '--run', {str(run)!r}, {sql!r}])"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    try:
        time.sleep(4)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 1
    assert b"Traceback" not in stderr


def test_the_answer_does_not_take_the_traces_place(trace: Path) -> None:
    before = trace.read_bytes()
    words = ["query", "SELECT 1", "--trace", str(trace), "--format", "parquet", "--out", str(trace)]
    assert "--out: would take the place of the trace" in CliRunner().invoke(main, words).output
    assert trace.read_bytes() == before


def test_a_number_beyond_64_bits_is_json_all_the_same(run: Path) -> None:
    answer = cli("SELECT 2::HUGEINT ** 100 AS x, (2::HUGEINT ** 70)::HUGEINT AS y", "--run", run, "--format", "json")
    assert json.loads(answer.stdout) == [{"x": 2.0**100, "y": 2.0**70}]
