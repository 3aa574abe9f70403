"""The simulation's state: records in flat arrays, so that it can be compiled, saved and restored.

Times are integer picoseconds. An index of -1 means none. An *instance* is one engine with memory of its own. Records
are NumPy record arrays: the same attribute access compiles, and runs uncompiled.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
F64: TypeAlias = NDArray[np.float64]
Records: TypeAlias = Any  # np.recarray of the dtype named beside it

PS = 1_000_000_000_000  # picoseconds in a second
NEVER = np.iinfo(np.int64).max
NONE = -1
WHOLE = 1024  # of INSTANCE.contention

# Where a request is (REQUEST.status).
PENDING, WAITING, PREFILLING, DECODING, FINISHED, REJECTED = range(6)
# Why one was rejected (REQUEST.reason).
TOO_LONG_FOR_MODEL, TOO_LONG_FOR_MEMORY, UNKNOWN_LENGTH, NOTHING_TO_DO, NEVER_PLACED, NO_ROOM_BESIDE = range(1, 7)
# How requests are spread over instances.
ROUND_ROBIN, LEAST_LOADED, PREFIX_AWARE, VLLM_DP = range(4)
# The orders of what decodes at an instance (State.heap): what is due first, what ranks last, and what comes first to a
# bend: output tokens at which its rank, or its hold on its place, changes. A bend is taken when ranks are next read.
DUE, LAST, BEND = range(3)

# Why the core stopped: nothing is left, enough was done, the time to observe has come, a queue is to be ordered.
ENDED, MORE, PAUSED, ASKS = range(4)

SAMPLE_ROWS = 4_096
EVENT_ROWS = 16_384
NOTE_ROWS = 4_096

REQUEST = np.dtype(
    [
        # given
        ("arrival", "i8"),  # NEVER until a waiting turn's parent ends
        ("think", "i8"),  # picoseconds after the parent ends; -1: arrives by the trace's clock
        ("rank", "f8"),  # where it stands before anything was served; for a waiting turn, if it arrived at 0
        ("rank_rise", "f8"),  # what a second of later arrival adds to a waiting turn's rank
        ("curve", "i4"),  # which row of `offsets` its rank follows
        ("lane", "i4"),  # which of an instance's queues it waits in
        ("blocks_from", "i8"),  # its prefix blocks are prefix[blocks_from : blocks_to]
        ("blocks_to", "i8"),
        ("prompt", "i4"),
        ("output", "i4"),
        ("hold_at", "i4"),  # output tokens from which it is not displaced by rank
        ("first_child", "i4"),  # the turns that wait for it, as a list
        ("next_child", "i4"),
        # what happens to it
        ("order", "f8"),  # its key while it waits (rank with what was served) or is a released turn (arrival)
        ("origin", "i8"),  # while decoding: the instance's decode count when its context was empty
        ("start", "i8"),
        ("first", "i8"),
        ("finish", "i8"),
        ("left", "i8"),  # when it last lost its place
        ("preempted", "i8"),  # time between losing its place and getting it back, summed
        ("started", "i8"),  # while decoding: the instance's decode count when it started
        ("child", "i4"),  # the pairing heap it waits in
        ("sibling", "i4"),
        ("before", "i4"),
        ("instance", "i4"),
        ("level", "i4"),  # boundaries of the rank's curve it has passed
        ("work", "i4"),  # what it counts as served from the start: its prompt, in output tokens, less what was cached
        ("guard", "i4"),  # output tokens up to which it is not displaced since it got its place
        ("computed", "i4"),  # while prefilling, or swapped out: tokens whose KV exists
        ("produced", "i4"),  # output tokens, brought up to date when it stops decoding
        ("shared", "i4"),  # leading prefix blocks it holds as shared blocks
        ("cached", "i4"),  # prompt tokens found in the cache when it was first scheduled
        ("parked", "i4"),  # blocks of its own that were freed but are still in the cache
        ("preemptions", "i4"),
        ("status", "i1"),
        ("reason", "i1"),
    ],
    align=True,
)

INSTANCE = np.dtype(
    [
        ("clock", "i8"),  # when its last step ends
        ("begun", "i8"),  # when that step began, where the next is planned then; NONE where it is planned at `clock`
        ("held_blocks", "i8"),  # what the finished leave behind until the next step is planned without them
        ("held_places", "i8"),
        ("decoded", "i8"),  # decode steps taken: the count all decoding requests are measured by
        ("origins", "i8"),  # sum of the origins of what decodes
        ("decodes", "i8"),  # requests that decode
        ("bends", "i8"),  # of them, those that will come to a bend
        ("running", "i8"),  # requests that have a place
        ("waiting", "i8"),
        ("free", "i8"),  # blocks nobody holds: idle, or still in the cache
        ("idle", "i8"),
        ("partial", "i8"),  # the request in the middle of its prefill
        ("granted", "i8"),  # 1 once what decodes has the blocks of the step at hand
        ("steps", "i8"),
        ("busy", "i8"),
        ("last_batch", "i8"),  # tokens in the last step
        ("last_step", "i8"),  # its time
        ("next_sample", "i8"),
        ("moved", "i8"),  # tokens of KV moved to or from the host since the last step
        ("paused", "i8"),  # 1 when what decodes waits for the prefills of the step at hand
        ("stale", "i8"),  # 1 when somebody has come to wait, or a rank has changed, since its queue was ordered
        ("lanes", "i8"),  # queues that somebody waits in: the first of `busy`
        ("pointer", "i8"),  # where the next turn of the lanes' cycle is looked for
        ("last_lane", "i8"),  # the queue that was served last
        ("oldest", "i8"),  # the cache's nodes nobody uses, least recently used first
        ("newest", "i8"),
        ("first_node", "i8"),  # the node of its first shared block
        ("prefilled", "i8"),  # tokens it has computed in prefills
        ("emitted", "i8"),  # output tokens it has produced
        ("contention", "i8"),  # 1024ths of its time that a step loses to others on its GPU
        ("map_page", "i8"),  # time to map a page of KV memory; 0: all of it is mapped from the start
        ("unmap_page", "i8"),  # and to unmap one
        ("page_bytes", "i8"),
        ("block_bytes", "i8"),
        ("shown", "i8"),  # blocks it holds, has cached or may take
        ("pages", "i8"),  # it has mapped
        ("ready", "i8"),  # that a step may take more without waiting for them to be mapped
        ("unowned", "i8"),  # of its GPU that hold nothing; beyond, one of another engine's is unmapped first
        ("bar", "f8"),  # nobody who ranks after this is admitted: others on its GPU come first
    ],
    align=True,
)

LANE = np.dtype(
    [
        ("root", "i8"),  # those that wait in it: a pairing heap by (order, request)
        ("waiting", "i8"),
        ("place", "i8"),  # where it stands in `busy`
        ("served", "f8"),  # weighted tokens of service, without those of what decodes
        ("decodes", "i8"),  # its requests that decode
        ("started", "i8"),  # sum of their `started`
    ],
    align=True,
)

TURN = np.dtype(
    [
        ("after", "i8"),  # how long it waits before its rank changes
        ("due", "i8"),  # when that is
        ("shift", "f8"),  # by what
        ("turned", "i8"),  # 1 once it has
    ],
    align=True,
)

NODE = np.dtype([("users", "i4"), ("present", "i4"), ("before", "i8"), ("after", "i8")], align=True)

WORLD = np.dtype(
    [
        ("next_open", "i8"),  # the next request that arrives by the trace's clock
        ("next_instance", "i8"),
        ("done", "i8"),  # requests that ended
        ("written", "i8"),  # of them, those the driver has written
        ("samples", "i8"),  # rows in use
        ("events", "i8"),
        ("asking", "i8"),  # the instance whose queue the scheduler is asked about
        ("asked", "i8"),  # about how many of those that wait there
        ("turns", "i8"),  # waiting requests whose rank will change with time
        ("notes", "i8"),  # rows in use
        ("released", "i8"),  # turns whose parent has ended: a pairing heap by (arrival, request)
    ],
    align=True,
)

SETTINGS = np.dtype(
    [
        ("blocks", "i8"),
        ("block_tokens", "i8"),
        ("max_num_seqs", "i8"),
        ("max_num_batched_tokens", "i8"),
        ("max_model_len", "i8"),
        ("watermark_blocks", "i8"),
        ("cache", "i8"),  # 1: prefix caching
        ("hash_tokens", "i8"),  # tokens in one of them
        ("hash_blocks", "i8"),  # KV blocks in one of them
        ("own_nodes", "i8"),  # the node of request 0's own blocks; those of shared blocks come before
        ("displace", "i8"),  # 1: a waiting request may displace a running one that ranks after it
        ("min_run", "i8"),  # 1: but not before the next boundary of its curve
        ("latest", "i8"),  # 1: who started last loses its place first, whatever the ranks
        ("jump", "i8"),  # 1: sum decode steps in closed form
        ("ahead", "i8"),  # 1: a step is planned when the one before begins
        ("closed", "i8"),  # 1: turns wait for their parents, at more than one instance
        ("routing", "i8"),
        ("swap_token", "i8"),  # time to move a token's KV to or from the host; 0: a preempted request recomputes
        ("ordered", "i8"),  # 1: the scheduler orders a queue as a whole
        ("window", "i8"),  # of a queue, the first so many
        ("prefill_first", "i8"),  # 1: what decodes waits while anything can be prefilled
        ("lanes", "i8"),  # queues of an instance
        ("since_place", "i8"),  # 1: patience counts from when a request last lost its place, else from its arrival
        ("hold_tokens", "i8"),  # output tokens for which one whose patience ended keeps its place
        ("watch", "i8"),  # the request whose story is told
        ("sample_every", "i8"),
        ("slope", "f8"),  # how a rank moves with an output token
        ("victim_slope", "f8"),  # how the rank by which places are lost does
        ("context_cost", "f8"),  # what a token of context takes off that rank
        ("hysteresis", "f8"),  # how much later the displaced must rank
        ("prompt_work", "f8"),  # output tokens that a prompt token not in the cache counts for on a curve
        ("prompt_weight", "f8"),  # service of a prompt token
        ("output_weight", "f8"),
    ],
    align=True,
)


class State(NamedTuple):
    """Everything that moves, and the arrays it refers to."""

    requests: Records  # REQUEST, in request_id order
    instances: Records  # INSTANCE
    lanes: Records  # LANE: all of instance 0, then of instance 1, …
    nodes: Records  # NODE: shared blocks of instance 0, 1, …, then each request's own freed blocks
    turns: Records  # TURN, one a request; empty where ranks do not change with time
    world: Records  # WORLD, one row
    residue: I32  # [instance, position in block]: decoding requests that need a block at that position
    heap: I64  # [instance, order, slot]: what decodes, as binary heaps
    key: F64  # [order, request]
    slot: I32  # [order, request]; NONE for what will come to no bend
    turn_heap: I64  # waiting requests by when their rank changes, as a binary heap
    turn_key: F64  # of it, by request
    turn_slot: I32
    busy: I64  # [instance, place]: the lanes that somebody waits in
    cycle: I64  # lanes in the order in which they take turns; empty: the least served is next
    done: I32  # requests in the order in which they ended
    sample: I64  # [row, column]: time, instance, queue, running, used blocks, batch tokens, step time
    event: I64  # [row, column]: time, instance, request, tokens of context lost, who displaced it
    note: I64  # [row, column]: time, what happened to the watched request, and two numbers about it
    prefix: I32  # dense block numbers of all requests, one after the other
    boundaries: I32  # of the rank's curve, output tokens
    offsets: F64  # [curve, level]: one level more than boundaries
    queue: I64  # the requests of a queue that is to be ordered, and then in order; empty where none ever is
    fresh: I64  # scratch: requests whose prefill completes in the step at hand
    batches: I64  # [instance in lockstep, column]: of the step at hand, prefill tokens, prefills that complete, they
