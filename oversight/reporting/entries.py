"""Entries of the index, and lists of them: rows, what they can be filtered by, words.

What was judged is read by the same functions as a report's figures, so that a filter finds the
debates that a figure counts. Lists come out of the index's file by sets of debates, one for each
value of a facet, and by words, in pages by key.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from oversight.aggregation import last_words, rulings
from oversight.evals.observations import UNKNOWN_CAUSE, difficulty_of, named, observe, side_of
from oversight.store.reading import DebateRows
from oversight.types import PEOPLE, OutcomeStatus, QuoteStatus, Role, Seat, Transcript, Verdict

JOINED = "\x1f"
"""Between two values that belong to one ruling."""
MAX_SETS = 256
"""Values of facets whose debates are kept in memory."""

FACETS = {
    "run": "Run",
    "tag": "Tag",
    "dataset": "Data set",
    "protocol": "Protocol",
    "agent": "Agent",
    "model": "Model",
    "judge": "Judge",
    "verdict": "Verdict",
    "result": "Right or wrong",
    "judges": "Between judges",
    "status": "State",
}
"""Facets that a person can filter by, with their labels, in the order of the form."""
MORE_FACETS = (
    "question",
    *("speakers", "family", "side", "quote", "ended", "defect", "cause", "policy", "rater", "task"),
    *("assistance", "study", "unseen", "principle", "kind", "person"),
    *("difficulty", "called"),
)
"""Filters that only links use: those behind the numbers of a report."""
OF_A_RULING = ("verdict", "result", "unseen", "flips")
"""Facets that, together with a judge, are asked of that judge's own ruling."""
LIST_PARAMS = {*FACETS, *MORE_FACETS, *OF_A_RULING, "q", "before", "after", "store", "token"}
"""All that may stand in the address of a list."""


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """One judge's ruling as a list shows it."""

    judge: str
    verdict: str
    choice: str = ""
    """Text of the option decided on."""
    p: float | None = None
    """Probability of it."""
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class DebateRow:
    """A debate as a list shows it."""

    id: str
    question: str
    question_id: str
    dataset: str
    protocol: str
    agents: tuple[str, ...]
    judged: tuple[JudgedRow, ...]
    status: str
    cause: str = ""
    num_turns: int = 0
    num_words: int = 0
    num_ratings: int = 0
    seq: int = 0
    found_in: str = ""
    """Of a search: the turn or judgment in which the words stand, as a page's anchor."""


# --- what a list is asked for ---


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Choice of the debates that a list holds."""

    filters: tuple[tuple[str, str], ...] = ()
    """(facet, value): each facet must hold, of one that is named several times any value."""
    words: str = ""
    before: int | None = None
    """Only debates below this row number: the next page."""
    after: int | None = None
    """Only debates above it: the page before."""

    @classmethod
    def parse(cls, params: Iterable[tuple[str, str]]) -> ListQuery:
        """The query of a query string's (name, value) pairs; names of `LIST_PARAMS` alone count."""
        filters, numbers, words = [], {}, ""
        for name, value in params:
            if name in FACETS or name in MORE_FACETS or name in OF_A_RULING:
                if value:
                    filters.append((name, value))
            elif name in ("before", "after") and value.isdecimal() and len(value) < 19:
                numbers[name] = int(value)
            elif name == "q":
                words = value.strip()[:MAX_QUERY_CHARS]
        return cls(tuple(dict.fromkeys(filters)), words, **numbers)

    def facets(self) -> list[tuple[str, tuple[str, ...]]]:
        """The facets to look up, each with the values of which one must hold: what is asked of a
        judge's ruling is joined with the judge."""
        asked: dict[str, list[str]] = {}
        for name, value in self.filters:
            asked.setdefault(name, []).append(value)
        found = []
        judges = asked.get("judge")
        for name, values in asked.items():
            if judges and name in OF_A_RULING:
                joined = [f"{judge}{JOINED}{value}" for judge in judges for value in values]
                found.append((f"judge {name}", tuple(joined)))
            else:
                found.append((name, tuple(values)))
        return found


MAX_QUERY_CHARS = 500
_TERM = re.compile(r'"([^"]*)"|(\S+)')


def match_of(words: str) -> str:
    """An FTS5 expression for words and "phrases" of a person: all of them, a last * as a prefix."""
    terms = []
    for phrase, word in _TERM.findall(words.replace("\0", " ")):
        term = phrase or word
        prefix = "*" if word.endswith("*") else ""
        term = term.rstrip("*").replace('"', "")
        if any(char.isalnum() for char in term):
            terms.append(f'"{term}"{prefix}')
    return " AND ".join(terms)


