"""What every page is made of: charts with their data, the Plotly bundle, the content-security policy, the templates.

The bundle is the installed plotly's own plotly.js (MIT, its licence in its first lines), gzipped and base64-coded:
4.8 MB become 2 MB. The text of the page is on the screen before the browser inflates it (DecompressionStream) and
draws what is in view. So nothing is vendored, every chart type works, and the bundle is always the one the figures
were made for. The policy allows no address at all and two scripts, by their SHA-256: the page's own and the bundle.
"""

import gzip
import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
import polars as pl

from reports import words

if TYPE_CHECKING:
    import plotly.graph_objects as go

FORMULA = r"^[=+\-@\t\r]"


@dataclass(frozen=True)
class Chart:
    """A figure with the line under it and the rows behind it. `tab` names it among charts that share a place."""

    name: str  # unique in the page; also the CSV's name
    title: str
    note: str
    figure: "go.Figure"
    data: pl.DataFrame
    height: int = 420
    tab: str = ""

    @property
    def json(self) -> str:
        """The figure for a `<script type="application/json">`: no `<` can end it."""
        text: str = self.figure.to_json(validate=False)
        return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")

    @property
    def csv(self) -> str:
        return packed(csv(self.data))


def csv(table: pl.DataFrame) -> bytes:
    """`table` as CSV with six significant digits; text that a spreadsheet would run as a formula starts with '."""
    guarded = [
        pl.when(pl.col(name).str.contains(FORMULA)).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in table.columns
        if table.schema[name] == pl.String
    ]
    return table.with_columns(*guarded, pl.col(pl.Float64).round_sig_figs(6)).write_csv().encode()


def packed(data: bytes) -> str:
    """`data` gzipped and base64-coded, the same bytes for the same data."""
    return b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


@dataclass(frozen=True)
class Bundle:
    """plotly.js as it is inlined, and the hash that lets it run."""

    code: str
    digest: str


@cache
def _bundle() -> Bundle:
    from plotly.offline import get_plotlyjs

    code = get_plotlyjs().encode()
    return Bundle(packed(code), digest(code))


def bundle_soon() -> "Future[Bundle]":
    """Start packing the bundle on another thread, while the numbers are being computed."""
    pool = ThreadPoolExecutor(max_workers=1)
    future = pool.submit(_bundle)
    pool.shutdown(wait=False)
    return future


def digest(script: bytes) -> str:
    """A script as a content-security policy names it."""
    return f"sha256-{b64encode(hashlib.sha256(script).digest()).decode()}"


def policy(*digests: str) -> str:
    """No network, no frames, no forms; only these scripts. Styles may be inline, because Plotly sets them so."""
    scripts = " ".join(f"'{d}'" for d in digests)
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {scripts}; {rest}"


def render(template: str, bundle: "Future[Bundle]", values: Mapping[str, Any]) -> str:
    """One self-contained page from a template of `templates/`."""
    script = _text("page.js")
    ready = bundle.result()
    shared = {
        "style": _text("page.css"),
        "script": script,
        "bundle": ready.code,
        "policy": policy(digest(script.encode()), ready.digest),
    }
    return _environment().get_template(template).render(**shared, **values)


def _text(name: str) -> str:
    return (files("reports") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(_text)
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"number": words.number, "whole": words.whole, "percent": words.percent, "duration": words.duration}
    return made


def tabs(charts: Sequence[Chart]) -> list[Chart]:
    """The charts that have something to show."""
    return [c for c in charts if c.figure.data]
