"""What `/metrics` says, under vLLM's names."""

from bisect import bisect_left
from dataclasses import dataclass, field

BUCKETS_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)


@dataclass
class Histogram:
    """Counts by bucket, with their sum."""

    name: str
    about: str
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total: float = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(BUCKETS_S, value)] += 1
        self.total += value

    def lines(self, label: str) -> list[str]:
        lines, below = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} histogram"], 0
        for edge, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            below += count
            lines.append(f'{self.name}_bucket{{le="{edge}",{label}}} {below}')
        return [*lines, f"{self.name}_sum{{{label}}} {self.total}", f"{self.name}_count{{{label}}} {below}"]


@dataclass
class Metrics:
    """Counters and histograms of one served model."""

    model: str
    about: str = ""  # a line on the engine itself
    counters: dict[str, int] = field(default_factory=dict)
    ttft: Histogram = field(
        default_factory=lambda: Histogram("vllm:time_to_first_token_seconds", "Time to first token in seconds.")
    )
    queue: Histogram = field(
        default_factory=lambda: Histogram("vllm:request_queue_time_seconds", "Time spent waiting in seconds.")
    )
    e2e: Histogram = field(
        default_factory=lambda: Histogram("vllm:e2e_request_latency_seconds", "End to end latency in seconds.")
    )

    def count(self, name: str, by: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + by

    def text(self, gauges: dict[str, float]) -> str:
        """The page, in Prometheus' text format."""
        name = self.model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        label = f'model_name="{name}"'
        lines = []
        for kind, values in (("gauge", gauges), ("counter", self.counters)):
            for name, value in values.items():
                lines += [f"# TYPE vllm:{name} {kind}", f"vllm:{name}{{{label}}} {value}"]
        for histogram in (self.ttft, self.queue, self.e2e):
            lines += histogram.lines(label)
        return self.about + "\n".join(lines) + "\n"
