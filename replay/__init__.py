"""Traces to outcomes: schedulers, placements and engines."""
