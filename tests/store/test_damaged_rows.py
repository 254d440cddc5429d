"""A damaged row is named, with what is wrong, by whatever reads it; the check goes on past it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oversight.cli.main import app, main
from oversight.errors import StoreError
from oversight.store import Store
from oversight.store.claims import QueueFilter
from oversight.store.rating_queue import RatingFilter
from oversight.store.schema import RECORD_TABLES
from oversight.types.ratings import Task

DEEP = "[" * 100_000
DAMAGES = {
    "a blob": b"\x00\xff{",
    "a whole number": 7,
    "a number": 0.5,
    "no UTF-8": ("CAST(x'7BFF7D' AS TEXT)",),
    "truncated JSON": '{"text":"a',
    "JSON that is nested deeply": DEEP,
    "the same with half a surrogate pair": '"\\ud800"' + DEEP,
    "an empty text": "",
    "a list": "[]",
    "null": "null",
    "a huge number": "1" * 5_000,
}
COLUMNS = [
    (table.name, column.name)
    for table in RECORD_TABLES
    for column in table.columns
    if column.name != "seq"
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make) -> Path:
    """A store with a record of every kind, closed."""
    from tests.store.test_chains import records

    path = tmp_path_factory.mktemp("whole") / "runs.db"
    with Store.open(path) as store:
        for seed in range(2):
            before, outcome = records(make, seed)
            store.add(*before, make.turn(make.debate(seed=seed), 5, candidate=1, chosen=False))
            store.add(outcome)
    return path


def damaged(whole: Path, folder: Path, table: str, column: str, value: object) -> Path:
    path = folder / "runs.db"
    path.write_bytes(whole.read_bytes())
    connection = sqlite3.connect(path)
    literal, given = ("?", [value]) if not isinstance(value, tuple) else (value[0], [])
    where = f"rowid = (SELECT min(rowid) FROM {table})"
    connection.execute(f"UPDATE {table} SET {column} = {literal} WHERE {where}", given)
    connection.commit()
    connection.close()
    return path


def read_all(store: Store) -> None:
    """Read the store in every way that results are made by."""
    readings = [
        lambda: list(store.transcripts(complete=None)),
        lambda: [store.transcript(id_) for id_ in store.debate_ids()],
        store.questions,
        lambda: [store.debate(id_) for id_ in store.debate_ids()],
        lambda: store.queue("ann"),
        lambda: store.queue("ann", QueueFilter(dataset="tales", protocol="debate")),
        lambda: store.events("ann"),
        *[
            lambda task=task: [
                (store.rating_events(item.key, "ann"), item)
                for item in store.rating_items("ann", RatingFilter(task, all_pairs=True), overlap=3)
            ]
            for task in Task
        ],
        lambda: [
            store.prompt(sample.prompt_id)
            for transcript in store.transcripts(complete=None)
            for turn in transcript.turns
            for sample in turn.samples
        ],
        store.counts,
        lambda: store.completed(store.debate_ids(complete=True)),
    ]
    for reading in readings:
        said = ""
        try:
            reading()
        except StoreError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 600


def check_and_read(whole: Path, folder: Path, table: str, column: str, value: object) -> None:
    try:
        path = damaged(whole, folder, table, column, value)
    except sqlite3.IntegrityError:
        return
    with Store.open(path) as store:
        problems = store.check()
        assert any(problem.table == table for problem in problems), value
        read_all(store)
        store.seal()


@pytest.mark.slow
@pytest.mark.parametrize("place", COLUMNS, ids=".".join)
def test_whatever_stands_in_a_column_every_reader_reads_or_names_it(whole, tmp_path, place):
    for value in DAMAGES.values():
        check_and_read(whole, tmp_path, *place, value)


@pytest.mark.parametrize(
    ("place", "damage"),
    [
        (("sources", "body"), "a blob"),
        (("questions", "body"), "JSON that is nested deeply"),
        (("questions", "source_id"), "a blob"),
        (("debates", "id"), "a blob"),
        (("parts", "body"), "JSON that is nested deeply"),
        (("token_blocks", "ids"), "a whole number"),
        (("prompts", "messages"), "a blob"),
        (("prompts", "blocks"), "a blob"),
        (("prompts", "tail"), "a whole number"),
        (("turns", "id"), "a blob"),
        (("turns", "seat"), "a whole number"),
        (("events", "debate_id"), "no UTF-8"),
        (("ratings", "body"), "the same with half a surrogate pair"),
    ],
    ids=str,
)
def test_a_damaged_column_is_read_or_named_by_every_reader(whole, tmp_path, place, damage):
    check_and_read(whole, tmp_path, *place, DAMAGES[damage])


WITH_BODIES = [table.name for table in RECORD_TABLES if "body" in table.columns]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_reader_stops_with_one_line_that_names_the_row(whole, tmp_path, damage):
    table = "turns"
    path = damaged(whole, tmp_path, table, "body", DAMAGES[damage])
    with Store.open(path) as store, pytest.raises(StoreError) as caught:
        list(store.transcripts(complete=None))
    message = str(caught.value)
    assert message.startswith(f"{table} row ")
    assert " of debate " in message
    assert message.endswith("run `oversight store check`")
    assert "\n" not in message


@pytest.mark.parametrize(
    "command",
    [
        ["report"],
        ["export", "rows.jsonl", "--layout", "transcripts"],
        ["export", "pairs.jsonl"],
        ["store", "check"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
@pytest.mark.parametrize("damage", ["a blob", "JSON that is nested deeply"])
def test_commands_name_the_row_in_one_line(whole, tmp_path, monkeypatch, command, damage):
    monkeypatch.chdir(tmp_path)
    path = damaged(whole, tmp_path, "turns", "body", DAMAGES[damage])
    done = CliRunner().invoke(app, [*command, "--store", str(path)])
    assert done.exit_code != 0
    if command[0] == "store":
        assert done.exit_code == 1
        assert "turns" in done.stdout
    else:
        assert isinstance(done.exception, StoreError)
        assert str(done.exception).startswith("turns row ")


@pytest.mark.parametrize(
    "command",
    [["store", "check"], ["store", "seal"], ["store", "info"], ["report"]],
    ids=" ".join,
)
@pytest.mark.parametrize("damage", ["no header", "cut off", "no database", "a folder"])
def test_a_damaged_file_is_one_line_and_exit_code_2_or_named_by_the_check(
    whole, tmp_path, monkeypatch, capsys, command, damage
):
    path = tmp_path / "runs.db"
    data = whole.read_bytes()
    if damage == "a folder":
        path.mkdir()
    else:
        path.write_bytes(
            {
                "no header": b"x" * 100 + data[100:],
                "cut off": data[: 3 * 4096 + 100],
                "no database": b"notes\n" * 1000,
            }[damage]
        )
    monkeypatch.setattr("sys.argv", ["oversight", *command, "--store", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    if damage == "cut off" and command == ["store", "check"]:
        assert ended.value.code in (1, 2)
        assert "malformed" in said.out + said.err
    else:
        assert ended.value.code == 2
        assert len(said.err.strip().splitlines()) <= 4
        assert str(path) in said.err.replace("\n", "")


def test_the_check_goes_on_past_damage_in_every_table(whole, tmp_path):
    path = tmp_path / "runs.db"
    path.write_bytes(whole.read_bytes())
    connection = sqlite3.connect(path)
    for table in WITH_BODIES:
        connection.execute(f"UPDATE {table} SET body = x'00'")
    connection.commit()
    connection.close()
    with Store.open(path) as store:
        found = {problem.table for problem in store.check()}
    assert found >= set(WITH_BODIES)


def test_a_schema_that_is_no_text_is_a_damaged_file(whole, tmp_path):
    path = tmp_path / "runs.db"
    content = whole.read_bytes()
    assert b"CREATE TABLE debates" in content
    path.write_bytes(content.replace(b"CREATE TABLE debates", b"CREATE TABL\xcc debates"))
    with pytest.raises(StoreError, match=r"malformed: .*no text.*; the file is damaged; restore"):
        Store.open(str(path), create=False)
