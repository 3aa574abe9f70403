SELECT request_id, meets_ttft(ttft_s, 1, status) AS ttft, meets_tpot(tpot_s, 0.15, status) AS tpot
FROM outcomes ORDER BY request_id
