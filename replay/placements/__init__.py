"""Which model lives on which GPU: a policy a file."""
