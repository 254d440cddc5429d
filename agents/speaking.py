"""Common parts of speakers: composing prompts from a view, and making a speech of the answer.

A prompt only ever grows at its end, so that a server's prefix cache holds:
the rules; then source, question and options, or an open prompt with the chat
before it; then one part for each turn in reading order; and last the role part,
the only one that differs between two speakers of a step. All text of models and
data sets goes through the templates as data: it cannot open or close a tag, nor
be run as a template.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from oversight import constitutions
from oversight.agents._calls import ATTEMPTS, Calls, needed, notes_in, seed_for
from oversight.agents.judging import labels
from oversight.agents.prompting import AgentPrompt, PromptedSettings, tell_unsent
from oversight.config import Settings
from oversight.errors import ProtocolError
from oversight.models import DIGEST_CHARS
from oversight.text.prompts import Safe, Template
from oversight.text.quotes import render_quotes
from oversight.types import (
    Act,
    Belief,
    Draft,
    Engine,
    JudgeKind,
    Message,
    Orders,
    Prompt,
    Purpose,
    Role,
    Sampling,
    Seat,
    Source,
    Stance,
    Turn,
    Verdict,
    View,
)


class WordSettings(PromptedSettings):
    """Sampling settings of an agent that writes for all to read."""

    incidental: ClassVar[frozenset[str]] = frozenset({"attempts"})

    temperature: float = Field(default=0.8, ge=0.0, le=10.0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: int = Field(default=400, ge=1)
    """Longest speech, in tokens; `max_words` of the protocol is only told to the model."""
    attempts: int = Field(default=ATTEMPTS, ge=1, le=20)
    """Tries of a call that says nothing (a filter, a thought alone) before the debate
    fails; a greedy one, which would say the same again, is made once."""

    def sampling(self, view: View, engine: Engine, purpose: Purpose) -> Sampling:
        """The sampling parameters of one call."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=seed_for(view, purpose),
            logprobs=engine.capabilities.logprobs,
        )


class SpeechSettings(WordSettings):
    """Sampling settings of a speaker: of its speeches, and of the private notes before them."""

    reasoning: bool = True
    """Write private notes first, in a call of their own."""
    max_reasoning_tokens: int = Field(default=300, ge=1)

    def sampling(self, view: View, engine: Engine, purpose: Purpose) -> Sampling:
        """The sampling parameters of one call; notes have a limit of their own."""
        sampling = super().sampling(view, engine, purpose)
        if purpose is Purpose.REASONING:
            return replace(sampling, max_tokens=self.max_reasoning_tokens)
        return sampling


class PrincipleSettings(Settings):
    """Settings of an agent that goes by the principles of a constitution."""

    # Left out unless they are set: ids of debates without them stay what they were.
    constitution: str = Field(default="", exclude_if=operator.not_)
    """Constitution whose principles the agent goes by: its name, or a file's path."""
    tags: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
    """Of the constitution only principles with one of these tags."""
    without: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
    """Ids of principles of the constitution that are left out."""

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if (self.tags or self.without) and not self.constitution:
            raise ValueError("tags and without choose among a constitution's principles: name one")
        return self

    def identity(self) -> dict[str, Any]:
        """The settings that determine the words; a constitution's file is known by its content."""
        found = super().identity()
        if self.constitution and constitutions.is_path(self.constitution):
            read = constitutions.load(self.constitution)
            found["constitution"] = f"{read.name}:{read.content[:DIGEST_CHARS]}"
        return found


AFTER_NOTES = Template(
    "Now write your public speech, at most {{ max_words }} words. Only the speech.",
    name="after notes",
)


FACTS = frozenset({"name", "round", "max_words"})
"""Variables that each part behind the shared words is given."""


def of_speaker(template: Template, about: str, *needed: str, more: str = "") -> AgentPrompt:
    """A template behind the shared words, which is given `FACTS`, those `needed` and `more`."""
    also = FACTS | set(needed) | set(more.split())
    return AgentPrompt(template, about, frozenset(also), frozenset(needed))


