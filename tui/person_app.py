"""Full-screen applications for people who judge and rate: leaving without loss, signs of life."""

from __future__ import annotations

import asyncio
import os
import select
import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Protocol, runtime_checkable

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen

from oversight.judging.assisting import Assistants
from oversight.judging.desk import Desk, TaskDesk
from oversight.judging.settings import JudgingSettings, RatingSettings
from oversight.store import Store
from oversight.tui.keys import RATING_KEYS, keymap
from oversight.tui.screens.queues import JudgingQueueScreen, RatingQueueScreen
from oversight.tui.screens.work import leave_out_program

LEAVE_S = 5.0
"""Time that leaving waits for a store that cannot be written."""

LOOK_S = 2.0
"""Between two looks at whether the terminal is still there."""
GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


@runtime_checkable
class ItemScreen(Protocol):
    """A screen on which a person works on one item."""

    @property
    def num_waiting(self) -> int:
        """Acts that are not durable yet."""
        ...

    def alive(self, panel: str) -> None:
        """A sign of life at a panel."""
        ...

    async def close(self) -> None:
        """Leave the item, with everything written down."""
        ...


class PersonApp(App[None]):
    """A queue, and on it one item after the other."""

    CSS_PATH = Path(__file__).with_name("judge.tcss")
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "leave", "Leave", show=False, priority=True),
        Binding("ctrl+c", "leave", "Leave", show=False, priority=True),
    ]
    READ = "transcript"
    """The panel in which an item is read."""
    PANELS: ClassVar[tuple[str, ...]] = ("quotes", "assistant")
    """Ids of the panels beside it."""

    def __init__(self, keys: Mapping[str, str], theme: Literal["dark", "light"]) -> None:
        """An application with those keys, by their names, in place of the usual ones."""
        super().__init__()
        self._keys = dict(keys)
        self._is_light = theme == "light"
        # Words must not slide while they are read: a key's whole picture comes at once.
        self.animation_level = "none"
        self._running_in: asyncio.AbstractEventLoop | None = None

    @abstractmethod
    def first_screen(self) -> Screen[None]:
        """The queue."""

    def on_mount(self) -> None:
        """Show the queue."""
        leave_out_program()
        self._running_in = asyncio.get_running_loop()
        self.theme = "textual-light" if self._is_light else "textual-dark"
        self.set_keymap(self._keys)
        self.push_screen(self.first_screen())
        if not (self.is_headless or self.is_web) and sys.stdin is not None and sys.stdin.isatty():
            self.set_interval(LOOK_S, self._leave_without_terminal)

    async def _leave_without_terminal(self) -> None:
        """Leave if the terminal was closed without a signal: its end would be read for ever."""
        terminal = select.poll()
        terminal.register(sys.stdin.fileno(), GONE)
        if any(mask & GONE for _, mask in terminal.poll(0)):
            # Output written on leaving has no place to go.
            nowhere = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(nowhere, number)
            await self.action_leave()

    def items(self) -> list[ItemScreen]:
        """Screens of items that are open, the uppermost first."""
        return [screen for screen in reversed(self.screen_stack) if isinstance(screen, ItemScreen)]

    async def on_event(self, event: events.Event) -> None:
        """Note signs of life, whatever becomes of them."""
        if isinstance(event, events.InputEvent):
            for screen in self.items()[:1]:
                screen.alive(self._panel_of(event))
        await super().on_event(event)

    def _panel_of(self, event: events.InputEvent) -> str:
        if isinstance(self.screen, ModalScreen):
            return type(self.screen).__name__.removesuffix("Screen").lower()
        if not isinstance(event, events.MouseEvent):
            return self.READ
        try:
            widget, _ = self.screen.get_widget_at(event.screen_x, event.screen_y)
        except Exception:
            return self.READ
        ids = [node.id for node in widget.ancestors_with_self]
        return next((id_ for id_ in ids if id_ in self.PANELS), self.READ)

    async def action_leave(self) -> None:
        """Leave, with everything written down; a store that is gone does not hold anybody."""
        message = None
        for screen in self.items():
            try:
                await asyncio.wait_for(screen.close(), LEAVE_S)
            except TimeoutError:
                message = (
                    f"The store could not be written: {screen.num_waiting} of your last acts are "
                    "not kept. All before them are."
                )
        await self.close_engines()
        self.exit(return_code=0 if message is None else 1, message=message)

    def leave_soon(self) -> bool:
        """Have it leave as by its key, from a signal's handler; false if it has not begun."""
        if self._running_in is None:
            return False
        self._running_in.call_soon_threadsafe(self.call_later, self.action_leave)
        return True

    async def close_engines(self) -> None:
        """Close what the application has opened."""


class JudgeApp(PersonApp):
    """`oversight judge`."""

    TITLE = "oversight judge"

    def __init__(self, store: Store, settings: JudgingSettings) -> None:
        """A judge at `store`.

        Raises:
            ConfigError: A key is named that does not exist, or two things share one.
        """
        super().__init__(keymap(settings.keys), settings.theme)
        self.desk = Desk(store, settings)
        self.assistants = Assistants(settings)

    def first_screen(self) -> JudgingQueueScreen:
        """The queue of debates."""
        return JudgingQueueScreen(self.desk, self.assistants)

    async def close_engines(self) -> None:
        """Close the assistants' engines."""
        await self.assistants.aclose()


class RateApp(PersonApp):
    """`oversight rate`."""

    TITLE = "oversight rate"
    READ = "responses"
    PANELS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, store: Store, settings: RatingSettings, task: str) -> None:
        """A rater at `store`.

        Raises:
            ConfigError: A key is named that does not exist, or two things share one; or the
                constitution's file is broken.
            UnknownNameError: There is no task or constitution of that name.
        """
        super().__init__(keymap(settings.keys, RATING_KEYS), settings.theme)
        self.desk = TaskDesk(store, settings, task)

    def first_screen(self) -> RatingQueueScreen:
        """The queue of the task."""
        return RatingQueueScreen(self.desk)
