"""What `trace query` can see: the views, their columns, and the macros, as text that the database is made from.

The metrics are those of toolkit.metrics, said in SQL.
"""

from toolkit.schema import CAPACITY, EVENTS, OUTCOMES, SENSITIVITY, SWEEP, TIMELINE, TRACE, WIRE

COUNTED = "warm_up IS NOT TRUE"

# Null for requests that only warmed up.
METRICS = {
    name: f"CASE WHEN {COUNTED} THEN {expression} END"
    for name, expression in {
        "ttft_s": "first_token_s - arrival_s",
        "tpot_s": "CASE WHEN output_tokens > 1 THEN (finish_s - first_token_s) / (output_tokens - 1) END",
        "e2e_s": "finish_s - arrival_s",
        "queueing_delay_s": "start_s - arrival_s",
        "slowdown": "(finish_s - arrival_s) / alone_s",
        "send_lag_s": "sent_s - arrival_s",
        "ttft_met": "meets_ttft(ttft_s, slo_ttft_s, status)",
        "tpot_met": "meets_tpot(tpot_s, slo_tpot_s, status)",
        "slo_met": "meets_all(ttft_met, tpot_met)",
    }.items()
}

# Each by what it is called with; a macro may use those before it.
MACROS = {
    "meets_ttft(ttft_s, slo_s, status)": "CASE WHEN slo_s IS NOT NULL THEN "
    "status = 'ok' AND coalesce(ttft_s <= slo_s, false) END",
    "meets_tpot(tpot_s, slo_s, status)": "CASE WHEN slo_s IS NOT NULL THEN "
    "status = 'ok' AND coalesce(tpot_s <= slo_s, true) END",
    "meets_all(ttft_met, tpot_met)": "CASE WHEN ttft_met IS NOT NULL OR tpot_met IS NOT NULL THEN "
    "coalesce(ttft_met, true) AND coalesce(tpot_met, true) END",
    "attainment(met)": "avg(CAST(met AS INTEGER))",
    "goodput(met, arrival_s, finish_s)": "CASE WHEN count(met) > 0 THEN "
    "count(*) FILTER (WHERE met) / (max(finish_s) - min(arrival_s)) END",
    "p50(x)": "quantile_cont(x, 0.5)",
    "p90(x)": "quantile_cont(x, 0.9)",
    "p95(x)": "quantile_cont(x, 0.95)",
    "p99(x)": "quantile_cont(x, 0.99)",
    "p999(x)": "quantile_cont(x, 0.999)",
}

RUN_COLUMNS = ("run", "run_id", "scheduler", "placement", "engine", "state")
OF_RUN = ("run", "scheduler", "placement")  # what each row of a run's tables says of the run

# View -> the option that fills it, what a row is, and its columns (runs and analyses have more, from their files).
VIEWS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "trace": ("--trace", "a request of a trace", ("trace_name", *TRACE)),
    "outcomes": ("--run", "an offered request and what became of it", (*OF_RUN, *OUTCOMES, *METRICS)),
    "runs": ("--run", "a run: run.json, nested entries joined by _", RUN_COLUMNS),
    "timeline": ("--run", "an engine at one moment of a run", (*OF_RUN, *TIMELINE)),
    "events": ("--run", "something that happened in a run", (*OF_RUN, *EVENTS)),
    "wire": ("--run", "a request as it was sent and answered over HTTP", (*OF_RUN, *WIRE)),
    "sensitivity": ("--run", "a quantile had steps been faster or slower", (*OF_RUN, *SENSITIVITY)),
    "sweep": ("--sweep", "a point of a sweep: one replay on a cluster", (*SWEEP,)),
    "capacity": ("--sweep", "the fewest GPUs, or the highest load, that a sweep found to be enough", (*CAPACITY,)),
}

EXAMPLES = {
    "SELECT model, count(*), quantile_cont(ttft_s, 0.99) FROM outcomes GROUP BY model": "--run",
    "SELECT run, p50(e2e_s), p99(e2e_s), attainment(slo_met) FROM outcomes GROUP BY run ORDER BY run": "--run",
    "SELECT request_id, model, e2e_s, preemptions FROM outcomes ORDER BY e2e_s DESC LIMIT 10": "--run",
    "SELECT floor(time_s / 60) AS minute, max(queue) FROM timeline GROUP BY ALL ORDER BY ALL": "--run",
    "SELECT tenant, sum(prompt_tokens + output_tokens) AS tokens FROM trace GROUP BY tenant": "--trace",
    "SELECT placement, gpus, avg(attainment) FROM sweep GROUP BY ALL ORDER BY ALL": "--sweep",
    "SELECT * FROM arrivals_dispersion": "--analysis",
}
