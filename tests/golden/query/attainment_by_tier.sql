SELECT tier, attainment(ttft_met) AS ttft, attainment(tpot_met) AS tpot, attainment(slo_met) AS both,
    round(goodput(slo_met, arrival_s, finish_s), 3) AS goodput_per_s
FROM outcomes GROUP BY tier ORDER BY tier