# --- what an index holds of a debate ---


MAX_QUESTION_CHARS = 240


@dataclass
class Document:
    """A text that is searched, with the anchor of its place on the transcript's page."""

    key: str
    text: str


@dataclass
class IndexEntry:
    """One debate as an index holds it."""

    seq: int
    row: DebateRow
    facets: set[tuple[str, str]] = field(default_factory=set)
    documents: list[Document] = field(default_factory=list)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")


def entry_of(rows: DebateRows) -> IndexEntry:
    """The row, the facets and the words of a debate."""
    debate, question = rows.debate, rows.question
    whole = Transcript(debate, question, (), rows.judgments, rows.outcome, rows.ratings)
    facets = {
        ("dataset", question.dataset),
        ("question", question.id),
        ("protocol", debate.protocol.name),
        ("status", _status(rows)),
        ("difficulty", difficulty_of(question)),
        *(("run", run) for run in rows.runs),
    }
    if family := str(question.meta.get("family", "")):
        facets.add(("family", family))
    if rows.outcome is not None and rows.outcome.status is OutcomeStatus.FAILED:
        facets.add(("cause", rows.outcome.cause or UNKNOWN_CAUSE))
    for role, spec in debate.agents.items():
        facets.add(("agent", spec.agent))
        if spec.engine is not None:
            facets.add(("model", named(spec)))
        if role is Role.RESPONDER and debate.protocol.is_open:
            facets.add(("policy", named(spec)))
    judged = tuple(_judged(whole, facets))
    num_words, documents = _turns(rows, facets)
    for rating in last_words(whole):
        facets |= {("rater", rating.judge), ("task", str(rating.task))}
        if rating.is_persons:
            facets.add(("person", "yes"))
    row = DebateRow(
        id=debate.id,
        question=_clean(question.text)[:MAX_QUESTION_CHARS],
        question_id=_clean(question.id),
        dataset=_clean(question.dataset),
        protocol=_clean(debate.protocol.name),
        agents=tuple(_clean(f"{role.value} {named(spec)}") for role, spec in debate.agents.items()),
        judged=judged,
        status=_status(rows),
        cause=_clean(rows.outcome.cause or rows.outcome.error[:80]) if rows.outcome else "",
        num_turns=sum(bool(turn.get("chosen", True)) for turn in rows.turns),
        num_words=num_words,
        num_ratings=len(rows.ratings),
    )
    return IndexEntry(rows.seq, row, {(k, _clean(v)) for k, v in facets}, documents)


def _status(rows: DebateRows) -> str:
    return "unfinished" if rows.outcome is None else rows.outcome.status.value


def _judged(whole: Transcript, facets: set[tuple[str, str]]) -> Iterator[JudgedRow]:
    """Rulings as a list shows them; adds their facets."""
    choices = set()
    found = rulings(whole) if whole.question.options else ()
    for ruling in found:
        seen = observe(whole, ruling)
        judge = _clean(ruling.judge)
        result = {True: "right", False: "wrong", None: None}[seen.right]
        facets |= {("kind", seen.kind.value), ("speakers", seen.arm.speakers)}
        own = [("verdict", seen.verdict.value)]
        if result is not None:
            own.append(("result", result))
        if seen.num_unseen:
            own.append(("unseen", "yes"))
        if len({each.final.choice for each in ruling.judgments}) > 1:
            own.append(("flips", "yes"))
        is_person = seen.judge_kind.value == "human"
        for called in (judge, PEOPLE) if is_person else (judge,):
            facets |= {("judge", called), *own}
            facets |= {(f"judge {name}", f"{called}{JOINED}{value}") for name, value in own}
        facets |= {("person", "yes")} if is_person else set()
        if seen.assistance_drawn is not None:
            facets.add(("assistance", seen.assistance_drawn))
        if seen.study:
            facets.add(("study", seen.study))
        if seen.honest is not None:
            facets.add(("side", "honest" if seen.honest else "dishonest"))
        if seen.choice is not None:
            choices.add(seen.choice)
        yield JudgedRow(
            judge=judge,
            verdict=seen.verdict.value,
            choice=""
            if seen.choice is None
            else _clean(whole.question.options[seen.choice].text)[:80],
            p=None if seen.choice is None or seen.probs is None else seen.probs[seen.choice],
            right=seen.right,
        )
    if not found and whole.question.options:
        facets.add(("verdict", "unjudged"))
    decided = [each for each in found if each.final.verdict is Verdict.DECIDED]
    if len(decided) > 1:
        facets.add(("judges", "disagree" if len(choices) > 1 else "agree"))


