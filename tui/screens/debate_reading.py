"""A debate to be read: its turns as they are revealed or written, its quotes, its question."""

from __future__ import annotations

from typing import TypeVar

from oversight.judging.assisting import Assistants, AssistantSession
from oversight.judging.desk import Desk
from oversight.judging.items import DebateItem, PersonAction
from oversight.judging.live import key_while_written
from oversight.judging.log import JudgingLog
from oversight.judging.session import DebateSession
from oversight.judging.work import WHOLE
from oversight.text.terminal import visible
from oversight.tui.marking import mark, mark_unfinished, named_by_seat
from oversight.tui.rows import listed_quotes, nothing_said, question_of, rows_of
from oversight.tui.screens.work import WorkScreen
from oversight.tui.widgets.panels import AssistantPanel, ListedQuote
from oversight.types import Turn

LeftT = TypeVar("LeftT", bound=str)
"""The way on from a screen that is left."""


class DebateReadingScreen(WorkScreen[LeftT]):
    """One item, to be read."""

    session: DebateSession
    acts: JudgingLog

    def __init__(self, desk: Desk, item: DebateItem, assistants: Assistants) -> None:
        """A screen over `item`."""
        super().__init__(DebateSession(desk, item, self._on_change), desk.settings)
        self.desk = desk
        self.item = item
        self.live = self.session.live
        self.assistant = AssistantSession(assistants, self.session, self._on_change)
        self._shows_next = True
        """The next turns that come are shown from their beginning."""
        self._named: frozenset[str] = frozenset()
        """Texts in which debaters were last looked for by the names of their seats."""

    def _on_change(self) -> None:
        if self.is_mounted:
            self.show_all()

    @property
    def stepped(self) -> bool:
        """True if recorded turns are revealed step by step."""
        return self.session.stepped

    def shown_turns(self) -> tuple[Turn, ...]:
        """The turns that have been revealed."""
        return self.session.shown

    def listed_quotes(self) -> list[ListedQuote]:
        """All quotes of the turns that have been revealed."""
        return listed_quotes(self.item, self.shown_turns())

    def _source_key(self) -> str:
        """The key that shows the source, where this person may read one."""
        return self.key("source") if self.session.refusal(PersonAction.READ_SOURCE) is None else ""

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
            assistant.show(self.acts.work.assistance, self.assistant.answer)
        self.show_quotes(also_open=assistant.display)

    def _draw_frame(self) -> None:
        """Draw the words that have come in since the last frame."""
        if self.live.has_news:
            self.live.has_news = False
            self._draw_writing()
        if self.assistant.answer is not None:
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
