"""One-round games outside a graph: what speakers are asked, and what a judge sees of any speeches.

In a protocol of one simultaneous step no speech depends on another. So a policy's speeches can be
sampled all at once, and put together into as many debates as there are pairs of them. Prompts,
quotes and views are those of the graphs, made by the same functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oversight import protocols
from oversight.agents import consultant, debater
from oversight.agents.judge import choice_prompt
from oversight.agents.speaking import speech_prompt
from oversight.config import AgentSettings, EngineSettings
from oversight.datasets.base import load_questions
from oversight.errors import DataError, EngineError, ProtocolError
from oversight.experiments.selfplay.settings import Arena, CircleSettings
from oversight.experiments.workers import label
from oversight.graphs.planning import cast, check_question, draw_orders, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.graphs.views import turn_of, view_of
from oversight.store import Store
from oversight.text.thoughts import divide
from oversight.types import (
    Act,
    Debate,
    Draft,
    Orders,
    OversightProtocol,
    Prompt,
    Question,
    Role,
    Seat,
    Turn,
    View,
)

PROTOCOLS: dict[Arena, str] = {
    "debate": "debate_single_turn",
    "consultancy": "consultancy_single_turn",
}
"""Protocol played in each arena."""
BEST_OF_N: dict[Arena, str] = {
    "debate": "debate_single_turn_best_of_n",
    "consultancy": "consultancy_single_turn_best_of_n",
}
"""The same, each speech the best of several by the judge's belief."""


