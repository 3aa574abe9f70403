"""The field's latency metrics as polars expressions over OUTCOMES; all from *intended* arrival unless named otherwise.

Null where undefined: a request without a first token has no TTFT, one with a single token has no TPOT.
"""

import polars as pl

_ok = pl.col("status") == "ok"

QUEUEING_DELAY = (pl.col("start_s") - pl.col("arrival_s")).alias("queueing_delay_s")
TTFT = (pl.col("first_token_s") - pl.col("arrival_s")).alias("ttft_s")
TPOT = (
    pl.when(pl.col("output_tokens") > 1)
    .then((pl.col("finish_s") - pl.col("first_token_s")) / (pl.col("output_tokens") - 1))
    .alias("tpot_s")
)
E2E = (pl.col("finish_s") - pl.col("arrival_s")).alias("e2e_s")  # the papers' TTLT
SLOWDOWN = ((pl.col("finish_s") - pl.col("arrival_s")) / pl.col("alone_s")).alias("slowdown")
SEND_LAG = (pl.col("sent_s") - pl.col("arrival_s")).alias("send_lag_s")

LATENCIES = {"ttft_s": TTFT, "tpot_s": TPOT, "e2e_s": E2E, "queueing_delay_s": QUEUEING_DELAY, "slowdown": SLOWDOWN}


def meets_ttft(slo_s: pl.Expr) -> pl.Expr:
    """Whether a request's TTFT meets `slo_s`. What failed missed; null where there is no objective."""
    return pl.when(slo_s.is_not_null()).then(_ok & (slo_s >= TTFT).fill_null(False)).alias("meets_ttft")


def meets_tpot(slo_s: pl.Expr) -> pl.Expr:
    """Whether a request's TPOT meets `slo_s`; one token has no TPOT and meets any. What failed missed."""
    within = pl.when(TPOT.is_not_null()).then(slo_s >= TPOT).otherwise(True)
    return pl.when(slo_s.is_not_null()).then(_ok & within).alias("meets_tpot")
