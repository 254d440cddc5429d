"""Responder: a model that answers an open prompt, and revises its answer in the light of criticism.

It is asked with the chat as it stands in the data, and nothing else, so that what a policy learns
from its answers is to answer that chat. A revision goes on in the same chat: the answer as the
assistant's message, then the criticism as the user's.
"""

from __future__ import annotations

import re

from oversight.agents._calls import Calls, needed
from oversight.agents.speaking import WordSettings, check_speech, own_words, plain, turn_part
from oversight.text.prompts import Template
from oversight.types import (
    Act,
    Agent,
    Draft,
    Engine,
    JudgeKind,
    Message,
    Prompt,
    Purpose,
    Role,
    Seat,
    View,
)
from oversight.types.questions import chat_prompt

ROLES = frozenset({Role.RESPONDER})

NO_CHANGE = re.compile(
    r"[\W_]*no\s+changes?(?:\s+(?:is|are))?(?:\s+(?:needed|required|necessary))?[\W_]*",
    re.IGNORECASE,
)
"""A revision that says that the answer is good as it stands."""


class Config(WordSettings):
    """Settings of a responder."""


class Responder:
    """Answers the chat of an open prompt, and revises its answers."""

    name = "responder"
    kind = JudgeKind.MODEL

    def __init__(self, config: Config, engine: Engine | None) -> None:
        self.config = config
        self.engine = needed(engine, self.name)

    async def act(self, view: View) -> Draft:
        """A response, or its revision; one that finds nothing to change repeats the response.

        Raises:
            ProtocolError: The view asks for something else.
            EngineError: The model could not answer.
        """
        check_speech(view, self.name, (Act.RESPOND, Act.REVISE))
        calls = Calls(self.engine, view, self.config.attempts)
        answer = await calls.make(
            Purpose.SPEECH,
            conversation(view),
            self.config.sampling(view, self.engine, Purpose.SPEECH),
            live=True,
        )
        unchanged = view.act is Act.REVISE and NO_CHANGE.fullmatch(answer.text) is not None
        return Draft(
            text=own_words(view)[-1].text if unchanged else answer.text,
            unchanged=unchanged,
            reasoning="\n\n".join(calls.thoughts),
            samples=tuple(calls.samples),
            prompts=tuple(calls.prompts),
        )


def build(config: Config, engine: Engine | None) -> Agent:
    """A responder that thinks with `engine`.

    Raises:
        ConfigError: No engine is given.
    """
    return Responder(config, engine)


def conversation(view: View) -> Prompt:
    """The chat, and for a revision what was answered and criticised since: it grows at its end."""
    chat = chat_prompt(view.history, view.source, view.question)
    messages = [*chat.messages]
    criticism: list[str] = []
    for turn in view.turns:
        if turn.seat is view.seat:
            if criticism:
                messages.append(_request(criticism))
                criticism = []
            messages.append(Message(role="assistant", parts=(plain(turn.text),)))
        elif turn.seat is not Seat.JUDGE:
            criticism.append(turn_part(turn, view.orders))
    if view.act is Act.REVISE:
        messages.append(_request(criticism))
    return Prompt(messages=tuple(messages))


def _request(criticism: list[str]) -> Message:
    """The user's message that asks for a revision."""
    return Message(role="user", parts=(*criticism, REVISE.render()))


REVISE = Template(
    """\
Above is what a critic says of your last answer; it may be right or wrong. Rewrite your answer so \
that what is right in the criticism is mended and what was good stays. Write the whole new answer \
to the message before it and nothing else, without a word about the criticism. If your answer is \
good as it stands, write only: NO CHANGE""",
    name="revise",
)
