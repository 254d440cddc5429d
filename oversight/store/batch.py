"""Writes of one transaction: rows by table and key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from oversight.errors import StoreError
from oversight.ids import content_id
from oversight.store.prompts import Known, RecentBlocks, encode_prompt
from oversight.store.schema import RECORD_TABLES, encode, key_text, run_members
from oversight.types import (
    Debate,
    Feedback,
    JudgeKind,
    JudgingEvent,
    Judgment,
    Outcome,
    PromptRecord,
    Question,
    RatingEvent,
    Stored,
    Turn,
)

Value: TypeAlias = str | int | bytes | None
Row: TypeAlias = tuple[Value, ...]
T = TypeVar("T")

COLUMNS: dict[str, tuple[str, ...]] = {
    table.name: tuple(c.name for c in table.columns if c.name != "seq")
    for table in (*RECORD_TABLES, run_members)
}
"""Columns that a write gives, in the order of its row."""

KEYED: frozenset[str] = frozenset(
    {"turns", "judgments", "outcomes", "events", "ratings", "rating_events"}
)
"""Tables whose id is not a hash of the whole row: the same id may come with another body."""

MAX_ROWS = 64
"""Rows a statement. Many rows in one statement cost one hand-over between threads, not many:
the driver lets other threads run at every statement, and has to wait to run again."""

PART_MEMORY_CHARS = 4_000_000
BLOCK_MEMORY_CHARS = 320_000
"""Characters that are remembered, enough for what some hundreds of debates in flight with long
sources share. In a job of many prompts the memory is full soon, so it takes this much."""
RECENT_BYTES = 4_000_000
"""Token ids of the last prompts, of some hundreds of debates in flight."""


class Memory(NamedTuple):
    """Parts and token blocks of prompts that are known to be stored already."""

    parts: Known
    blocks: Known
    recent: RecentBlocks

    @classmethod
    def empty(cls) -> Memory:
        """A memory that knows nothing yet."""
        return cls(Known(PART_MEMORY_CHARS), Known(BLOCK_MEMORY_CHARS), RecentBlocks(RECENT_BYTES))


class Batch:
    """Rows of one or more calls, ready to be inserted in the order of `COLUMNS`."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Row]] = defaultdict(dict)
        """By table and key; tables without rows may be missing."""
        self.part_texts: dict[str, str] = {}
        """Part id -> text, of the parts in `rows`."""
        self.prompt_chains: dict[str, str] = {}
        """Variant -> the chain that its link stands in, of the prompts in `rows`."""

    def put(self, table: str, key: str, row: Row) -> None:
        """Add one row, once however often it is put.

        Raises:
            StoreError: Another row stands under the same key.
        """
        rows = self.rows[table]
        if table in KEYED and rows.get(key, row) != row:
            raise conflict(table, row)
        rows[key] = row

    def merge(self, other: Batch) -> None:
        """Add all rows of another batch.

        Raises:
            StoreError: The two hold different rows under one key.
        """
        for name, rows in other.rows.items():
            own = self.rows[name]
            if name in KEYED and not own.keys().isdisjoint(rows):
                for key, row in rows.items():
                    self.put(name, key, row)
            else:
                own.update(rows)
        self.part_texts.update(other.part_texts)
        self.prompt_chains.update(other.prompt_chains)


def encode_records(records: Iterable[Stored], memory: Memory, run: str | None = None) -> Batch:
    """The rows of `records`, and their rows as members of a run.

    Raises:
        StoreError: One of them is no record of the store's, or cannot be written as it is.
    """
    batch = Batch()
    for record in records:
        if isinstance(record, Turn):
            _put_turn(batch, record)
        elif isinstance(record, PromptRecord):
            _put_prompt(batch, record, memory)
        elif isinstance(record, Question):
            _put_question(batch, record)
        elif isinstance(record, Debate):
            _put_debate(batch, record)
        elif isinstance(record, Judgment):
            _put_judgment(batch, record)
        elif isinstance(record, Outcome):
            _put_outcome(batch, record)
        elif isinstance(record, JudgingEvent):
            _put_event(batch, record)
        elif isinstance(record, Feedback):
            _put_rating(batch, record)
        elif isinstance(record, RatingEvent):
            _put_rating_event(batch, record)
        else:
            raise StoreError(
                f"the store takes questions, debates, turns, judgments, outcomes, prompts, ratings"
                f" and the events of judging and rating, not {type(record).__name__}"
            )
        if run is not None:
            _put_own_member(batch, run, record)
    if "prompts" in batch.rows:
        batch.prompt_chains = dict.fromkeys(batch.rows["prompts"], _debate_of(batch))
    return batch


