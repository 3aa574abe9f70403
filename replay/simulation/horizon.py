"""How long a replay, and each thing in it, may last: times are 64-bit counts of picoseconds, which hold 106 days."""

from replay.simulation.state import PS
from toolkit.errors import SettingFailure

LONGEST_S = 100 * 86_400  # of a trace
HORIZON = (LONGEST_S + 43_200) * PS  # no step begins later
FAR_S = 9.2e6  # after HORIZON, and still held
LONGEST_STEP_S = 100_000.0  # of each of its parts: what begins before HORIZON ends in what is held
SLOWEST_SWAP_S = 0.1  # a token


def over_long() -> SettingFailure:
    """What is raised where a replay has come to HORIZON and is not at its end."""
    return SettingFailure(
        f"the replay lasts longer than {LONGEST_S // 86_400} days of the trace's time, which is what it can count",
        hint="the engine is overloaded, or steps or think times are too long; cut the trace with --from and --to",
    )
