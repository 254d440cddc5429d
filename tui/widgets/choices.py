"""What is asked of an item, each question in a line with its answers: chosen by key or by mouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.containers import VerticalScroll
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from oversight.judging.tasks.asking import Question
from oversight.text.terminal import visible
from oversight.tui.wrapping import wrap

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
        """Where what can be clicked stands: line, first cell, last cell, question, answer."""

    def show(self, asked: Sequence[Question], answers: Mapping[str, str], current: int) -> None:
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
        self, asked: Question, given: str | None, line: Text, y: int, width: int
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


def _label(asked: Question) -> str:
    label = visible(asked.label, newlines=False)
    return label if cell_len(label) <= MAX_LABEL else set_cell_size(label, MAX_LABEL - 1) + "…"
