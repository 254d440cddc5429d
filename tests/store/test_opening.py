"""Opening: where a store may be, and what is said when it cannot be opened."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from oversight.cli import main
from oversight.errors import MissingDependencyError, SchemaError, StoreError
from oversight.store import Store, migrations, opening
from oversight.store.database import Database, parse_address, shown_address


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_path_or_a_url_means_the_file(tmp_path, make, form):
    path = tmp_path / "new folder" / "50% of #1?.db"
    with Store.open(form.format(path) if form == "{}" else path) as store:
        store.add(make.question())
        assert store.url == str(path)
    assert path.read_bytes().startswith(b"SQLite format 3\0")


def test_a_relative_path_stays_the_same_file_when_the_folder_changes(tmp_path, make, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Store.open("runs.db") as store:
        monkeypatch.chdir("/")
        store.add(make.question())
    assert (tmp_path / "runs.db").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mysql://u:secret@h/db", "'mysql' is not known; accepted: a file's path"),
        ("sqlite://", "would be lost with the process; name a file"),
        (":memory:", "would be lost with the process; name a file"),
        ("sqlite:///:memory:", "would be lost with the process"),
        ("sqlite:///a.db?mode=ro", "a SQLite URL is sqlite:///path, no more"),
        ("postgresql://u:secret@h:port/db", "is no URL; accepted"),
        ("://u:secret@h", "is no URL; accepted"),
        ("a\0b", "cannot hold a NUL"),
    ],
)
def test_an_address_of_another_kind_is_refused_without_its_password(given, message):
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(given)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://u:secret@h:5/db", "postgresql://u:***@h:5/db"),
        ("postgres://u@h/db", "postgresql://u@h/db"),
        (
            "postgresql+psycopg://h/db?password=secret&user=u",
            "postgresql://h/db?password=***&user=u",
        ),
        ("postgresql://u:se%40cr%2Fet@h/db", "postgresql://u:***@h/db"),
    ],
)
def test_a_url_is_shown_without_its_password(given, shown):
    assert shown_address(parse_address(given)) == shown


def test_an_absent_store_is_not_created_unasked(tmp_path):
    path = tmp_path / "runs.db"
    with pytest.raises(StoreError, match=rf"there is no store at {path}; check the path"):
        Store.open(path, create=False)
    assert not path.exists()


def test_an_empty_place_is_no_store_unless_created(new_url, tmp_path):
    (tmp_path / "store.db").touch()
    with pytest.raises(StoreError, match="holds nothing yet; check its name"):
        Store.open(new_url, create=False)
    Store.open(new_url).close()
    Store.open(new_url, create=False).close()


def test_a_file_that_was_removed_or_replaced_is_neither_read_nor_written_on(path, make):
    with Store.open(path) as store, Store.open(path, create=False, follow=True) as follower:
        assert follower.counts()["debates"] == store.counts()["debates"] == 3
        path.unlink()
        for opened in (store, follower):
            with pytest.raises(StoreError, match="was removed or moved while it was open"):
                opened.counts()
        with pytest.raises(StoreError, match="was removed"):
            store.add(make.question(99))
        Store.open(path).close()
        for use in (store.counts, lambda: store.add(make.question(99))):
            with pytest.raises(StoreError, match="was replaced by another file"):
                use()
        assert follower.counts()["debates"] == 0


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match=rf"store {tmp_path} is a folder; name a file in it"):
        Store.open(tmp_path)


def test_a_file_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="check that its folder can be there"):
        Store.open(tmp_path / "file" / "runs.db")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n" * 200)
    with pytest.raises(StoreError, match=rf"store {path}: .*not a database; .*name another path"):
        Store.open(path)
    assert path.read_text() == "my notes\n" * 200


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (id)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"of another program \(it has a table 'photos'\)"):
        Store.open(path)
    with pytest.raises(StoreError, match="holds nothing yet"):
        Store.open(path, create=False, only_read=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]
    connection.close()


@pytest.mark.postgres
def test_a_postgresql_database_may_hold_other_tables_as_well(postgres_server, make):
    import psycopg

    url = postgres_server.new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num text)")
    with Store.open(url) as store:
        store.add(make.question())
        assert store.check() == []


OPEN_AS_NOBODY = """
import os, sys
from oversight.errors import StoreError
from oversight.store import Store
import alembic.command, sqlalchemy.dialects.sqlite  # before the right to read them is given up
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    Store.open(sys.argv[1])
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who is refused")
@pytest.mark.parametrize(
    ("mode", "folder_mode"), [(0o600, 0o777), (0o644, 0o755), (None, 0o755), (0o666, 0o000)]
)
def test_a_place_one_may_not_read_or_write_is_an_error_that_says_so(mode, folder_mode):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.db")
        if mode is not None:
            Store.open(path).close()
            path.chmod(mode)
        Path(folder).chmod(folder_mode)
        done = subprocess.run(
            [sys.executable, "-c", OPEN_AS_NOBODY, str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stderr == ""
    assert done.stdout.startswith(f"store {path}: ")
    assert "; check that" in done.stdout
    assert "you may" in done.stdout


def test_a_newer_schema_is_an_error_that_names_both_versions(new_url):
    with Store.open(new_url) as store, store._database.writing() as connection:
        connection.execute(text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SchemaError, match=r"schema '9999'.* newer than '0007'.* upgrade oversight"):
        Store.open(new_url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://u:secret@127.0.0.1:1/db", "check host, port and database"),
        ("postgresql://u:secret@/db?host=/nowhere", "check host, port and database"),
    ],
)
def test_a_server_that_nobody_answers_for_is_named_without_the_password(url, message):
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(url)
    assert "u:***@" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.postgres
def test_an_absent_database_or_user_says_what_to_do(postgres_server):
    with pytest.raises(StoreError, match=r'"none" does not exist; create it first \(createdb\)'):
        Store.open(postgres_server.url("none"))
    with pytest.raises(StoreError, match="check the user's name"):
        Store.open(postgres_server.url("postgres").replace("tester", "somebody"))


WITHOUT_PSYCOPG = """
import sys
sys.modules["psycopg"] = None
from oversight.store import Store
Store.open("postgresql://u:secret@127.0.0.1/db")
"""


def test_without_psycopg_the_error_says_how_to_install_it():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PSYCOPG], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"{MissingDependencyError.__module__}.MissingDependencyError: store"
        ' postgresql://u:***@127.0.0.1/db needs psycopg: pip install "oversight[postgres]"'
    )


