"""Chains and seals: whatever was changed behind the store's back is named, and nothing else is."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event as engine_events
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from oversight.errors import StoreError
from oversight.store import Problem, Store, migrations
from oversight.store.schema import heads, links, run_members, runs
from tests.store.chained import attack, body_of, problems, records, run

CHANGED = "was changed after it was written"


LOST = "is lost"


MOVED = "was moved in the order of writing"


ADDED = "stands in no chain"


EDITS = {
    "the text of a turn": ("turns", '"text":"It is <quote>', '"text":"It was <quote>'),
    "its reasoning": ("turns", "The story says so.", "I made it up."),
    "a quote that is set to near": ("turns", '"status":"verified"', '"status":"near"'),
    "token ids of a sample": ("turns", "[5,0,151000]", "[5,1,151000]"),
    "a log-probability": ("turns", "[-0.1,", "[-0.2,"),
    "swapped probabilities": ("judgments", "[0.75,0.25]", "[0.25,0.75]"),
    "an event's time": ("events", '"at":""', '"at":"x"'),
    "an answer": ("ratings", '"preferred":"left"', '"preferred":"right"'),
    "a rating's event": ("rating_events", '"at":""', '"at":"x"'),
}


@pytest.mark.parametrize(("table", "old", "new"), EDITS.values(), ids=EDITS.keys())
def test_an_edited_record_is_named(path, make, table, old, new):
    attack(path, body_of(table, old, new))
    [problem] = problems(path)
    assert (problem.table, problem.debate) == (table, make.debate(seed=0).id)
    assert problem.reason.startswith((CHANGED, "column"))
    assert problem.row


TABLES = [
    "questions",
    "debates",
    "prompts",
    "turns",
    "judgments",
    "outcomes",
    "events",
    "ratings",
    "rating_events",
]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("place", ["min", "max"])
def test_a_deleted_row_is_named(path, table, place):
    connection = sqlite3.connect(path)
    key = {"prompts": "variant", "questions": "fingerprint"}.get(table, "id")
    where = f"WHERE seq = (SELECT {place}(seq) FROM {table})"
    [[id_]] = connection.execute(f"SELECT {key} FROM {table} {where}").fetchall()
    connection.close()
    attack(path, f"DELETE FROM {table} {where}")
    [problem] = [each for each in problems(path) if each.table == table]
    assert problem.row == id_
    assert problem.reason.startswith(LOST)
    assert problem.debate or table == "questions"


@pytest.mark.parametrize("table", ["turns", "judgments", "outcomes", "events", "debates"])
def test_reordered_rows_are_named(path, table):
    attack(
        path,
        f"UPDATE {table} SET seq = -1 WHERE seq = 1",
        f"UPDATE {table} SET seq = 1 WHERE seq = 2",
        f"UPDATE {table} SET seq = 2 WHERE seq = -1",
    )
    found = problems(path)
    assert [problem.table for problem in found] == [table, table]
    assert all(problem.reason.startswith(MOVED) for problem in found)


def test_an_added_row_is_named(path, make, tmp_path):
    with Store.open(tmp_path / "other.db") as other:
        other.add(make.question(), make.debate())
        other.add(make.turn(make.debate(), 9))
    attack(
        path,
        f"ATTACH '{tmp_path / 'other.db'}' AS other",
        "INSERT INTO turns (id, debate_id, step, seat, act, candidate, chosen, body)"
        " SELECT id, debate_id, step, seat, act, candidate, chosen, body FROM other.turns",
    )
    [problem] = problems(path)
    assert problem.row == make.turn(make.debate(), 9).id
    assert problem.debate == make.debate().id
    assert problem.reason.startswith(ADDED)


def test_a_row_put_in_a_lost_ones_place_is_named_beside_it(path, make):
    turn = make.turn(make.debate(), 9)
    attack(
        path,
        f"UPDATE turns SET id = '{turn.id}', step = 9, body ="
        " replace(body, '\"step\":0', '\"step\":9') WHERE seq = 1",
    )
    found = {problem.row: problem.reason for problem in problems(path)}
    assert found[turn.id].startswith(ADDED)
    assert found[make.turn(make.debate(), 0).id].startswith(LOST)


def test_an_edited_prompt_whose_ids_are_computed_anew_is_named(path):
    from oversight.store.prompts import block_id

    connection = sqlite3.connect(path)
    [messages, blocks, tail] = connection.execute(
        "SELECT messages, blocks, tail FROM prompts WHERE seq = 1"
    ).fetchone()
    other = tail[:-4] + b"\7\0\0\0"
    variant = block_id("\n".join((messages, *blocks.split())).encode() + other)
    connection.execute("UPDATE prompts SET tail = ?, variant = ? WHERE seq = 1", (other, variant))
    connection.commit()
    connection.close()
    found = [problem.reason for problem in problems(path) if problem.table == "prompts"]
    assert sorted(reason[:7] for reason in found) == [LOST, ADDED[:7]]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON turns BEGIN SELECT 1; END", "trigger 't' on table"),
        ("CREATE VIEW v AS SELECT 1", "view 'v'"),
        ("CREATE TABLE extra (x)", "table 'extra'"),
        ("CREATE UNIQUE INDEX i ON turns (debate_id, step)", "index 'i' on table 'turns'"),
        ("ALTER TABLE turns ADD COLUMN note TEXT", "column 'note'"),
    ],
)
def test_a_thing_in_the_schema_that_is_not_ours_is_named(path, statement, named):
    attack(path, statement)
    [problem] = problems(path)
    assert problem.reason.startswith(named)
    assert problem.reason.endswith("something else than oversight added it")


def test_a_missing_index_is_named(path):
    attack(path, "DROP INDEX uq_outcomes_complete")
    assert [p.reason for p in problems(path)] == [
        "index 'uq_outcomes_complete' of the store is gone"
    ]


def test_a_source_part_or_block_that_nothing_refers_to_is_named(path):
    attack(path, "INSERT INTO parts VALUES ('9d5b5f1c3b1c4f6ba6e58b6e0a3b5a30', '\"x\"')")
    found = [problem.reason for problem in problems(path)]
    assert any(reason.endswith("nothing refers to it") for reason in found)


def test_a_removed_link_is_named_with_the_rows_that_stand_in_no_chain(path):
    attack(path, "DELETE FROM links WHERE id = 2")
    found = problems(path)
    assert found[0].reason.endswith("has 9 links, its head counts 10: the last 1 are lost")
    assert {each.table for each in found} == {"links", "outcomes"}


def test_a_last_link_that_is_removed_with_its_rows_is_told_by_the_head(path):
    attack(
        path,
        "DELETE FROM links WHERE id = (SELECT max(id) FROM links)",
        "DELETE FROM outcomes WHERE seq = (SELECT max(seq) FROM outcomes)",
    )
    [problem] = problems(path)
    assert problem.reason.endswith("has 9 links, its head counts 10: the last 1 are lost")


def test_a_changed_head_is_named(path):
    attack(path, "UPDATE heads SET hash = 'x' WHERE chain <> ''")
    assert {p.reason.split(" ends ")[1] for p in problems(path)} == {
        "otherwise than its head says: one was changed"
    }


@pytest.mark.parametrize("body", ["x", "[1]", "[[1,2,3,4,5,6]]", "[" * 100_000, "{}"])
def test_links_that_cannot_be_read_are_named(path, body):
    attack(path, f"UPDATE links SET body = '{body}' WHERE id = 1")
    found = problems(path)
    assert found[0].table in ("links", "turns", "questions", "debates")
    assert any(each.table == "links" and each.row == "1" for each in found)


# --- old stores ---


def without_chains(path: Path) -> None:
    """Make the store what the version before left."""
    with Store.open(path) as store, store._database.writing() as connection:
        run_members.drop(connection)
        runs.drop(connection)
        links.drop(connection)
        heads.drop(connection)
        connection.execute(text("ALTER TABLE ratings DROP COLUMN kind"))
        connection.execute(text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '0004'"))


def test_an_old_store_opens_and_says_that_it_has_no_chain(path, make):
    without_chains(path)
    assert problems(path) == []
    done = run("check", "--store", path)
    assert done.exit_code == 0
    assert "34 rows were written by an oversight without chains" in done.stdout


def test_an_old_store_goes_on_with_chains(path, make):
    without_chains(path)
    with Store.open(path) as store:
        store.add(*records(make)[0], make.turn(make.debate(), 8), make.debate(seed=9))
        assert store.check() == []
        assert store.num_before_chains() == 34
    attack(path, "UPDATE turns SET body = replace(body, 'It is', 'It was') WHERE step = 8")
    [problem] = problems(path)
    assert (problem.row, problem.debate) == (make.turn(make.debate(), 8).id, make.debate().id)


def test_rows_lost_from_before_chains_are_counted(path):
    without_chains(path)
    problems(path)
    attack(path, "DELETE FROM turns WHERE seq IN (3, 4)")
    [problem] = problems(path)
    assert problem == Problem(
        "turns", "", "12 rows were written before there were chains, and 10 of them are there"
    )


def test_a_seal_holds_rows_from_before_chains_too(path):
    without_chains(path)
    with Store.open(path) as store:
        seal = store.seal()
    attack(path, body_of("judgments", "[0.75,0.25]", "[0.25,0.75]"))
    assert problems(path) == []
    [problem] = problems(path, seal)
    assert problem.table == "judgments"
    assert "3 were sealed and 3 are there; they are not the same" in problem.reason


# --- writers ---


def test_what_was_written_again_gets_no_second_link(store, make):
    before, outcome = records(make)
    store.add(*before, outcome)
    sealed = store.seal()
    store.add(*before, outcome)
    store.add(make.question(), make.turn(make.debate(), 0, samples=before[3].samples))
    assert store.seal() == sealed
    assert store.check() == []


def test_old_and_new_rows_in_one_write_are_linked_once(store, make):
    before, outcome = records(make)
    store.add(*before[:5])
    store.add(*before, outcome)
    assert store.check() == []
    assert store.seal().num_rows == len(before) + 1


async def test_a_write_that_fails_leaves_no_link(store, make):
    before, _ = records(make)
    store.add(*before)
    sealed = store.seal()
    results = await asyncio.gather(
        store.append(make.turn(make.debate(), 0, text="other")),
        store.append(make.turn("no such debate")),
        return_exceptions=True,
    )
    assert all(isinstance(result, StoreError) for result in results)
    assert store.seal() == sealed
    assert store.check() == []


WRITE = """
import asyncio, sys
from oversight.store import Store
from oversight.types import *
url, name = sys.argv[1:]
question = Question(id="q", dataset="d", text="t", options=(Option(text="a"), Option(text="b")))
def debate(seed):
    return Debate(question_id="q", question_fingerprint=question.fingerprint, seed=seed, agents={},
        protocol=OversightProtocol(name="debate", graph="debate"),
        orders=Orders(options=(0, 1), defends=(0, 1), shown=(Seat.A, Seat.B)))