@dataclass(frozen=True)
class Game:
    """A question with who defends what, played in one round."""

    debate: Debate
    question: Question

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Seats that speak."""
        return self.debate.protocol.speakers

    def side(self, seat: Seat) -> int:
        """Index of the option that `seat` defends."""
        return self.debate.orders.defended_by(seat)

    def is_honest(self, seat: Seat) -> bool:
        """True if `seat` defends the right answer."""
        return self.side(seat) == self.question.correct

    def prompt(self, seat: Seat) -> Prompt:
        """The prompt that asks the speaker at `seat` for its speech."""
        view = self._view(seat, ())
        of_role = debater if view.role is Role.DEBATER else consultant
        return speech_prompt(of_role.PROMPTS, view)

    def judged(self, speeches: Mapping[Seat, str]) -> Prompt:
        """The prompt that asks the judge for its decision after these speeches."""
        turns = [self._turn(seat, text) for seat, text in speeches.items()]
        schedule = self.debate.protocol.schedule()
        view = view_of(
            self.debate,
            self.question,
            turns,
            Seat.JUDGE,
            Role.JUDGE,
            Act.DECIDE,
            len(schedule),
            round=self.debate.protocol.rounds,
        )
        return choice_prompt(view)

    def _turn(self, seat: Seat, text: str) -> Turn:
        said = divide(text).text.strip()  # thoughts are private here as in a graph
        return turn_of(self._view(seat, ()), Draft(text=said), self.question)

    def _view(self, seat: Seat, turns: Sequence[Turn]) -> View:
        role = self.debate.protocol.speaker_role
        return view_of(self.debate, self.question, turns, seat, role, Act.SPEAK, 0, round=1)


def games(
    questions: Sequence[Question], arena: Arena, seed: int, *, both_sides: bool = True
) -> list[Game]:
    """Games on `questions`, each assignment of options to seats once if `both_sides`.

    Raises:
        ProtocolError: The arena's protocol is not of one simultaneous step of speeches, or a
            question has no options.
    """
    protocol = one_round(PROTOCOLS[arena])
    found = []
    for question in questions:
        check_question(protocol, question)
        drawn = draw_orders(question, seed)
        exchanged = drawn.model_copy(update={"defends": drawn.defends[::-1]})
        for orders in (drawn, exchanged) if both_sides else (drawn,):
            found.append(Game(_debate(question, protocol, orders, seed), question))
    return found


def one_round(name: str) -> OversightProtocol:
    """The protocol of that name, checked to be a game.

    Raises:
        ProtocolError: It has more than one step, or another act than speeches.
    """
    protocol = protocols.load(name)
    schedule = protocol.schedule()
    acts = {slot.act for step in schedule for slot in step.slots}
    if len(schedule) != 1 or acts != {Act.SPEAK}:
        raise ProtocolError(
            f"protocol {name!r} is no game of one round: it needs one step in which all speak at "
            "once, so that no speech depends on another"
        )
    return protocol


def _debate(question: Question, protocol: OversightProtocol, orders: Orders, seed: int) -> Debate:
    return Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocol,
        agents={},
        orders=orders,
        seed=seed,
    )


IN_FLIGHT = 256
BATCH_SIZE = 128
"""Debates at once, and their prompts in one batch: a step of a small model takes hardly longer for
many rows than for few. In float64 no speech depends on either."""


def questions(circle: CircleSettings, split: str, number: int) -> tuple[Question, ...]:
    """The first questions of a split.

    Raises:
        DataError: There are fewer.
    """
    settings = circle.dataset.model_copy(update={"split": split, "limit": number})
    loaded = load_questions(settings)
    if loaded.shortage:
        raise DataError(
            f"split {split!r}: {loaded.shortage}; set train_questions, held_out_questions and "
            "crossplay_questions to no more than there are"
        )
    return loaded.questions


def debate(
    circle: CircleSettings,
    store: Path,
    protocol: str,
    asked: tuple[Question, ...],
    speakers: Mapping[Role, AgentSettings],
    judge: str,
    *,
    seed: int,
    swap: bool = False,
    rationale: bool = False,
) -> None:
    """Run what is not complete yet: each question with either side in either seat, or, where nobody
    speaks, with either option listed first.

    Args:
        circle: For the length of speeches.
        store: Path of an SQLite file.
        protocol: Its name.
        asked: The questions.
        speakers: Agents that debate and consult; see `speaking`.
        judge: A model.
        seed: Of orders and speeches.
        swap: Judge each debate a second time with the sides shown the other way round. Without
            speakers that is what the two listings are: each is then a judgment of its own.
        rationale: Let the judge write down the evidence before it decides.

    Raises:
        EngineError: Debates failed; the first reason.
    """
    judging: dict[str, Any] = {"rationale": rationale, "max_tokens": 2 * circle.max_tokens}
    if rationale:
        judging["temperature"] = 0.0
    agents = {**speakers, Role.JUDGE: _agent("judge", judge, judging)}
    names = {each.engine for each in agents.values() if each.engine}
    engines = {name: _engine(name, circle.template_args_of(name, judge)) for name in names}
    chosen = protocols.load(protocol)
    chosen = chosen.model_copy(update={"swap": swap and bool(chosen.speakers)})
    actors = cast(agents, engines)
    planned = list(plan(asked, [chosen], actors.specs, seed=seed, sides="both"))

    async def go() -> str | None:
        with Store.open(str(store)) as opened:
            label(opened, circle)
            async with actors:
                runtime = Runtime(opened, actors)
                done = await run_debates(planned, runtime, concurrency=IN_FLIGHT)
        return done.failures[0].error if done.failures else None

    failure = asyncio.run(go())
    if failure is not None:
        raise EngineError(f"debates in {store} failed: {failure}")


def speaking(circle: CircleSettings, model: str) -> dict[Role, AgentSettings]:
    """Debaters and consultants who speak with `model`, as it would be sampled in training."""
    # A policy in training may end a speech at once: it is given every chance to say something.
    how = {"reasoning": False, "max_tokens": circle.max_tokens, "temperature": 1.0, "attempts": 20}
    return {role: _agent(role.value, model, dict(how)) for role in (Role.DEBATER, Role.CONSULTANT)}


def without_model(agent: str) -> dict[Role, AgentSettings]:
    """Debaters and consultants that need no model."""
    return {role: AgentSettings(agent=agent) for role in (Role.DEBATER, Role.CONSULTANT)}


def _agent(agent: str, model: str, settings: dict[str, Any]) -> AgentSettings:
    return AgentSettings(agent=agent, engine=model, settings=settings)


def _engine(model: str, template_args: Mapping[str, Any]) -> EngineSettings:
    # In float64 since a debate that was cut off is sampled again in other company: with the
    # rounding of float32 one token in some ten thousand would then be another one.
    settings: dict[str, Any] = {
        "model": model,
        "num_threads": 1,
        "dtype": "float64",
        "max_batch_size": BATCH_SIZE,
    }
    if template_args:
        settings["template_args"] = template_args
    return EngineSettings(engine="transformers", settings=settings)
