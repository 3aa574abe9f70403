"""Run by the peer's own Python: NVIDIA Dynamo's offline replay of a Mooncake JSONL, timed around the call.

    python3 -m venv ../dynamo
    ../dynamo/bin/pip install --no-deps ai-dynamo==1.6.1 ai-dynamo-runtime==1.6.1
    ../dynamo/bin/pip install msgspec pydantic
    DYNAMO_PYTHON=../dynamo/bin/python make bench

(A plain install asks for a package that does not exist.) Prints one line of JSON.
"""

import json
import resource
import sys
import time


def replay(trace: str, blocks: int) -> dict[str, float]:
    """Requests completed, CPU seconds of the replay, and the process's peak memory in bytes."""
    from dynamo.replay import run_trace_replay

    limits = {
        "num_gpu_blocks": blocks,
        "block_size": 16,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 2048,
        "enable_prefix_caching": False,
        "enable_chunked_prefill": True,
    }
    began = time.process_time()
    report = run_trace_replay(
        [trace], extra_engine_args={"engine": limits}, trace_block_size=512, capture_per_request=True
    )
    cpu_s = time.process_time() - began
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"requests": report.summary["completed_requests"], "cpu_s": cpu_s, "peak_bytes": peak_bytes}


if __name__ == "__main__":
    print(json.dumps(replay(sys.argv[1], int(sys.argv[2]))))
