"""What `make bench` runs."""

from benchmarks import reading, simulation

reading.main()
simulation.main()
