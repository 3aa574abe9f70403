"""Expected failures: what the user can mend, said in one line.

    Failure            exit 1, one line: where, what, what to do
     ├─ InputFailure   a file or a row that cannot be read as asked
     ├─ SettingFailure a name or value the user gave that does not exist or fit
     └─ RunFailure     a run that cannot be written, read or resumed

Anything else that reaches the command line is a bug and shows its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches

LISTED = 60  # names in a line


class Failure(Exception):
    """An expected failure. `where` names the file, line, column or option; `hint` says what to do."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None):
        super().__init__(what)
        self.what, self.where, self.hint = what, where, hint

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        line = f"{line}; {self.hint}" if self.hint else line
        return printable(line)


class InputFailure(Failure):
    """A file or a row that cannot be read as asked."""


class SettingFailure(Failure):
    """A name or a value the user gave that does not exist or does not fit."""


class RunFailure(Failure):
    """A run that cannot be written, read or resumed."""


def printable(text: str) -> str:
    """`text` on one line, with control characters escaped, so that untrusted text cannot drive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known name, or the first of them when none is close."""
    names = sorted(set(known))
    folded = {n.casefold(): n for n in names}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{folded[close[0]]}'?"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"known: {', '.join(names[:LISTED])}{more}" if names else "none is known"
