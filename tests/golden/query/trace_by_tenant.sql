SELECT tenant, count(*) AS requests, sum(prompt_tokens) AS prompt, sum(output_tokens) AS output
FROM trace GROUP BY tenant ORDER BY tenant NULLS FIRST
