"""`trace analyze` and `trace plugins` as a user meets them."""

import json
import sys
from pathlib import Path

import loader_samples
import polars as pl
import pytest
from click.testing import CliRunner

from toolkit import plugins
from toolkit.analyses import ON_REQUEST
from toolkit.cli import main


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    columns = {
        "arrival_s": [i * 0.37 for i in range(200)],
        "model": ["[bold]big[/bold]", "small\u001b[31m"] * 100,
        "session_id": [f"s{i % 40}" for i in range(200)],
        "prompt_tokens": [10 + 7 * (i % 13) for i in range(200)],
        "output_tokens": [1 + i % 30 for i in range(200)],
    }
    pl.DataFrame(columns).write_csv(path)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_holds_the_contract(trace: Path) -> None:
    answer = json.loads(run("analyze", trace, "--json"))
    assert {"format", "rows_read", "rows_kept", "dropped", "span_s", "time_unit", "clock_step_s"} <= set(
        answer["trace"]
    )
    assert {"rate_per_s", "gap_cv", "dispersion"} <= set(answer["arrivals"])
    assert {"window_s", "index"} <= set(answer["arrivals"]["dispersion"][0])
    for column in ("prompt_tokens", "output_tokens"):
        assert {"mean", "p50", "p90", "p95", "p99", "max"} <= set(answer[column])
    assert answer["models"]["count"] == 2
    assert {"model", "share"} <= set(answer["models"]["top"][0])
    assert (answer["sessions"]["count"], answer["sessions"]["max_turns"]) == (40, 5)
    assert answer["prefixes"] is None
    assert answer["tenants"] is None


def test_the_summary_is_plain_narrow_and_says_what_was_read(trace: Path) -> None:
    text = run("analyze", trace)
    assert "200 read = 200 kept + 0 dropped" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text == "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    assert "\u001b" not in text
    assert "[bold]big[/bold]" in text
    assert "small\\x1b[31m" in text
    for question in ("arrivals", "lengths", "popularity", "idle", "sessions"):
        assert f"\n{question} ─" in text
    assert "prefixes ─" not in text


def test_the_summary_tells_lengths_that_are_unknown_or_zero_and_their_unit(trace: Path, tmp_path: Path) -> None:
    holes = pl.when(pl.int_range(pl.len()) % 10 > 0).then("prompt_tokens")
    failed = pl.when(pl.int_range(pl.len()) % 8 > 0).then("output_tokens").otherwise(0)
    pl.read_csv(trace).with_columns(prompt_tokens=holes, output_tokens=failed).write_csv(tmp_path / "holes.csv")
    text = run("analyze", tmp_path / "holes.csv")
    assert "unknown      prompt of 20, 10.0 % of requests" in text
    assert "zero         output of 25, 12.5 % of requests" in text
    assert "unknown" not in run("analyze", trace)
    assert "  characters  mean" in run("analyze", loader_samples.write("alibaba-gentd26", tmp_path))


def test_options_select_before_anything_is_counted(trace: Path) -> None:
    answer = json.loads(run("analyze", trace, "--json", "--limit", 50, "--speed", 2))
    assert answer["arrivals"]["requests"] == 50
    assert answer["arrivals"]["span_s"] == pytest.approx(49 * 0.37 / 2)


def test_out_writes_every_table_the_page_and_the_json(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "analysis"
    text = run("analyze", trace, "--json", "--out", out)
    assert (out / "analysis.json").read_text() == text
    assert "<html" in (out / "report.html").read_text()
    rate = pl.read_parquet(out / "arrivals_rate.parquet")
    assert rate["requests"].sum() == 200
    analyses = {path.name.split("_")[0] for path in out.glob("*.parquet")}
    assert analyses == set(plugins.plugins("analysis")) - set(ON_REQUEST)


def test_the_page_counts_named_models_and_says_units(trace: Path, tmp_path: Path) -> None:
    unnamed = pl.when(pl.int_range(pl.len()) % 10 > 0).then("model")
    pl.read_csv(trace).with_columns(model=unnamed).write_csv(tmp_path / "unnamed.csv")
    run("analyze", tmp_path / "unnamed.csv", "--out", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "200 requests" in page
    assert ", to 2 models" in page
    assert all(f"{name}<" in page for name in ("gap CV", "gap P99 (s)", "span (s)", "rate per s"))
    run("analyze", trace, "--limit", 1, "--out", tmp_path / "one")
    assert "<h1>1 request.</h1>" in (tmp_path / "one" / "report.html").read_text()


def test_a_folder_that_cannot_be_written_is_one_line(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    result = CliRunner().invoke(main, ["analyze", str(trace), "--out", str(tmp_path / "taken" / "x")])
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    assert result.stderr.count("\n") == 1


def test_plugins_lists_every_kind_as_json() -> None:
    tables = json.loads(run("plugins", "--json"))
    assert list(tables) == [plugins.plural(kind) for kind in plugins.BUILTIN]
    for kind, entries in tables.items():
        for entry in entries:
            assert {"name", "summary", "parameters", "origin"} <= set(entry), (kind, entry)
    idle = next(entry for entry in tables["analyses"] if entry["name"] == "idle")
    assert idle["parameters"] == {"threshold_s": {"type": "float", "default": 10.0}}
    assert idle["summary"].startswith("Which models stand still")
    assert idle["origin"] == "built-in"


def test_a_plugin_that_cannot_be_imported_is_listed_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.BUILTIN["analysis"], "broken", "no.such.module:Nothing")
    entry = json.loads(run("plugins", "--json"))["analyses"][-1]
    assert entry["name"] == "broken"
    assert "ModuleNotFoundError" in entry["error"]
    assert "cannot be loaded" in run("plugins")


def test_commands_import_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys, toolkit.commands.analyze, toolkit.commands.plugins;"
        "print([m for m in ('polars', 'numpy', 'rich', 'scipy', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stray_moment_costs_no_memory_and_mixed_units_are_refused(tmp_path: Path) -> None:
    head = "arrival_s,prompt_tokens,output_tokens\n0,9,9\n1700000000,9,9\n"
    (tmp_path / "stray.csv").write_text(head + "1700000001,9,9\n")
    (tmp_path / "mixed.csv").write_text(head + "1700000001000,9,9\n")
    assert json.loads(run("analyze", tmp_path / "stray.csv", "--json"))["trace"]["rows_kept"] == 3
    refused = CliRunner().invoke(main, ["analyze", str(tmp_path / "mixed.csv")])
    assert refused.exit_code == 1
    assert "its times span 53,870 years; are they of one unit?" in refused.stderr
    replayed = CliRunner().invoke(main, ["replay", str(tmp_path / "mixed.csv"), "--out", str(tmp_path / "runs")])
    assert replayed.exit_code == 1
    assert "days; a replay holds 100" in replayed.stderr
