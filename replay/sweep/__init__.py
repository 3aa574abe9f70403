"""Many replays on clusters: grids, capacity searches, and the executor that runs them."""
