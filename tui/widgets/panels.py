"""Panels beside the transcript: quotes in the order of the source, and the assistant's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from oversight.judging.assisting import NAME_OF_HELP
from oversight.judging.items import SourceExcerpt
from oversight.judging.work import AssistantExchange
from oversight.text.terminal import rich_text, visible
from oversight.tui.marking import NAME_OF_STATUS, PICKED, SIGN_OF_STATUS
from oversight.types import Help, Quote, QuoteStatus

STYLE_OF_STATUS = {
    QuoteStatus.VERIFIED: "green",
    QuoteStatus.NEAR: "yellow",
    QuoteStatus.UNVERIFIED: "red",
    QuoteStatus.TOO_SHORT: "dim",
}


@dataclass(frozen=True)
class ListedQuote:
    """A quote in the panel."""

    turn: str
    number: int
    speaker: str
    quote: Quote
    is_picked: bool


def in_source_order(quotes: Sequence[ListedQuote]) -> list[ListedQuote]:
    """Quotes that were found, by their place in the source, then the others as they were said."""
    found = [each for each in quotes if each.quote.source_start is not None]
    found.sort(key=lambda each: (each.quote.source_start or 0, each.quote.source_end or 0))
    return found + [each for each in quotes if each.quote.source_start is None]


def styled_excerpt(found: SourceExcerpt) -> Text:
    """The source around a quote, with the quote set off."""
    whole = Text().append_text(rich_text(found.before, "dim"))
    whole.append_text(rich_text(found.quoted, "bold green"))
    return whole.append_text(rich_text(found.after, "dim"))


class QuotePanel(VerticalScroll, can_focus=False):
    """The list; its screen says which quote is the current one."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(Static(id="quote-list"), id=id)
        self.border_title = "Quotes, in the order of the source"

    def show(
        self,
        quotes: Sequence[ListedQuote],
        current: tuple[str, int] | None,
        around: Text | None,
        refusal: str = "",
    ) -> None:
        """Show `quotes`, and at the current one the source around it."""
        whole = Text()
        above = Text()
        for each in in_source_order(quotes):
            is_current = current == (each.turn, each.number)
            if is_current:
                above = whole.copy()
            whole.append_text(_entry(each, is_current))
            if is_current and (around is not None or refusal):
                found = around if around is not None else Text(refusal, "italic")
                for line in found.split("\n"):
                    whole.append("    ┊ ", style="dim").append_text(line).append("\n")
        if not quotes:
            whole.append("No quotes yet.", style="dim")
        self.query_one("#quote-list", Static).update(whole)
        if current is not None:
            # Once it is laid out: before it is first shown it has no width.
            self.call_after_refresh(self._scroll_below, above)

    def _scroll_below(self, above: Text) -> None:
        width = max(self.scrollable_content_region.width, 1)
        num_lines = len(above.wrap(self.app.console, width)) if above else 0
        self.scroll_to(y=max(num_lines - 2, 0), animate=False)


def _entry(each: ListedQuote, is_current: bool) -> Text:
    quote = each.quote
    sign = SIGN_OF_STATUS[quote.status]
    entry = Text().append("▶ " if is_current else "  ", style="bold")
    entry.append(PICKED + " " if each.is_picked else "", style="bold")
    entry.append(f"{sign} {each.speaker}", style=STYLE_OF_STATUS[quote.status])
    if quote.status is not QuoteStatus.VERIFIED:
        entry.append(f" ({NAME_OF_STATUS[quote.status]})", style="dim")
    words = quote.source_text if quote.status is QuoteStatus.VERIFIED else quote.text
    entry.append(f" “{visible(words or '')}”\n")
    if quote.status is QuoteStatus.NEAR and quote.source_text:
        entry.append(f"    the source says “{visible(quote.source_text)}”\n", style="dim")
    return entry


SIGN = "◇"
"""Before every word of the assistant's."""


class AssistantPanel(VerticalScroll, can_focus=False):
    """Answers one under the other, the newest last."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(Static(id="answers"), id=id)
        self.border_title = f"{SIGN} Assistant"

    def show(self, answers: Sequence[AssistantExchange], writing: str | None = None) -> None:
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
