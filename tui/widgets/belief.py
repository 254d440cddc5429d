"""The judge's belief: a bar for each option, all coupled, moved by keys or by typing a number."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import Static

from oversight.text.terminal import rich_text

BAR_WIDTH = 20
TYPE_S = 1.0
"""How long a single digit waits for a second one."""


class BeliefBar(Static):
    """Shows a belief. Its screen changes it."""

    def show(
        self,
        options: Sequence[tuple[str, str]],
        probs: Sequence[float] | None,
        selected: int,
        typed: str = "",
    ) -> None:
        """Show it.

        Args:
            options: Letter and text of each option, in the order of the listing.
            probs: In the same order; None before a belief was given.
            selected: Place of the option that keys change.
            typed: Digits typed so far.
        """
        whole = Text(no_wrap=True, overflow="ellipsis")
        for place, (label, text) in enumerate(options):
            mark = "▸" if place == selected else " "
            if place:
                whole.append("\n")
            whole.append(f"{mark} {label} ", style="bold")
            whole.append_text(_bar(None if probs is None else probs[place]))
            if typed and place == selected:
                whole.append(f" {typed}_ %  ", style="reverse")
            else:
                whole.append(" not yet  " if probs is None else f" {probs[place]:4.0%}  ")
            whole.append_text(rich_text(" ".join(text.split())))
        self.update(whole)


def _bar(p: float | None) -> Text:
    filled = 0 if p is None else round(p * BAR_WIDTH)
    return Text("█" * filled + "░" * (BAR_WIDTH - filled), style="yellow")


def strip_of_beliefs(beliefs: Sequence[float]) -> str:
    """How a belief went, as a row of little bars."""
    blocks = "▁▂▃▄▅▆▇█"
    return "".join(blocks[min(int(p * len(blocks)), len(blocks) - 1)] for p in beliefs)
