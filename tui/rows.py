"""From a debate to the rows that a transcript shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from oversight.agents.judging import labels
from oversight.judging.items import DebateItem, MissingTurn, TaskItem
from oversight.judging.live import UnfinishedTurn
from oversight.text.terminal import rich_text, visible
from oversight.tui.marking import MarkedText, called, heading, mark, mark_unfinished, named_by_seat
from oversight.tui.widgets.panels import ListedQuote
from oversight.tui.widgets.transcript import Column, TranscriptRow
from oversight.types import Act, Seat, Turn

MISSING = MarkedText("(no words: this turn is missing in the store)")
NOTHING = MarkedText("(nothing)")


def rows_of(
    item: DebateItem, *, stepped: bool, writing: Mapping[Seat, UnfinishedTurn] | None = None
) -> list[TranscriptRow]:
    """The rows of turns that have been revealed or are being written."""
    shown = item.shown(stepped=stepped)
    by_step: dict[int, list[Turn]] = {}
    for turn in shown:
        by_step.setdefault(turn.step, []).append(turn)
    rows = [TranscriptRow(step, _columns(item, turns)) for step, turns in sorted(by_step.items())]
    if writing:
        step = rows[-1].step + 1 if rows else 0
        ordered = sorted(writing.values(), key=lambda w: _place(item, w.seat))
        rows.append(TranscriptRow(step, [_unfinished(item, each) for each in ordered]))
    return rows


def nothing_said(item: DebateItem, source_key: str) -> TranscriptRow:
    """The row shown where nobody has spoken: the question, and from what it is to be judged.

    Args:
        item: The debate that is judged.
        source_key: The key that shows the source; empty if this person may not read one.
    """
    protocol, question = item.transcript.debate.protocol, item.transcript.question
    reads = f" {source_key} shows the source." if source_key else ""
    if protocol.speakers or protocol.critics:
        said = f"Nothing has been said yet.{reads}"
    elif source_key:
        said = f"There are no speeches: you judge from the question and the source.{reads}"
    else:
        said = "There are no speeches: you judge from the question alone."
    listed = "\n".join(f"{label}  {' '.join(text.split())}" for label, text, _ in options_of(item))
    # Lines are drawn as they are: a tab would move the cursor past what is drawn.
    body = MarkedText(visible(f"{said}\n\n{question.text}\n\n{listed}").expandtabs(4))
    return TranscriptRow(0, [Column("nothing-said", "What you are asked", "heading-judge", body)])


def _columns(item: DebateItem, turns: Sequence[Turn]) -> list[Column]:
    columns = []
    for turn in turns:
        picked = [q for key, q in item.acts.work.draft.leaned_on if key == turn.id]
        body = mark(turn, picked) if turn.text else NOTHING
        columns.append(
            Column(
                turn.id,
                heading(item.transcript, turn.seat, turn.role, turn.act, turn.round, turn.stance),
                f"heading-{turn.seat.value}",
                body,
                is_to_read=not item.acts.work.has_said(turn),
            )
        )
    return columns + [_missing(item, lost) for lost in item.lost(turns)]


def _missing(item: DebateItem, lost: MissingTurn) -> Column:
    name = heading(item.transcript, lost.seat, lost.role, lost.act, lost.round)
    key = f"missing-{lost.step}-{lost.seat}"
    return Column(key, name, f"heading-{lost.seat.value}", MISSING)


def _unfinished(item: DebateItem, writing: UnfinishedTurn) -> Column:
    return Column(
        writing.key,
        heading(item.transcript, writing.seat, writing.role, writing.act, writing.round),
        f"heading-{writing.seat.value}",
        mark_unfinished(writing.text),
        is_writing=True,
        is_to_read=True,
    )


def _place(item: DebateItem, seat: Seat) -> int:
    shown = item.orders.shown
    return shown.index(seat) if seat in shown else len(shown)


def question_of(item: DebateItem, note: str = "") -> Text:
    """The question with its options, the protocol, and a note below them."""
    whole = Text().append_text(rich_text(item.transcript.question.text, "bold"))
    whole.append("   ").append_text(rich_text(item.transcript.debate.protocol.name, "dim"))
    for label, text, _ in options_of(item):
        whole.append(f"\n{label}  ", style="bold")
        whole.append_text(rich_text(" ".join(text.split())))
    return whole.append(f"\n{note}", style="italic") if note else whole


def options_of(item: DebateItem) -> list[tuple[str, str, int]]:
    """Letter, text and index of each option, in the order of the listing."""
    listing = item.orders.options
    texts = item.transcript.question.options
    return [
        (label, texts[index].text, index)
        for label, index in zip(labels(len(listing)), listing, strict=True)
    ]


def listed_quotes(item: DebateItem, turns: Sequence[Turn]) -> list[ListedQuote]:
    """All quotes of the turns that are shown."""
    picked = set(item.acts.work.draft.leaned_on)
    return [
        ListedQuote(
            turn.id,
            number,
            called(item.transcript.debate, turn.seat, turn.role),
            quote,
            (turn.id, number) in picked,
        )
        for turn in turns
        for number, quote in enumerate(turn.quotes)
    ]


BEFORE = "before-"
"""Beginning of the keys of columns that show earlier turns."""


def rows_of_item(item: TaskItem, names: Sequence[str], key: str) -> list[TranscriptRow]:
    """Rows of the earlier turns, which `key` unfolds, then of the turns that are asked about."""
    rows = []
    by_step: dict[int, list[Turn]] = {}
    for turn in item.before():
        by_step.setdefault(turn.step, []).append(turn)
    for step, turns in sorted(by_step.items()):
        rows.append(TranscriptRow(step, [_said_before(item, turn, key) for turn in turns]))
    columns = [
        Column(turn.id, name, f"heading-{'ab'[at % 2]}", _body(turn), is_to_read=True)
        for at, (turn, name) in enumerate(zip(item.turns(), names, strict=True))
    ]
    # Two that are to be compared stand side by side, a third below them.
    return rows + [
        TranscriptRow(item.item.step, columns[at : at + 2]) for at in range(0, len(columns), 2)
    ]


def _said_before(item: TaskItem, turn: Turn, key: str) -> Column:
    name = f"{key} · before: {said_by(item, turn)}"
    return Column(BEFORE + turn.id, name, "faint", _body(turn), is_folded=True)


def _body(turn: Turn) -> MarkedText:
    return mark(turn) if turn.text else NOTHING


def said_by(item: TaskItem, turn: Turn) -> str:
    """The speaker, the round and the option defended; the model's name stays hidden."""
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


def quotes_of(item: TaskItem, names: Sequence[str]) -> list[ListedQuote]:
    """All quotes of the turns that are asked about."""
    return [
        ListedQuote(turn.id, number, name, quote, False)
        for turn, name in zip(item.turns(), names, strict=True)
        for number, quote in enumerate(turn.quotes)
    ]
