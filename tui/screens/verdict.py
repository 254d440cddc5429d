"""Dialogs about a judgment: a last look before it is sent, and the result after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea

from oversight.judging.session import DebateSession
from oversight.judging.tasks.debate import NAME_OF_VERDICT, CalibrationBin, JudgmentScore
from oversight.text.terminal import rich_text
from oversight.types import Judgment, Question, Verdict

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
        strip: Sequence[CalibrationBin],
        models: Sequence[str],
    ) -> None:
        super().__init__()
        self._judgment = judgment
        self._question = question
        self._result = result
        self._strip = strip
        self._models = models

    def compose(self) -> ComposeResult:
        """The judgment that was sent, its score, the calibration strip, the keys."""
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
        sign, style = {None: ("", ""), True: ("✓ ", "green"), False: ("✗ ", "red")}[result.right]
        text.append(f"\n{sign}{result.outcome_words}", style=style)
        return text.append(f"  {result.score_words.replace('-', '−')}")

    def action_then(self, then: Then) -> None:
        """Go on."""
        self.dismiss(then)


def strip_text(strip: Sequence[CalibrationBin]) -> Text:
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


MOST_CHARS = 120
"""Of an option: so that the probabilities of all of them are in sight."""


class VerdictScreen(ModalScreen[bool]):
    """True: send it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", "Send", priority=True),
        Binding("ctrl+b,f2", "verdict('decided')", "As believed", priority=True),
        Binding("ctrl+t,f8", "verdict('tie')", "Tie", priority=True),
        Binding("ctrl+n,f9", "verdict('abstain')", "Cannot tell", priority=True),
        Binding("escape", "leave", "Back", priority=True),
    ]

    def __init__(
        self,
        session: DebateSession,
        options: list[tuple[str, str, int]],
        on_rationale: Callable[[str], None],
    ) -> None:
        """A verdict in `session`; options are (letter, text, index) in the order of the listing."""
        super().__init__()
        self._session = session
        self._item = session.item
        self._options = options
        self._on_rationale = on_rationale

    def compose(self) -> ComposeResult:
        """The judgment to be sent, the rationale, anything missing, the keys."""
        with Vertical(classes="dialog"):
            yield VerticalScroll(Static(id="verdict"), id="decided", can_focus=False)
            yield Static(Text("Why? What was it that decided?", style="bold"))
            yield TextArea(self._item.acts.work.draft.rationale, id="rationale")
            yield Static(id="missing")
            yield Static(classes="keys")

    def on_mount(self) -> None:
        """Write the rationale at once."""
        self.query_one(TextArea).focus()
        self._show()

    def _show(self) -> None:
        draft = self._item.acts.work.draft
        whole = Text("Your judgment: ")
        whole.append(NAME_OF_VERDICT[draft.verdict], style="bold reverse")
        if draft.verdict is Verdict.DECIDED and draft.probs is not None:
            for label, text, index in self._options:
                whole.append(f"\n  {label} {draft.probs[index]:4.0%}  ")
                words = " ".join(text.split())
                is_long = len(words) > MOST_CHARS
                whole.append_text(rich_text(words[: MOST_CHARS - 1] + "…" if is_long else words))
        number = len(draft.leaned_on)
        quotes = "1 quote" if number == 1 else f"{number or 'no'} quotes"
        if any(turn.quotes for turn in self._item.turns()):
            whole.append(f"\nYou lean on {quotes} of the debate.", style="dim")
        self.query_one("#verdict", Static).update(whole)
        refusal = self._session.missing()
        said = "" if refusal is None else refusal.words
        belief = self._session.missing(need_rationale=False) is not None
        if belief:
            said += (
                " Esc goes back to the belief, where arrows and digits set it; here Ctrl+T says "
                "that it is a tie, Ctrl+N that it cannot be told."
            )
        self.query_one("#missing", Static).update(Text(said, style="bold red"))
        sends = "" if belief else "Ctrl+S sends · "
        verdicts = "Ctrl+T/F8 tie · Ctrl+N/F9 cannot tell · Ctrl+B/F2 as believed"
        keys = f"{sends}Esc goes back, the draft is kept\n{verdicts}"
        self.query_one(".keys", Static).update(Text(keys))

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Keep the draft."""
        self._on_rationale(event.text_area.text)
        self._show()

    def action_verdict(self, verdict: str) -> None:
        """Decide, or say why not."""
        self._session.decide(Verdict(verdict))
        self._show()

    def action_send(self) -> None:
        """Send it, if nothing is missing."""
        self._on_rationale(self.query_one(TextArea).text)
        if self._session.missing() is not None:
            self._show()
            self.app.bell()
            return
        self.dismiss(True)

    def action_leave(self) -> None:
        """Back to the debate; the draft is kept."""
        self.dismiss(False)
