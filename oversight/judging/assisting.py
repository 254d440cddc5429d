"""Asking an assistant: its view is the judge's, its words stream, and all is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from oversight.agents import build_agent, identify, kinds_of_help
from oversight.engines.base import open_engine
from oversight.errors import OversightError
from oversight.graphs.views import public, view_of
from oversight.ids import seed_from
from oversight.judging.desk import Item
from oversight.judging.log import now
from oversight.judging.settings import JudgingSettings
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


def view_for(item: Item, turns: tuple[Turn, ...], request: HelpRequest, number: int) -> View:
    """What an assistant may know: what the judge has been shown, and the source if the protocol
    lets it read that."""
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
    item: Item,
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
