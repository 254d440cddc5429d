"""Asking an assistant: its view is the judge's, its words stream, and all is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from oversight.agents import build_agent, identify, kinds_of_help
from oversight.engines import open_engine
from oversight.errors import OversightError
from oversight.graphs.views import public, view_of
from oversight.ids import seed_from
from oversight.judging.items import DebateItem, PersonAction, RefusalReason, RefusedAction
from oversight.judging.log import now
from oversight.judging.session import DebateSession
from oversight.judging.settings import JudgingSettings
from oversight.judging.tasks.debate import stated
from oversight.types import (
    Act,
    Agent,
    AgentSpec,
    AssistantAnswered,
    AssistantAsked,
    Engine,
    EngineSpec,
    Help,
    HelpRequest,
    Role,
    Seat,
    Turn,
    View,
)


class Assistants:
    """The assistants of a session, each opened when it is first asked."""

    def __init__(self, settings: JudgingSettings) -> None:
        self._settings = settings
        self._engines: dict[str, Engine] = {}
        self._agents: dict[str, Agent] = {}

    def kinds_of_help(self, kind: str) -> tuple[Help, ...]:
        """Kinds of help that the assistant of that kind can be asked for, in the order of `Help`.

        Raises:
            UnknownNameError: There is no agent of its name.
            ConfigError: One of its settings is wrong.
        """
        wanted = self._settings.assistance[kind]
        spec = AgentSpec(agent=wanted.agent, settings=wanted.settings)
        return kinds_of_help(spec, f"assistance.{kind}")

    def agent(self, kind: str) -> Agent:
        """The assistant of that kind.

        Raises:
            OversightError: Its settings are wrong, or its engine cannot be opened.
        """
        if kind not in self._agents:
            wanted = self._settings.assistance[kind]
            spec = None
            if wanted.engine is not None:
                described = self._settings.engines[wanted.engine]
                spec = EngineSpec(engine=described.engine, settings=described.settings)
                if wanted.engine not in self._engines:
                    self._engines[wanted.engine] = open_engine(spec)
            engine = None if wanted.engine is None else self._engines[wanted.engine]
            agent_spec = AgentSpec(agent=wanted.agent, settings=wanted.settings, engine=spec)
            identify(agent_spec, f"assistance.{kind}")
            self._agents[kind] = build_agent(agent_spec, engine, f"assistance.{kind}")
        return self._agents[kind]

    async def aclose(self) -> None:
        """Close their engines."""
        await asyncio.gather(*(engine.aclose() for engine in self._engines.values()))


def view_for(item: DebateItem, turns: tuple[Turn, ...], request: HelpRequest, number: int) -> View:
    """The view of an assistant: the turns that the judge has been shown, and the source if the
    protocol lets it read that."""
    debate, question = item.transcript.debate, item.transcript.question
    last = max((turn.step for turn in turns), default=-1)
    view = view_of(
        debate,
        question,
        [public(turn) for turn in turns],
        Seat.JUDGE,
        Role.ASSISTANT,
        Act.ASSIST,
        last + 1,
        orders=item.orders,
        round=max((turn.round for turn in turns), default=0),
    )
    reads = debate.protocol.assistant_sees_source or debate.protocol.judge_sees_source
    return replace(
        view,
        source=question.source if reads else None,
        request=request,
        seed=seed_from("assist", debate.id, item.acts.judge, number),
    )


async def assist(
    assistants: Assistants,
    item: DebateItem,
    kind: str,
    request: HelpRequest,
    turns: tuple[Turn, ...],
    show: Callable[[str], None],
) -> str | None:
    """Ask, stream the answer to `show`, and record it with the time at which it was shown.

    Returns:
        None, or in a sentence why there is no answer; that is recorded as well.
    """
    number = len(item.acts.work.assistance)
    item.acts.add(
        AssistantAsked(
            number=number,
            kind=kind,
            request=request.help.value,
            text=request.text,
            turn=None if request.turn is None else request.turn.id,
        )
    )
    shown_at = ""
    heard: list[str] = []

    def emit(text: str) -> None:
        nonlocal shown_at
        shown_at = shown_at or now()
        heard.append(text)
        show(text)

    try:
        view = replace(view_for(item, turns, request, number), emit=emit)
        # In a thread: an engine in this process may load a model, and the screen goes on.
        agent = await asyncio.to_thread(assistants.agent, kind)
        draft = await agent.act(view)
    except (OversightError, asyncio.CancelledError) as error:
        stopped = isinstance(error, asyncio.CancelledError)
        reason = "stopped by the judge" if stopped else str(error)
        words = "".join(heard)
        item.acts.add(
            AssistantAnswered(number=number, kind=kind, text=words, shown_at=shown_at, error=reason)
        )
        if stopped:
            raise
        return reason
    if not heard:
        emit(draft.text)
    answered = AssistantAnswered(
        number=number,
        kind=kind,
        text=draft.text,
        shown_at=shown_at,
        error="",
        samples=tuple(draft.samples),
    )
    item.acts.add(answered, *draft.prompts)
    return None


NAME_OF_HELP = {
    Help.SUMMARY: "Summarise each side",
    Help.CRUXES: "List the cruxes",
    Help.CHECK: "Check a claim against the quotes",
    Help.UNANSWERED: "Find what was not answered",
    Help.AGAINST: "Argue against my belief",
    Help.CRITIQUE: "Criticise the current turn",
    Help.CRITIQUES: "Criticise both sides",
    Help.FREE: "Ask anything",
}
NEEDS_WORDS = frozenset({Help.CHECK, Help.FREE})
"""Kinds of help that the judge asks for in words."""


class AssistantSession:
    """The assistant of one item, as its judge asks it."""

    def __init__(
        self,
        assistants: Assistants,
        session: DebateSession,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Beside a judge's session; `on_change` is called when an answer has ended."""
        self._assistants = assistants
        self._session = session
        self._on_change = on_change
        self._task: asyncio.Task[str | None] | None = None
        self._heard: list[str] | None = None

    @property
    def answer(self) -> str | None:
        """The words so far of an answer that is being written; None if none is."""
        return None if self._heard is None else "".join(self._heard)

    @property
    def is_answering(self) -> bool:
        """True while an answer is being written."""
        return self._task is not None and not self._task.done()

    def refusal(self) -> RefusedAction | None:
        """The reason why there is no assistant for this item, or None."""
        return self._session.refusal(PersonAction.ASSIST)

    def kinds_of_help(self) -> tuple[Help, ...]:
        """Kinds of help that the item's assistant can be asked for; none if it has no assistant.

        Raises:
            OversightError: The assistant's settings are wrong.
        """
        arm = self._session.acts.work.arm
        return () if arm is None or self.refusal() else self._assistants.kinds_of_help(arm)

    def request(self, help: Help, text: str = "", turn: Turn | None = None) -> (
        HelpRequest | RefusedAction
    ):  # fmt: skip
        """A request for help, or the reason why it cannot be asked for so.

        Args:
            help: The kind of help.
            text: The judge's words, for the kinds in `NEEDS_WORDS`.
            turn: The turn that is to be criticised.
        """
        if help in NEEDS_WORDS:
            return HelpRequest(help, text) if text else RefusedAction(RefusalReason.NO_WORDS)
        if help is Help.CRITIQUE:
            return (
                RefusedAction(RefusalReason.NO_TURN)
                if turn is None
                else HelpRequest(help, turn=turn)
            )
        if help is Help.AGAINST:
            probs = self._session.acts.work.draft.probs
            if probs is None:
                return RefusedAction(RefusalReason.NO_BELIEF_TO_OPPOSE)
            return HelpRequest(help, belief=stated(probs))
        return HelpRequest(help)

    def begin(self, request: HelpRequest, show: Callable[[str], None] | None = None) -> (
        RefusedAction | None
    ):  # fmt: skip
        """Let the assistant begin to answer; `show` is given its words as they come."""
        refusal = self.refusal()
        if refusal is None and self.is_answering:
            refusal = RefusedAction(RefusalReason.ANSWERING)
        if refusal is None:
            self._heard = []
            self._task = asyncio.create_task(self._answer(request, self._heard, show))
        return refusal

    async def answered(self) -> str | None:
        """Wait for the end of an answer; in a sentence why there is none, or None."""
        return None if self._task is None else await self._task

    async def _answer(
        self, request: HelpRequest, heard: list[str], show: Callable[[str], None] | None
    ) -> str | None:
        def hear(text: str) -> None:
            heard.append(text)
            if show is not None:
                show(text)

        item, turns = self._session.item, self._session.shown
        try:
            return await assist(
                self._assistants, item, item.acts.work.arm or "", request, turns, hear
            )
        finally:
            self._heard = None
            self._on_change()

    def stop(self) -> None:
        """Stop the answer; the words that were said of it are kept."""
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Stop the answer, and wait until that is recorded."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
