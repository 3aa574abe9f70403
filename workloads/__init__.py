"""Traces in: loaders, generators and transforms."""
