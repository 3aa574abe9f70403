"""VTC's results: a measured run of two tenants."""

from pathlib import Path

import loader_samples

from toolkit.traces import read_trace


def test_a_result_is_a_trace_and_a_measured_run(tmp_path: Path) -> None:
    trace = read_trace([loader_samples.write("vtc-results", tmp_path)])
    frame = trace.frame.collect()
    assert frame["tenant"].to_list() == ["lora-0", "lora-1"]
    assert frame["arrival_s"].to_list() == [0.0, 0.5]
    assert frame["source_ttft_s"].to_list() == [0.75, 0.25]
    assert frame["source_e2e_s"].to_list() == [12.5, 3.0]
    assert trace.outcomes is not None
    outcomes = trace.outcomes.collect()
    assert outcomes["first_token_s"].to_list() == [0.75, 0.75]
    assert outcomes["finish_s"].to_list() == [12.5, 3.5]
    assert outcomes["status"].to_list() == ["ok", "ok"]


def test_experiments_on_several_lines_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(loader_samples.vtc_results() * 3)
    assert read_trace([path]).info.rows_kept == 6
