"""Our schedulers inside vLLM: `vllm serve MODEL --scheduler-cls replay.vllm.scheduler.TraceScheduler`.

A replay with --send-hints begins by announcing itself: it sends the scheduler's name and the trace's table along with
one short request (replay.vllm.hints). From then on each of its requests says its number, by which the scheduler inside
knows it (replay.vllm.charge); vLLM's waiting queue hands out who ranks first (replay.vllm.waiting), and who loses its
place ranks last (replay.vllm.scheduler, which alone imports vllm).
"""