@dataclass(frozen=True, slots=True)
class SpeakerPrompts:
    """Instructions to one role for one act: `notes` and `speech` are filled with `role_facts`."""

    rules: Template
    notes: Template
    speech: Template
    after_notes: Template = AFTER_NOTES

    @classmethod
    def of(cls, config: SpeechSettings, speech: str, notes: str, rules: str = "rules") -> Self:
        """The instructions that an agent's settings have under these names.

        Words of the user's that are never sent with these settings are told on the log.
        """
        _tell_unsent(config, speech, notes)
        named = (config.template(name) for name in (rules, notes, speech, "after_notes"))
        return cls(*named)


def _tell_unsent(config: SpeechSettings, speech: str, notes: str) -> None:
    """Tell of a template that was replaced, and that only the other value of `reasoning` asks for.

    Where words for both values were given, one set of them is meant to rest.
    """
    with_notes = [name for name in (notes, "after_notes") if name in config.prompts]
    agent = config.templates().agent
    if config.reasoning and speech in config.prompts and not with_notes:
        advice = (
            f"behind private notes ({agent}.reasoning = true) {notes} and after_notes ask instead; "
            f"replace these, or set {agent}.reasoning = false"
        )
        tell_unsent(config, speech, advice)
    elif not config.reasoning and with_notes and speech not in config.prompts:
        advice = (
            f"without private notes ({agent}.reasoning = false) {speech} asks for all; replace "
            "that, or leave reasoning out"
        )
        tell_unsent(config, with_notes[0], advice)


class Speaker:
    """A model that argues for the option it was given, or criticises who does.

    Private notes are a call of their own before the speech: they cannot leak
    into it through a tag that was forgotten or never closed.
    """

    kind = JudgeKind.MODEL

    def __init__(
        self,
        name: str,
        config: SpeechSettings,
        engine: Engine | None,
        prompts: Mapping[Act, SpeakerPrompts],
    ) -> None:
        """A speaker that does the acts of `prompts`."""
        self.name = name
        self.config = config
        self.engine = needed(engine, name)
        self.prompts = prompts

    async def act(self, view: View) -> Draft:
        """Speech that the view asks for; a ready-made argument is given word for word.

        Raises:
            ProtocolError: The view asks for something that this speaker does not do.
            EngineError: The model could not answer.
        """
        check_speech(view, self.name, self.prompts)
        if view.argument is not None and is_first_speech(view):
            if view.emit is not None:
                view.emit(view.argument)
            return Draft(text=view.argument)
        calls = Calls(self.engine, view, self.config.attempts)
        return await self.speak(calls, await self.think(calls, view))

    async def speak(self, calls: Calls, messages: tuple[Message, ...]) -> Draft:
        """The public words that `messages` ask for, as a draft with all that came before."""
        answer = await calls.make(
            Purpose.SPEECH,
            Prompt(messages=messages),
            self.config.sampling(calls.view, self.engine, Purpose.SPEECH),
            live=True,
        )
        return Draft(
            text=answer.text,
            reasoning="\n\n".join(calls.thoughts),
            samples=tuple(calls.samples),
            prompts=tuple(calls.prompts),
        )

    async def think(self, calls: Calls, view: View) -> tuple[Message, ...]:
        """The messages that ask for the speech, behind private notes if they are to be written."""
        prompts, facts = self.prompts_for(view), self.facts(view)
        shown = self.demonstrations(view)
        if not self.config.reasoning:
            return speech_prompt(prompts, view, facts, shown).messages
        system = Message(role="system", parts=(prompts.rules.render(),))
        shared = shared_parts(view)
        ask = prompts.notes.render(**facts)
        user = Message(role="user", parts=(*shared, ask))
        notes = view.notes
        if notes is None:
            prompt = Prompt(messages=(system, *shown, user))
            sampling = self.config.sampling(view, self.engine, Purpose.REASONING)
            answer = await calls.make(Purpose.REASONING, prompt, sampling, thought_will_do=True)
            notes = answer.text
        calls.thoughts.append(notes)
        said = Message(role="assistant", parts=(plain(notes),))
        after = Message(role="user", parts=(prompts.after_notes.render(**facts),))
        return system, *shown, user, said, after

    def prompts_for(self, view: View) -> SpeakerPrompts:
        """The prompts of the act that the view asks for."""
        return self.prompts[view.act]

    def facts(self, view: View) -> dict[str, str | int]:
        """The values that fill in the role part of the prompt."""
        return role_facts(view)

    def demonstrations(self, view: View) -> tuple[Message, ...]:
        """Messages behind the rules that show how it is done: requests and answers in turn."""
        return ()


