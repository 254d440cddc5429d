"""A debate to be read: its turns as they are revealed or written, its quotes, its question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from textual.app import App

from oversight.errors import OversightError
from oversight.judging.assisting import Assistants, assist
from oversight.judging.desk import Desk, Item
from oversight.judging.live import key_while_written
from oversight.judging.log import JudgingLog
from oversight.judging.session import DebateSession, Doing
from oversight.judging.tasks.debate import is_assisted, stated
from oversight.judging.work import WHOLE
from oversight.text.terminal import visible
from oversight.tui.marking import mark, mark_unfinished, named_by_seat
from oversight.tui.rows import listed_quotes, nothing_said, question_of, rows_of
from oversight.tui.screens.dialogs import ChoiceScreen, LineScreen
from oversight.tui.screens.work import WorkScreen
from oversight.tui.widgets.assistant import NAME_OF_HELP, AssistantPanel
from oversight.tui.widgets.quotes import Listed
from oversight.types import Help, HelpRequest, Transcript, Turn

LeftT = TypeVar("LeftT", bound=str)
"""Where to go from a screen that is left."""


class DebateReading(WorkScreen[LeftT]):
    """One item, to be read."""

    session: DebateSession
    acts: JudgingLog

    def __init__(self, desk: Desk, item: Item, assistants: Assistants) -> None:
        """A screen over `item`."""
        super().__init__(DebateSession(desk, item, self._on_change), desk.settings)
        self.desk = desk
        self.item = item
        self.live = self.session.live
        self.asking = Asking(assistants, item, self._on_change)
        self._shows_next = True
        """The next turns that come are shown from their beginning."""
        self._named: frozenset[str] = frozenset()
        """Texts in which debaters were last looked for by the names of their seats."""

    def _on_change(self) -> None:
        if self.is_mounted:
            self.show_all()

    @property
    def stepped(self) -> bool:
        """Whether recorded turns are revealed step by step."""
        return self.session.stepped

    def debate(self) -> Transcript:
        """What is judged."""
        return self.item.transcript

    def shown_turns(self) -> tuple[Turn, ...]:
        """The turns that have been revealed."""
        return self.item.shown(stepped=self.stepped)

    def listed_quotes(self) -> list[Listed]:
        """All quotes of what has been revealed."""
        return listed_quotes(self.item, self.shown_turns())

    def may_read_source(self) -> bool:
        """True if the protocol lets this person read the source: as judge, or as a speaker."""
        return self.session.refusal(Doing.READ_SOURCE) is None

    def _source_key(self) -> str:
        """The key that shows the source, where this person may read one."""
        source = self.item.transcript.question.source
        return self.key("source") if source is not None and self.may_read_source() else ""

    def _show_turns(self) -> None:
        view, writing = self.transcript, self.live.writing
        at_end = view.scroll_offset.y >= view.max_scroll_y - 1 and view.unread == (0, 0)
        known = {column.key for row in view.rows for column in row.columns}
        for turn in self.shown_turns():
            written = key_while_written(turn.seat, turn.act, turn.round)
            if turn.id not in known and written in known:
                view.is_now(written, turn.id)
                known.add(turn.id)
        rows = rows_of(self.item, stepped=self.stepped, writing=writing)
        view.set_rows(rows or [nothing_said(self.item, self._source_key())])
        new = [c.key for row in rows for c in row.columns if c.key not in known and c.is_to_read]
        unread = [key for key in new if self.acts.work.seen.get(key) != WHOLE]
        if unread and (self._shows_next or at_end):
            self._shows_next = False
            view.show_from(unread[0])
        self._show_question()

    def _show_question(self) -> None:
        """Draw the question anew if other texts may name debaters by their seats."""
        texts = [turn.text for turn in self.shown_turns()]
        texts += [each.text for each in self.acts.work.assistance]
        if self._named != frozenset(texts):
            self._named = frozenset(texts)
            note = named_by_seat(self.item.transcript.debate, texts)
            self.show_question(question_of(self.item, note))

    def show_panels(self) -> None:
        """Draw the panels beside the transcript anew."""
        assistant = self.query_one(AssistantPanel)
        if assistant.display:
            assistant.show(self.acts.work.assistance, self.asking.answer)
        self.show_quotes(also_open=assistant.display)

    def _draw_frame(self) -> None:
        """Draw what has come in since the last frame."""
        if self.live.has_news:
            self.live.has_news = False
            self._draw_writing()
        if self.asking.answer is not None:
            self.show_panels()

    def _draw_writing(self) -> None:
        view, writing = self.transcript, self.live.writing
        columns = {seat: view.column(each.key) for seat, each in writing.items()}
        num_shown = sum(column.is_writing for row in view.rows for column in row.columns)
        if None in columns.values() or num_shown != len(writing):
            self._show_turns()
            self._show_hint()
        else:
            for seat, column in columns.items():
                if column is not None:
                    column.replace(mark_unfinished(writing[seat].text))
            view.relay()

    def action_do_copy(self) -> None:
        """Copy the current quote, or the current turn."""
        turn, number = self.current_turn(), self.transcript.current_quote
        if turn is None:
            self.say(f"Nothing is chosen: {self.key('turn_next')} goes to a turn.")
            return
        text = mark(turn).text if number is None else visible(turn.quotes[number].text)
        self.app.copy_to_clipboard(text)
        self.say("Copied.")


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
