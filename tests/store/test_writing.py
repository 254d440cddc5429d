"""Concurrent writes share transactions, and each caller learns of its own errors only."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from oversight.config import TransactionSettings
from oversight.errors import StoreError
from oversight.store import Store, database
from oversight.store.schema import encode
from oversight.types import Source


@contextmanager
def counted_commits(store: Store) -> Iterator[list[object]]:
    commits: list[object] = []
    listener = commits.append
    event.listen(store._database.engine, "commit", listener)
    yield commits
    event.remove(store._database.engine, "commit", listener)


@contextmanager
def no_room(store: Store) -> Iterator[None]:
    """A SQLite file that may not grow: the same error as a full disk."""
    limit = [1]

    def restrict(connection: object, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")  # type: ignore[attr-defined]

    store._writer._disconnect()
    event.listen(store._database.engine, "checkout", restrict)
    yield
    limit[0] = 1 << 30
    store._writer._disconnect()


async def test_concurrent_appends_share_transactions(store, make):
    debates = [make.debate(seed=seed) for seed in range(200)]
    store.add(make.question(), *debates)
    with counted_commits(store) as commits:
        await asyncio.gather(*[store.append(make.turn(debate)) for debate in debates])
    assert len(commits) <= 20
    assert store.counts()["turns"] == 200


async def test_only_the_caller_at_fault_gets_the_error(store, make):
    debates = [make.debate(seed=seed) for seed in range(30)]
    store.add(make.question(), *debates, make.turn(debates[7], text="before"))
    appends = [store.append(make.turn(debate, text="now")) for debate in debates]
    appends.append(store.append(make.turn("no such debate")))
    results = await asyncio.gather(*appends, return_exceptions=True)
    failed = {place: error for place, error in enumerate(results) if error is not None}
    assert sorted(failed) == [7, 30]
    assert "other content" in str(failed[7])
    assert "never stored" in str(failed[30])
    assert store.counts()["turns"] == 30
    assert store.check() == []


async def test_a_call_is_written_whole_or_not_at_all(store, make):
    debate = make.debate()
    with pytest.raises(StoreError):
        await store.append(make.question(), debate, make.turn(debate), make.turn("no such debate"))
    assert not any(store.counts().values())


async def test_an_append_that_nobody_waits_for_is_written_all_the_same(store, make):
    task = asyncio.create_task(store.append(make.question()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.append(make.question(1))
    assert store.counts()["questions"] == 2


async def test_the_loop_goes_on_while_the_database_is_locked(sqlite_store, make):
    ticks = 0
    with sqlite_store._database.writing():
        append = asyncio.create_task(sqlite_store.append(make.question()))
        while ticks < 20:
            await asyncio.sleep(0.005)
            ticks += 1
        assert not append.done()
    await append
    assert sqlite_store.counts()["questions"] == 1


def test_threads_and_event_loops_write_at_once(store, make):
    debates = [make.debate(seed=seed) for seed in range(8)]
    store.add(make.question(), *debates)

    def add(debate):
        for step in range(20):
            store.add(make.turn(debate, step))

    async def append(debate):
        await asyncio.gather(*[store.append(make.turn(debate, step)) for step in range(20)])

    threads = [threading.Thread(target=add, args=(debate,)) for debate in debates[:4]]
    threads += [
        threading.Thread(target=lambda debate=debate: asyncio.run(append(debate)))
        for debate in debates[4:]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(t.turns) for t in store.transcripts(complete=None)] == [20] * 8


async def test_a_full_disk_is_an_error_for_all_who_wait_and_passes(sqlite_store, make):
    debates = [make.debate(seed=seed) for seed in range(20)]
    sqlite_store.add(make.question(), *debates)
    turns = [make.turn(debate, text="long " * 2000) for debate in debates]
    with no_room(sqlite_store):
        results = await asyncio.gather(
            *[sqlite_store.append(turn) for turn in turns], return_exceptions=True
        )
        assert len(results) == 20
        for error in results:
            assert isinstance(error, StoreError)
            assert "disk is full; make room and run the same command again" in str(error)
        assert len({id(error) for error in results}) == 20
        assert sqlite_store.counts()["turns"] == 0
    await asyncio.gather(*[sqlite_store.append(turn) for turn in turns])
    assert sqlite_store.counts()["turns"] == 20
    assert sqlite_store.check() == []


def test_a_file_that_stays_locked_is_an_error_that_says_so(tmp_path, make, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.2)
    with Store.open(tmp_path / "a.db") as store:
        with store._database.writing(), pytest.raises(StoreError, match="database is locked; "):
            store.add(make.question())
        store.add(make.question())
        assert store.counts()["questions"] == 1


@pytest.mark.postgres
def test_a_connection_that_breaks_is_made_anew(postgres_server, make):
    with Store.open(postgres_server.new_database()) as store:
        store.add(make.question())
        with store._database.writing() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        store.add(make.question(1))
        assert store.counts()["questions"] == 2


@pytest.mark.postgres
def test_a_server_that_is_down_is_an_error_and_the_store_works_after_its_return(
    postgres_server, make
):
    with Store.open(postgres_server.new_database()) as store:
        store.add(make.question())
        postgres_server.stop()
        try:
            with pytest.raises(StoreError, match="check host, port and database"):
                store.add(make.question(1))
            with pytest.raises(StoreError, match="check host, port and database"):
                store.counts()
        finally:
            postgres_server.start()
        store.add(make.question(1))
        assert store.counts()["questions"] == 2
        assert store.check() == []


@pytest.mark.postgres
def test_a_deadlock_with_another_program_is_tried_again(postgres_server, make):
    import psycopg

    questions = [make.question(n, source=Source(text=f"{n}")) for n in range(2)]
    first, second = sorted(question.source.id for question in questions)
    insert = "INSERT INTO sources (id, body) VALUES (%s, %s)"
    bodies = {question.source.id: encode(question.source) for question in questions}
    url = postgres_server.new_database()
    with Store.open(url) as store, psycopg.connect(url) as other:
        # PostgreSQL breaks off the one of two whose time-out is over first: ours.
        other.execute("SET deadlock_timeout = '60s'")
        other.execute(insert, (second, bodies[second]))
        thread = threading.Thread(target=store.add, args=questions)
        thread.start()
        while not _is_waiting(other):
            time.sleep(0.01)
        other.execute(insert, (first, bodies[first]))
        other.commit()
        thread.join()
        assert store.question("q1") == questions[1]
        assert store.check() == []


def _is_waiting(connection) -> bool:
    """True if any connection waits for a lock."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    return connection.execute(query).fetchone()[0] > 0