def notes_of(turn: Turn) -> str | None:
    """The private notes that were written before a speech, as its prompt holds them; None if the
    speaker wrote none."""
    found = [each for each in turn.samples if each.purpose is Purpose.REASONING]
    return notes_in(found[-1]) if found else None


def speech_prompt(
    prompts: SpeakerPrompts,
    view: View,
    facts: Mapping[str, str | int] | None = None,
    demonstrations: tuple[Message, ...] = (),
) -> Prompt:
    """Instruction that asks a speaker for its speech at once, without notes before it."""
    ask = prompts.speech.render(**(role_facts(view) if facts is None else facts))
    return Prompt(
        messages=(
            Message(role="system", parts=(prompts.rules.render(),)),
            *demonstrations,
            Message(role="user", parts=(*shared_parts(view), ask)),
        )
    )


# --- what a view says about the speaker ---


def check_speech(view: View, agent: str, acts: Collection[Act]) -> None:
    """Make sure that the view asks for one of `acts`: for a side if it argues, else for none.

    Raises:
        ProtocolError: It does not.
    """
    if view.act in acts and (view.side is not None) is view.act.argues(view.role):
        return
    does = "only speaks for a side"
    if Act.RESPOND in acts:
        does = "answers open prompts"
    if Act.CRITIQUE in acts:
        both = len(acts) > 1
        does = "speaks for a side or criticises without one" if both else "only criticises"
    raise ProtocolError(
        f"agent {agent!r} {does} ({', '.join(sorted(acts))}), and was asked to {view.act.value!r} "
        f"with side = {view.side!r}; give the seat {view.seat.value!r} to another agent "
        f"(agents.{view.role.value}.agent)"
    )


def own_words(view: View) -> tuple[Turn, ...]:
    """Turns of this seat so far."""
    return tuple(t for t in view.turns if t.seat is view.seat and t.act.is_spoken)


def is_first_speech(view: View) -> bool:
    """True if this seat has not spoken yet."""
    return not own_words(view)


def speaker_name(seat: Seat, role: Role) -> str:
    """Name of a seat before everyone."""
    if seat is Seat.JUDGE:
        return "Judge"
    return f"Debater {seat.value.upper()}" if role is Role.DEBATER else role.value.capitalize()


def label_of(index: int, listing: Sequence[int]) -> str:
    """The letter under which an option is listed."""
    return labels(len(listing))[listing.index(index)]


def role_facts(view: View) -> dict[str, str | int]:
    """The values that fill in the role part; a label only for a seat that defends an option."""
    facts: dict[str, str | int] = {
        "name": speaker_name(view.seat, view.role),
        "round": f"Round {view.round} of {view.num_rounds}" if view.round else "Opening",
        "max_words": view.max_words,
    }
    if view.side is not None:
        facts["label"] = label_of(view.side, view.orders.options)
    return facts


# --- parts of a prompt, each a pure function of what it shows ---


def shared_parts(view: View) -> tuple[str, ...]:
    """Everything before the role part: the same for both speakers, a prefix of the next round's."""
    head = (source_part(view.source),) if view.source is not None else ()
    chat = (message_part(message) for message in view.history)
    question = question_part(view.question, view.options, view.orders.options)
    turns = (turn_part(turn, view.orders) for turn in view.turns if _is_shown(turn, view))
    return (*head, *chat, question, *turns)


def _is_shown(turn: Turn, view: View) -> bool:
    """A judge forms each belief afresh: its earlier ones are not put before it."""
    return turn.act is not Act.BELIEVE or view.seat is not Seat.JUDGE


def source_part(source: Source) -> str:
    """The source between tags; rendered once for every source."""
    return _source_part(source.title.replace('"', "'"), source.text)


