"""What `make bench` runs, or the one that is named, with its arguments: python -m benchmarks [NAME [ARGUMENT…]]."""

import runpy
import sys

USUAL = ("reading", "analysis", "simulation", "http_replay")

named, arguments = sys.argv[1:2], sys.argv[2:]
for name in named or USUAL:
    sys.argv = [name, *arguments]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
