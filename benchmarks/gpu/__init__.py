"""`make gpu`: what loads, copies, pages, steps and schedules cost on one CUDA GPU, measured within calls of minutes.

It runs where there is nothing but torch, transformers, NumPy and the standard library; `benchmarks.gpu.tables` makes
cost tables of what it wrote, elsewhere, with the project's libraries.
"""
