"""Finding and unpacking what the user named."""

import gzip
import hashlib
import io
import os
import re
import tarfile
import threading
from pathlib import Path

import pytest
import zstandard

from toolkit.errors import InputFailure
from toolkit.traces import read_trace
from workloads.inputs import at_hand, find_files, sha256, unpack

CSV = b"arrival_s,prompt_tokens,output_tokens\n0,10,1\n1,20,2\n"
LATER = b"arrival_s,prompt_tokens,output_tokens\n2,30,3\n"


def prompts(*paths: Path | str, **options) -> list[int]:
    return read_trace(list(paths), **options).frame.collect()["prompt_tokens"].to_list()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def with_long_window(content: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=30, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("t.csv.gz", gzip.compress),
        ("t.csv.zst", zstandard.compress),
        ("t.csv.zst", with_long_window),
        ("t.csv.zst", lambda c: zstandard.compress(c[:30]) + zstandard.compress(c[30:])),  # two frames
        ("t.csv.zst", lambda c: zstandard.compress(c) + b"\x50\x2a\x4d\x18\x04\0\0\0some"),  # and one to be skipped
        ("no_suffix", gzip.compress),  # judged by content
        ("t.tar", lambda c: tar_of({"a.csv": c})),
        ("t.tgz", lambda c: tar_of({"a.csv": c}, "w:gz")),
        ("t.tar.zst", lambda c: zstandard.compress(tar_of({"a/a.csv": c}))),
        ("t.tar", lambda c: tar_of({"a.csv.gz": gzip.compress(c)})),
    ],
)
def test_packed_files_read_like_plain_ones(tmp_path: Path, name: str, pack):
    path = put(tmp_path / name, pack(CSV))
    assert prompts(path) == [10, 20]
    assert read_trace([path]).info.sha256 == sha256([path])
    assert read_trace([path]).info.name == name.split(".")[0]


def test_members_of_an_archive_come_by_name_without_what_is_no_data(tmp_path: Path):
    members = {"p/part-10.csv": LATER, "p/part-2.csv": CSV, "p/._part-2.csv": b"\0mac", "p/README.md": b"# hello"}
    path = put(tmp_path / "t.tar", tar_of(members))
    assert [s.shown.rpartition(":")[2] for s in unpack(at_hand(path))] == ["p/part-2.csv", "p/part-10.csv"]
    assert prompts(path) == [10, 20, 30]


def test_members_cannot_leave_the_scratch_folder(tmp_path: Path):
    archive = put(tmp_path / "inner" / "t.tar", tar_of({"../../escaped.csv": CSV, "/absolute.csv": LATER}))
    files = unpack(at_hand(archive))
    assert all(".." not in s.path.parts and s.path.parent != tmp_path for s in files)
    assert {s.path.name for s in files} == {"escaped.csv", "absolute.csv"}
    assert not (tmp_path / "escaped.csv").exists()
    assert not Path("/absolute.csv").exists()


