"""What the engine writes down as it goes; whoever reads it may empty the lists."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Step(NamedTuple):
    """One step of one model, as it was planned; what decodes reads `kv_tokens` together. `step_s` has the planning."""

    time_s: float
    step_s: float = 0.0
    model: str = ""
    queue: int = 0
    running: int = 0
    kv_used_blocks: int = 0
    kv_total_blocks: int = 0
    kv_bytes: int = 0  # of the pages that its KV is on
    resident_bytes: int = 0
    prefill_tokens: int = 0
    decodes: int = 0
    kv_tokens: int = 0


@dataclass
class Notes:
    """Steps, events (by EVENTS' names) and how often activations found no memory."""

    steps: list[Step] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    halved: int = 0

    def event(
        self, time_s: float, kind: str, model: str, request: int | None, size: int | None, seconds: float, detail: str
    ) -> None:
        self.events.append(
            {
                "time_s": time_s,
                "kind": kind,
                "model": model,
                "request_id": request,
                "bytes": size,
                "duration_s": seconds,
                "detail": detail,
            }
        )
