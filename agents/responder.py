"""Responder: a model that answers an open prompt, and revises its answer in the light of criticism.

It is asked with the chat as it stands in the data, and nothing else, so that what a policy learns
from its answers is to answer that chat. A revision goes on in the same chat: the answer as the
assistant's message, then the criticism as the user's.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from oversight.agents._calls import Calls, needed
from oversight.agents.prompting import AgentPrompt, AgentPrompts
from oversight.agents.speaking import WordSettings, check_speech, own_words, plain, turn_part
from oversight.constitutions.published import CritiqueExample, demonstrations
from oversight.models import content_of
from oversight.text.prompts import Safe, Template
from oversight.text.revisions import defects_of_response, defects_of_revision
from oversight.types import (
    Act,
    Agent,
    Defect,
    Draft,
    Engine,
    JudgeKind,
    Message,
    Orders,
    PrinciplesApplied,
    Prompt,
    Purpose,
    Role,
    Seat,
    Turn,
    View,
)
from oversight.types.transcripts import chat_prompt

ROLES = frozenset({Role.RESPONDER})

NO_CHANGE = re.compile(
    r"[\W_]*no\s+changes?(?:\s+(?:is|are))?(?:\s+(?:needed|required|necessary))?[\W_]*",
    re.IGNORECASE,
)
"""A revision that says that the answer is good as it stands."""


class Config(WordSettings):
    """Settings of a responder."""

    # Left out unless it is set: ids of debates without it stay what they were.
    examples: str = Field(default="", exclude_if=operator.not_)
    """Path of a few-shot file: dialogues with a critique and a revision each (JSON). They show how
    to revise; a first answer is given to the chat alone."""

    @classmethod
    def templates(cls) -> AgentPrompts:
        """The prompt templates of a responder."""
        return TEMPLATES

    def identity(self) -> dict[str, Any]:
        """The settings that determine an answer; the file is known by its content."""
        found = super().identity()
        if self.examples:
            found["examples"] = content_of(self.examples, "data")
        return found


class Responder:
    """Answers the chat of an open prompt, and revises its answers."""

    name = "responder"
    kind = JudgeKind.MODEL

    def __init__(self, config: Config, engine: Engine | None) -> None:
        self.config = config
        self.engine = needed(engine, self.name)
        self.examples = demonstrations(Path(config.examples)) if config.examples else ()
        self.asking = RevisionRequest(config.template("revise"), config.template("revise_by"))

    async def act(self, view: View) -> Draft:
        """A response, or its revision; one that finds nothing to change repeats the response.

        Where the critic found no fault, the model is not asked.

        Raises:
            ProtocolError: The view asks for something else.
            EngineError: The model could not answer.
        """
        check_speech(view, self.name, (Act.RESPOND, Act.REVISE))
        criticism = latest_criticism(view) if view.act is Act.REVISE else ()
        if criticism and all(turn.unchanged for turn in criticism):
            return Draft(text=own_words(view)[-1].text, unchanged=True, under=under_of(criticism))
        calls = Calls(self.engine, view, self.config.attempts)
        answer = await calls.make(
            Purpose.SPEECH,
            conversation(view, self.examples, self.asking),
            self.config.sampling(view, self.engine, Purpose.SPEECH),
            live=True,
        )
        before = own_words(view)[-1].text if view.act is Act.REVISE else ""
        unchanged = view.act is Act.REVISE and NO_CHANGE.fullmatch(answer.text) is not None
        defects: tuple[Defect, ...] = ()
        if view.act is Act.RESPOND:
            asked = "\n".join([*(each.content for each in view.history), view.question])
            defects = defects_of_response(answer.text, asked)
        elif not unchanged:
            defects = defects_of_revision(answer.text, before)
        return Draft(
            text=before if unchanged else answer.text,
            unchanged=unchanged,
            under=under_of(criticism),
            defects=defects,
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


@dataclass(frozen=True, slots=True)
class RevisionRequest:
    """The request for a revision, which ends the critic's words."""

    freely: Template
    by_principles: Template

    def of(self, requests: Sequence[str]) -> Safe:
        """The request, by the principles' own requests if there are any."""
        if not requests:
            return self.freely.render()
        return self.by_principles.render(requests=" ".join(requests))


