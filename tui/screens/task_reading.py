"""What screens of rating share beyond reading: which keys they have, and what was said before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import BindingType

from oversight.judging.tasks.desk import TaskDesk, TaskItem
from oversight.judging.tasks.log import RatingLog
from oversight.tui.keys import RATING_KEYS, RATING_SHOWN, Keys, bindings
from oversight.tui.rating_rows import BEFORE, quotes_of
from oversight.tui.screens.work import Left, WorkScreen
from oversight.tui.widgets.quotes import Listed
from oversight.types import Transcript, Turn

NAMES = tuple(
    name
    for name in RATING_KEYS
    if name not in ("left", "right", "tie", "both_bad", "ask_next", "ask_previous", "filter")
)
"""Keys that every task has."""
FOOT = (
    "   0–9  Answer by its digit           ↑↓ PgUp PgDn  Scroll",
    "Ctrl+Q  Leave; everything is kept",
)


def with_own(*own: str) -> tuple[str, ...]:
    """Keys of a task, the commonest first: those that answer come before the others."""
    return (NAMES[0], *own, *NAMES[1:])


def bound(names: Sequence[str]) -> list[BindingType]:
    """Bindings of a task's keys."""
    return list(bindings(names, RATING_KEYS, RATING_SHOWN))


class TaskReading(WorkScreen[Left]):
    """An item to be read."""

    KEYS: ClassVar[Keys] = RATING_KEYS
    FOOT: ClassVar[Sequence[str]] = FOOT

    acts: RatingLog

    def __init__(self, desk: TaskDesk, item: TaskItem) -> None:
        """A screen over `item`."""
        super().__init__(item.acts, desk.settings)
        self.desk = desk
        self.item = item

    def debate(self) -> Transcript:
        """What is rated is of this debate."""
        return self.item.transcript

    def shown_turns(self) -> Sequence[Turn]:
        """The turns that are asked about."""
        return self.item.turns()

    def listed_quotes(self) -> list[Listed]:
        """Their quotes."""
        return quotes_of(self.item)

    def fold_before(self, *, folded: bool) -> None:
        """Fold what was said before, or unfold it."""
        view = self.transcript
        for row in view.rows:
            for column in row.columns:
                if column.key.startswith(BEFORE):
                    column.is_folded = folded
        view.relay()

    def action_do_before(self) -> None:
        """Show what was said before, or fold it again."""
        columns = [c for r in self.transcript.rows for c in r.columns if c.key.startswith(BEFORE)]
        if not columns:
            self.say("Nothing was said before.")
            return
        self.fold_before(folded=not columns[0].is_folded)
        self.transcript.scroll_home(animate=False)
