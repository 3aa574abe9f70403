"""Latency models from measurements, and held against them."""