async def one(store, seed):
    await store.append(question, debate(seed))
    for number in range(25):
        event = JudgingEvent(debate_id=debate(seed).id, judge=name, session="s", number=number,
                             at="", kind=EventKind.OPENED)
        await store.append(event)
async def main():
    with Store.open(url) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*[one(store, seed) for seed in range(10)])
asyncio.run(main())
"""


def test_three_writers_of_the_same_debates_make_one_chain_each(url):
    Store.open(url).close()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, url, f"judge {number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(3)
    ]
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.stdin.write(b"\n")
        child.stdin.close()
    assert [child.wait(120) for child in children] == [0, 0, 0]
    for child in children:
        child.stdout.close()
    with Store.open(url) as store:
        assert store.check() == []
        counts = store.counts()
        assert counts["events"] == 750
        assert sorted(head.length for head in store.seal().heads.values()) == [11] + [75] * 10


ALTERNATE = """
import sys
from oversight.store import Store
from oversight.types import *
url, name, debate_id = sys.argv[1:]
with Store.open(url) as store:
    print("ready", flush=True)
    for number in map(int, sys.stdin):
        store.add(JudgingEvent(debate_id=debate_id, judge=name, session="s", number=number, at="",
                               kind=EventKind.OPENED))
        print(number, flush=True)
