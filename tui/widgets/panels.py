"""Panels around the transcript: quotes, the assistant's answers, and questions to be answered.

Quotes stand in the order of the source. A question has a line with its answers, chosen by key or by
mouse; so has a belief.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.containers import VerticalScroll
from textual.events import Click
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from oversight.judging.assisting import NAME_OF_HELP
from oversight.judging.items import SourceExcerpt
from oversight.judging.tasks import TaskQuestion
from oversight.judging.tasks.debate import coupled
from oversight.judging.work import AssistantExchange
from oversight.text.terminal import rich_text, visible
from oversight.tui.marking import NAME_OF_STATUS, PICKED, SIGN_OF_STATUS, wrap
from oversight.types import Help, Quote, QuoteStatus

STYLE_OF_STATUS = {
    QuoteStatus.VERIFIED: "green",
    QuoteStatus.NEAR: "yellow",
    QuoteStatus.UNVERIFIED: "red",
    QuoteStatus.TOO_SHORT: "dim",
}


@dataclass(frozen=True)
class ListedQuote:
    """A quote in the panel."""

    turn: str
    number: int
    speaker: str
    quote: Quote
    is_picked: bool


def in_source_order(quotes: Sequence[ListedQuote]) -> list[ListedQuote]:
    """Quotes that were found, by their place in the source, then the others as they were said."""
    found = [each for each in quotes if each.quote.source_start is not None]
    found.sort(key=lambda each: (each.quote.source_start or 0, each.quote.source_end or 0))
    return found + [each for each in quotes if each.quote.source_start is None]


def styled_excerpt(found: SourceExcerpt) -> Text:
    """The source around a quote, with the quote set off."""
    whole = Text().append_text(rich_text(found.before, "dim"))
    whole.append_text(rich_text(found.quoted, "bold green"))
    return whole.append_text(rich_text(found.after, "dim"))


class QuotePanel(VerticalScroll, can_focus=False):
    """The list; its screen says which quote is the current one."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(Static(id="quote-list"), id=id)
        self.border_title = "Quotes, in the order of the source"

    def show(
        self,
        quotes: Sequence[ListedQuote],
        current: tuple[str, int] | None,
        around: Text | None,
        refusal: str = "",
    ) -> None:
        """Show `quotes`, and at the current one the source around it."""
        whole = Text()
        above = Text()
        for each in in_source_order(quotes):
            is_current = current == (each.turn, each.number)
            if is_current:
                above = whole.copy()
            whole.append_text(_entry(each, is_current))
            if is_current and (around is not None or refusal):
                found = around if around is not None else Text(refusal, "italic")
                for line in found.split("\n"):
                    whole.append("    ┊ ", style="dim").append_text(line).append("\n")
        if not quotes:
            whole.append("No quotes yet.", style="dim")
        self.query_one("#quote-list", Static).update(whole)
        if current is not None:
            # Once it is laid out: before it is first shown it has no width.
            self.call_after_refresh(self._scroll_below, above)

    def _scroll_below(self, above: Text) -> None:
        width = max(self.scrollable_content_region.width, 1)
        num_lines = len(above.wrap(self.app.console, width)) if above else 0
        self.scroll_to(y=max(num_lines - 2, 0), animate=False)


def _entry(each: ListedQuote, is_current: bool) -> Text:
    quote = each.quote
    sign = SIGN_OF_STATUS[quote.status]
    entry = Text().append("▶ " if is_current else "  ", style="bold")
    entry.append(PICKED + " " if each.is_picked else "", style="bold")
    entry.append(f"{sign} {each.speaker}", style=STYLE_OF_STATUS[quote.status])
    if quote.status is not QuoteStatus.VERIFIED:
        entry.append(f" ({NAME_OF_STATUS[quote.status]})", style="dim")
    words = quote.source_text if quote.status is QuoteStatus.VERIFIED else quote.text
    entry.append(f" “{visible(words or '')}”\n")
    if quote.status is QuoteStatus.NEAR and quote.source_text:
        entry.append(f"    the source says “{visible(quote.source_text)}”\n", style="dim")
    return entry


SIGN = "◇"
"""Before every word of the assistant's."""


