"""Each measurement in a process of its own: an error that spoils one's device leaves the others theirs."""

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from toolkit.errors import Failure


class Died(Exception):
    """The process ended without an answer; the text says how."""


def called(work: Callable[..., Any], *arguments: Any, timeout_s: float | None = None) -> Any:
    """What `work` returns; its Failure, or Died. Forked where that is safe, which saves importing everything again."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
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
    try:
        sending.send(work(*arguments))
    except Failure as failure:
        made = Failure(failure.what)
        made.where, made.hint = failure.where, failure.hint
        sending.send(made)
    finally:
        sending.close()
