"""From an item that is rated to what is asked of it and the rows that are read."""

from __future__ import annotations

from rich.text import Text

from oversight.agents.judging import labels
from oversight.judging.tasks.desk import TaskItem
from oversight.text.terminal import rich_text
from oversight.tui.marking import Marked, mark
from oversight.tui.naming import heading, named_by_seat
from oversight.tui.rows import NOTHING
from oversight.tui.widgets.quotes import Listed
from oversight.tui.widgets.transcript import Column, Row
from oversight.types import Act, Task, Turn

BEFORE = "before-"
"""How keys of columns begin that show what was said before."""

NAMES_OF_TASK = {
    Task.PAIRS: ("Left", "Right"),
    Task.PRINCIPLES: ("The response",),
    Task.REVISIONS: ("First speech", "Criticism", "Revised speech"),
}


def names_of(item: TaskItem) -> tuple[str, ...]:
    """What the turns that are asked about are called; answers to an open prompt are no speeches."""
    names = NAMES_OF_TASK[item.item.task]
    if item.item.is_open:
        return tuple(name.replace("speech", "response") for name in names)
    return names


def rows_of_item(item: TaskItem, key: str) -> list[Row]:
    """What was said before, which `key` unfolds, then the turns that are asked about."""
    rows = []
    by_step: dict[int, list[Turn]] = {}
    for turn in item.before():
        by_step.setdefault(turn.step, []).append(turn)
    for step, turns in sorted(by_step.items()):
        rows.append(Row(step, [_said_before(item, turn, key) for turn in turns]))
    names = names_of(item)
    columns = [
        Column(turn.id, name, f"heading-{'ab'[at % 2]}", _body(turn), is_to_read=True)
        for at, (turn, name) in enumerate(zip(item.turns(), names, strict=True))
    ]
    # Two that are to be compared stand side by side, a third below them.
    return rows + [Row(item.item.step, columns[at : at + 2]) for at in range(0, len(columns), 2)]


def _said_before(item: TaskItem, turn: Turn, key: str) -> Column:
    name = f"{key} · before: {said_by(item, turn)}"
    return Column(BEFORE + turn.id, name, "faint", _body(turn), is_folded=True)


def _body(turn: Turn) -> Marked:
    return mark(turn) if turn.text else NOTHING


def said_by(item: TaskItem, turn: Turn) -> str:
    """Who spoke, in which round, and for what. Which model it is stays hidden."""
    return heading(item.transcript, turn.seat, turn.role, turn.act, turn.round)


def header(item: TaskItem) -> Text:
    """Question, options, or an open prompt with the chat before it, and whose words these are."""
    question, orders = item.transcript.question, item.transcript.debate.orders
    whole = Text()
    for message in question.history:
        whole.append(f"{message.role.capitalize()}  ", style="dim")
        whole.append_text(rich_text(message.content, "dim")).append("\n")
    whole.append_text(rich_text(question.text, "bold"))
    for label, index in zip(labels(len(orders.options)), orders.options, strict=True):
        whole.append(f"\n{label}  ", style="bold")
        whole.append_text(rich_text(" ".join(question.options[index].text.split())))
    speech = next((t for t in item.turns() if t.act is not Act.CRITIQUE), item.turns()[0])
    whole.append("\n").append_text(rich_text(said_by(item, speech), "dim"))
    texts = [turn.text for turn in (*item.before(), *item.turns())]
    note = named_by_seat(item.transcript.debate, texts)
    return whole.append(f"\n{note}", style="italic") if note else whole


def quotes_of(item: TaskItem) -> list[Listed]:
    """All quotes of the turns that are asked about."""
    names = names_of(item)
    return [
        Listed(turn.id, number, name, quote, False)
        for turn, name in zip(item.turns(), names, strict=True)
        for number, quote in enumerate(turn.quotes)
    ]