class AssistantPanel(VerticalScroll, can_focus=False):
    """Answers one under the other, the newest last."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(Static(id="answers"), id=id)
        self.border_title = f"{SIGN} Assistant"

    def show(self, answers: Sequence[AssistantExchange], writing: str | None = None) -> None:
        """Show `answers`; the last one as it is being written, if `writing` is given."""
        whole = Text()
        for number, each in enumerate(answers):
            if number:
                whole.append("\n\n")
            whole.append(f"{SIGN} {NAME_OF_HELP[Help(each.request)]}", style="bold magenta")
            if each.asked:
                whole.append(": ").append_text(rich_text(each.asked, "italic"))
            whole.append("\n")
            is_last = number == len(answers) - 1
            text = writing if writing is not None and is_last else each.text
            whole.append_text(rich_text(text))
            if writing is not None and is_last:
                whole.append(" …", style="dim")
            elif each.error:
                whole.append("\nNo answer: ", style="bold red").append_text(rich_text(each.error))
        if not answers:
            whole.append(
                "Press a to ask. It reads what you have read; it may be wrong, and it is recorded.",
                style="dim",
            )
        self.query_one("#answers", Static).update(whole)
        self.scroll_end(animate=False)


CHOSEN, OPEN = "●", "○"
"""The sign alone tells; the colour helps."""
MAX_LABEL = 30
"""Cells of a label; a longer one is cut."""
INDENT = 2


class Choices(VerticalScroll, can_focus=False):
    """Shows questions and the answers given; the screen says which one is being answered."""

    class Chosen(Message):
        """An answer was clicked."""

        def __init__(self, question: str, value: str | None) -> None:
            super().__init__()
            self.question = question
            self.value = value
            """None: only the question was."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(Static(id="choice-lines"), id=id)
        self._places: list[tuple[int, int, int, str, str | None]] = []
        """Places that can be clicked: line, first cell, last cell, question, answer."""

    def show(self, asked: Sequence[TaskQuestion], answers: Mapping[str, str], current: int) -> None:
        """Show `asked` with the answers given so far."""
        labels = [_label(each) for each in asked]
        room = max(map(cell_len, labels), default=0)
        width = max(self.scrollable_content_region.width, 20)
        lines: list[Text] = []
        self._places = []
        top = 0
        for number, (each, label) in enumerate(zip(asked, labels, strict=True)):
            is_current = number == current and len(asked) > 1
            if is_current:
                top = len(lines)
            line = Text("▸ " if is_current else "  ", style="bold")
            line.append(set_cell_size(label, room), style="bold" if is_current else "")
            self._places.append((len(lines), 0, line.cell_len, each.name, None))
            lines += self._choices(each, answers.get(each.name), line, len(lines), width)
            if is_current and each.text:
                words = visible(each.text)
                lines += [
                    Text(" " * INDENT + words[start:end], style="italic")
                    for start, end in wrap(words, width - INDENT)
                ]
        self.query_one("#choice-lines", Static).update(Text("\n").join(lines))
        self.scroll_to(y=max(top - 1, 0), animate=False)

    def _choices(
        self, asked: TaskQuestion, given: str | None, line: Text, y: int, width: int
    ) -> list[Text]:
        """The line of a question, and further ones where its answers need more room."""
        lines = [line]
        for choice in asked.choices:
            is_chosen = choice.value == given
            shown = f"{CHOSEN if is_chosen else OPEN} {choice.sign}"
            if lines[-1].cell_len + INDENT + cell_len(shown) > width and lines[-1].cell_len > 4:
                lines.append(Text(" " * INDENT))
            lines[-1].append(" " * INDENT)
            start = lines[-1].cell_len
            lines[-1].append(shown, style="bold reverse" if is_chosen else "")
            end = lines[-1].cell_len
            self._places.append((y + len(lines) - 1, start, end, asked.name, choice.value))
        return lines

    def on_click(self, event: Click) -> None:
        """A click on an answer gives it, one on a question goes there."""
        offset = event.get_content_offset(self.query_one("#choice-lines"))
        if offset is None:
            return
        for line, start, end, question, value in self._places:
            if line == offset.y and start <= offset.x < end:
                self.post_message(self.Chosen(question, value))


