"""Inspect's log files: every layout is read, and damage is named."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow
import pytest

from oversight.datasets.base import BadRow, LeftOut
from oversight.errors import DataError
from oversight.interop.base import ImportedDebate
from oversight.interop.inspect import Config, count, read
from oversight.interop.inspect_files import InspectFile
from oversight.types import (
    Feedback,
    Question,
    Turn,
)
from tests.interop.inspect_logs import (
    answered,
    evaluation,
    log_of,
    of_kind,
    only,
    records_of,
)


def packed(text: bytes, *, frames: int = 1) -> bytes:
    codec = pyarrow.Codec("zstd")
    size = -(-len(text) // frames)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return b"".join(codec.compress(piece, asbytes=True) for piece in pieces)


def zstd_archive(path: Path, members: Iterable[tuple[str, bytes, bytes]]) -> Path:
    """A ZIP archive of members that are packed already: (name, content, packed content)."""
    listed: list[bytes] = []
    with path.open("wb") as file:
        for name, content, data in members:
            encoded = name.encode()
            sizes = (zlib.crc32(content), len(data), len(content), len(encoded))
            head = struct.pack("<HHHHHIIIH", 63, 0, 93, 0, 33, *sizes)
            listed.append(b"PK\x01\x02" + struct.pack("<H", 63) + head)
            listed.append(struct.pack("<HHHHII", 0, 0, 0, 0, 0, file.tell()) + encoded)
            # An extra field that the list of members does not have: it has to be passed over.
            file.write(b"PK\x03\x04" + head + b"\x04\x00" + encoded + b"\x01\x02\x00\x00" + data)
        where, num = file.tell(), len(listed) // 2
        file.write(b"".join(listed))
        sizes = (file.tell() - where, where)
        file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, num, num, *sizes, 0))
    return path


@pytest.mark.parametrize("frames", [1, 3])
def test_members_that_zstd_packed_are_read_in_one_frame_or_several(tmp_path, frames):
    content = json.dumps(answered()).encode()
    head = json.dumps(evaluation()).encode()
    path = zstd_archive(
        tmp_path / "z.eval",
        [
            ("samples/1_epoch_1.json", content, packed(content, frames=frames)),
            ("header.json", head, packed(head)),
        ],
    )
    [turn] = of_kind(only(read(path, Config())), Turn)
    assert turn.text == "It is 4."


def test_of_members_under_one_name_the_last_one_counts(tmp_path):
    late = answered(output={"completion": "Four."}, messages=[])
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = log_of(tmp_path / "twice.eval", [answered(), late])
    assert count(path, Config()) == 1
    [turn] = of_kind(only(read(path, Config())), Turn)
    assert turn.text == "Four."


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_one_json_document_is_read_in_pieces_of_any_size(tmp_path, monkeypatch, size):
    monkeypatch.setattr("oversight.interop.inspect_files.CHUNK_CHARS", size)
    path = tmp_path / "log.json"
    samples = [answered(number, input=f"Wie groß ist {number}? 🙂") for number in range(5)]
    document = {**evaluation(), "samples": samples, "reductions": [{"scorer": "match"}]}
    path.write_text(json.dumps(document, ensure_ascii=size > 1, indent=1 if size > 1 else None))
    found = list(read(path, Config()))
    texts = [of_kind(records_of(each), Question)[0].text for each in found]
    assert texts == [f"Wie groß ist {number}? 🙂" for number in range(5)]


def test_old_layouts_with_one_score_and_a_transcript_are_read(tmp_path):
    old = answered(output={"completion": "attachment://h", "choices": []})
    del old["scores"]
    old |= {"score": {"value": 0.25}, "transcript": {"events": [], "content": {"h": "Vier."}}}
    header = evaluation(version=1, results={"scorer": {"name": "model_graded"}})
    path = tmp_path / "old.json"
    # Where the samples stand before what says what they are.
    path.write_text(json.dumps({"samples": [old], **header}))
    records = only(read(path, Config()))
    assert of_kind(records, Turn)[0].text == "Vier."
    [rating] = of_kind(records, Feedback)
    assert (rating.judge, rating.answer.preference) == ("model_graded", 0.25)


def test_a_run_that_was_cut_off_is_read_by_its_journal(tmp_path):
    path = tmp_path / "cut.eval"
    start = {key: evaluation()[key] for key in ("version", "eval", "plan")}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", json.dumps(start))
        archive.writestr("samples/1_epoch_1.json", json.dumps(answered()))
    assert InspectFile(path).status == "started"
    assert of_kind(only(read(path, Config())), Turn)


def test_a_folder_is_read_log_by_log_and_the_rest_is_left_out_by_name(tmp_path):
    (tmp_path / "deep").mkdir()
    log_of(tmp_path / "deep" / "a.eval", [answered(1)])
    log_of(tmp_path / "b.eval", [answered(2, uuid="other")])
    (tmp_path / "logs.json").write_text("{}")
    found = list(read(tmp_path, Config()))
    assert sum(isinstance(each, ImportedDebate) for each in found) == 2
    assert [each for each in found if isinstance(each, LeftOut)] == [
        LeftOut("a file that is no log of Inspect's: logs.json")
    ]
    assert count(tmp_path, Config()) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither a ZIP archive"),
        (b"\x7fELF", "neither a ZIP archive"),
        (b'{"version": 2', "ends in the middle"),
        (b"{}", "has no 'eval'"),
        (b'{"version": 3, "eval": {}}', "version = 3 of Inspect's log"),
        (b'{"eval": {"task": "t"}, "samples": [{"id": 1}, {"id"', "ends in the middle"),
        (b'{"eval": {}, "samples": [1 2]}', "',' or ']' should stand"),
        (b"{\xff: 1}", "no UTF-8"),
        (b"[" * 40, "neither a ZIP archive"),
        (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
    ],
)
def test_what_is_no_log_is_refused_with_the_reason(tmp_path, content, said):
    path = tmp_path / "log.json"
    path.write_bytes(content)
    try:
        found = list(read(path, Config()))
        told = " ".join(f"{each.file} {each.reason}" for each in found if isinstance(each, BadRow))
    except DataError as error:
        told = str(error)
    assert said in told
    assert str(path) in told


def test_an_archive_of_something_else_or_cut_in_the_middle_is_refused(tmp_path):
    other = tmp_path / "other.eval"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "words")
    with pytest.raises(DataError, match=r"neither header\.json nor _journal"):
        list(read(other, Config()))
    whole = log_of(tmp_path / "whole.eval", [answered()])
    cut = tmp_path / "cut.eval"
    cut.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(DataError, match="inspect log recover"):
        list(read(cut, Config()))


def test_a_damaged_sample_is_named_and_the_others_are_read(tmp_path):
    content = [json.dumps(answered(number, uuid=f"u{number}")).encode() for number in range(4)]
    head = json.dumps(evaluation()).encode()
    good = packed(content[0])
    short = packed(content[1])[:-20]
    other = packed(content[3].replace(b"It is 4", b"It is 5"))
    members = [
        ("samples/0_epoch_1.json", content[0], good),
        ("samples/1_epoch_1.json", content[1], short),
        ("samples/2_epoch_1.json", b"[1]", packed(b"[1]")),
        ("samples/3_epoch_1.json", content[3], other),
        ("header.json", head, packed(head)),
    ]
    path = zstd_archive(tmp_path / "z.eval", members)
    found = list(read(path, Config()))
    assert isinstance(found[0], ImportedDebate)
    bad = [each for each in found if isinstance(each, BadRow)]
    assert [each.file.rpartition("/")[2] for each in bad] == [
        f"{number}_epoch_1.json" for number in (1, 2, 3)
    ]
    assert "damaged" in bad[0].reason
    assert "no object" in bad[1].reason
    assert "sum does not agree" in bad[2].reason


def test_a_forged_size_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("oversight.interop.inspect_files.MAX_MEMBER_BYTES", 500)
    path = log_of(tmp_path / "a.eval", [answered(input="long " * 200)])
    [bad] = read(path, Config())
    assert isinstance(bad, BadRow)
    assert "at most 500 are read" in bad.reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": ""}, "no words of a user"),
        ({"input": [{"role": "system", "content": "Be brief."}]}, "no words of a user"),
        ({"choices": ["a", "a "]}, "two of its choices are the same"),
        ({"epoch": None}, "no id and epoch"),
        ({"output": []}, "output"),
        ({"messages": 3}, "int"),
        ({"scores": {"match": {"value": "C", "history": 3}}}, "int"),
    ],
)
def test_a_sample_that_is_no_question_is_told_of(tmp_path, changes, said):
    path = log_of(tmp_path / "a.eval", [answered() | changes])
    [item] = read(path, Config())
    assert not isinstance(item, ImportedDebate) or "output" in changes, item
    if not isinstance(item, ImportedDebate):
        assert said in item.reason
