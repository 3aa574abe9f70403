"""A real engine in this process: continuous batching on PyTorch with our schedulers and placements inside.

It needs torch, transformers and NumPy, and nothing else that this project needs: a machine with only those runs it from
a checkout. In the order of a session:

    device = Device.of("cuda")
    model = build("llama", preset(hidden_size=…), device)      weights on the host, a skeleton that runs them
    house = House(device, [model], Limits(), memory_bytes=…)   one allocation for weights and KV
    house.start([Load(0, (0,))])                               what is loaded before the first request
    house.run([Job(…), …])                                     True when every job has ended; times are in the jobs
    house.steps, house.events                                  what happened, step by step
"""