def _label(asked: TaskQuestion) -> str:
    label = visible(asked.label, newlines=False)
    return label if cell_len(label) <= MAX_LABEL else set_cell_size(label, MAX_LABEL - 1) + "…"


BAR_WIDTH = 20
BAR_AT = 4
"""Cells of a line before its bar."""
TYPE_S = 1.0
"""Time that a single digit waits for a second one."""
MOVE_S = 1.5
"""Movements closer together than this are one, for undoing."""


class BeliefBar(Static):
    """Shows a belief, and says how the judge changes it."""

    class Changed(Message):
        """The judge wants another belief."""

        def __init__(self, probs: tuple[float, ...], move: str) -> None:
            super().__init__()
            self.probs = probs
            """Probabilities in the question's own order of options."""
            self.move = move
            """The same for all changes of one movement."""

    def __init__(self, options: Sequence[tuple[str, str, int]], id: str | None = None) -> None:
        """A bar for each option (letter, text, index in the question's order), as listed."""
        super().__init__(id=id)
        self._options = list(options)
        self._probs: tuple[float, ...] | None = None
        self._selected = 0
        self._typed = ""
        self._typing: Timer | None = None
        self._move, self._moved_at = "", 0.0
        self._is_new = True

    def show(self, probs: tuple[float, ...] | None) -> None:
        """Show a belief, in the question's own order; None before one was given."""
        self._probs = probs
        self._draw()

    def select_next(self) -> None:
        """Change the belief in the next option from now on."""
        self.apply_typed()
        self._selected = (self._selected + 1) % len(self._options)
        self._draw()

    def change(self, by: float) -> None:
        """Move the selected option's belief."""
        index = self._options[self._selected][2]
        now = 1 / len(self._options) if self._probs is None else self._probs[index]
        self._set(now + by)

    def type_digit(self, digit: str) -> None:
        """Take a digit of a belief in percent; two are taken at once, one after a second."""
        self._typed += digit
        if self._typing is not None:
            self._typing.stop()
        if len(self._typed) == 2:
            self.apply_typed()
        else:
            self._typing = self.set_timer(TYPE_S, self.apply_typed)
            self._draw()

    def apply_typed(self) -> None:
        """Take the digits typed so far."""
        typed, self._typed = self._typed, ""
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        if typed:
            self._set(int(typed) / 100)
            self._draw()

    def drop_typed(self) -> bool:
        """Forget a digit that waits for a second one; whether there was one."""
        typed, self._typed = self._typed, ""
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        if typed:
            self._draw()
        return bool(typed)

    def end_move(self) -> None:
        """Make the next change a movement of its own."""
        self._moved_at = 0.0

    def on_click(self, event: Click) -> None:
        """A click on a bar sets it."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y < len(self._options):
            self._selected = offset.y
            place = (offset.x - BAR_AT + 0.5) / BAR_WIDTH
            if 0 <= place <= 1:
                self._set(place)
            self._draw()

    def _set(self, value: float) -> None:
        now = time.monotonic()
        if now - self._moved_at > MOVE_S:
            self._move = uuid.uuid4().hex[:8]
        self._moved_at = now
        index = self._options[self._selected][2]
        # Shown at once: a second key must not start from what stood before the first.
        self._probs = coupled(self._probs, len(self._options), index, value)
        self.post_message(self.Changed(self._probs, self._move))

    def _draw(self) -> None:
        whole = Text(no_wrap=True, overflow="ellipsis")
        for place, (label, text, index) in enumerate(self._options):
            is_selected = place == self._selected
            probability = None if self._probs is None else self._probs[index]
            whole.append("\n" if place else "")
            whole.append(f"{'▸' if is_selected else ' '} {label} ", style="bold")
            whole.append_text(_bar(probability))
            if self._typed and is_selected:
                whole.append(f" {self._typed}_ %  ", style="reverse")
            else:
                whole.append(" not yet  " if probability is None else f" {probability:4.0%}  ")
            whole.append_text(rich_text(" ".join(text.split())))
        self.update(whole, layout=self._is_new)
        self._is_new = False


def _bar(p: float | None) -> Text:
    filled = 0 if p is None else round(p * BAR_WIDTH)
    return Text("█" * filled + "░" * (BAR_WIDTH - filled), style="yellow")
