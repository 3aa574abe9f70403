"""Each measurement in a process of its own: an error that spoils one's device leaves the others theirs."""

import multiprocessing
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from toolkit.errors import Failure


class Died(Exception):
    """The process ended without an answer; the text says how."""


METHODS = ("fork", "spawn") if sys.platform == "linux" else ("spawn",)  # forking saves importing everything again


def called(work: Callable[..., Any], *arguments: Any, method: str, timeout_s: float | None = None) -> Any:
    """What `work` returns; its Failure, or Died."""
    context: Any = multiprocessing.get_context(method)
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sending, work, arguments))
    child.start()
    sending.close()
    try:
        answer = receiving.recv() if receiving.poll(timeout_s) else Died("it took too long and was stopped")
    except EOFError:
        child.join()
        answer = Died(f"it ended with {child.exitcode}")
    finally:
        child.kill()
        child.join()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _answer(sending: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it says when it ends
    try:
        sending.send(work(*arguments))
    except Failure as failure:
        made = Failure(failure.what)
        made.where, made.hint = failure.where, failure.hint
        sending.send(made)
    finally:
        sending.close()
