"""From a trace and a policy to the simulation's first state."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.simulation import sessions
from replay.simulation.horizon import LONGEST_S, SLOWEST_SWAP_S
from replay.simulation.policies import Policy
from replay.simulation.state import (
    EVENT_ROWS,
    I32,
    I64,
    INSTANCE,
    LANE,
    LEAST_LOADED,
    NEVER,
    NODE,
    NONE,
    NOTHING_TO_DO,
    PREFIX_AWARE,
    PS,
    REQUEST,
    ROUND_ROBIN,
    SAMPLE_ROWS,
    SETTINGS,
    TURN,
    UNKNOWN_LENGTH,
    VLLM_DP,
    WORLD,
    Records,
    State,
)
from toolkit.errors import SettingFailure

ROUTING = {
    "round-robin": ROUND_ROBIN,
    "least-loaded": LEAST_LOADED,
    "prefix-aware": PREFIX_AWARE,
    "vllm-dp": VLLM_DP,
}
RECORDS_IN_CACHE = 2_048
MOST_BATCHED_TOKENS = 2**24  # step times are tables of every number of tokens


@dataclass(frozen=True)
class Limits:
    """What one instance can hold and do in a step, under vLLM's names where it has them."""

    kv_blocks: int
    block_tokens: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 131_072
    watermark_blocks: int = 0
    prefix_caching: bool = True
    instances: int = 1
    routing: str = "round-robin"
    swap_s_per_token: float = 0.0  # to move a token's KV to or from the host; 0: preempted requests recompute
    prefill_first: bool = False  # what decodes pauses while anything can be prefilled
    async_scheduling: bool = False  # a step is planned when the one before begins
    lockstep: bool = False  # instances step together, and share a model's experts

    def __post_init__(self) -> None:
        for name in (
            "kv_blocks",
            "block_tokens",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_model_len",
            "instances",
        ):
            if getattr(self, name) < 1:
                raise SettingFailure("must be at least 1", where=name)
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise SettingFailure(
                f"{self.max_num_batched_tokens} tokens a step cannot serve max_num_seqs={self.max_num_seqs}",
                where="max_num_batched_tokens",
                hint=f"every running sequence needs one, so lower max_num_seqs to {self.max_num_batched_tokens} too",
            )
        if self.max_num_batched_tokens > MOST_BATCHED_TOKENS:
            raise SettingFailure(f"must be at most {MOST_BATCHED_TOKENS:,}", where="max_num_batched_tokens")
        if self.swap_s_per_token > SLOWEST_SWAP_S:
            raise SettingFailure(
                f"moving the KV of a token takes {self.swap_s_per_token:.3g} s; {SLOWEST_SWAP_S:g} s is the most",
                where="swap",
                hint="raise the rate, --swap-bytes-per-s, or leave it out: preempted requests then compute again",
            )
        if self.lockstep and self.instances == 1:
            raise SettingFailure("one instance has none to step with", where="lockstep", hint="give --instances")


def bounded(limits: Limits) -> Limits:
    """The same with no more places than requests could fill, each with a block of KV memory at least, and one to spare:
    step times are tables of every number of sequences.
    """
    return replace(limits, max_num_seqs=min(limits.max_num_seqs, limits.kv_blocks + 1))


def settings_of(
    limits: Limits, hashes: int, hash_tokens: int, sample_every: int, *, jump: bool, closed: bool
) -> Records:
    """What stays as it is during the replay, but for what the scheduler says: one record of SETTINGS."""
    made = np.zeros(1, SETTINGS).view(np.recarray)[0]
    for name in ("block_tokens", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "watermark_blocks"):
        made[name] = getattr(limits, name)
    made.blocks = limits.kv_blocks
    made.cache = limits.prefix_caching
    made.hash_tokens = hash_tokens
    made.hash_blocks = hash_tokens // limits.block_tokens
    made.own_nodes = limits.instances * hashes
    made.jump = jump
    made.ahead = limits.async_scheduling
    made.closed = closed and limits.instances > 1
    made.routing = ROUTING[limits.routing]
    made.swap_token = round(limits.swap_s_per_token * PS)
    made.prefill_first = limits.prefill_first
    made.watch = NONE
    made.sample_every = min(sample_every, int(NEVER))
    return made


def shared_blocks(trace: pl.DataFrame, hash_tokens: int, limits: Limits) -> tuple[I32, I64, int]:
    """(block numbers of all requests one after the other, where each request's begin, distinct blocks)."""
    none = np.zeros(0, np.int32), np.zeros(len(trace) + 1, np.int64), 0
    if not limits.prefix_caching or not hash_tokens:
        return none
    if hash_tokens % limits.block_tokens:
        raise SettingFailure(
            f"the trace's prefix blocks hold {hash_tokens} tokens, which {limits.block_tokens} does not divide",
            where="block_tokens",
            hint="choose a block size that divides it, or --no-prefix-caching",
        )
    lists = sessions.prefix_lists(trace, hash_tokens)
    ends = lists.list.len().fill_null(0).cast(pl.Int64).cum_sum().to_numpy()
    flat = lists.explode(empty_as_null=False).drop_nulls().to_numpy()
    distinct, numbers = np.unique(flat, return_inverse=True)
    return numbers.astype(np.int32), np.concatenate([np.zeros(1, np.int64), ends]), len(distinct)


