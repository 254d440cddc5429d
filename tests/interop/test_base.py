"""Importing: what every format can rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.errors import ConfigError, DataError, StoreError, UnknownNameError
from oversight.interop import base
from oversight.interop.base import DebateImport, ImportSettings, import_debates, num_items
from oversight.store import Store
from tests.interop.nyu_files import a_debate, a_folder, metadata

FORMAT = '''
import time
from pathlib import Path
from oversight.config import Settings
from oversight.datasets.base import BadRow, LeftOut
from oversight.interop.base import ImportedDebate
from oversight.interop import nyu

class Slow:
    """The NYU files, slowly."""
    class Config(Settings):
        pause_s: float = 0.0
        yields: str = ""
    @staticmethod
    def read(path, config):
        for item in nyu.read(path, nyu.Config()):
            time.sleep(config.pause_s)
            if config.yields:
                yield eval(config.yields)
            yield item

class NoRead:
    class Config(Settings):
        pass
'''


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A format of a user's own."""
    (tmp_path / "own.py").write_text(FORMAT)
    return f"{tmp_path / 'own.py'}:Slow"


def folder(path: Path, num: int) -> Path:
    return a_folder(path / "in", {f"d{number}": a_debate() for number in range(num)})


def settings(name: str, path: Path, **changes: Any) -> ImportSettings:
    return ImportSettings(format=name, path=str(path), store="", **changes)


def test_a_format_of_ones_own_is_read_and_its_file_named(
    own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "some.db")]
    assert run(["import", own, str(folder(tmp_path, 2)), *store, "--set", "pause_s=0.001"]) == 0
    told = capsys.readouterr()
    assert "2 debates" in told.out
    assert f"importing {own.rpartition(':')[0]}" in told.err


@pytest.mark.parametrize(
    ("name", "own_settings", "error", "said"),
    [
        ("Slow", {"yields": "1/0"}, DataError, r"read\(path, config\) failed \(ZeroDivisionError"),
        (
            "Slow",
            {"yields": "42"},
            DataError,
            r"item 1 is 42; read\(path, config\) yields Imported",
        ),
        ("Slow", {"pauses": 1}, ConfigError, r"'pauses'.*pause_s"),
        ("NoRead", {}, ConfigError, r"it has no read; a user's own format is a class with Config"),
        ("Absent", {}, ConfigError, r"has no class 'Absent'"),
    ],
)
def test_what_is_wrong_with_a_format_of_ones_own_is_one_error(
    name: str,
    own_settings: dict[str, Any],
    error: type[Exception],
    said: str,
    own: str,
    tmp_path: Path,
) -> None:
    place = own.replace("Slow", name)
    with pytest.raises(error, match=said) as caught:
        DebateImport(settings(place, folder(tmp_path, 1), settings=own_settings)).check()
    assert "\n" not in str(caught.value)


def test_a_format_that_is_only_read_is_not_written(
    own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "some.db")]
    assert run(["import", "nyu", str(folder(tmp_path, 1)), *store]) == 0
    assert run(["export", str(tmp_path / "out"), "--as", own, *store]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "cannot be written in it; they can in" in told
    assert "llm_debate, nyu, transcripts" in told


def test_an_unknown_format_is_met_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no format 'nyuu'\. Did you mean 'nyu'\?"):
        DebateImport(settings("nyuu", tmp_path)).check()


def test_the_command_lists_formats_and_asks_for_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "--json"]) == 0
    names = {each["name"] for each in json.loads(capsys.readouterr().out)}
    assert {"llm_debate", "nyu", "transcripts"} <= names
    assert run(["import", "nyu"]) == 2
    assert "PATH is missing" in capsys.readouterr().err


def test_more_than_is_held_is_read_again_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path, 5)
    told: dict[str, int] = {}
    seals = []
    for name, held in (("held", base.HELD_CHARS), ("again", 0)):
        monkeypatch.setattr(base, "HELD_CHARS", held)
        with Store.open(tmp_path / f"{name}.db") as store:
            import_debates(
                settings("nyu", path), store, lambda task, done: told.update({task: done})
            )
            seals.append(store.seal())
        assert ("writing" in told) == (name == "again")
    assert told == {"checking": 5, "writing": 5}
    assert seals[0] == seals[1]


