"""Questions about an item, each in a line with its answers, chosen by key or by mouse; beliefs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.containers import VerticalScroll
from textual.events import Click
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from oversight.judging.tasks import TaskQuestion
from oversight.judging.tasks.debate import coupled
from oversight.text.terminal import rich_text, visible
from oversight.tui.marking import wrap

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