@lru_cache(maxsize=512)
def _source_part(title: str, text: str) -> str:
    return str(_SOURCE.render(title=title, text=text))


@lru_cache(maxsize=1024)
def question_part(question: str, options: tuple[str, ...], listing: tuple[int, ...]) -> str:
    """Question and options, lettered in the order of `listing`; an open prompt by itself."""
    if not listing:
        return str(_OPEN_PROMPT.render(question=question))
    pairs = zip(labels(len(listing)), listing, strict=True)
    # On one line each: an option of several lines could pass for two options.
    rows = [(label, " ".join(options[index].split())) for label, index in pairs]
    listed = Safe("\n".join(_OPTION.render(label=label, text=text) for label, text in rows))
    return str(_QUESTION.render(question=question, options=listed))


@lru_cache(maxsize=1024)
def message_part(message: Message) -> str:
    """A message of the chat before an open prompt, as those read it who only look on."""
    return str(_MESSAGE.render(speaker=message.role.capitalize(), text=message.content))


def turn_part(turn: Turn, orders: Orders) -> str:
    """One turn as the others read it: public text only, with its quotes marked."""
    # Found again by the turn itself, as each seat is shown it at each later step: to compare its
    # words and quotes takes longer than all the rest.
    known = _PARTS.get(id(turn))
    if known and known[0] is turn and known[1:3] == (orders.options, orders.defends):
        return known[3]
    part = _turn_part(turn, orders)
    if len(_PARTS) >= MAX_PARTS:
        _PARTS.pop(next(iter(_PARTS)), None)
    _PARTS[id(turn)] = turn, orders.options, orders.defends, part
    return part


MAX_PARTS = 4096
_PARTS: dict[int, tuple[Turn, tuple[int, ...], tuple[int, ...], str]] = {}
"""By identity of a turn, which is kept with it: the turn, the orders that its part was made for,
and the part."""


def _turn_part(turn: Turn, orders: Orders) -> str:
    if turn.act is Act.BELIEVE:
        body = belief_text(turn.belief, orders.options)
        return f"<turn {_attributes(turn.seat, turn.role, turn.round)}>\n{body}\n</turn>\n"
    defends = None
    if turn.argues:
        defends = label_of(orders.defended_by(turn.seat), orders.options)
    attributes = _attributes(turn.seat, turn.role, turn.round, defends, turn.stance)
    return f"<turn {attributes}>\n{render_quotes(turn.text, turn.quotes)}\n</turn>\n"


@lru_cache(maxsize=256)
def _attributes(
    seat: Seat, role: Role, round: int, defends: str | None = None, stance: Stance | None = None
) -> str:
    attributes = f'speaker="{speaker_name(seat, role)}" round="{round}"'
    attributes += "" if defends is None else f' defends="{defends}"'
    return attributes if stance is None else f'{attributes} stance="{stance}"'


def belief_text(belief: Belief | None, listing: Sequence[int]) -> str:
    """A belief in words, by label."""
    if belief is None or belief.probs is None:
        verdict = belief.verdict if belief is not None else Verdict.INVALID
        return "Belief: abstains" if verdict is Verdict.ABSTAIN else "Belief: could not be read"
    pairs = zip(labels(len(listing)), listing, strict=True)
    return "Belief: " + ", ".join(f"{label} {belief.probs[index]:.0%}" for label, index in pairs)


def plain(text: str) -> Safe:
    """A model's own words, given back to it as what it said before."""
    return _PLAIN.render(text=text)


_SOURCE = Template('<source title="{{ title }}">\n{{ text }}\n</source>\n', name="source")
_QUESTION = Template(
    "<question>\n{{ question }}\n</question>\n<options>\n{{ options }}\n</options>\n",
    name="question",
)
_OPEN_PROMPT = Template("<question>\n{{ question }}\n</question>\n", name="open prompt")
_MESSAGE = Template('<turn speaker="{{ speaker }}">\n{{ text }}\n</turn>\n', name="message")
_OPTION = Template("{{ label }}: {{ text }}", name="option")
_PLAIN = Template("{{ text }}", name="plain")