def test_small_transactions_come_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path, 5)
    counts = []
    for name, records in (("large", 4000), ("small", 1)):
        monkeypatch.setattr(base, "RECORDS_A_WRITE", records)
        with Store.open(tmp_path / f"{name}.db") as store:
            assert import_debates(settings("nyu", path), store).num_debates == 5
            counts.append(store.counts())
            assert not store.check()
    assert counts[0] == counts[1]


def test_a_file_that_goes_bad_between_the_two_passes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "HELD_CHARS", 0)
    path = folder(tmp_path, 3)
    begun = DebateImport(settings("nyu", path))
    begun.check()
    (path / "debates" / "d1.json").write_text("{")
    with (
        Store.open(tmp_path / "some.db") as store,
        pytest.raises(DataError, match=r"d1\.json: broken JSON"),
    ):
        begun.write(store)


def test_many_bad_items_are_listed_up_to_a_number(tmp_path: Path) -> None:
    path = a_folder(tmp_path / "in", {f"d{number:02}": b"{" for number in range(30)})
    with pytest.raises(DataError) as caught:
        DebateImport(settings("nyu", path)).check()
    lines = str(caught.value).split("\n")
    assert lines[0] == "format 'nyu': 30 items cannot be used:"
    assert lines[-2].strip() == "… and 10 more."


def test_a_record_that_is_stored_with_other_content_is_named_by_its_file(tmp_path: Path) -> None:
    path = folder(tmp_path, 2)
    with Store.open(tmp_path / "some.db") as store:
        import_debates(settings("nyu", path), store)
        [first, *_] = store.transcripts()
        changed = first.turns[0].model_copy(update={"step": 99, "text": "other"})
        store.add(changed)
        clash = base.ImportedDebate(
            "here.json", first.debate.id, (changed.model_copy(update={"text": "another"}),)
        )
        with pytest.raises(StoreError, match=r"here\.json: turn .* with other content"):
            base._write(store, [clash])


def test_the_number_of_items_is_known_beforehand(tmp_path: Path, own: str) -> None:
    path = folder(tmp_path, 3)
    assert num_items(settings("nyu", path)) == 3
    assert num_items(settings(own, path)) is None


def test_an_import_that_was_killed_goes_on(own: str, tmp_path: Path) -> None:
    path = folder(tmp_path, 12)
    store = tmp_path / "some.db"
    script = (
        "import sys; from oversight.interop import base; base.RECORDS_A_WRITE = 1; "
        "from oversight.cli.main import main; main(sys.argv[1:])"
    )
    words = ["import", own, str(path), "--store", str(store), "--skip-bad", "--set", "pause_s=0.2"]
    process = subprocess.Popen([sys.executable, "-c", script, *words])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if store.exists() and _num_debates(store) >= 2:
                break
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with Store.open(store) as opened:
        found = opened.counts()["debates"]
        assert 2 <= found < 12
        told = import_debates(settings("nyu", path), opened)
        assert (told.num_debates, told.num_found) == (12, found)
        assert opened.counts()["debates"] == 12
        assert not opened.check()


def _num_debates(store: Path) -> int:
    try:
        with Store.open(store, create=False, only_read=True) as opened:
            return opened.counts()["debates"]
    except StoreError:
        return 0  # its tables are being made


def test_an_import_is_a_run_with_its_tags(tmp_path: Path) -> None:
    store = tmp_path / "some.db"
    words = ["import", "nyu", str(folder(tmp_path, 1)), "--store", str(store)]
    assert run([*words, "--run", "nyu", "--tag", "study=2023"]) == 0
    with Store.open(store) as opened:
        [found] = opened.runs()
        assert (found.name, found.tags, found.num_debates) == ("nyu", {"study": "2023"}, 1)
        assert found.starts[0].action == "import"


def test_lines_of_the_metadata_without_a_file_are_left_out(tmp_path: Path) -> None:
    lines = [metadata("d0"), metadata("gone")]
    path = a_folder(tmp_path / "in", {"d0": a_debate()}, lines)
    with Store.open(tmp_path / "some.db") as store:
        told = import_debates(settings("nyu", path), store)
    assert dict(told.left_out) == {"named in the metadata, without a file": 1}
