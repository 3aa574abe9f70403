"""GPUs that hold several models: pages that balloon, weights that load, leave and migrate."""
