"""The judging application: the queue, and on it one debate after the other."""

from __future__ import annotations

from oversight.judging.assisting import Assistants
from oversight.judging.desk import Desk
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.tui.keys import keymap
from oversight.tui.person_app import PersonApp
from oversight.tui.screens.queue import QueueScreen


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

    def first_screen(self) -> QueueScreen:
        """The queue of debates."""
        return QueueScreen(self.desk, self.assistants)

    async def close_engines(self) -> None:
        """Close the assistants' engines."""
        await self.assistants.aclose()
