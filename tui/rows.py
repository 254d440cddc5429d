"""From a debate to the rows that a transcript shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from oversight.agents.judging import labels
from oversight.agents.speaking import label_of, speaker_name
from oversight.judging.desk import Item
from oversight.text.terminal import rich_text, visible
from oversight.tui.marking import Marked, mark, mark_unfinished
from oversight.tui.widgets.quotes import Listed
from oversight.tui.widgets.transcript import Column, Row
from oversight.types import Act, Role, Seat, Turn

MISSING = Marked("(no words: this turn is missing in the store)")
NOTHING = Marked("(nothing)")

VERB_OF_ACT = {Act.ASK: "asks", Act.CRITIQUE: "criticises", Act.REVISE: "revises"}


@dataclass
class Writing:
    """A turn that is being written."""

    seat: Seat
    role: Role
    act: Act
    round: int
    text: str = ""


def rows_of(
    item: Item, *, stepped: bool, writing: Mapping[Seat, Writing] | None = None
) -> list[Row]:
    """The rows of what has been revealed, and of what is being written."""
    shown = item.shown(stepped=stepped)
    by_step: dict[int, list[Turn]] = {}
    for turn in shown:
        by_step.setdefault(turn.step, []).append(turn)
    rows = [Row(step, _columns(item, step, turns)) for step, turns in sorted(by_step.items())]
    if writing:
        step = rows[-1].step + 1 if rows else 0
        ordered = sorted(writing.values(), key=lambda w: _place(item, w.seat))
        rows.append(Row(step, [_unfinished(item, each) for each in ordered]))
    return rows


def _columns(item: Item, step: int, turns: Sequence[Turn]) -> list[Column]:
    columns = []
    for turn in turns:
        picked = [q for key, q in item.acts.work.draft.leaned_on if key == turn.id]
        body = mark(turn, picked) if turn.text else NOTHING
        columns.append(
            Column(
                turn.id,
                heading(item, turn.seat, turn.role, turn.act, turn.round),
                f"heading-{turn.seat.value}",
                body,
            )
        )
    columns += [_missing(item, step, seat, turns[0]) for seat in _absent(item, step, turns)]
    return columns


def _absent(item: Item, step: int, turns: Sequence[Turn]) -> list[Seat]:
    """Speakers who had a part in the step and of whom nothing is stored."""
    if item.live or not turns:
        return []
    slots = item.transcript.debate.protocol.schedule()[step].slots
    spoken = {turn.seat for turn in turns}
    return [slot.seat for slot in slots if slot.act.is_spoken and slot.seat not in spoken]


def _missing(item: Item, step: int, seat: Seat, beside: Turn) -> Column:
    name = heading(item, seat, beside.role, Act.SPEAK, beside.round)
    return Column(f"missing-{step}-{seat}", name, f"heading-{seat.value}", MISSING)


def _unfinished(item: Item, writing: Writing) -> Column:
    return Column(
        f"writing-{writing.seat}",
        heading(item, writing.seat, writing.role, writing.act, writing.round),
        f"heading-{writing.seat.value}",
        mark_unfinished(writing.text),
        is_writing=True,
    )


def _place(item: Item, seat: Seat) -> int:
    shown = item.orders.shown
    return shown.index(seat) if seat in shown else len(shown)


def heading(item: Item, seat: Seat, role: Role, act: Act, round: int) -> str:
    """Who speaks, in which round, and for what. Which model it is stays hidden."""
    parts = [speaker_name(seat, role)]
    if act in VERB_OF_ACT:
        parts[0] += f" {VERB_OF_ACT[act]}"
    parts.append(f"round {round}" if round else "opening")
    if act.argues and seat is not Seat.JUDGE:
        debate, question = item.transcript.debate, item.transcript.question
        option = debate.orders.defended_by(seat)
        label = label_of(option, item.orders.options)
        text = " ".join(visible(question.options[option].text, newlines=False).split())
        parts.append(f"for {label}: {text}")
    return " · ".join(parts)


def question_of(item: Item) -> Text:
    """The question with its options, and the protocol."""
    whole = Text().append_text(rich_text(item.transcript.question.text, "bold"))
    whole.append("   ").append_text(rich_text(item.transcript.debate.protocol.name, "dim"))
    for label, text, _ in options_of(item):
        whole.append(f"\n{label}  ", style="bold")
        whole.append_text(rich_text(" ".join(text.split())))
    return whole


def options_of(item: Item) -> list[tuple[str, str, int]]:
    """Letter, text and index of each option, in the order of the listing."""
    listing = item.orders.options
    texts = item.transcript.question.options
    return [
        (label, texts[index].text, index)
        for label, index in zip(labels(len(listing)), listing, strict=True)
    ]


def listed_quotes(item: Item, turns: Sequence[Turn]) -> list[Listed]:
    """All quotes of the turns that are shown."""
    picked = set(item.acts.work.draft.leaned_on)
    return [
        Listed(
            turn.id, number, speaker_name(turn.seat, turn.role), quote, (turn.id, number) in picked
        )
        for turn in turns
        for number, quote in enumerate(turn.quotes)
    ]