OPEN_AND_WRITE = """
import sys
from oversight.store import Store
from oversight.types import Option, Question
options = (Option(text="a"), Option(text="b"))
sys.stdin.readline()
with Store.open(sys.argv[1]) as store:
    store.add(Question(id=sys.argv[2], dataset="d", text="t", options=options))
"""


def test_processes_may_create_one_store_at_once(new_url):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_WRITE, new_url, str(number)], stdin=subprocess.PIPE
        )
        for number in range(3)
    ]
    for child in children:
        child.stdin.write(b"\n")
        child.stdin.close()
    assert [child.wait(60) for child in children] == [0] * 3
    with Store.open(new_url) as store:
        assert len(store.questions()) == 3
        assert store.check() == []


def test_a_store_with_the_newest_schema_opens_without_loading_alembic(tmp_path):
    path = tmp_path / "runs.db"
    Store.open(path).close()
    program = (
        "import sys; from oversight.store import Store\n"
        f"Store.open({str(path)!r}).close()\n"
        "sys.exit('alembic' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_failure_for_lack_of_room_on_the_disk_says_so(tmp_path, monkeypatch) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    with Store.open(tmp_path / "store.db") as store:
        database = store._database
        assert "the file system failed" in str(database.explain(error))
        usage = shutil.disk_usage(tmp_path)._replace(free=4096)
        monkeypatch.setattr("oversight.store.database.shutil.disk_usage", lambda path: usage)
        assert "no space left on its disk); make room" in str(database.explain(error))


@pytest.mark.parametrize("table", ["heads", "turns", "rating_events"])
def test_readers_refuse_a_store_that_has_lost_a_table(tmp_path, make, table):
    path = tmp_path / "a.db"
    with Store.open(path) as store:
        store.add(make.question())
    with sqlite3.connect(path) as connection:
        connection.execute(f"DROP TABLE {table}")
    connection.close()
    with Store.open(path, create=False) as store:
        for read in (lambda: store.queue("ann"), lambda: list(store.transcripts())):
            with pytest.raises(StoreError, match=f"table '{table}' of the store is gone; restore"):
                read()


# --- only reading ---

READ_AS_NOBODY = """
import os, sys
from oversight.errors import StoreError
from oversight.store import Store
import sqlalchemy.dialects.sqlite  # before the right to read it is given up
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    with Store.open(sys.argv[1], create=False, only_read=True) as store:
        print(len(store.questions()), store.check())
except StoreError as error:
    print(error)
"""
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who is refused")


def read_as_nobody(path: Path) -> str:
    """The output of another process that opens the store to read it."""
    done = subprocess.run(
        [sys.executable, "-c", READ_AS_NOBODY, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.strip()


@AS_ROOT
@pytest.mark.parametrize(("mode", "folder_mode"), [(0o444, 0o555), (0o644, 0o755), (0o444, 0o777)])
def test_a_store_that_one_may_not_write_is_read_and_nothing_is_left_beside_it(
    make, mode, folder_mode
):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "50% of #1?.db")
        with Store.open(path) as store:
            store.add(make.question())
        path.chmod(mode)
        Path(folder).chmod(folder_mode)
        assert read_as_nobody(path) == "1 []"
        assert [each.name for each in Path(folder).iterdir()] == [path.name]


@pytest.mark.parametrize(
    "command",
    ["report", "export out.jsonl", "export out.jsonl --layout transcripts", "store check",
     "store seal", "store info"],
)  # fmt: skip
def test_a_command_that_only_reads_asks_for_no_more(tmp_path, make, monkeypatch, capsys, command):
    path = tmp_path / "runs.db"
    with Store.open(path) as store:
        store.add(make.question())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "_is_held_back", lambda database: True)
    monkeypatch.setattr(opening, "_prepare_file", lambda *_: pytest.fail("it was to be written"))
    code = main.run([*command.split(), "--store", "runs.db"])
    said = capsys.readouterr().err
    needs_debates = command.startswith(("report", "export"))
    assert code == 0 or (needs_debates and "no complete debate" in said), said
    assert {each.name for each in tmp_path.iterdir()} <= {"runs.db", "out.jsonl"}


@AS_ROOT
def test_rows_that_a_running_writer_has_only_in_its_log_are_read_by_others(make):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "runs.db")
        with Store.open(path) as store:
            store.add(make.question())
            assert Path(f"{path}-wal").stat().st_size > 0
            assert read_as_nobody(path) == "1 []"


