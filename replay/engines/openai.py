"""The real engine: any OpenAI-compatible endpoint over HTTP."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from replay.http import targets
from replay.http.asking import dial_of
from replay.http.deadlines import Timeouts, timeouts
from replay.http.endpoint import Endpoint, endpoint, secret_headers
from replay.http.load import Load
from replay.http.orders import asked, turns
from replay.http.pool import Address
from replay.http.probe import served_models
from replay.http.replaying import Replaying
from replay.http.targets import Routes, address_of, read_models
from replay.vllm import hints
from toolkit import plugins
from toolkit.errors import SettingFailure
from toolkit.protocols import Scheduler, Watch
from toolkit.runs import RunWriter
from toolkit.traces import TraceInfo

ONE_AT_A_TIME = threading.Lock()  # replays under several schedulers must not share an endpoint at the same time
TRACES_OWN = Load()
LONGEST_PROMPT = 4_000_000  # some 20 MB of text


@dataclass
class OpenAI:
    """Sends each request at its instant to an OpenAI-compatible endpoint and stamps what comes back."""

    shows_progress: ClassVar[bool] = True  # in a line of its own

    urls: tuple[str, ...]
    models: Mapping[str, targets.Served]
    api: str | None
    limits: Timeouts
    closed: bool = True
    most: int | None = None
    send_priority: bool = False
    send_hints: bool = False
    workers: int = 1
    reuse: bool = True
    retries: int = 2
    lag_bound_s: float = 0.01
    ca: str | None = None
    load: Load = TRACES_OWN
    token_times: bool = False
    words: tuple[str, ...] = ()  # of one token each
    on: str = "local"  # else the Ray cluster whose hosts send

    def __post_init__(self) -> None:
        urls = [endpoint(url) for url in (*self.urls, *(s.url for s in self.models.values() if s.url))]
        if self.ca is not None and urls and all(url.scheme == "http" for url in urls):
            raise SettingFailure("no URL is https, so nothing is verified", where="--ca", hint="leave it out")
        if not self.urls and not any(s.url for s in self.models.values()):
            raise SettingFailure("names no endpoint", where="--engine openai", hint="give --url http://HOST:PORT")
        if self.most is not None and self.most < self.workers:
            raise SettingFailure(f"{self.most} cannot be shared by {self.workers} workers", where="--max-inflight")
        self.load.check(self.workers, self.most)
        secret_headers()

    def describe(self) -> dict[str, Any]:
        """How it sends, as run.json and the report state it; what the endpoint can do is added by the replay."""
        return {
            "name": "openai",
            "urls": [endpoint(url).url for url in self.urls],
            "limits": {"max_inflight": self.most, "timeouts_s": asdict(self.limits), "retries": self.retries},
            "connections": "pooled" if self.reuse else "fresh",
            "workers": self.workers,
            "on": self.on,
            "sessions": "closed" if self.waits else "open",
            "load": asdict(self.load),
            "headers": sorted(secret_headers()),
        }

    @property
    def waits(self) -> bool:
        """Whether turns wait for those before them."""
        return self.closed and self.load.concurrency is None

    def check(self, trace: pl.DataFrame, schedulers: Sequence[str]) -> None:
        """Raise SettingFailure before a run is begun for what would fail at once."""
        for spec in schedulers:
            self._check_charge(spec)
        _check_lengths(trace)
        self.find(trace, {}, {})

    def _check_charge(self, spec: str) -> None:
        """What a scheduler is in charge of must not be nothing, nor more than it can be."""
        scheduler = plugins.create("scheduler", spec)
        if self.send_hints:
            hints.checked(spec)
        elif self.most is None and not self.send_priority and not spec.startswith("fcfs"):
            hint = (
                "let it order what waits with --max-inflight N, or send its ranks with --send-priority or --send-hints"
            )
            raise SettingFailure("has nothing to order here", where=f"--scheduler {spec}", hint=hint)
        if self.send_priority and turns(scheduler):
            hint = "let it say who is let in, with --max-inflight N"
            raise SettingFailure("orders by more than a number a request", where=f"--scheduler {spec}", hint=hint)
        if self.workers > 1 and self.most is not None and asked(scheduler):
            what = "is asked while the replay goes on, by one process alone"
            raise SettingFailure(what, where=f"--scheduler {spec}", hint="send with --workers 1")

    def find(
        self,
        trace: pl.DataFrame,
        addresses: dict[Endpoint, Address],
        served: dict[Endpoint, list[dict[str, Any]]],
    ) -> Routes:
        """Where each request goes; notes the endpoints' addresses and what they serve."""

        def names(target: Endpoint) -> list[str]:
            if target not in served:
                addresses[target] = address_of(target)
                dial = dial_of(target, addresses[target], self.ca)
                served[target] = served_models(target, dial, self.limits.answer)
            return [str(m["id"]) for m in served[target]]

        return targets.routes(trace, self.urls, self.models, names)

    def replay(
        self, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, writer: RunWriter, watch: Watch
    ) -> bool:
        """Send what has no outcome yet; False when `watch` said stop before all had one."""
        with ONE_AT_A_TIME:
            return Replaying(self, trace, info, scheduler, writer, watch).run()


def _check_lengths(trace: pl.DataFrame) -> None:
    longest = int(trace["prompt_tokens"].max() or 0)  # type: ignore[arg-type]
    if longest > LONGEST_PROMPT:
        what = f"a prompt of {longest:,} tokens is more than can be made ({LONGEST_PROMPT:,})"
        raise SettingFailure(
            what, where="prompt_tokens", hint="are these tokens? convert the trace without such requests"
        )


def _words(tokenizer: str | None) -> tuple[str, ...]:
    """The words to make prompts of, where the served model's tokenizer is named."""
    if tokenizer is None:
        return ()
    from replay.http.tokenizing import one_token_words

    return tuple(one_token_words(Path(tokenizer)))


def from_options(options: dict[str, Any]) -> OpenAI:
    """The engine that the command's options describe."""
    models = options["models_file"]
    return OpenAI(
        urls=tuple(options["urls"]),
        models=read_models(Path(models)) if models else {},
        api=options["api"],
        limits=timeouts(options["timeout"]),
        closed=options["sessions"] == "closed",
        most=options["max_inflight"],
        send_priority=options["send_priority"],
        send_hints=options["send_hints"],
        workers=options["workers"],
        reuse=options["connections"] == "pooled",
        retries=options["retries"],
        lag_bound_s=options["lag_bound_s"],
        ca=options["ca"],
        load=Load(options.get("concurrency"), options.get("drain_s")),
        token_times=options.get("token_times", False),
        words=_words(options.get("tokenizer")),
        on=options.get("on", "local"),
    )
