"""A live debate beside its screen: what is being written, what it waits for, what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from oversight.errors import OversightError
from oversight.graphs.persons import PersonsAct
from oversight.graphs.runtime import Event, SpeechBegins, TurnRecorded, Words
from oversight.judging.desk import Desk, Item
from oversight.judging.live import LiveDebate, Wanted, cast_of, is_spoken_out
from oversight.redaction import redacted
from oversight.tui.rows import Writing
from oversight.types import Act, DebateActed, Seat, TurnsRevealed


class LiveSide:
    """Runs an item's debate as far as it goes without the judge."""

    def __init__(self, desk: Desk, item: Item, on_change: Callable[[], None]) -> None:
        """Beside a screen that `on_change` is told to draw anew."""
        self.desk = desk
        self.item = item
        self.wanted: Wanted | None = None
        """What the debate waits for."""
        self.is_going = False
        self.trouble = ""
        self.writing: dict[Seat, Writing] = {}
        """Turns that are being written."""
        self.has_news = False
        """Something was heard since this was last set to False."""
        self._on_change = on_change
        self._debate: LiveDebate | None = None
        self._task: asyncio.Task[None] | None = None

    def waits_for(self, *acts: Act) -> bool:
        """Whether the debate waits for one of these acts of the judge."""
        return self.wanted is not None and self.wanted.act in acts

    @property
    def is_others(self) -> bool:
        """Whether it waits for another person: whoever argued does not judge, nor the reverse."""
        held = self.item.acts.work.seat
        return self.wanted is not None and held is not None and held != self.wanted.seat.value

    def start(self) -> None:
        """Let the debate go on from where it stands, unless it goes on already."""
        if self.item.live and self.wanted is None and not self.is_going:
            self._run(None)

    def answer(self, answer: PersonsAct) -> None:
        """Give the debate what it waits for."""
        wanted = self.wanted
        assert wanted is not None
        self.item.acts.add(
            DebateActed(
                step=wanted.step,
                seat=wanted.seat.value,
                act=wanted.act,
                text=answer.text,
                probs=None if answer.belief is None else answer.belief.probs or (),
                ends=answer.ends,
                unseen=self.item.unseen(stepped=self.desk.settings.stepped),
            )
        )
        self.wanted = None
        self._run(answer)

    @property
    def judged(self) -> LiveDebate | None:
        """The debate, if it waits for the final judgment."""
        return self._debate if self.item.live else None

    async def aclose(self) -> None:
        """Stop what goes on; what was recorded stands."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._debate is not None:
            await self._debate.aclose()

    def _run(self, answer: PersonsAct | None) -> None:
        self.is_going, self.trouble = True, ""
        self._task = asyncio.create_task(self._go(answer))

    async def _go(self, answer: PersonsAct | None) -> None:
        try:
            debate = await self._opened()
            self.wanted = await (debate.go() if answer is None else debate.answer(answer))
        except OversightError as error:
            self.trouble = str(error)
        except Exception as error:  # an agent's fault must not take the judge's screen down
            self.trouble = redacted(f"unexpected {type(error).__name__}: {error}")
        else:
            self.item.live = self.wanted is not None
        self.writing.clear()
        self.is_going = False
        self._on_change()

    async def _opened(self) -> LiveDebate:
        if self._debate is None:
            transcript = self.item.transcript
            silent = is_spoken_out(transcript)
            # In a thread: an engine in this process may load a model, and the screen goes on.
            cast = await asyncio.to_thread(
                cast_of, transcript.debate, self.desk.settings, silent=silent
            )
            self._debate = LiveDebate(self.desk.store, transcript.debate, cast, self._hear)
        return self._debate

    def _hear(self, event: Event) -> None:
        match event:
            case SpeechBegins() if event.seat is not Seat.JUDGE:
                self.writing[event.seat] = Writing(event.seat, event.role, event.act, event.round)
            case Words() if event.seat in self.writing:
                self.writing[event.seat].text += event.text
            case TurnRecorded():
                self.writing.pop(event.turn.seat, None)
                transcript = self.item.transcript
                self.item.transcript = replace(transcript, turns=(*transcript.turns, event.turn))
                if event.turn.step > self.item.acts.work.revealed:
                    self.item.acts.add(TurnsRevealed(step=event.turn.step))
        self.has_news = True
