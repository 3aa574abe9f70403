"""Every registered loader keeps the contract, and none takes another's file for its own."""

from pathlib import Path

import loader_samples
import pytest

from toolkit import plugins
from toolkit.contracts import check_loader, check_sniffing
from toolkit.errors import InputFailure
from toolkit.traces import read_trace, write_trace

NAMES = sorted(plugins.BUILTIN["loader"])


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("samples")
    found = {}
    for name in (*loader_samples.RECORDS, *loader_samples.TABLES):
        (folder / name).mkdir()
        found[name] = loader_samples.write(name, folder / name)
    found["canonical"] = folder / "canonical.parquet"
    write_trace(read_trace([found["mooncake"]]), found["canonical"])
    return found


def test_every_loader_has_a_sample(samples: dict[str, Path]) -> None:
    assert sorted(samples) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name != "canonical"])
def test_a_loader_keeps_its_contract(name: str, samples: dict[str, Path]) -> None:
    check_loader(name, samples)


def test_the_canonical_form_gives_back_the_trace_it_was_written_from(samples: dict[str, Path]) -> None:
    check_sniffing("canonical", samples)
    back, source = read_trace([samples["canonical"]]), read_trace([samples["mooncake"]])
    assert back.frame.collect().equals(source.frame.collect())
    assert back.info == source.info


def test_a_format_that_is_claimed_by_nobody_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"colour": "red", "size": 3}\n')
    with pytest.raises(InputFailure, match=r"other\.jsonl: no known trace format") as caught:
        read_trace([path])
    assert "\n" not in str(caught.value)


def test_the_contract_finds_a_loader_that_claims_everything(
    samples: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plugins.BUILTIN["loader"], "greedy", "test_loaders:Greedy")
    with pytest.raises(AssertionError, match="claimed by another"):
        check_sniffing("mooncake", samples)


class Greedy:
    """Claims every file."""

    def sniff(self, head: bytes, name: str) -> float:
        return 1.0
