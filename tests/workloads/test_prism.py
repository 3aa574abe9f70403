"""The Prism/VTC pickle, read by a machine that cannot run anything."""

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import loader_samples
import pytest

from toolkit.errors import InputFailure
from toolkit.traces import read_trace


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_requests_come_back_under_every_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "real_trace.pkl"
    path.write_bytes(loader_samples.prism(protocol))
    trace = read_trace([path])
    frame = trace.frame.collect()
    assert trace.info.format == "prism"
    assert frame["model"].to_list() == ["dummy-lora-2", "dummy-lora-7", "dummy-lora-2"]
    assert frame["arrival_s"].to_list() == [0.0, 0.75, 1.5]
    assert frame["prompt_tokens"].to_list() == [2, 4, 1]
    assert frame["output_tokens"].to_list() == [9, 513, 3]
    assert frame["prompt"].to_list() == [None, "Why is it?", None]  # "Hello Hello …" says nothing
    assert "base-7b" in trace.info.notes[1]


class Runs:
    """Pickles to a call."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def nested(depth: int) -> bytes:
    return b"\x80\x04" + b"(" * depth + b"l" * depth + b"."


HOSTILE = {
    "system": pickle.dumps([[], [Runs(os.system, "touch ran")]]),
    "builtins": pickle.dumps([[], [Runs(eval, "open('ran', 'w')")]]),
    "getattr": pickle.dumps(Runs(getattr, Path, "home")),
    "protocol 2": pickle.dumps(Runs(os.mkdir, "ran"), protocol=2),
    "other class of the module": b"\x80\x02ctrace\nOther\n)\x81.",
    "reduce of the permitted class": b"\x80\x02ctrace\nRequest\n)R.",
    "instance": b"\x80\x02(ios\nsystem\n.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"\x80\x02Pname\n.",
    "nested": nested(100_000),
    "nested lists without marks": b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "memo far away": b"\x80\x04]r\xff\xff\xff\x7f.",
    "long text that is not there": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "long bytes that are not there": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "list in itself": b"\x80\x04]\x94h\x00a.",
    "object in an attribute": b"\x80\x04\x8c\x05trace\x94\x8c\x07Request\x94\x93)\x81}\x8c\x01a]sb.",
    "cut off": loader_samples.prism()[:-40],
    "no stop": loader_samples.prism()[:-1],
    "empty stack": b"\x80\x04a.",
    "no mark": b"\x80\x04e.",
    "nothing": b"\x80\x04.",
    "two values": b"\x80\x04NN.",
    "rubbish": b"\x80\x04" + bytes(range(256)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_broken_pickle_is_refused_and_runs_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.pkl").write_bytes(HOSTILE[name])
    modules = set(sys.modules)
    with pytest.raises(InputFailure, match=r"^evil\.pkl: (refused: |the pickle is not)") as caught:
        read_trace(["evil.pkl"], format="prism")
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir()) == ["evil.pkl"]
    assert "trace" not in set(sys.modules) - modules


def test_detection_sends_any_pickle_to_the_refusal(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(HOSTILE["system"])
    with pytest.raises(
        InputFailure, match=r"refused: it asks for (posix|nt)\.system, and only trace\.Request is allowed"
    ):
        read_trace([path])


def test_a_missing_attribute_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(loader_samples.prism().replace(b"prompt_len", b"prompt_lan"))
    with pytest.raises(InputFailure, match=r"item 1: no key 'prompt_len'; did you mean 'prompt_lan'\?"):
        read_trace([path])
