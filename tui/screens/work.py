"""What the screens of judging and rating share: someone's work on an item, and leaving it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

from textual.widgets import Static

from oversight.judging.attention import Attention
from oversight.judging.log import ActLog
from oversight.judging.settings import SessionSettings
from oversight.text.terminal import rich_text
from oversight.tui.rationale import Rationale
from oversight.tui.screens.reading import ReadingScreen
from oversight.types import EventKind, RatingAct

ATTENTION_S = 15.0
"""How often seconds of attention are written down."""

Left = TypeVar("Left", bound=str)
"""Where to go from a screen that is left."""


class WorkScreen(ReadingScreen[Left]):
    """An item to be read, and an answer that can be taken back, sent, and opened again."""

    KINDS: ClassVar[type[EventKind] | type[RatingAct]]
    """What the acts are called."""

    acts: ActLog[Any, Any, Any]

    def __init__(self, acts: ActLog[Any, Any, Any], settings: SessionSettings) -> None:
        """A screen over the work that `acts` come to."""
        super().__init__(settings.keys)
        self.acts = acts
        self.attention = Attention(settings.idle_s)
        self.rationale = Rationale(self._note_rationale, self)
        self._trouble = ""
        self._note = ""

    @abstractmethod
    def show_all(self) -> None:
        """Draw all that may have changed."""

    @abstractmethod
    def _hint(self) -> str:
        """What is to be done next."""

    @abstractmethod
    async def close(self) -> None:
        """Leave the item: stop what goes on, write down what there is."""

    @property
    def num_waiting(self) -> int:
        """Acts that are not durable yet."""
        return self.acts.num_waiting

    def on_mount(self) -> None:
        """Watch over the writing of acts, and count attention."""
        self.acts.on_trouble = self._on_store_trouble
        self.set_interval(ATTENTION_S, self._note_attention)

    # --- what is said ------------------------------------------------------------------

    def say(self, note: str) -> None:
        """Show a note in the hint's place until the next act."""
        self._note = note
        self._show_hint()

    def _trouble_now(self) -> str:
        """What is wrong, if anything is."""
        return self._trouble

    def _show_hint(self) -> None:
        hint, trouble = self.query_one("#hint", Static), self._trouble_now()
        hint.set_class(bool(trouble), "-trouble")
        note, self._note = self._note, ""
        hint.update(rich_text(trouble or note or self._hint()))

    def _on_store_trouble(self, message: str | None) -> None:
        self._trouble = f"{message} — trying again" if message else ""
        if self.is_mounted:
            self._show_hint()

    # --- the draft ---------------------------------------------------------------------

    def _may_change(self) -> bool:
        if self.acts.work.is_open:
            return True
        self.say(f"It is sent. {self.key('revise')} opens it again; every revision is kept.")
        return False

    def _note_rationale(self, text: str, move: str) -> None:
        if text != self.acts.work.draft.rationale:
            self.acts.add(self.KINDS.RATIONALE, text=text, move=move)

    def action_do_revise(self) -> None:
        """Open again what was sent."""
        if self.acts.work.is_open:
            self.say("It is not sent yet.")
            return
        self.acts.add(self.KINDS.REOPENED)
        self.show_all()

    # --- attention ---------------------------------------------------------------------

    def alive(self, panel: str) -> None:
        """A sign of life at a panel."""
        self.attention.touch(panel)

    def _note_attention(self, *, stop: bool = False) -> None:
        taken = self.attention.stop() if stop else self.attention.take()
        if taken:
            self.acts.add(self.KINDS.ATTENTION, panels=dict(taken))

    # --- leaving -----------------------------------------------------------------------

    async def action_do_skip(self) -> None:
        """Put the item off and take the next one."""
        if self.acts.work.num_sent:
            self.say("It is sent already.")
            return
        self.acts.add(self.KINDS.SKIPPED)
        await self._leave("next")

    async def action_do_back(self) -> None:
        """To the queue; everything is kept."""
        await self._leave("queue")

    async def _leave(self, where: Any) -> None:
        await self.close()
        self.dismiss(where)