"""


def test_two_processes_that_take_turns_on_one_debate_make_one_chain(url, make):
    debate = make.debate()
    with Store.open(url) as store:
        store.add(make.question(), debate)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", ALTERNATE, url, name, debate.id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ann", "bob")
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for number in range(12):  # each one twice in a row, so that it has written last and has not
        child = children[number // 2 % 2]
        print(number, file=child.stdin, flush=True)
        assert child.stdout.readline() == f"{number}\n"
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    with Store.open(url) as store:
        assert store.check() == []
        assert store.seal().heads[debate.id].length == 12


def test_a_chain_goes_on_where_the_last_committed_write_left_it(sqlite_store, make):
    before, outcome = records(make)
    sqlite_store.add(*before)
    sealed = sqlite_store.seal()

    def broken(_connection):
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("disk I/O error"))

    engine_events.listen(sqlite_store._database.engine, "commit", broken)
    with pytest.raises(StoreError, match="disk I/O error"):
        sqlite_store.add(outcome, make.turn(make.debate(), 8))
    engine_events.remove(sqlite_store._database.engine, "commit", broken)
    assert sqlite_store.seal() == sealed
    sqlite_store.add(outcome)
    assert sqlite_store.check() == []
    assert sqlite_store.seal().heads[make.debate().id].length == 10


def test_chains_go_on_though_the_writer_has_forgotten_some(sqlite_store, make):
    sqlite_store._writer.heads.capacity = 2
    for seed in range(3):
        sqlite_store.add(*records(make, seed)[0])
    for step in (8, 9):
        sqlite_store.add(*(make.turn(make.debate(seed=seed), step) for seed in range(3)))
    assert sqlite_store.check() == []
    assert [sqlite_store.seal().heads[make.debate(seed=s).id].length for s in range(3)] == [11] * 3


def test_a_head_that_somebody_changed_is_named_after_the_store_went_on(path, make):
    with Store.open(path) as store:
        store.add(make.turn(make.debate(), 8))
        attack(path, "UPDATE heads SET count = count + 1 WHERE chain <> ''")
        store.add(make.turn(make.debate(), 9))
        found = [problem.reason for problem in store.check()]
    assert any("lacks link 12" in reason for reason in found), found


def test_the_links_of_given_records_never_change(path):
    # A store that an earlier version wrote would else be taken for one that was changed.
    with Store.open(path) as store:
        assert store.seal().digest == "f93e3e27008388f4735c093b16e31c2bdde680d2"


@pytest.mark.postgres
def test_edits_deletions_and_triggers_on_postgresql_are_named(postgres_server, make):
    import psycopg

    url = postgres_server.new_database()
    before, outcome = records(make)
    with Store.open(url) as store:
        store.add(*before)
        store.add(outcome)
        seal = store.seal()
        with psycopg.connect(url) as other:
            other.execute("UPDATE turns SET body = replace(body, 'It is', 'It was') WHERE step = 1")
            other.execute("DELETE FROM events")
            other.execute("CREATE VIEW mine AS SELECT 1")
            other.execute(
                "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
            )
            other.execute("CREATE TRIGGER t BEFORE INSERT ON turns EXECUTE FUNCTION f()")
        found = {(each.table, each.reason.split(":")[0]) for each in store.check(seal)}
    assert found == {
        ("turns", CHANGED),
        ("events", LOST),
        ("", "trigger 't' on table 'turns' is no part of a store"),
    }
