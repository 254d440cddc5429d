"""A file or folder is the old one or the new one, whatever ends the writing of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oversight.errors import CheckpointError, DataError, FileError
from oversight.files import check_place, told, whole_file, whole_folder, write_json, write_text


def test_an_error_in_the_middle_leaves_the_old_file_whole_and_nothing_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")

    def cut_short() -> None:
        with whole_file(path) as part:
            part.write_text("ha")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut_short()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.json"]


def test_a_kill_in_the_middle_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "seal"
    path.write_text("old")
    program = (
        "import os, pathlib, signal, sys\n"
        "from oversight.files import whole_file\n"
        "with whole_file(pathlib.Path(sys.argv[1])) as part:\n"
        "    part.write_text('ha')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_full_disk_is_told_with_setting_path_and_cause(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits on a file's size are POSIX")
    path = tmp_path / "out.json"
    write_json(path, {"a": 1})
    held = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(FileError) as caught:
            write_text(path, "x" * 5000, "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == (
        f"out = {str(path)!r} cannot be written: File too large. Choose another file, or make room."
    )
    assert path.read_bytes() == held
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_place_that_is_no_folder_is_told_and_a_run_says_what_it_was_doing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = r"^the card cannot be written: .*\. Go on\.$"
    with (
        pytest.raises(CheckpointError, match=said),
        told("the card cannot be written", "Go on."),
    ):
        write_text(tmp_path / "file" / "card.md", "text")


def test_an_error_of_where_the_content_comes_from_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3"), whole_file(tmp_path / "rows"):
        raise DataError("row 3")


def test_a_folder_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for content in ("one", "two"):
        with whole_folder(path) as part:
            part.mkdir()
            (part / "weights").write_text(content)
        assert (path / "weights").read_text() == content

    def cut_short() -> None:
        with whole_folder(path) as part:
            part.mkdir()
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cut_short()
    assert (path / "weights").read_text() == "two"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path, is_folder: bool) -> None:
    check_place(tmp_path / "new" / "newer" / "out", "out", is_folder=is_folder)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "is_folder", "reason"),
    [
        ("/proc/nope/out", False, "No such file or directory"),
        ("/proc/nope", True, "No such file or directory"),
        ("/dev/null", False, "it is a device or a pipe"),
        ("file/out", False, "file is no folder"),
        ("file/out", True, "file is no folder"),
        ("file", True, "it is a file"),
        ("folder", False, "it is a folder"),
        ("link", False, "a link to what is not there"),
        ("link", True, "a link to what is not there"),
        ("a" * 300, False, "too long"),
        ("a" * 300, True, "too long"),
        ("nul\0", False, "null byte"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_with_its_reason(
    tmp_path: Path, path: str, is_folder: bool, reason: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileError, match=f"out = .* cannot be written: .*{reason}"):
        check_place(tmp_path / path, "out", is_folder=is_folder)


def test_a_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileError, match="device or a pipe"):
        write_text(pipe, "words")
    assert pipe.is_fifo()
