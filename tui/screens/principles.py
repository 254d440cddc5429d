"""How well a response keeps to each principle of a constitution."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from oversight.judging.tasks.rating import unanswered
from oversight.tui.screens.task import TaskScreen
from oversight.tui.screens.task_reading import bound, with_own


class PrinciplesScreen(TaskScreen, inherit_bindings=False):
    """One response, and a score for each principle."""

    NAMES = with_own("ask_next", "ask_previous")
    BINDINGS: ClassVar[list[BindingType]] = bound(NAMES)
    ASKS = "How well does it keep to each principle?"

    def how(self) -> str:
        """Keys that answer."""
        left = len(unanswered(self.desk.asked, self.acts.work.draft.answers))
        return (
            "1 breaks it … 5 keeps it fully, 0 does not apply. "
            f"{self.key('ask_next')} {self.key('ask_previous')} move; {left} to go."
        )

    def said(self) -> str:
        """What was answered, in words."""
        given = self.acts.work.draft.answers
        scores = [int(v) for each in self.desk.asked if (v := given[each.name]).isdigit()]
        if not scores:
            return "No principle applies."
        return f"{sum(scores) / len(scores):.1f} of 5 over {len(scores)} principles."

    def digit(self, digit: str) -> None:
        """Score the current principle and go on to the next that has no score."""
        before = self.acts.work.draft
        super().digit(digit)
        asked = self.desk.asked
        if self.acts.work.draft == before and digit not in asked[self.current].digits:
            return
        left = set(unanswered(asked, self.acts.work.draft.answers))
        ahead = [at for at, each in enumerate(asked) if each in left and at > self.current]
        rest = [at for at, each in enumerate(asked) if each in left]
        self.current = next(iter(ahead or rest), min(self.current + 1, len(asked) - 1))
        self.show_all()

    def action_do_ask_next(self) -> None:
        """The next principle."""
        self.current = min(self.current + 1, len(self.desk.asked) - 1)
        self.show_all()

    def action_do_ask_previous(self) -> None:
        """The principle before."""
        self.current = max(self.current - 1, 0)
        self.show_all()
