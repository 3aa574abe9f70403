"""Numbers of the command line: infinity, and what is no number at all, are refused before anything is counted."""

from math import isfinite
from typing import Any

import click


class Finite(click.FloatRange):
    """A number within bounds. `nan` is within none, though comparing it finds nothing wrong."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number
