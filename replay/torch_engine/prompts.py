"""What prompts say: made up, and the same in every run. Equal prefix blocks are equal tokens."""

from collections.abc import Sequence

import numpy as np

from replay.planning.jobs import Job, Tokens

NO_TOKENS: Tokens = np.zeros(0, np.int64)


def made_up(number: int, prompt: int, output: int, vocabulary: int, seed: int = 0) -> Tokens:
    """Token ids for a prompt that no other has, with room for the output after them."""
    tokens = np.zeros(prompt + output, np.int64)
    tokens[:prompt] = np.random.default_rng([seed, number]).integers(0, vocabulary, prompt)
    return tokens


def asked(job: Job, vocabulary: int, prefix_tokens: int, said: Tokens = NO_TOKENS) -> Tokens:
    """Token ids of a request: what was `said` before, its prefix blocks of `prefix_tokens`, what only it has; room."""
    tokens = made_up(job.number, job.prompt, job.output, vocabulary)
    if job.prefix:
        shared = _blocks(job.prefix[: -(-job.prompt // prefix_tokens)], prefix_tokens, vocabulary)[: job.prompt]
        tokens[: len(shared)] = shared
    tokens[: min(len(said), job.prompt)] = said[: job.prompt]
    return tokens


def said_before(job: Job, turn: Job, prefix_tokens: int) -> Tokens:
    """What `turn` begins with of the turn before it, whose answer is known now; as its prefix blocks tell.

    As in replay.simulation.sessions: where they begin with the blocks of the prompt before, they go on with its answer.
    """
    if not turn.prefix or job.status != "ok":
        return NO_TOKENS
    own = list(job.prefix[: job.prompt // prefix_tokens])
    if list(turn.prefix[: len(own)]) != own:
        return NO_TOKENS
    blocks = min(len(turn.prefix), (job.prompt + job.output - 1) // prefix_tokens)
    return job.tokens[: blocks * prefix_tokens].copy()


def _blocks(hashes: Sequence[int], size: int, vocabulary: int) -> Tokens:
    """The tokens of blocks: numbers mixed as by SplitMix64's last step."""
    begin = np.array(hashes, np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    z = begin + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: Tokens = ((z ^ (z >> np.uint64(31))) % np.uint64(vocabulary)).astype(np.int64).ravel()
    return found