@AS_ROOT
def test_a_log_that_cannot_be_read_where_it_lies_is_not_passed_over(make):
    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder, "runs.db"), Path(folder, "copy.db")
        with Store.open(path) as store:
            store.add(make.question())
            for end in ("", "-wal"):
                shutil.copy(f"{path}{end}", f"{copy}{end}")
        Path(folder).chmod(0o755)
        said = read_as_nobody(copy)
    assert said.startswith(f"store {copy}: rows that are not in the file yet stand in copy.db-wal")
    assert said.endswith("copy both to where you may write")


@AS_ROOT
def test_an_older_schema_that_cannot_be_brought_up_to_date_is_refused_by_name(make):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.db")
        with Store.open(path) as store, store._database.writing() as connection:
            connection.execute(text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '0005'"))
        Path(folder).chmod(0o755)
        said = read_as_nobody(path)
    assert f"has schema '0005', older than {migrations.HEAD!r}" in said
    assert said.endswith("copy it to where you may write")


def test_a_file_that_is_read_without_locks_and_written_meanwhile_is_an_error(tmp_path, make):
    path = tmp_path / "runs.db"
    Store.open(path).close()
    database = Database(parse_address(path))
    database.only_read()

    def write_meanwhile() -> None:
        with database.reading(), Store.open(path) as store:
            store.add(make.question())

    with pytest.raises(StoreError, match="was written to while it was read; run the same command"):
        write_meanwhile()
    database.close()


def test_what_is_opened_to_be_read_where_it_cannot_be_written_refuses_to_write(tmp_path, make):
    path = tmp_path / "runs.db"
    Store.open(path).close()
    database = Database(parse_address(path))
    database.only_read()
    with Store(database) as store, pytest.raises(StoreError, match="readonly database; check that"):
        store.add(make.question())


def test_an_absent_store_that_is_to_be_read_is_said_to_be_absent(tmp_path):
    with pytest.raises(StoreError, match="there is no store at"):
        Store.open(tmp_path / "runs.db", create=False, only_read=True)


@pytest.mark.postgres
def test_no_command_prints_the_password_of_a_store(
    postgres_server, tmp_path, monkeypatch, capfd
) -> None:
    monkeypatch.chdir(tmp_path)
    url = make_url(postgres_server.new_database()).set(password="hunter2x")
    address = url.render_as_string(hide_password=False)
    run = ["debate", "-d", "world", "--limit", "2", "-p", "naive", "--no-live"]
    commands = [
        *(
            run,
            [*run, "--json"],
            ["debate", "-d", "world", "--limit", "3", "-p", "naive", "--limit", "3"],
        ),
        *(["show"], ["show", "--limit", "1"], ["show", "--json"], ["show", "0"], ["runs"]),
        *(["runs", "--tag", "a=b"], ["report"], ["report", "--json"], ["report", "--html", "rep"]),
        *(["report", "--arm", f"a={address}", "--arm", f"b={address}"], ["store", "check"]),
        *(["report", "--arm", f"a={address}", "--arm", f"a={address}"], ["store", "info"]),
        *(["store", "seal", "--out", "seal.json"], ["store", "check", "other.db"]),
        *(["export", "rows.jsonl", "-p", "naive"], ["judge", "--linear"], ["rate", "pairs"]),
        *(["export", "rows.jsonl", "-p", "debate"], ["rate", "pairs", "--model", "scripted"]),
        ["constitution", "lint", "--left-out", f"a={address}", "--left-out", f"a={address}"],
    ]
    for command in commands:
        monkeypatch.setattr(sys, "stdin", io.StringIO("quit\n"))
        main.run([*command, "--store", address])
        said = "".join(capfd.readouterr())
        assert said
        assert "hunter2x" not in said, (command, said)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"hunter2x" not in path.read_bytes(), path
