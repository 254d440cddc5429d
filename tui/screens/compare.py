"""Which of two responses to one prompt is better."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from oversight.judging.tasks.asking import PREFERRED
from oversight.tui.screens.task import TaskScreen
from oversight.tui.screens.task_reading import bound, with_own

SCALE = ("left-3", "left-2", "left-1", "tie", "right-1", "right-2", "right-3")
"""The arrows move along it; nothing chosen yet is its middle."""
MIDDLE = SCALE.index("tie")


class CompareScreen(TaskScreen, inherit_bindings=False):
    """Two responses side by side."""

    NAMES = with_own("left", "right", "tie", "both_bad")
    BINDINGS: ClassVar[list[BindingType]] = bound(NAMES)
    ASKS = "Which of the two would help a judge more to find the right answer?"

    def how(self) -> str:
        """Keys that answer."""
        arrows = (
            f"{self.key('left')} {self.key('right')} say which is better, twice or 2 for clearly"
        )
        if not self.transcript.is_wide:
            return f"{arrows}. Right stands below Left."
        return f"{arrows}; {self.key('tie')} equal, {self.key('both_bad')} both bad."

    def _given(self) -> str | None:
        return self.acts.work.draft.answers.get(PREFERRED.name)

    def _move_along(self, by: int) -> None:
        given = self._given()
        place = SCALE.index(given) if given in SCALE else MIDDLE
        self.answer(PREFERRED.name, SCALE[min(max(place + by, 0), len(SCALE) - 1)])

    def action_do_left(self) -> None:
        """Towards the left one."""
        self._move_along(-1)

    def action_do_right(self) -> None:
        """Towards the right one."""
        self._move_along(1)

    def action_do_tie(self) -> None:
        """Both are equally good."""
        self.answer(PREFERRED.name, "tie")

    def action_do_both_bad(self) -> None:
        """Both are bad."""
        self.answer(PREFERRED.name, "both-bad")

    def digit(self, digit: str) -> None:
        """How much better, of the side that was chosen."""
        side = (self._given() or "").partition("-")[0]
        if side not in ("left", "right"):
            self.say(f"Say first which is better: {self.key('left')} or {self.key('right')}.")
        elif digit in "123":
            self.answer(PREFERRED.name, f"{side}-{digit}")
