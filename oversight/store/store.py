"""The store's front: what the rest of oversight sees of it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from sqlalchemy import Connection, select

from oversight.config import TransactionSettings
from oversight.errors import StoreError
from oversight.files import Closing
from oversight.store import checking, claims, opening, reading, sealing
from oversight.store import rating_queue as rating_queues
from oversight.store import runs as run_records
from oversight.store.batch import Batch, begins_run, encode_records, put_member
from oversight.store.claims import ClaimResult, QueueFilter, QueueItem
from oversight.store.database import Database, parse_address
from oversight.store.prompts import read_prompt
from oversight.store.rating_queue import RatingFilter, RatingItem
from oversight.store.reading import DebateFilter, DebateRows, Marks, Sources
from oversight.store.schema import debates, key_text, questions
from oversight.store.sealing import Problem, Seal
from oversight.store.writing import AS_THEY_COME, Release, Write, Writer
from oversight.types import (
    Debate,
    EventKind,
    JudgingEvent,
    PromptRecord,
    Question,
    RatingEvent,
    RunStart,
    Stored,
    Transcript,
)

EXIT_WAIT_S = 5.0
"""Seconds that a program that ends without closing its store waits for the last writes."""


class Store(Closing):
    """An append-only store of questions, debates, turns, judgments, outcomes and prompts.

    It may be used from any thread, and by many processes at once; not across a fork.
    """

    def __init__(
        self, database: Database, transactions: TransactionSettings = AS_THEY_COME
    ) -> None:
        self.url = database.name
        """Its path or URL, for people to read: without a password."""
        self._database = database
        self._writer = Writer(database, transactions)
        self._sources = Sources()
        self._keys_checked = False
        self._run = run_records.BegunRun(self._writer.call)
        self._at_exit = weakref.finalize(self, self._writer.stop, EXIT_WAIT_S)

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        create: bool = True,
        only_read: bool = False,
        follow: bool = False,
        transactions: TransactionSettings = AS_THEY_COME,
    ) -> Store:
        """The store at a path or URL, created if absent and brought up to the newest schema.

        Args:
            url: A path, or a URL of SQLite or PostgreSQL.
            create: Make it if it is not there.
            only_read: Nothing will be written: a file on a read-only or full disk, in a folder of
                others, is read as it is.
            follow: Read on in a file that was put in the place of the one that was opened; else
                that is an error.
            transactions: How many concurrent writes are committed together.

        Raises:
            SchemaError: A newer version of oversight wrote it.
            MissingDependencyError: It is on PostgreSQL and psycopg is not installed.
            StoreError: It cannot be opened, or is absent and `create` is False.
        """
        database = Database(parse_address(url), follow=follow)
        try:
            opening.prepare(database, create=create, only_read=only_read)
        except BaseException:
            database.close()
            raise
        return cls(database, transactions)

    def close(self) -> None:
        """Finish what is being written, give up all claims and close all connections."""
        self._at_exit.detach()
        self._writer.stop()

    # --- writing -----------------------------------------------------------------

    def add(self, *records: Stored) -> None:
        """Write `records` in one transaction. To write the same again is harmless.

        Raises:
            StoreError: Nothing was written; also when one of them is already stored under its
                id with other content.
        """
        if records:
            waiter: Future[None] = Future()
            self._writer.submit(Write(self._batch(records), waiter))
            waiter.result()

    async def append(self, *records: Stored) -> None:
        """Write `records`; return when they are durable. Concurrent calls share transactions.

        Cancelling the awaiting task does not undo the write.

        Raises:
            StoreError: None of these records was written; see `add`.
        """
        if records:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._writer.submit(Write(self._batch(records), waiter))
            await waiter

    def _batch(self, records: tuple[Stored, ...]) -> Batch:
        run = self._run.name() if any(map(begins_run, records)) else None
        return encode_records(records, self._writer.memory, run)

    # --- runs --------------------------------------------------------------------

    @property
    def run(self) -> RunStart | None:
        """The start of the run that was begun, as it was written; None while it has no record."""
        return self._run.written

    def begin_run(self, start: RunStart) -> RunStart:
        """Let what is written from now on belong to a run.

        Its start is written just before its first record, so that a command that was refused, or
        had nothing to do, leaves no run.

        Returns:
            The start as it is to be written: a name that no person gave has a number behind it if
            another run has it (another process may take it first: `run` has the last word).

        Raises:
            StoreError: The run has another value for one of the tags.
        """
        return self._run.begin(start)

    def include(self, found: Mapping[str, str]) -> None:
        """Let records that are stored already belong to the run that was begun, if one was.

        Args:
            found: Ids of debates, judgments or ratings, each with the id of its debate.
        """
        if not found or (run := self._run.name()) is None:
            return
        batch = Batch()
        for id_, debate_id in found.items():
            put_member(batch, run, id_, debate_id)
        waiter: Future[None] = Future()
        self._writer.submit(Write(batch, waiter))
        waiter.result()

    def runs(self, *, counted: bool = True) -> list[run_records.StoredRun]:
        """All runs with what belongs to them, in the order of their first starts; without the
        numbers of their records if these are not `counted`."""
        with self._database.reading() as connection:
            return run_records.read_runs(connection, counted=counted)

    def run_tokens(self, name: str) -> run_records.RunTokens:
        """Tokens of all calls behind the records of a run."""
        with self._database.reading() as connection:
            return run_records.read_tokens(connection, name)

    def require_run(self, name: str) -> None:
        """Refuse a run that is not stored.

        Raises:
            StoreError: Names the nearest one.
        """
        with self._database.reading() as connection:
            run_records.require(connection, self.url, name)

    def require_debates(self, *, protocol: str | None = None, dataset: str | None = None) -> None:
        """Refuse a protocol or a data set that no debate of the store is of, if it has any.

        Raises:
            StoreError: Names the nearest one.
        """
        with self._database.reading() as connection:
            run_records.require_debates(connection, self.url, protocol, dataset)

    def runs_of(self, debate_ids: Iterable[str]) -> dict[str, list[str]]:
        """Names of the runs that each of these debates belongs to."""
        with self._database.reading() as connection:
            return run_records.runs_of_debates(connection, debate_ids)

    # --- reading -----------------------------------------------------------------

    def question(self, question_id: str, fingerprint: str | None = None) -> Question:
        """A question with its source: the version with this fingerprint, or the newest.

        Raises:
            StoreError: It is not stored.
        """
        conditions = [questions.c.id == key_text(question_id)]
        if fingerprint is not None:
            conditions.append(questions.c.fingerprint == fingerprint)
        with self._database.reading() as connection:
            found = list(reading.read_questions(connection, conditions, self._sources).values())
        if not found:
            version = f" with fingerprint {fingerprint}" if fingerprint is not None else ""
            raise StoreError(f"question {question_id!r}{version} is not in store {self.url}")
        return found[-1]

    def questions(self, *, dataset: str | None = None, split: str | None = None) -> list[Question]:
        """All questions in the order of writing; every version of one that was changed."""
        wanted = {questions.c.dataset: dataset, questions.c.split: split}
        conditions = [
            column == key_text(value) for column, value in wanted.items() if value is not None
        ]
        with self._database.reading() as connection:
            return list(reading.read_questions(connection, conditions, self._sources).values())

    def debate(self, debate_id: str) -> Debate | None:
        """The debate of this id, or None if it is not stored."""
        query = select(debates.c.body).where(debates.c.id == key_text(debate_id))
        with self._database.reading() as connection:
            body = connection.scalar(query)
            return None if body is None else reading.read(Debate, "debates", debate_id, body)

    def debate_ids(
        self,
        *,
        protocol: str | None = None,
        dataset: str | None = None,
        complete: bool | None = None,
        runs: Sequence[str] = (),
    ) -> list[str]:
        """Ids of debates in the order of writing, of one protocol, data set, state or of runs."""
        with self._database.reading() as connection:
            wanted = DebateFilter(
                protocol=protocol, dataset=dataset, complete=complete, runs=tuple(runs)
            )
            return reading.sound_ids("debates", connection.scalars(wanted.ids()))

    def check_keys(self) -> None:
        """Refuse a store whose rows cannot all be come upon; looks once.

        Raises:
            StoreError: Names the first row that a reader would miss.
        """
        if not self._keys_checked:
            with self._database.reading() as connection:
                opening.check_keys(connection)
            self._keys_checked = True

    def known(self, debate_ids: Iterable[str]) -> set[str]:
        """Those of `debate_ids` that are stored, complete or not."""
        with self._database.reading() as connection:
            return reading.known(connection, debate_ids)

    def completed(self, debate_ids: Iterable[str]) -> set[str]:
        """Those of `debate_ids` that have a complete outcome."""
        self.check_keys()
        with self._database.reading() as connection:
            return reading.completed(connection, debate_ids)

    def transcript(self, debate_id: str) -> Transcript:
        """A debate with all that is recorded for it.

        Its outcome is the complete one if there is one, else the latest.

        Raises:
            StoreError: It is not stored.
        """
        with self._database.reading() as connection:
            found = self._read_transcripts(connection, [debate_id])
        if not found:
            raise StoreError(f"debate {debate_id!r} is not in store {self.url}")
        return found[0]

    def transcripts(
        self,
        *,
        protocol: str | None = None,
        dataset: str | None = None,
        complete: bool | None = True,
        debate_ids: Iterable[str] | None = None,
        runs: Sequence[str] = (),
    ) -> Iterator[Transcript]:
        """Transcripts one by one, read by the hundred.

        Of `debate_ids`, in their order, those that are stored and fit; else all that fit, by
        their ids. Ids follow from what was planned, the order of writing from which debate
        happened to end first: two runs of one recipe are read, exported and learnt from alike.
        Rows written while reading are not waited for.

        Of `runs` these are the debates that they made or found, with everything that was said about
        them since; and of other debates that were judged or rated in them, these judgments and
        ratings alone.
        """
        self.check_keys()
        fitting = self.debate_ids(protocol=protocol, dataset=dataset, complete=complete, runs=runs)
        if debate_ids is None:
            fitting.sort()
        else:
            known = set(fitting)
            fitting = [id_ for id_ in dict.fromkeys(debate_ids) if id_ in known]
        for some in reading.chunks(fitting, reading.TRANSCRIPTS_A_READ):
            with self._database.reading() as connection:
                found = self._read_transcripts(connection, some)
                if runs:
                    found = run_records.only_of_runs(connection, found, runs)
            yield from found

    def _read_transcripts(self, connection: Connection, ids: Sequence[str]) -> list[Transcript]:
        found = reading.read_transcripts(connection, ids, self._sources)
        return rating_queues.with_ratings(connection, found)

    def prompt(self, prompt_id: str, *, num_tokens: int | None = None) -> PromptRecord:
        """A prompt with the exact token ids that it was read as.

        Models with different vocabularies read one prompt as different token ids; then
        `num_tokens` (a sample's `usage.prompt_tokens`) says whose are meant.

        Raises:
            StoreError: It is not stored, or several token ids fit.
        """
        with self._database.reading() as connection:
            return read_prompt(connection, prompt_id, num_tokens)

    def queue(
        self, judge: str, wanted: QueueFilter | None = None, *, overlap: int = 1
    ) -> list[QueueItem]:
        """Items that wait for `judge` and those begun, put off or judged; in the order of writing.

        Args:
            judge: Pseudonym.
            wanted: Which items; all by default.
            overlap: How many people are to judge an item.
        """
        self.check_keys()
        with self._database.reading() as connection:
            return claims.queue(connection, judge, wanted or QueueFilter(), overlap)

    def events(
        self, judge: str, debate_id: str | None = None, kinds: Iterable[EventKind] = ()
    ) -> list[JudgingEvent]:
        """A judge's acts at one item, or at all, in the order of writing."""
        with self._database.reading() as connection:
            found = claims.event_bodies(connection, debate_id, judge, kinds)
        return [reading.read(JudgingEvent, "events", id_, body) for id_, body in found]

    def rating_items(
        self, judge: str, wanted: RatingFilter, *, overlap: int = 1
    ) -> list[RatingItem]:
        """Items to be rated by `judge`, as with `queue`."""
        self.check_keys()
        with self._database.reading() as connection:
            return rating_queues.items(connection, judge, wanted, overlap)

    def every_rating_item(self, wanted: RatingFilter) -> list[RatingItem]:
        """All items there are to rate, rated or not, in the order of writing."""
        self.check_keys()
        with self._database.reading() as connection:
            return rating_queues.every_item(connection, wanted)

    def known_ratings(self, ids: Iterable[str]) -> set[str]:
        """Those of these ids under which feedback is stored."""
        with self._database.reading() as connection:
            return rating_queues.known_ratings(connection, ids)

    def rating_events(self, item: str, judge: str) -> list[RatingEvent]:
        """A judge's acts at one item that is rated, in the order of writing."""
        with self._database.reading() as connection:
            return rating_queues.read_events(connection, item, judge)

    # --- reading for an index ----------------------------------------------------

    def find_debates(self, prefix: str) -> list[str]:
        """Ids of debates that begin with `prefix`, or hold a turn or judgment whose id does."""
        with self._database.reading() as connection:
            return reading.find_debates(connection, prefix)

    def acts(self, debate_id: str) -> list[JudgingEvent | RatingEvent]:
        """All acts of people at a debate, of every judge and rater, in the order of their time."""
        with self._database.reading() as connection:
            return reading.read_acts(connection, debate_id)

    def marks(self) -> dict[str, int]:
        """The highest row number of each table that says something of a debate."""
        with self._database.reading() as connection:
            return reading.marks(connection)

    def changes(self, since: Marks, limit: int) -> tuple[list[str], dict[str, int]]:
        """Ids of debates with rows above `since`, at most `limit` a table, and the marks then."""
        with self._database.reading() as connection:
            return reading.changes(connection, since, limit)

    def run_tags(self, since: int = 0) -> tuple[list[tuple[str, str]], int]:
        """Runs with their tags, of the starts above a row number, and the highest number now."""
        with self._database.reading() as connection:
            return run_records.read_tags(connection, since)

    def older(self, before: int, limit: int) -> list[str]:
        """Ids of the debates written last among those below a row number."""
        with self._database.reading() as connection:
            return reading.older(connection, before, limit)

    def rows_of(self, debate_ids: Sequence[str]) -> list[DebateRows]:
        """The rows that an index is made of, in the order of writing; sources are not read."""
        with self._database.reading() as connection:
            return reading.read_rows(connection, debate_ids)

    def place_of(self, debate_id: str) -> int | None:
        """The row number of a debate; None if it is not stored."""
        with self._database.reading() as connection:
            return reading.number_of(connection, debate_id)

    def num_below(self, before: int) -> int:
        """Number of debates below a row number."""
        with self._database.reading() as connection:
            return reading.count_below(connection, before)

    def counts(self) -> dict[str, int]:
        """Number of rows by table, and under `complete` that of complete debates."""
        with self._database.reading() as connection:
            return reading.counts(connection)

    def check(self, seal: Seal | None = None) -> list[Problem]:
        """All that is wrong with the store: what does not parse, what refers to nothing, and what
        was changed, added or lost since it was written, or since `seal` was made."""
        with self._database.snapshot() as connection:
            return checking.check(connection, seal)

    def seal(self) -> Seal:
        """The ends of all chains as they are now; see `oversight.store.sealing`."""
        with self._database.snapshot() as connection:
            return sealing.read_seal(connection)

    def num_before_chains(self) -> int:
        """Number of rows that were written before the store had chains."""
        with self._database.reading() as connection:
            return sum(number for number, _ in sealing.rows_at_start(connection).values())

    # --- claims ------------------------------------------------------------------

    def claim(self, debate_ids: Iterable[str]) -> set[str]:
        """Claim debates for this process; those of `debate_ids` that it holds now.

        Claim first and ask `completed` then: another process may finish a debate and release
        it in between.
        """
        wanted = list(debate_ids)
        return self._writer.call(lambda c: self._writer.claims.take(c, wanted))

    def release(self, debate_ids: Iterable[str]) -> None:
        """Give up the claims on `debate_ids` that this process holds."""
        given_up = list(debate_ids)
        self._writer.call(lambda c: self._writer.claims.drop(c, given_up))

    def release_soon(self, debate_ids: Iterable[str]) -> None:
        """Give up claims behind what is being written, without waiting for it."""
        self._writer.submit(Release(tuple(debate_ids)))

    def take_item(self, debate_id: str, judge: str, *, overlap: int = 1) -> ClaimResult:
        """Take an item up for `judge`, unless as many as `overlap` have judged it or are at it."""
        return self._writer.call(
            lambda c: claims.take(c, self._writer.claims, debate_id, judge, overlap)
        )

    def leave_item(self, debate_id: str, judge: str) -> None:
        """Give an item up that `judge` holds in this process."""
        self.release([claims.claim_key(debate_id, judge)])

    def take_rating(self, item: RatingItem, judge: str, *, overlap: int = 1) -> ClaimResult:
        """Take an item up to be rated, as with `take_item`."""
        return self._writer.call(
            lambda c: rating_queues.take(c, self._writer.claims, item, judge, overlap)
        )

    def leave_rating(self, item: str, judge: str) -> None:
        """Give an item up that `judge` holds in this process."""
        self.release([rating_queues.claim_key(item, judge)])
