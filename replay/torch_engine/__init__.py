"""A real engine in this process: continuous batching on PyTorch with our schedulers and placements inside.

It needs torch, transformers and NumPy, and nothing else that this project needs: a machine with only those runs it from
a checkout. In the order of a session:

    device = Device.of("cuda")
    model = build("small", {"hidden_size": 2048, …}, device)   or a folder: weights on the host, and what runs them
    house = House(device, [model], Limits(), memory_bytes=…)   one allocation for weights and KV
    measured(house, 512, 1000.0)                               loads, prefills and full decode steps, in seconds
    house.start([Load(0, (0,))])                               what is loaded before the first request
    house.run([Job(…), …])                                     True when every job has ended; times are in the jobs
    house.notes.steps, .events                                 what happened, step by step
"""
