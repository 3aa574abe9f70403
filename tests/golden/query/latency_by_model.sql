SELECT model, count(*) AS requests, count(ttft_s) AS answered, round(quantile_cont(ttft_s, 0.5), 3) AS ttft_p50,
    round(p99(e2e_s), 3) AS e2e_p99, round(avg(tpot_s), 3) AS tpot
FROM outcomes GROUP BY model ORDER BY model
