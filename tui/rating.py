"""The rating application: the queue of one task, and on it one item after the other."""

from __future__ import annotations

from typing import ClassVar

from oversight.judging.tasks.desk import TaskDesk
from oversight.judging.tasks.settings import RatingSettings
from oversight.store import Store
from oversight.tui.keys import RATING_KEYS, keymap
from oversight.tui.person_app import PersonApp
from oversight.tui.screens.tasks import TasksScreen
from oversight.types import Task


class RateApp(PersonApp):
    """`oversight rate`."""

    TITLE = "oversight rate"
    READ = "responses"
    PANELS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, store: Store, settings: RatingSettings, task: Task) -> None:
        """Someone who rates at `store`.

        Raises:
            ConfigError: A key is named that does not exist, or two things share one; or the
                constitution's file is broken.
            UnknownNameError: There is no constitution of that name.
        """
        super().__init__(keymap(settings.keys, RATING_KEYS), settings.theme)
        self.desk = TaskDesk(store, settings, task)

    def first_screen(self) -> TasksScreen:
        """The queue of the task."""
        return TasksScreen(self.desk)
