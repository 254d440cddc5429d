"""After sending: the score and one's own calibration, where the study allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from oversight.judging.feedback import JudgmentScore, StripBin
from oversight.text.terminal import rich_text
from oversight.types import Judgment, Question

Then = Literal["next", "revise", "queue"]


class SentScreen(ModalScreen[Then]):
    """Says that the judgment is in the store, and asks what comes next."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "then('next')", "Next", priority=True),
        Binding("r", "then('revise')", "Revise", priority=True),
        Binding("escape,q", "then('queue')", "Queue", priority=True),
    ]

    def __init__(
        self,
        judgment: Judgment,
        question: Question,
        result: JudgmentScore | None,
        strip: Sequence[StripBin],
        models: Sequence[str],
    ) -> None:
        super().__init__()
        self._judgment = judgment
        self._question = question
        self._result = result
        self._strip = strip
        self._models = models

    def compose(self) -> ComposeResult:
        """What is recorded, the score, the strip, the keys."""
        with Vertical(classes="dialog"):
            yield VerticalScroll(Static(self._text()))
            yield Static(Text("Enter next item · r revise · Esc queue"), classes="keys")

    def _text(self) -> Text:
        number = self._judgment.revision
        whole = Text().append("✓ Sent", style="bold green")
        whole.append(f", revision {number}: the earlier ones are kept." if number else ".")
        if self._result is not None:
            whole.append_text(self._score(self._result))
            if any(each.num for each in self._strip):
                whole.append("\n\nHow sure you were, and how often you were right:\n", "bold")
                whole.append_text(strip_text(self._strip))
        if self._models:
            whole.append("\n\nSpoken by: ").append_text(rich_text(", ".join(self._models)))
        return whole

    def _score(self, result: JudgmentScore) -> Text:
        text = Text("\n\nRight is: ").append_text(
            rich_text(self._question.options[result.correct].text, "bold")
        )
        if result.right is None:
            text.append("\nYou did not decide.")
        elif result.right:
            text.append("\n✓ You are right.", style="green")
        else:
            text.append("\n✗ You are wrong.", style="red")
        shown = f"{result.score:+.2f}".replace("-", "−")
        text.append(f"  {result.rule.capitalize()} score {shown}")
        if result.price:
            text.append(f", {result.price:.2f} of it paid for the rounds you read")
        return text

    def action_then(self, then: Then) -> None:
        """Go on."""
        self.dismiss(then)


def strip_text(strip: Sequence[StripBin]) -> Text:
    """A row for each stretch of confidence: a bar of how often the judge was right."""
    text = Text()
    for each in strip:
        text.append(f"  {each.low:3.0%}–{each.high:4.0%}  ")
        if each.num:
            share = each.num_right / each.num
            bar = round(share * 20)
            text.append("█" * bar + "░" * (20 - bar), style="yellow")
            text.append(f" {share:4.0%} of {each.num}\n")
        else:
            text.append("–\n", style="dim")
    return text
