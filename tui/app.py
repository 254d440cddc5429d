"""The judging application: the queue, and on it one item after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from oversight.judging.assisting import Assistants
from oversight.judging.desk import Desk
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.tui.keys import keymap
from oversight.tui.screens.debate import DebateScreen
from oversight.tui.screens.queue import QueueScreen

LEAVE_S = 5.0
"""How long leaving waits for a store that cannot be written."""
MIN_WIDTH, MIN_HEIGHT = 60, 16
"""A smaller terminal shows a request for more room."""


class JudgeApp(App[None]):
    """`oversight judge`."""

    TITLE = "oversight judge"
    CSS_PATH = Path(__file__).with_name("judge.tcss")
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "leave", "Leave", show=False, priority=True),
        Binding("ctrl+c", "leave", "Leave", show=False, priority=True),
    ]

    def __init__(self, store: Store, settings: JudgingSettings) -> None:
        """A judge at `store`.

        Raises:
            ConfigError: A key is named that does not exist, or two things share one.
        """
        super().__init__()
        self.desk = Desk(store, settings)
        self.assistants = Assistants(settings)
        self._keys = keymap(settings.keys)
        # What is read must not slide: a key's whole picture comes at once.
        self.animation_level = "none"

    def on_mount(self) -> None:
        """Show the queue."""
        self.theme = "textual-light" if self.desk.settings.theme == "light" else "textual-dark"
        self.set_keymap(self._keys)
        self.push_screen(QueueScreen(self.desk, self.assistants))

    async def on_event(self, event: events.Event) -> None:
        """Note signs of life, whatever becomes of them."""
        if isinstance(event, events.InputEvent):
            self._note_life(event)
        await super().on_event(event)

    def _note_life(self, event: events.InputEvent) -> None:
        debates = [screen for screen in self.screen_stack if isinstance(screen, DebateScreen)]
        if not debates:
            return
        panel = "transcript"
        if isinstance(self.screen, ModalScreen):
            panel = type(self.screen).__name__.removesuffix("Screen").lower()
        elif isinstance(event, events.MouseEvent):
            panel = self._panel_at(event.screen_x, event.screen_y)
        debates[-1].alive(panel)

    def _panel_at(self, x: int, y: int) -> str:
        try:
            widget, _ = self.screen.get_widget_at(x, y)
        except Exception:
            return "transcript"
        ids = [node.id for node in widget.ancestors_with_self]
        return next((id_ for id_ in ids if id_ in ("quotes", "assistant")), "transcript")

    def on_resize(self, event: events.Resize) -> None:
        """Ask for more room where there is too little."""
        width, height = event.size
        small = width < MIN_WIDTH or height < MIN_HEIGHT
        for screen in self.screen_stack:
            screen.set_class(small, "-too-small")
            for shown in screen.query("#too-small").results(Static):
                shown.update(
                    Text(
                        f"This terminal has {width} × {height} cells; judging needs "
                        f"{MIN_WIDTH} × {MIN_HEIGHT}. Make it larger. Your work is kept."
                    )
                )

    async def action_leave(self) -> None:
        """Leave, with everything written down."""
        message = None
        for screen in reversed(self.screen_stack):
            if isinstance(screen, DebateScreen):
                try:
                    await asyncio.wait_for(screen.close(), LEAVE_S)
                except TimeoutError:
                    message = (
                        f"The store could not be written: {screen.acts.num_waiting} of your last "
                        "acts are not kept. All before them are."
                    )
        await self.assistants.aclose()
        self.exit(return_code=0 if message is None else 1, message=message)
