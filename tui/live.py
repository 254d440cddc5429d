"""A debate as it happens, in a plain terminal: finished turns scroll up, those being written stay.

All foreign text passes `oversight.text.terminal`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from oversight.graphs.runtime import Event, Judged, SpeechBegins, TurnRecorded, Words
from oversight.text.quotes import strip_quotes
from oversight.text.terminal import rich_text
from oversight.tui.marking import called, named_by_seat
from oversight.types import (
    Act,
    Belief,
    Debate,
    Judgment,
    Question,
    QuoteStatus,
    Seat,
    Transcript,
    Turn,
    Verdict,
)

STYLE_OF_SEAT = {Seat.A: "cyan", Seat.B: "magenta", Seat.JUDGE: "yellow"}

MARK_OF_STATUS = {
    QuoteStatus.VERIFIED: ("✓", "green"),
    QuoteStatus.NEAR: ("≈", "yellow"),
    QuoteStatus.UNVERIFIED: ("✗", "red"),
    QuoteStatus.TOO_SHORT: ("·", "dim"),
}
"""Sign and style of a quote: the sign alone tells, the colour helps."""

VERB_OF_ACT = {Act.ASK: " asks", Act.REVISE: " revises"}
"""Acts that the name of a turn's speaker does not tell already."""

BAR_WIDTH = 24


class DebateView:
    """Shows one debate; pass it as a runtime's listener."""

    def __init__(self, console: Console, debate: Debate, question: Question) -> None:
        self._console = console
        self._debate = debate
        self._question = question
        self._writing: dict[Seat, tuple[SpeechBegins, str]] = {}
        self._live = Live(console=console, refresh_per_second=12, transient=True)

    def __enter__(self) -> Self:
        self._console.print(self._heading())
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take in what happened."""
        match event:
            case SpeechBegins():
                self._writing[event.seat] = (event, "")
            case Words():
                begun, text = self._writing[event.seat]
                self._writing[event.seat] = (begun, text + event.text)
            case TurnRecorded():
                self._writing.pop(event.turn.seat, None)
                self._console.print(self._turn(event.turn))
                self._name_seats(event.turn.text)
            case Judged():
                self._console.print(self._judgment(event.judgment))
                self._name_seats(event.judgment.rationale)
        self._live.update(self._being_written())

    def _name_seats(self, text: str) -> None:
        if note := named_by_seat(self._debate, [text]):
            self._console.print(Text(f"  {note}", style="italic"))

    def _heading(self) -> RenderableType:
        lines = [
            Text(f"{message.role.capitalize()}  ", "dim").append_text(rich_text(message.content))
            for message in self._question.history
        ]
        asked = "Prompt  " if self._question.is_open else "Question  "
        lines.append(Text(asked, style="bold").append_text(rich_text(self._question.text)))
        for position, option in enumerate(self._debate.orders.options):
            line = Text(f"  {chr(65 + position)}  ", style="bold")
            line.append_text(rich_text(self._question.options[option].text))
            protocol = self._debate.protocol
            seats = [s for s in protocol.speakers if self._defends(s) == option]
            names = (called(self._debate, seat, protocol.speaker_role) for seat in seats)
            line.append("".join(f"   ← {name}" for name in names), style="dim")
            lines.append(line)
        return Panel(Group(*lines), title=self._debate.protocol.name, border_style="bold")

    def _defends(self, seat: Seat) -> int:
        return self._debate.orders.defended_by(seat)

    def _being_written(self) -> RenderableType:
        panels = [
            Panel(
                rich_text(text) if text else Text("…", style="dim"),
                title=f"{called(self._debate, seat, begun.role)}, round {begun.round}",
                border_style=STYLE_OF_SEAT[seat],
            )
            for seat, (begun, text) in sorted(self._writing.items())
        ]
        return Columns(panels, expand=True, equal=True)

    def _turn(self, turn: Turn) -> RenderableType:
        if turn.belief is not None:
            return Group(Text(f"  Judge after round {turn.round}"), self._belief(turn.belief))
        verb = VERB_OF_ACT.get(turn.act, "") if turn.stance is None else f" {turn.stance}"
        return Panel(
            _marked(turn) if turn.text else Text("(nothing)", style="dim"),
            title=f"{called(self._debate, turn.seat, turn.role)}{verb}, round {turn.round}",
            title_align="left",
            border_style=STYLE_OF_SEAT[turn.seat],
        )

    def _belief(self, belief: Belief) -> RenderableType:
        if belief.probs is None:
            return Text(f"    {belief.verdict.value}", style="red")
        lines = []
        for position, option in enumerate(self._debate.orders.options):
            share = belief.probs[option]
            filled = round(share * BAR_WIDTH)
            bar = "█" * filled + "░" * (BAR_WIDTH - filled)
            line = Text(f"    {chr(65 + position)} {bar} {share:6.1%}  ", style="yellow")
            lines.append(line.append_text(rich_text(self._question.options[option].text)))
        return Group(*lines)

    def _judgment(self, judgment: Judgment) -> RenderableType:
        shown = " (sides swapped)" if judgment.swapped else ""
        parts: list[RenderableType] = [self._belief(judgment.final)]
        if judgment.rationale:
            parts.append(rich_text(judgment.rationale))
        parts.append(self._outcome(judgment))
        return Panel(Group(*parts), title=f"Judgment{shown}", border_style="bold yellow")

    def _outcome(self, judgment: Judgment) -> Text:
        correct, choice = self._question.correct, judgment.final.choice
        if judgment.final.verdict is not Verdict.DECIDED:
            return Text(f"  The judge did not decide: {judgment.final.verdict.value}")
        if correct is None:
            return Text("  The right answer is not known.")
        if choice == correct:
            return Text("  ✓ The judge is right.", style="green")
        text = Text("  ✗ The judge is wrong; right is: ", style="red")
        return text.append_text(rich_text(self._question.options[correct].text))


def _marked(turn: Turn) -> Text:
    """The turn's text with quotation marks and a sign for each quote in place of its tags."""
    text, position = Text(), 0
    for quote in turn.quotes:
        text.append_text(rich_text(strip_quotes(turn.text[position : quote.start])))
        sign, style = MARK_OF_STATUS[quote.status]
        text.append(f"{sign} ", style=f"bold {style}")
        text.append_text(rich_text(f"“{turn.text[quote.start : quote.end]}”", style=style))
        position = quote.end
    return text.append_text(rich_text(strip_quotes(turn.text[position:])))


def replay(transcript: Transcript, show: Callable[[Event], None]) -> None:
    """Show a debate that is in the store already, as it was."""
    for turn in transcript.spoken():
        show(TurnRecorded(turn))
    for judgment in transcript.judgments:
        show(Judged(judgment))
