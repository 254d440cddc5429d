"""A store of a few linked records, statements that attack it, and problems that a check finds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from typer.testing import CliRunner

from oversight.cli.main import app
from oversight.store import Problem, Seal, Store
from oversight.types import (
    EventKind,
    Feedback,
    JudgingEvent,
    PairAnswer,
    RatingAct,
    RatingEvent,
)
from oversight.types.ratings import Task, item_id


def records(make, seed=0):
    """A debate with a record of every kind."""
    debate, prompt = make.debate(seed=seed), make.prompt("Source", f"turn {seed}")
    sample = make.sample(prompt)
    turns = [make.turn(debate, step, samples=(sample,)) for step in range(4)]
    judgment = make.judgment(debate, samples=(sample,))
    event = JudgingEvent(
        debate_id=debate.id, judge="ann", session="s", number=0, at="", kind=EventKind.OPENED
    )
    shown = (turns[0].id, turns[1].id)
    item = item_id(Task.PAIRS, shown)
    rating = Feedback(
        debate_id=debate.id,
        item=item,
        turn_ids=shown,
        judge="ann",
        answer=PairAnswer(preferred="left", strength=1),
    )
    act = RatingEvent(
        debate_id=debate.id,
        item=item,
        judge="ann",
        session="s",
        number=0,
        at="",
        kind=RatingAct.OPENED,
    )
    return [make.question(), debate, prompt, *turns, judgment, event, rating, act], make.outcome(
        debate
    )


def attack(path: Path, *statements: str) -> None:
    """Edit the file as another program would."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def problems(path: Path, seal: Seal | None = None) -> list[Problem]:
    with Store.open(path) as store:
        return store.check(seal)


def body_of(table: str, old: str, new: str) -> str:
    return (
        f"UPDATE {table} SET body = replace(body, '{old}', '{new}')"
        f" WHERE seq = (SELECT min(seq) FROM {table})"
    )


def run(*arguments: object):
    return CliRunner().invoke(app, ["store", *map(str, arguments)])
