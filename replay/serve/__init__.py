"""The simulated engine behind an OpenAI-compatible HTTP endpoint, in real time."""
