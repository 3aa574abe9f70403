"""What a placement is told about a cluster, what it is shown, and what it can do; and the placement protocol itself.

Models and GPUs are numbers, in the order of the cluster's spec. Bytes are those on *each* GPU that a model lives on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Why = Literal["begin", "tick", "miss", "loaded", "idle", "memory"]

# Where a model's engine is: without weights, being loaded, serving, ending what runs while another serves (which a view
# shows as READY, the model's other engine being so).
ABSENT, LOADING, READY, LEAVING = range(4)


@dataclass(frozen=True)
class Load:
    """Bring a model's weights to `gpus` (as many as its tensor parallelism), `resident` of its layers, the rest on the
    host. `kv_bytes` caps its KV memory on each GPU; None: all that is free.
    """

    model: int
    gpus: tuple[int, ...]
    resident: float = 1.0
    kv_bytes: float | None = None


@dataclass(frozen=True)
class Evict:
    """Take a model off its GPUs at once; what runs there loses its place, and waits with the rest."""

    model: int


@dataclass(frozen=True)
class Migrate:
    """Load a model on other GPUs while it goes on serving here; what runs here then ends here."""

    model: int
    gpus: tuple[int, ...]


@dataclass(frozen=True)
class Resize:
    """Cap a model's KV memory on each of its GPUs (None: no cap); what no longer fits loses its place."""

    model: int
    kv_bytes: float | None


@dataclass(frozen=True)
class Offload:
    """Keep `resident` of a ready model's layers on its GPUs, the rest on the host."""

    model: int
    resident: float


@dataclass(frozen=True)
class Wait:
    """Let requests wait that find no memory (the answer to a memory call): until something else is done, a load ends or
    the next tick comes. Then the placement is asked again.
    """


Action = Load | Evict | Migrate | Resize | Offload | Wait


@dataclass(frozen=True)
class Facts:
    """What does not change: arrays over models ([m]), over GPUs ([g]) and over both ([m, g])."""

    models: tuple[str, ...]
    gpus: tuple[str, ...]
    host: Ints  # [g] which host a GPU is in
    memory_bytes: Floats  # [g] for weights and KV together
    weight_bytes: Floats  # [m] on each of its GPUs
    width: Ints  # [m] GPUs it needs (tensor parallelism)
    kv_bytes_per_token: Floats  # [m] on each of its GPUs
    least_kv_bytes: Floats  # [m] for the longest request that the trace has for it
    slo_ttft_s: Floats  # [m] NaN: none
    slo_tpot_s: Floats  # [m]
    load_s: Floats  # [m, g] to load it there, alone on the link; infinite where it does not fit
    restore_s: Floats  # [m] to bring back layers that are on the host, all of them, to an engine that is up
    prefill_s_per_token: Floats  # [m]
    decode_s_per_token: Floats  # [m] of exclusive GPU time, in full steps
    requests_per_s: Floats  # [m] over the whole trace: what an offline placement may know
    tokens_per_s: Floats  # [m] prompt and output, over the whole trace
    future: tuple[Floats, ...]  # [m] arrival times: only who plans with hindsight looks at them
    peer_links: bool  # whether GPUs of a host reach each other without the host


@dataclass(frozen=True)
class View:
    """What stands at `now_s`. Counts are since the replay began; arrays are the placement's to keep."""

    now_s: float
    why: Why
    model: int  # whom the call is about (miss, loaded, idle, memory); -1: nobody
    state: Ints  # [m] ABSENT, LOADING, READY
    gpus: tuple[tuple[int, ...], ...]  # [m] where it lives or will (while it migrates: where it still serves)
    resident: Floats  # [m] share of its layers on its GPUs; 0 where absent
    moving: NDArray[np.bool_]  # [m] it migrates, or has and still runs requests where it was
    waiting: Ints  # [m] requests
    running: Ints  # [m]
    oldest_s: Floats  # [m] arrival of the request that waits longest; NaN: none waits
    last_active_s: Floats  # [m] when it last had a request; -inf: never
    ready_s: Floats  # [m] when it became ready; NaN: it is not
    kv_bytes: Floats  # [m] mapped on each of its GPUs
    kv_limit: Floats  # [m] cap; infinite: none
    arrived: Ints  # [m] requests
    prompt_tokens: Ints  # [m] computed in prefills
    output_tokens: Ints  # [m] produced
    weight_bytes: Floats  # [g] of what is there, or is coming
    free_bytes: Floats  # [g] mapped by nobody (memory - weights - KV)


class Placement(Protocol):
    """Decides which models live on which GPUs.

    Optional members, looked up by name:

    - `interval_s` (default: never): the time between calls with why = "tick";
    - `arbitrates: bool` (default False): whether a GPU's models share one queue in the scheduler's order, so that
      nobody is admitted before one that ranks first and could be;
    - `loading` ("naive", "dram" or "parallel"; default: as the cluster's spec says): how it brings weights;
    - `elastic: bool` (default True): whether engines map KV memory page by page, which takes time, or have all that
      they may use mapped from the start;
    - `least_kv_share` (default 0.05): the share of a GPU's memory that a load must leave for KV;
    - `rests(view) -> float`: until when, in seconds, ticks can be left out;
    - `alternatives`, `follow(spec)` and `of` ("joint", "ttft" or "tpot"): placements' specs that a simulated cluster
      tries on all requests before the replay, and whom it then tells this one to follow: the one that does best by
      the attainment of the objectives that `of` names.

    `rests` is asked after a tick at which the placement did nothing, while no model has requests or is on its way. Up
    to the time that it answers, a tick with a view that differs in `now_s` alone must do nothing, and leave nothing
    behind that changes a later decision. The last tick before the next request comes is never left out.
    """

    def begin(self, facts: Facts) -> Sequence[Action]:
        """Get to know the cluster, and say what is loaded when the replay starts; that takes no time."""
        ...

    def decide(self, view: View) -> Sequence[Action]:
        """What to do now. Called at each tick; when a request arrives for a model that is nowhere resident (miss), once
        per request until one is loading; when a model is ready (loaded); when a model has nothing left to do while
        another one waits to be loaded (idle); and when a model cannot serve its next request because of what else lives
        on its GPUs (memory). Who does nothing then, not even Wait, has that request rejected.

        Weights that do not fit beside the others are refused with the arithmetic; KV memory gives way to them.
        """
        ...