def test_links_in_an_archive_are_not_followed(tmp_path: Path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("link.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(InputFailure, match="no trace file in this archive"):
        unpack(at_hand(put(tmp_path / "t.tar", buffer.getvalue())))


@pytest.mark.parametrize(
    ("name", "content"), [("t.csv.gz", gzip.compress(CSV * 1000)), ("t.csv.zst", zstandard.compress(CSV * 1000))]
)
def test_a_damaged_packed_file_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes):
    path = put(tmp_path / name, content[: len(content) // 2])
    with pytest.raises(InputFailure, match=rf"{re.escape(name)}: cannot be decompressed \(.* ended before") as failure:
        read_trace([path])
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("left_bytes", [3, 9, 200, 5_000])
def test_a_packed_file_that_breaks_off_between_rows_is_refused_too(tmp_path: Path, left_bytes: int):
    rows = b"".join(b"%d,%d,%d\n" % (i, i * i % 977, i % 89) for i in range(50_000))
    whole = zstandard.compress(CSV) + zstandard.ZstdCompressor(level=1).compress(LATER + rows)
    path = put(tmp_path / "t.csv.zst", whole[: len(zstandard.compress(CSV)) + left_bytes])
    with pytest.raises(InputFailure, match=r"t\.csv\.zst: cannot be decompressed"):
        read_trace([path])


def test_several_files_and_globs_are_one_trace(tmp_path: Path):
    first, second = put(tmp_path / "a-2.csv", CSV), put(tmp_path / "a-10.csv", LATER)
    assert prompts(first, second) == [10, 20, 30]
    assert prompts(tmp_path / "a-*.csv") == [10, 20, 30]
    assert find_files([str(tmp_path / "a-*.csv")]) == [first, second]
    assert read_trace([first, second]).info.sha256 == sha256([first, second])


def test_a_folder_is_its_parquet_parts_or_else_its_data_files(tmp_path: Path):
    put(tmp_path / "d" / "a.csv", CSV)
    put(tmp_path / "d" / "README.md", b"# no data")
    assert prompts(tmp_path / "d") == [10, 20]
    read_trace([tmp_path / "d"]).frame.collect().write_parquet(tmp_path / "d" / "part-0.parquet")
    assert [p.name for p in find_files([str(tmp_path / "d")])] == ["part-0.parquet"]
    assert read_trace([tmp_path / "d"]).info.name == "d"


def test_what_does_not_exist_names_the_nearest(tmp_path: Path):
    put(tmp_path / "requests.csv", CSV)
    with pytest.raises(InputFailure, match=r"request\.csv: no such file; did you mean 'requests\.csv'"):
        read_trace([tmp_path / "request.csv"])
    with pytest.raises(InputFailure, match=r"folder .* does not exist"):
        read_trace([tmp_path / "nowhere" / "request.csv"])
    put(tmp_path / "sweep.yaml", b"no trace")
    (tmp_path / "parts").mkdir()
    with pytest.raises(InputFailure, match=r"zzz: no such file; known: parts, requests\.csv$"):
        read_trace([tmp_path / "zzz"])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pipe_is_read_like_a_file(tmp_path: Path, pack):
    pipe, content = tmp_path / "pipe.csv", CSV + b"2,30,3\n" * 30_000  # more than a pipe holds, and than is looked at
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(pack(content),))
    writer.start()
    trace = read_trace([pipe])
    writer.join()
    assert trace.info.rows_kept == 30_002
    assert trace.info.name == "pipe"
    assert trace.info.sha256 == hashlib.sha256(pack(content)).hexdigest()


def test_a_link_to_nothing_says_so_and_is_not_passed_over(tmp_path: Path):
    put(tmp_path / "day-1.csv", CSV)
    (tmp_path / "day-2.csv").symlink_to("moved.csv")
    with pytest.raises(InputFailure, match=r"day-2\.csv: is a link to 'moved\.csv', which is not there$"):
        read_trace([tmp_path / "day-2.csv"])
    for several in (tmp_path, tmp_path / "day-*.csv"):
        with pytest.raises(InputFailure, match=r"day-2\.csv: cannot be read \(No such file"):
            read_trace([several])


def test_a_glob_without_a_match_and_a_folder_without_data_are_refused(tmp_path: Path):
    with pytest.raises(InputFailure, match=r"\*\.csv: no file matches"):
        read_trace([tmp_path / "*.csv"])
    with pytest.raises(InputFailure, match=r"no trace file in this folder; looked for \.csv"):
        read_trace([tmp_path])


def test_an_error_in_a_packed_file_names_it_as_the_user_did(tmp_path: Path):
    path = put(tmp_path / "t.tar", tar_of({"x/bad.csv": CSV + b"soon,1,1\n"}))
    with pytest.raises(InputFailure, match=r"t\.tar:x/bad\.csv, line 4, column 'arrival_s'"):
        read_trace([path])
