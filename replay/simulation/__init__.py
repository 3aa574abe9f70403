"""The simulated engine: its compiled core, KV memory and latency models."""
