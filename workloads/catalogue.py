"""The catalogue of public traces: metadata only, from datasets/catalogue.yaml."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from toolkit.errors import SettingFailure, nearest
from toolkit.specs import build, load

PLACES = (Path(__file__).parent / "catalogue.yaml", Path(__file__).parents[1] / "datasets" / "catalogue.yaml")


@dataclass(frozen=True)
class Published:
    """One file to fetch. `bytes` and `sha256` are null where they are not known."""

    url: str
    bytes: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if urlparse(self.url).scheme not in ("http", "https") or self.name in ("", ".", ".."):
            raise ValueError("url must be http or https and end in a file's name")
        if self.sha256 is not None and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ValueError("sha256 must be 64 lower-case hexadecimal digits")

    @property
    def name(self) -> str:
        """The file's own name, which is the last part of the URL's path."""
        return Path(urlparse(self.url).path).name


@dataclass(frozen=True)
class Dataset:
    """What is known about a public trace. `how` says how to get it where there is no file to fetch."""

    title: str
    page: str
    licence: str
    format: str | None = None  # the loader that reads it; null: none does
    rows: int | None = None
    span: str | None = None
    cite: str | None = None
    files: tuple[Published, ...] = ()
    how: str | None = None
    caveats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.files) == bool(self.how):
            raise ValueError("give either files or how")

    @property
    def bytes(self) -> int | None:
        """Of all files together; null where one is unknown."""
        sizes = [file.bytes for file in self.files]
        return sum(size or 0 for size in sizes) if sizes and None not in sizes else None


def read_catalogue(path: Path | None = None) -> dict[str, Dataset]:
    """The catalogue at `path`, by default the toolkit's own, by name."""
    found = path or next((place for place in PLACES if place.is_file()), PLACES[-1])
    datasets: dict[str, Dataset] = build(load(found), dict[str, Dataset])
    return datasets


def dataset(name: str, catalogue: dict[str, Dataset]) -> Dataset:
    """The one of this name; raises SettingFailure with the nearest."""
    if name not in catalogue:
        raise SettingFailure(f"no data set is called '{name}'", hint=nearest(name, catalogue))
    return catalogue[name]
