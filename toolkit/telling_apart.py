"""Names for sources that are looked at together: no two of them may be taken for one."""

from collections import Counter
from collections.abc import Sequence


def told_apart(names: Sequence[str], places: Sequence[str]) -> list[str]:
    """`names`, but as much of the end of a source's place (its path) as is needed where several have the same.

    Two runs `fcfs` at `monday/fcfs` and `tuesday/fcfs` are called that; what lies at one place keeps its name.
    """
    parts = [place.split("/") for place in places]
    shown = [0] * len(names)
    while True:
        told = ["/".join(path[-k:]) if k else name for name, path, k in zip(names, parts, shown, strict=True)]
        count = Counter(told)
        alike = [n for n, name in enumerate(told) if count[name] > 1 and shown[n] < len(parts[n])]
        if not alike:
            return [name if count[end] > 1 else end for name, end in zip(names, told, strict=True)]
        for n in alike:
            shown[n] += 1