def _turns(rows: DebateRows, facets: set[tuple[str, str]]) -> tuple[int, list[Document]]:
    """Number of words spoken, and the texts to be searched; adds the facets of turns."""
    debate, question = rows.debate, rows.question
    documents = [Document("question", _clean(question.text))]
    sides = {seat.value: side_of(debate, seat, question.correct) for seat in (Seat.A, Seat.B)}
    num_words = 0
    for turn in rows.turns:
        text = str(turn.get("text", ""))
        chosen = bool(turn.get("chosen", True))
        num_words += len(text.split()) * chosen
        told = f"{text}\n{turn['reasoning']}" if turn.get("reasoning") else text
        if told.strip():
            documents.append(Document(f"turn-{turn['id']}", _clean(told)))
        for quote in turn.get("quotes", ()) if chosen else ():
            status = quote.get("status", QuoteStatus.UNVERIFIED.value)
            facets.add(("quote", status))
            if side := sides.get(str(turn.get("seat"))):
                facets.add(("quote", f"{side} {status}"))
        for defect in turn.get("defects", ()) if chosen else ():
            facets.add(("defect", str(defect)))
        for principle in ((turn.get("under") or {}).get("principles") or {}) if chosen else ():
            facets.add(("principle", str(principle)))
        _ends(turn.get("samples", ()), facets)
    for judgment in rows.judgments:
        _ends((each.model_dump(mode="json") for each in judgment.samples), facets)
        if judgment.rationale.strip() or judgment.final.raw.strip():
            told = f"{judgment.rationale}\n{judgment.final.raw}"
            documents.append(Document(f"judgment-{judgment.id}", _clean(told)))
    return num_words, documents


def _ends(samples: Iterable[dict[str, Any]], facets: set[tuple[str, str]]) -> None:
    for sample in samples:
        model = str(sample.get("model", ""))
        facets |= {("called", model), ("ended", f"{model} {sample.get('finish_reason', '')}")}
        if sample.get("purpose") == "unanswered":
            facets.add(("ended", f"{model} unanswered"))