def powers(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Chunks of 64, 32 … 1 rows: few different statements, which the driver keeps prepared."""
    start = 0
    while start < len(rows):
        size = min(MAX_ROWS, 1 << ((len(rows) - start).bit_length() - 1))
        yield rows[start : start + size]
        start += size


def _debate_of(batch: Batch) -> str:
    """The one debate that all rows of `batch` belong to; empty if there are none or several."""
    found: Value = None
    for table in KEYED & batch.rows.keys():
        for row in batch.rows[table].values():
            if found is not None and row[1] != found:
                return ""
            found = row[1]
    return str(found or "")


def conflict(table: str, row: Row) -> StoreError:
    """The error that says which row is already there with other content."""
    values = dict(zip(COLUMNS[table], row, strict=True))
    if table == "outcomes":
        return StoreError(f"debate {values['debate_id']!r} already has another complete outcome")
    named = ", ".join(
        f"{name} {value!r}" for name, value in values.items() if name not in ("id", "body")
    )
    return StoreError(
        f"{table.removesuffix('s')} {row[0]!r} ({named}) is already stored with other content;"
        " records are never changed"
    )


def _put_question(batch: Batch, question: Question) -> None:
    source = question.source
    if source is not None:
        batch.put("sources", source.id, (source.id, encode(source)))
    row = (
        key_text(question.id),
        question.fingerprint,
        key_text(question.dataset),
        key_text(question.split),
        source.id if source else None,
        encode(question),
    )
    batch.put("questions", question.fingerprint, row)


def _put_debate(batch: Batch, debate: Debate) -> None:
    row = (
        debate.id,
        key_text(debate.question_id),
        key_text(debate.question_fingerprint),
        key_text(debate.protocol.name),
        _has_person(debate),
        encode(debate),
    )
    batch.put("debates", debate.id, row)


def _has_person(debate: Debate) -> bool:
    return any(spec.agent == JudgeKind.HUMAN.value for spec in debate.agents.values())


def _put_prompt(batch: Batch, record: PromptRecord, memory: Memory) -> None:
    prompt = encode_prompt(record, memory.parts, memory.blocks, memory.recent)
    for id_, (text, body) in prompt.parts.items():
        batch.put("parts", id_, (id_, body))
        batch.part_texts[id_] = text
    for id_, data in prompt.token_blocks.items():
        batch.put("token_blocks", id_, (id_, data))
    row = (
        prompt.id,
        prompt.variant,
        prompt.messages,
        prompt.blocks,
        prompt.tail,
        prompt.num_tokens,
    )
    batch.put("prompts", prompt.variant, row)


def _put_turn(batch: Batch, turn: Turn) -> None:
    row = (
        turn.id,
        key_text(turn.debate_id),
        turn.step,
        turn.seat.value,
        turn.act.value,
        turn.candidate,
        turn.chosen,
        encode(turn),
    )
    batch.put("turns", turn.id, row)


def _put_judgment(batch: Batch, judgment: Judgment) -> None:
    row = (
        judgment.id,
        key_text(judgment.debate_id),
        key_text(judgment.judge),
        judgment.kind.value,
        judgment.swapped,
        judgment.revision,
        encode(judgment),
    )
    batch.put("judgments", judgment.id, row)


def _put_outcome(batch: Batch, outcome: Outcome) -> None:
    body = encode(outcome)
    row = (content_id("outcome", body), key_text(outcome.debate_id), outcome.status.value, body)
    batch.put("outcomes", str(row[0]), row)


def _put_event(batch: Batch, event: JudgingEvent) -> None:
    row = (
        event.id,
        key_text(event.debate_id),
        key_text(event.judge),
        event.kind.value,
        encode(event),
    )
    batch.put("events", event.id, row)


def _put_rating(batch: Batch, rating: Feedback) -> None:
    row = (
        rating.id,
        key_text(rating.debate_id),
        str(rating.task),
        key_text(rating.item),
        key_text(rating.judge),
        rating.kind.value,
        rating.revision,
        encode(rating),
    )
    batch.put("ratings", rating.id, row)


def _put_rating_event(batch: Batch, event: RatingEvent) -> None:
    row = (
        event.id,
        key_text(event.debate_id),
        key_text(event.item),
        key_text(event.judge),
        event.kind.value,
        encode(event),
    )
    batch.put("rating_events", event.id, row)


def put_member(batch: Batch, run: str, id_: str, debate_id: str) -> None:
    """Add the row by which a record belongs to a run."""
    key = key_text(run)
    batch.put("run_members", f"{key}\0{id_}", (key, id_, debate_id))


def begins_run(record: Stored) -> bool:
    """True for records before the first of which the start of their run is written."""
    return isinstance(record, Debate | Judgment | Feedback)


def is_member(record: Stored) -> bool:
    """True for records that can be members of a run; the words of models belong to their debate."""
    return isinstance(record, Debate | Feedback) or (
        isinstance(record, Judgment) and record.kind is JudgeKind.HUMAN
    )


def _put_own_member(batch: Batch, run: str, record: Stored) -> None:
    if isinstance(record, Debate):
        put_member(batch, run, record.id, record.id)
    elif isinstance(record, Feedback | Judgment) and is_member(record):
        put_member(batch, run, record.id, key_text(record.debate_id))