def conversation(
    view: View, examples: tuple[CritiqueExample, ...], asking: RevisionRequest
) -> Prompt:
    """The chat, and for a revision what was answered and criticised since: it grows at its end.

    Examples of revisions stand before the chat, behind its system message.
    """
    chat = chat_prompt(view.history, view.source, view.question)
    messages = [*chat.messages]
    criticism: list[Turn] = []
    for turn in view.turns:
        if turn.seat is view.seat:
            if criticism:
                messages.append(_request(criticism, view.orders, asking))
                criticism = []
            messages.append(Message(role="assistant", parts=(plain(turn.text),)))
        elif turn.seat is not Seat.JUDGE:
            criticism.append(turn)
    if view.act is Act.REVISE:
        messages.append(_request(criticism, view.orders, asking))
        start = int(messages[0].role == "system")
        messages[start:start] = [each for example in examples for each in _shown(example, asking)]
    return Prompt(messages=tuple(messages))


def latest_criticism(view: View) -> tuple[Turn, ...]:
    """The critiques of this seat's last answer."""
    found: list[Turn] = []
    for turn in view.turns:
        if turn.seat is view.seat:
            found = []
        elif turn.seat is not Seat.JUDGE:
            found.append(turn)
    return tuple(found)


def under_of(criticism: Sequence[Turn]) -> PrinciplesApplied | None:
    """The principles of critiques, which their revision is made by; None if there are none."""
    known = [turn.under for turn in criticism if turn.under is not None]
    if not known:
        return None
    return PrinciplesApplied(
        constitution=known[0].constitution,
        fingerprint=known[0].fingerprint,
        principles={id_: text for each in known for id_, text in each.principles.items()},
        requests={id_: text for each in known for id_, text in each.requests.items()},
        violated=tuple(dict.fromkeys(id_ for each in known for id_ in each.violated)),
    )


def _request(criticism: Sequence[Turn], orders: Orders, asking: RevisionRequest) -> Message:
    """The user's message that asks for a revision, by the principles' own requests if any."""
    parts = [turn_part(turn, orders) for turn in criticism]
    under = under_of(criticism)
    requests = list(under.requests.values()) if under is not None else []
    return Message(role="user", parts=(*parts, asking.of(requests)))


def _shown(example: CritiqueExample, asking: RevisionRequest) -> tuple[Message, ...]:
    """An example of a revision, as this responder would be asked for it."""
    criticism = str(_CRITICISM.render(text=example.critique))
    ask = Message(role="user", parts=(criticism, asking.of([example.revision_request])))
    return (*example.chat, ask, Message(role="assistant", parts=(plain(example.revision),)))


REVISE = Template(
    """\
Above is what a critic says of your last answer; it may be right or wrong. Rewrite your answer so \
that what is right in the criticism is mended and what was good stays. Write the whole new answer \
to the message before it and nothing else, without a word about the criticism. If your answer is \
good as it stands, write only: NO CHANGE""",
    name="revise",
)
REVISE_BY = Template(
    """\
Above is what a critic says of your last answer; it may be right or wrong. {{ requests }} Keep \
what was good. Write the whole new answer to the message before it and nothing else, without a \
word about the criticism. If your answer is good as it stands, write only: NO CHANGE""",
    name="revise by a principle",
)
_CRITICISM = Template('<turn speaker="Critic" round="1">\n{{ text }}\n</turn>\n', name="criticism")

TEMPLATES = AgentPrompts(
    "responder",
    {
        "revise": AgentPrompt(REVISE, "The request for a revision, behind the criticism."),
        "revise_by": AgentPrompt(
            REVISE_BY,
            "The same by a principle that has a request for a revision of its own.",
            needed=frozenset({"requests"}),
        ),
    },
)
