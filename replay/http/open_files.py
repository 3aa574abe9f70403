"""How many connections a process may have: each is an open file."""

import resource
from contextlib import suppress


def open_as_many_as_may_be() -> None:
    """Raise the soft limit, often 1,024 or less, to the hard one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says that there is none, and has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
