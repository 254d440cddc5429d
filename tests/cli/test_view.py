"""`oversight view` and `oversight show` as commands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from oversight.cli.main import run
from oversight.text.quotes import strip_quotes
from tests.reporting.conftest import debated  # noqa: F401  # a fixture

pytestmark = pytest.mark.usefixtures("debated")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_show_tells_a_whole_transcript_at_any_width(debated, capsys, monkeypatch, width) -> None:  # noqa: F811
    monkeypatch.setenv("COLUMNS", width)
    id_ = debated.debate_ids(protocol="debate")[0]
    assert run(["show", id_[:10], "--store", debated.url]) == 0
    said = plain(capsys.readouterr().out)
    assert all(len(line) <= int(width) for line in said.splitlines())
    words = "".join(re.sub(r" \[\d+[✓≈✗·]\]", "", said.replace("\n", " ")).split())
    transcript = debated.transcript(id_)
    for turn in transcript.spoken():
        for sentence in strip_quotes(turn.text).split("."):
            marked = re.sub(r"[^A-Za-z]", "", sentence)
            assert marked in re.sub(r"[^A-Za-z]", "", words)
    assert "the attic" in said
    assert "judge (made)" in said


def test_show_gives_prompts_and_the_source_when_asked(debated, capsys) -> None:  # noqa: F811
    id_ = debated.debate_ids(protocol="debate")[0]
    assert run(["show", id_, "--store", debated.url, "--prompts", "--source"]) == 0
    said = plain(capsys.readouterr().out)
    assert "[system]" in said
    assert "At noon Cy swept the cellar and found nothing." in said


def test_show_gives_json(debated, capsys) -> None:  # noqa: F811
    id_ = debated.debate_ids(protocol="debate")[0]
    assert run(["show", id_, "--store", debated.url, "--json"]) == 0
    [page] = json.loads(capsys.readouterr().out)
    assert page["id"] == id_
    assert page["turns"][0]["quotes"][0]["status"] == "verified"


@pytest.mark.parametrize(
    ("given", "said"),
    [("zzzz", "no debate, turn or judgment"), ("", "no debate, turn or judgment")],
)
def test_show_says_that_there_is_no_such_debate(debated, capsys, given, said) -> None:  # noqa: F811
    assert run(["show", given, "--store", debated.url]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_show_names_the_debates_that_a_beginning_fits(debated, capsys) -> None:  # noqa: F811
    ids = debated.debate_ids()
    first = next(a for a in "0123456789abcdef" if sum(i.startswith(a) for i in ids) > 1)
    assert run(["show", first, "--store", debated.url]) == 2
    assert "give more of it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.db"], "there is no store at"),
        (["."], "no store (*.db) and no training run is in this folder"),
        ([], "there is neither oversight.db nor runs/ here"),
        (["x.txt"], "not a database"),
        (["--token", "abc"], "--token takes at least 16"),
    ],
)
def test_view_says_what_it_cannot_show(tmp_path, capsys, monkeypatch, words, said) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").write_text("words\n" * 500)
    assert run(["view", "--no-browser", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_store_of_a_newer_schema_is_refused_in_one_line(tmp_path, capsys) -> None:
    import sqlite3

    from oversight.store import Store

    path = tmp_path / "new.db"
    Store.open(path).close()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE oversight_version SET version_num = '9999'")
    assert run(["view", "--no-browser", str(path)]) == 2
    error = capsys.readouterr().err
    assert "newer than" in error
    assert error.count("\n") == 1


def test_a_folder_is_viewed_without_the_files_in_it_that_are_no_stores(
    debated,  # noqa: F811
    tmp_path,
    capfd,
    monkeypatch,
) -> None:
    import sqlite3
    from pathlib import Path

    from oversight.reporting import server

    folder = Path(debated.url).parent
    with sqlite3.connect(folder / "photos.db") as file:
        file.execute("CREATE TABLE photos (id)")
    file.close()
    viewed: list[object] = []
    monkeypatch.setattr(server, "serve", lambda app, _: viewed.append(app))
    assert run(["view", str(folder), "--no-browser", "--port=0"]) == 0
    error = capfd.readouterr().err
    assert error.startswith("Left out: store ")
    assert error.count("\n") == len(viewed) == 1
    (tmp_path / "empty").mkdir()
    (folder / "photos.db").rename(tmp_path / "empty" / "photos.db")
    assert run(["view", str(tmp_path / "empty"), "--no-browser", "--port=0"]) == 2
    assert "holds nothing yet" in capfd.readouterr().err


def test_view_serves_until_it_is_stopped(debated, tmp_path) -> None:  # noqa: F811
    command = [sys.executable, "-m", "oversight.cli.main", "view", debated.url]
    process = subprocess.Popen(
        [*command, "--no-browser", "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("Viewing at http://127.0.0.1:")
        with urllib.request.urlopen(line.split()[2], timeout=30) as answer:
            assert b"data-step" in answer.read()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[0]
        assert (process.returncode, rest) == (0, "")
    finally:
        process.kill()
        process.wait()
    assert list((tmp_path / "oversight" / "view").glob("*.db")), "the index is in the user's cache"


def test_report_writes_a_folder(debated, tmp_path, capsys) -> None:  # noqa: F811
    out = tmp_path / "report"
    assert run(["report", "--store", debated.url, "--html", str(out)]) == 0
    assert "18 transcripts behind its numbers" in capsys.readouterr().err
    assert (out / "index.html").is_file()
    assert run(["report", "--store", debated.url, "--html", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").is_file()
