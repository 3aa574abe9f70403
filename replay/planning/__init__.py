"""One engine's steps, planned in Python: who runs, who waits, whose memory it is. For engines that keep real time.

`trace serve` gives what is planned the time that a latency model tells, replay.torch_engine computes it, and the
scheduler inside vLLM uses the line alone. It needs NumPy and nothing else, as the GPU machine may have no more.
"""
