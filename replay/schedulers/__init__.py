"""One scheduling policy a file."""
