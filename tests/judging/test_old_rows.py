"""Rows of acts as earlier versions wrote them: they read, they stay what they are, work goes on."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from oversight.errors import StoreError
from oversight.judging.log import JudgingLog
from oversight.store.schema import decode, encode
from oversight.types import (
    AnyJudgingAct,
    AnyRatingAct,
    BeliefGiven,
    EventKind,
    JudgingEvent,
    QuoteLeanedOn,
    RatingAct,
    RatingEvent,
    Verdict,
)

SAMPLE = {
    "purpose": "assistance",
    "engine": "scripted",
    "model": "m",
    "prompt_id": "p",
    "text": "So.",
    "token_ids": [1, 2],
    "logprobs": [-0.5, -0.25],
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": None},
    "seconds": 0.0,
}
FIRST: list[tuple[str, dict[str, Any]]] = [
    ("opened", {"swapped": True, "arm": None, "study": ""}),
    ("revealed", {"step": 0}),
    ("belief", {"step": 0, "probs": [0.4, 0.6]}),
    ("attention", {"panels": {"transcript": 1.5}}),
    ("sent", {"revision": 0}),
    ("reopened", {}),
]
"""As the first versions wrote them, which knew nothing of what had been on the screen."""
BEFORE: list[tuple[str, dict[str, Any]]] = [
    ("attention", {"panels": {}, "seen": {"t": [[0.0, 0.25], [0.5, 1.0]]}}),
    ("belief", {"step": 2, "probs": [0.3, 0.7], "move": "m1", "unseen": {"t": 0.75}}),
    ("verdict", {"verdict": "tie"}),
    ("undone", {}),
    ("rationale", {"text": "The log.", "move": "m2"}),
    ("rationale", {"text": "The log says so."}),
    ("leaned", {"turn": "t", "quote": 1, "on": True}),
    ("drafted", {"step": 3, "text": "Where"}),
    (
        "acted",
        {"step": 3, "seat": "judge", "act": "ask", "text": "Where?", "probs": None, "ends": False},
    ),
    ("asked", {"number": 0, "kind": "full", "request": "free", "text": "Why?", "turn": "t"}),
    (
        "assisted",
        {"number": 0, "kind": "full", "text": "So.", "shown_at": "12", "error": ""}
        | {"samples": [SAMPLE]},
    ),
    ("informed", {}),
    ("skipped", {}),
    ("unskipped", {}),
    ("closed", {}),
]
RATED: list[tuple[str, dict[str, Any]]] = [
    ("opened", {"shown": ["t", "u"], "study": "pilot"}),
    ("answered", {"answers": {"preferred": "left-1"}}),
    ("answered", {"answers": {"preferred": None}, "unseen": {"u": 0.5}}),
    ("rationale", {"text": "It proves it.", "move": "m"}),
    ("attention", {"panels": {"responses": 2.0}, "seen": {"t": [[0.0, 1.0]]}}),
    ("undone", {}),
    ("sent", {"revision": 0}),
    ("reopened", {}),
    ("skipped", {}),
    ("unskipped", {}),
    ("closed", {}),
]


def row(number: int, kind: str, data: dict[str, Any], **place: str) -> str:
    """The JSON text of an event as a store of the commit before holds it."""
    given = {"debate_id": "d", **place, "judge": "anna", "session": "old", "number": number}
    return json.dumps(given | {"at": "", "kind": kind, "data": data}, separators=(",", ":"))


def test_rows_of_every_kind_are_among_those_tested() -> None:
    assert {kind for kind, _ in FIRST + BEFORE} == set(EventKind)
    assert {kind for kind, _ in RATED} == set(RatingAct)
    for union, kinds in ((AnyJudgingAct, EventKind), (AnyRatingAct, RatingAct)):
        assert {each.model_fields["event"].default for each in get_args(union)} == set(kinds)


@pytest.mark.parametrize(("kind", "data"), FIRST + BEFORE)
def test_a_row_of_a_judges_act_is_written_as_it_was_read(kind: str, data: dict[str, Any]) -> None:
    event = decode(JudgingEvent, row(0, kind, data))
    assert (event.kind, event.data) == (kind, data)
    assert encode(event) == row(0, kind, data)


@pytest.mark.parametrize(("kind", "data"), RATED)
def test_a_row_of_a_raters_act_is_written_as_it_was_read(kind: str, data: dict[str, Any]) -> None:
    event = decode(RatingEvent, row(0, kind, data, item="i"))
    assert (event.kind, event.data) == (kind, data)
    assert encode(event) == row(0, kind, data, item="i")


async def test_work_of_the_commit_before_goes_on(workshop: Any) -> None:
    debate = await workshop.record()
    _insert(workshop.store, debate.id, FIRST + BEFORE)
    item, _ = workshop.desk().take(debate.id)
    work = item.acts.work
    assert (work.swapped, work.revealed, work.num_sent, work.is_open) == (True, 0, 1, True)
    assert work.draft.beliefs == {0: (0.4, 0.6), 2: (0.3, 0.7)}
    assert (work.draft.verdict, work.draft.rationale) == (Verdict.DECIDED, "The log says so.")
    assert work.draft.leaned_on == (("t", 1),)
    assert work.active_s == {"transcript": 1.5}
    assert work.seen == {"t": ((0.0, 0.25), (0.5, 1.0))}
    assert (work.seat, work.acted[3, "ask"].text, work.words) == ("judge", "Where?", "")
    [helped] = work.assistance
    assert (helped.kind, helped.request, helped.asked) == ("full", "free", "Why?")
    assert (helped.text, helped.shown_at, helped.error) == ("So.", "12", "")
    assert work.informed
    item.acts.add(QuoteLeanedOn(turn="t", quote=1, on=False))
    item.acts.add(BeliefGiven(step=2, probs=(0.2, 0.8)))
    sent = await workshop.desk().send(item)
    assert (sent.revision, sent.final.probs, sent.rationale) == (1, (0.2, 0.8), "The log says so.")
    assert JudgingLog(workshop.store, debate.id, "anna").work == item.acts.work


async def test_a_row_without_a_field_that_its_act_has_is_named(workshop: Any) -> None:
    debate = await workshop.record()
    _insert(workshop.store, debate.id, [("asked", {"number": 0, "request": "free", "text": ""})])
    with pytest.raises(StoreError, match=r"events row e0: act\.asked\.kind"):
        workshop.store.events("anna", debate.id)


def test_an_act_has_no_other_fields_than_its_own() -> None:
    with pytest.raises(ValidationError, match="quotes"):
        decode(JudgingEvent, row(0, "leaned", {"turn": "t", "quote": 1, "on": True, "quotes": 2}))


def _insert(store: Any, debate_id: str, acts: list[tuple[str, dict[str, Any]]]) -> None:
    insert = text(
        "INSERT INTO events (id, debate_id, judge, kind, body) VALUES (:id, :debate, 'anna', "
        ":kind, :body)"
    )
    with store._database.writing() as connection:
        for number, (kind, data) in enumerate(acts):
            body = json.loads(row(number, kind, data)) | {"debate_id": debate_id}
            given = {"id": f"e{number}", "debate": debate_id, "kind": kind}
            connection.execute(insert, given | {"body": json.dumps(body)})