MAX_DOCUMENTS = 1 << 14
"""Texts of one debate that can be searched; each has a number of its own."""
Facets = Sequence[tuple[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list."""

    rows: tuple[DebateRow, ...]
    total: int | None
    """None of a search, whose hits are not counted."""
    older: int | None
    """Row number for the next page's `before`."""
    newer: int | None
    """For the `after` of the page before."""


class FacetSets:
    """Debates by facet and value, as whole numbers whose bits are the row numbers.

    Two filters are one operation on two numbers, whatever they have in common. A set is read when
    it is asked for and kept until the index changes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: Any = None
        self._held: dict[tuple[str, str], int] = {}

    def fitting(self, connection: sqlite3.Connection, facets: Facets) -> int:
        """The debates that have one of the values of each facet."""
        found = -1
        for kind, values in facets:
            either = 0
            for value in values:
                either |= self._set(connection, kind, value)
            found &= either
        return found

    def _set(self, connection: sqlite3.Connection, kind: str, value: str) -> int:
        query = "SELECT value FROM meta WHERE key = 'changed'"
        state = connection.execute(query).fetchone()
        with self._lock:
            if state != self._state or len(self._held) >= MAX_SETS:
                self._state, self._held = state, {}
            if (known := self._held.get((kind, value))) is not None:
                return known
        query = "SELECT seq FROM facets WHERE kind = ? AND value = ? ORDER BY seq"
        seqs = [row[0] for row in connection.execute(query, (kind, value))]
        bits = bytearray(seqs[-1] // 8 + 1 if seqs else 0)
        for seq in seqs:
            bits[seq >> 3] |= 1 << (seq & 7)
        found = int.from_bytes(bits, "little")
        with self._lock:
            if state == self._state:
                self._held[kind, value] = found
        return found


def find(connection: sqlite3.Connection, query: ListQuery, limit: int, sets: FacetSets) -> Listing:
    """A page of the debates that fit, the newest first."""
    facets = _of_runs(connection, query.facets())
    if query.words:
        return _searched(connection, query, sets.fitting(connection, facets), limit)
    forward = query.after is not None
    if facets:
        fitting = sets.fitting(connection, facets)
        total = fitting.bit_count()
        seqs = _some(fitting, query, limit + 1)
        condition, values = f"WHERE seq IN ({', '.join('?' * len(seqs))})", tuple(seqs)
    else:
        total = number_of_debates(connection)
        condition, values = _bounds(query)
    found = connection.execute(
        f"SELECT seq, row FROM items {condition} ORDER BY seq {'ASC' if forward else 'DESC'} "
        "LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    more = len(found) > limit
    found = found[:limit]
    if forward:
        found.reverse()
    rows = tuple(_row(row, seq) for seq, row in found)
    return _page(rows, total, query, more=more)


def _page(rows: Sequence[DebateRow], total: int | None, query: ListQuery, *, more: bool) -> Listing:
    """Rows, the newest first, with where the pages beside them begin.

    Args:
        rows: Of this page.
        total: All that fit, as far as that is known without their being on this page.
        more: Others fit behind this page, in the direction that was asked for.
    """
    forward = query.after is not None
    has_newer = more if forward else query.before is not None
    return Listing(
        rows=tuple(rows),
        total=total if more or forward or has_newer else len(rows),
        older=rows[-1].seq if rows and (forward or more) else None,
        newer=rows[0].seq if rows and has_newer else None,
    )


def _of_runs(connection: sqlite3.Connection, facets: Facets) -> Facets:
    """The facets, a tag as the runs that have it: a run may be given one later."""
    query = "SELECT run FROM run_tags WHERE tag = ?"
    return [
        (kind, values)
        if kind != "tag"
        else ("run", tuple(row[0] for tag in values for row in connection.execute(query, (tag,))))
        for kind, values in facets
    ]


def _bounds(query: ListQuery) -> tuple[str, tuple[int, ...]]:
    wanted, values = [], []
    for sign, place in (("<", query.before), (">", query.after)):
        if place is not None:
            wanted.append(f"seq {sign} ?")
            values.append(place)
    return (f"WHERE {' AND '.join(wanted)}" if wanted else ""), tuple(values)


def _some(fitting: int, query: ListQuery, limit: int) -> list[int]:
    """Row numbers out of a set: the highest below `before`, or the lowest above `after`."""
    if query.before is not None:
        fitting &= (1 << min(query.before, fitting.bit_length())) - 1
    if query.after is not None:
        cut = min(query.after + 1, fitting.bit_length())
        fitting = fitting >> cut << cut
    found: list[int] = []
    while fitting and len(found) < limit:
        lowest = fitting & -fitting
        seq = (lowest if query.after is not None else fitting).bit_length() - 1
        found.append(seq)
        fitting ^= 1 << seq
    return found


def _searched(
    connection: sqlite3.Connection, query: ListQuery, fitting: int, limit: int
) -> Listing:
    """Debates in whose words all terms stand in one text, the newest first."""
    sought = match_of(query.words)
    if not sought:
        return Listing((), 0, None, None)
    if query.after is not None:
        edge, order = (query.after + 1) * MAX_DOCUMENTS, ">= ? ORDER BY rowid ASC"
    else:
        edge = 2**62 if query.before is None else query.before * MAX_DOCUMENTS
        order = "< ? ORDER BY rowid DESC"
    found = connection.execute(
        f"SELECT rowid FROM words WHERE words MATCH ? AND rowid {order}", (sought, edge)
    )
    hits: dict[int, int] = {}
    more = False
    for (number,) in found:
        seq = number // MAX_DOCUMENTS
        if seq not in hits and not fitting >> seq & 1:
            continue
        if seq not in hits and len(hits) == limit:
            more = True
            break
        hits[seq] = number
    rows = []
    for seq, number in hits.items():
        [row] = connection.execute("SELECT row FROM items WHERE seq = ?", (seq,)).fetchone()
        asked = "SELECT key FROM documents WHERE number = ?"
        [key] = connection.execute(asked, (number,)).fetchone()
        rows.append(_row(row, seq, key.partition(" ")[2]))
    rows.sort(key=lambda each: -each.seq)
    return _page(rows, None, query, more=more)


def number_of_debates(connection: sqlite3.Connection) -> int:
    """Debates in it, as they were counted last."""
    query = "SELECT number FROM counts WHERE kind = '' AND value = ''"
    return int((connection.execute(query).fetchone() or (0,))[0])


def _row(text: str, seq: int, found_in: str = "") -> DebateRow:
    held = json.loads(text)
    judged = tuple(JudgedRow(**each) for each in held.pop("judged"))
    agents = tuple(held.pop("agents"))
    return DebateRow(
        **{**held, "judged": judged, "agents": agents, "seq": seq, "found_in": found_in}
    )
