"""The assistant's side of the screen: its words stream in, and are marked as its own."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from oversight.judging.work import Assisted
from oversight.text.terminal import rich_text
from oversight.types import Help

NAME_OF_HELP = {
    Help.SUMMARY: "Summarise each side",
    Help.CRUXES: "List the cruxes",
    Help.CHECK: "Check a claim against the quotes",
    Help.UNANSWERED: "Find what was not answered",
    Help.AGAINST: "Argue against my belief",
    Help.CRITIQUE: "Criticise the current turn",
    Help.CRITIQUES: "Criticise both sides",
    Help.FREE: "Ask anything",
}

SIGN = "◇"
"""Before every word of the assistant's."""


class AssistantPanel(VerticalScroll, can_focus=False):
    """Answers one under the other, the newest last."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(Static(id="answers"), id=id)
        self.border_title = f"{SIGN} Assistant"

    def show(self, answers: Sequence[Assisted], writing: str | None = None) -> None:
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
