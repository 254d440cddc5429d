"""Debates of a policy through the graphs, each run of them into a store of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oversight import protocols
from oversight.config.run import AgentSettings, EngineSettings
from oversight.datasets.base import load_questions
from oversight.errors import DataError, EngineError
from oversight.graphs.casting import cast
from oversight.graphs.planning import plan
from oversight.graphs.running import run_debates
from oversight.graphs.stage import Stage
from oversight.selfplay.settings import CircleSettings
from oversight.store import Store
from oversight.types import Question, Role

IN_FLIGHT = 64


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
        speakers: Who debates and consults; see `speaking`.
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
    engines = {name: _engine(name) for name in names}
    chosen = protocols.load(protocol)
    chosen = chosen.model_copy(update={"swap": swap and bool(chosen.speakers)})
    actors = cast(agents, engines)
    planned = list(plan(asked, [chosen], actors.specs, seed=seed, sides="both"))

    async def go() -> str | None:
        with Store.open(str(store)) as opened:
            async with actors:
                stage = Stage(opened, actors)
                done = await run_debates(planned, stage, concurrency=IN_FLIGHT)
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


def _engine(model: str) -> EngineSettings:
    # In float64 since a debate that was cut off is sampled again in other company: with the
    # rounding of float32 one token in some ten thousand would then be another one.
    settings: dict[str, Any] = {"model": model, "num_threads": 1, "dtype": "float64"}
    return EngineSettings(engine="transformers", settings=settings)