def first_state(trace: pl.DataFrame, policy: Policy, think: I64, blocks: tuple[I32, I64, int], limits: Limits) -> State:
    """Nothing has arrived yet."""
    n, instances, prefix = len(trace), limits.instances, blocks[0]
    nodes = instances * blocks[2] + n if limits.prefix_caching else 0
    turns = n if policy.turns is not None else 0
    together = instances if limits.lockstep else 0
    state = State(
        requests=_requests(trace, policy, think, blocks[1]),
        instances=_records(instances, INSTANCE, ("begun", "partial", "last_lane", "oldest", "newest")),
        lanes=_records(instances * policy.lanes, LANE, ("root",)),
        nodes=_records(nodes, NODE, ()),
        turns=_records(turns, TURN, ()),
        world=_records(1, WORLD, ("released", "asking")),
        residue=np.zeros((instances, limits.block_tokens), np.int32),
        heap=np.zeros((instances, 3, limits.max_num_seqs + 1), np.int64),
        key=np.zeros((3, n)),
        slot=np.zeros((3, n), np.int32),
        turn_heap=np.zeros(turns, np.int64),
        turn_key=np.zeros(turns),
        turn_slot=np.zeros(turns, np.int32),
        busy=np.zeros((instances, policy.lanes), np.int64),
        cycle=policy.cycle,
        done=np.zeros(n, np.int32),
        sample=np.zeros((SAMPLE_ROWS + together, 7), np.int64),
        event=np.zeros((EVENT_ROWS + 4 * limits.max_num_seqs * max(1, together), 5), np.int64),
        note=np.zeros((0, 4), np.int64),
        prefix=prefix,
        boundaries=policy.boundaries,
        offsets=policy.offsets,
        queue=np.zeros(n if policy.settings["ordered"] else 0, np.int64),
        fresh=np.zeros(limits.max_num_seqs, np.int64),
        batches=np.zeros((together, 2 + limits.max_num_seqs), np.int64),
    )
    state.instances["free"] = state.instances["idle"] = limits.kv_blocks
    state.instances["first_node"] = blocks[2] * np.arange(instances)
    state.instances["bar"] = np.inf
    if policy.turns is not None:
        state.turns["after"], state.turns["shift"] = policy.turns
        state.turns["due"] = NEVER
    return state


def _records(count: int, dtype: np.dtype[np.void], none: tuple[str, ...]) -> Records:
    """`count` records of zeros, with NONE in the fields `none`."""
    made = np.zeros(count, dtype).view(np.recarray)
    for name in none:
        made[name] = NONE
    return made


def _requests(trace: pl.DataFrame, policy: Policy, think: I64, bounds: I64) -> Records:
    arrival_s = trace["arrival_s"].fill_null(0.0).to_numpy()
    if len(trace) and arrival_s.max() > LONGEST_S:
        raise SettingFailure(
            f"the trace lasts {arrival_s.max() / 86_400:.0f} days; a replay holds {LONGEST_S // 86_400}",
            hint="cut it with --from and --to, or use --speed",
        )
    first_child, next_child = sessions.children(trace, think)
    columns = {
        "arrival": np.where(think >= 0, NEVER, np.rint(arrival_s * PS).astype(np.int64)),
        "think": think,
        "rank": policy.rank,
        "rank_rise": policy.rise,
        "hold_at": policy.hold_at,
        "curve": policy.curve,
        "lane": policy.lane,
        "prompt": trace["prompt_tokens"].fill_null(0).to_numpy(),
        "output": trace["output_tokens"].fill_null(0).to_numpy(),
        "first_child": first_child,
        "next_child": next_child,
        "blocks_from": bounds[:-1],
        "blocks_to": bounds[1:],
        "reason": _reasons(trace),
    }
    none = np.full(len(trace), NONE, np.int32)
    columns |= dict.fromkeys(("start", "first", "finish", "instance", "child", "sibling", "before"), none)
    return _from_columns(columns, len(trace), REQUEST)


def _from_columns(columns: dict[str, NDArray[Any]], count: int, dtype: np.dtype[np.void]) -> Records:
    """`count` records with these columns, and zeros.

    A few thousand records at a time stay in the processor's cache while their fields are written one after the other.
    """
    made = np.zeros(count, dtype)
    fields = [(made[name], values) for name, values in columns.items()]
    for begin in range(0, count, RECORDS_IN_CACHE):
        rows = slice(begin, begin + RECORDS_IN_CACHE)
        for field, values in fields:
            field[rows] = values[rows]
    return made.view(np.recarray)


def _reasons(trace: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    """What can be said of a request before it arrives: a length is unknown, or there is nothing to do."""
    unknown = pl.col("prompt_tokens").is_null() | pl.col("output_tokens").is_null()
    nothing = (pl.col("prompt_tokens") < 1) | (pl.col("output_tokens") < 1)
    reason = pl.when(unknown).then(UNKNOWN_LENGTH).when(nothing).then(NOTHING_TO_DO).otherwise(0)
    result: np.ndarray[tuple[int], np.dtype[np.int8]] = trace.select(reason.cast(pl.Int8)).to_series().to_numpy().copy()
    return result
