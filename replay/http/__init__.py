"""Sending a trace to OpenAI-compatible HTTP endpoints, on time."""
