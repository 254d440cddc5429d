"""Whether a criticism is right, and whether the revision is better than the first speech."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from oversight.judging.tasks.asking import CRITICISM, REVISION
from oversight.judging.tasks.rating import unanswered
from oversight.tui.screens.task import TaskScreen
from oversight.tui.screens.task_reading import bound, with_own


class RevisionsScreen(TaskScreen, inherit_bindings=False):
    """The first speech beside its criticism, and the revision below."""

    NAMES = with_own("left", "right", "tie")
    BINDINGS: ClassVar[list[BindingType]] = bound(NAMES)
    ASKS = "Is the criticism right? Is the revision better than the first speech?"

    def how(self) -> str:
        """Keys that answer what is open."""
        ways = {
            CRITICISM.name: "Criticism: 1 right, 2 partly, 3 wrong.",
            REVISION.name: f"Revision: {self.key('left')} worse, {self.key('tie')} same, "
            f"{self.key('right')} better.",
        }
        left = unanswered(self.desk.asked, self.acts.work.draft.answers)
        return " ".join(ways[each.name] for each in left)

    def digit(self, digit: str) -> None:
        """How right the criticism is."""
        self.current = 0
        super().digit(digit)
        if digit in "123":
            self.current = 1
            self.show_all()

    def _revision(self, value: str) -> None:
        self.current = 1
        self.answer(REVISION.name, value)

    def action_do_left(self) -> None:
        """The revision is worse."""
        self._revision("worse")

    def action_do_right(self) -> None:
        """The revision is better."""
        self._revision("better")

    def action_do_tie(self) -> None:
        """It is as good as before."""
        self._revision("same")