LEFT_OPEN = """
import asyncio, sys
from oversight.store import Store
from oversight.types import Option, Question
store = Store.open(sys.argv[1])
options = (Option(text="a"), Option(text="b"))
def question(id_):
    return Question(id=id_, dataset="d", text="t", options=options)
store.add(question("1"))
store.claim(["d"])
async def main():
    asyncio.ensure_future(store.append(question("2")))
    await asyncio.sleep(0)
asyncio.run(main())
"""


def test_a_store_left_open_keeps_no_program_alive_and_loses_nothing(url):
    start = time.monotonic()
    subprocess.run([sys.executable, "-W", "error", "-c", LEFT_OPEN, url], check=True, timeout=30)
    assert time.monotonic() - start < 10
    with Store.open(url) as store:
        assert store.counts()["questions"] == 2
        assert store.claim(["d"]) == {"d"}


def test_a_store_dropped_without_closing_ends_its_thread(tmp_path, make):
    store = Store.open(tmp_path / "a.db")
    store.add(make.question())
    thread = store._writer._thread
    assert thread is not None
    del store
    assert not thread.is_alive()


async def test_a_transaction_has_as_many_writes_as_was_asked_for(tmp_path, make):
    debates = [make.debate(seed=seed) for seed in range(100)]
    wanted = TransactionSettings(writes=25, wait_s=5.0)
    with Store.open(tmp_path / "runs.db", transactions=wanted) as store:
        store.add(make.question(), *debates)
        before = time.monotonic()
        with counted_commits(store) as commits:
            await asyncio.gather(*[store.append(make.turn(debate)) for debate in debates])
        assert len(commits) == 4
        assert time.monotonic() - before < 5.0  # no full transaction waits
        assert store.check() == []


def test_a_thread_behind_a_full_transaction_does_not_wait_for_company(tmp_path, make):
    debates = [make.debate(seed=seed) for seed in range(32)]
    wanted = TransactionSettings(writes=2, wait_s=10.0)
    with Store.open(tmp_path / "runs.db", transactions=wanted) as store:
        store.add(make.question(), *debates)
        before = time.monotonic()
        with ThreadPoolExecutor(len(debates)) as pool:
            list(pool.map(store.add, [make.turn(debate) for debate in debates]))
        assert time.monotonic() - before < 10.0


async def test_a_write_waits_for_company_and_is_durable_when_it_returns(tmp_path, make):
    wanted = TransactionSettings(wait_s=0.2)
    with Store.open(tmp_path / "runs.db", transactions=wanted) as store:
        debates = [make.debate(seed=seed) for seed in range(2)]
        store.add(make.question(), *debates)

        async def late() -> None:
            await asyncio.sleep(0.02)
            await store.append(make.turn(debates[1]))

        with counted_commits(store) as commits, Store.open(tmp_path / "runs.db") as other:
            await asyncio.gather(store.append(make.turn(debates[0])), late())
            assert other.counts()["turns"] == 2
        assert len(commits) == 1


def test_a_thread_that_writes_does_not_wait_for_company(tmp_path, make):
    with Store.open(tmp_path / "runs.db", transactions=TransactionSettings(wait_s=10.0)) as store:
        before = time.monotonic()
        store.add(make.question())
        store.claim(["a"])
        assert time.monotonic() - before < 5.0


def test_claims_given_up_soon_are_free_behind_what_is_written(store, make):
    assert store.claim(["a", "b"]) == {"a", "b"}
    store.release_soon(["a"])
    store.add(make.question())
    store.release([])
    with Store.open(store.url) as other:
        assert other.claim(["a", "b"]) == {"a"}
