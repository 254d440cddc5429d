"""Asking the assistant from a screen: what for, and the answer as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from textual.app import App

from oversight.errors import OversightError
from oversight.judging.assisting import Assistants, assist
from oversight.judging.desk import Item
from oversight.judging.draws import is_assisted
from oversight.judging.judgment import stated
from oversight.tui.screens.dialogs import ChoiceScreen, LineScreen
from oversight.tui.widgets.assistant import NAME_OF_HELP
from oversight.types import Help, HelpRequest, Turn


class Asking:
    """The assistant of one item."""

    def __init__(self, assistants: Assistants, item: Item, on_change: Callable[[], None]) -> None:
        """Beside a screen that `on_change` is told to draw anew."""
        self._assistants = assistants
        self._item = item
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self._heard: list[str] | None = None

    @property
    def answer(self) -> str | None:
        """What it has written so far of an answer that is going on."""
        return None if self._heard is None else "".join(self._heard)

    @property
    def is_answering(self) -> bool:
        """Whether an answer is going on."""
        return self._task is not None and not self._task.done()

    def refusal(self) -> str | None:
        """Why there is no assistant for this item, or None."""
        arm = self._item.acts.work.arm
        if arm is None:
            return "No assistant: describe one under [assistance] in a study file."
        if not is_assisted(arm):
            return "This item comes without assistance, as it was drawn for the study."
        return None

    async def ask(
        self, app: App[None], shown: tuple[Turn, ...], current: Turn | None
    ) -> str | None:
        """Let the judge say what they want, and begin to answer; or a sentence why not."""
        arm = self._item.acts.work.arm or ""
        try:
            able = self._assistants.kinds_of_help(arm)
        except OversightError as error:
            return str(error)
        choices = [(each, NAME_OF_HELP[each]) for each in able]
        chosen = await app.push_screen_wait(ChoiceScreen("Ask the assistant", choices))
        if chosen is None:
            return None
        request = await self._request(app, chosen, current)
        if isinstance(request, HelpRequest):
            self._heard = []
            self._task = asyncio.create_task(self._answer(arm, request, shown))
            return None
        return request

    async def _request(
        self, app: App[None], chosen: Help, current: Turn | None
    ) -> HelpRequest | str | None:
        if chosen in (Help.CHECK, Help.FREE):
            title = "Which claim?" if chosen is Help.CHECK else "Ask the assistant"
            said = await app.push_screen_wait(LineScreen(title))
            return HelpRequest(chosen, said) if said else None
        if chosen is Help.CRITIQUE:
            if current is None:
                return "Choose a turn first: j and k go from one to the next."
            return HelpRequest(chosen, turn=current)
        if chosen is Help.AGAINST:
            probs = self._item.acts.work.draft.probs
            if probs is None:
                return "You have said no belief yet that it could argue against."
            return HelpRequest(chosen, belief=stated(probs))
        return HelpRequest(chosen)

    async def _answer(self, arm: str, request: HelpRequest, shown: tuple[Turn, ...]) -> None:
        heard: list[str] = []
        self._heard = heard
        try:
            await assist(self._assistants, self._item, arm, request, shown, heard.append)
        finally:
            self._heard = None
            self._on_change()

    def stop(self) -> None:
        """Stop the answer; what was said of it is kept."""
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Stop, and wait until that is recorded."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
