"""The rating application: the queue of one task, and on it one item after the other."""

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

from oversight.judging.tasks.desk import TaskDesk
from oversight.judging.tasks.settings import RatingSettings
from oversight.store import Store
from oversight.tui.app import LEAVE_S, MIN_HEIGHT, MIN_WIDTH
from oversight.tui.keys import RATING_KEYS, keymap
from oversight.tui.screens.task import TaskScreen
from oversight.tui.screens.tasks import TasksScreen
from oversight.types import Task


class RateApp(App[None]):
    """`oversight rate`."""

    TITLE = "oversight rate"
    CSS_PATH = Path(__file__).with_name("judge.tcss")
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "leave", "Leave", show=False, priority=True),
        Binding("ctrl+c", "leave", "Leave", show=False, priority=True),
    ]

    def __init__(self, store: Store, settings: RatingSettings, task: Task) -> None:
        """Someone who rates at `store`.

        Raises:
            ConfigError: A key is named that does not exist, or two things share one; or the
                constitution's file is broken.
            UnknownNameError: There is no constitution of that name.
        """
        super().__init__()
        self.desk = TaskDesk(store, settings, task)
        self._keys = keymap(settings.keys, RATING_KEYS)
        # What is read must not slide: a key's whole picture comes at once.
        self.animation_level = "none"

    def on_mount(self) -> None:
        """Show the queue."""
        self.theme = "textual-light" if self.desk.settings.theme == "light" else "textual-dark"
        self.set_keymap(self._keys)
        self.push_screen(TasksScreen(self.desk))

    async def on_event(self, event: events.Event) -> None:
        """Note signs of life, whatever becomes of them."""
        if isinstance(event, events.InputEvent):
            for screen in self.screen_stack:
                if isinstance(screen, TaskScreen):
                    screen.alive(self._panel())
        await super().on_event(event)

    def _panel(self) -> str:
        if isinstance(self.screen, ModalScreen):
            return type(self.screen).__name__.removesuffix("Screen").lower()
        return "responses"

    def on_resize(self, event: events.Resize) -> None:
        """Ask for more room where there is too little."""
        width, height = event.size
        small = width < MIN_WIDTH or height < MIN_HEIGHT
        for screen in self.screen_stack:
            screen.set_class(small, "-too-small")
            for shown in screen.query("#too-small").results(Static):
                shown.update(
                    Text(
                        f"This terminal has {width} × {height} cells; rating needs "
                        f"{MIN_WIDTH} × {MIN_HEIGHT}. Make it larger. Your work is kept."
                    )
                )

    async def action_leave(self) -> None:
        """Leave, with everything written down."""
        message = None
        for screen in reversed(self.screen_stack):
            if isinstance(screen, TaskScreen):
                try:
                    await asyncio.wait_for(screen.close(), LEAVE_S)
                except TimeoutError:
                    message = (
                        f"The store could not be written: {screen.acts.num_waiting} of your last "
                        "acts are not kept. All before them are."
                    )
        self.exit(return_code=0 if message is None else 1, message=message)
