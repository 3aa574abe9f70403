"""What `make bench` runs."""

from benchmarks.reading import main

main()
