"""Solvers and scorers of Inspect: one sample is one debate, or one judgment of a recorded debate.

Debates are run by the same graphs as by `oversight debate`, in a store of the evaluation's own
unless one is named; a sample's `store` in Inspect's log holds all records of its debate.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inspect_ai.log import transcript as inspect_transcript
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageUser,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import Score, Scorer, Target, accuracy, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import span

from oversight.config import RunSettings
from oversight.engines.inspect import OWN_OPTIONS, InspectEngine
from oversight.engines.inspect import Config as EngineConfig
from oversight.engines.openai.settings import check_no_secret
from oversight.errors import BudgetExceededError, ConfigError, DataError, EngineError
from oversight.graphs.planning import Cast, ModelOptions, cast, casting, plan
from oversight.graphs.rejudging import judge_again, name_of
from oversight.graphs.running import DebateProgress, run_debates
from oversight.graphs.runtime import Runtime
from oversight.interop.inspect_records import RECORDS, prompts_of, records_of, records_text
from oversight.interop.inspect_samples import (
    BELIEF,
    INVALID,
    VERDICT,
    about,
    belief_line,
    first_judgment,
    letter,
    messages_of,
    output_of,
    scores_of,
    shown,
)
from oversight.protocols import load as load_protocol
from oversight.store import Store
from oversight.types import (
    Agent,
    Draft,
    Engine,
    EngineSpec,
    JudgeKind,
    Judgment,
    Option,
    Question,
    Role,
    Transcript,
    View,
)

QUESTION = "question"
"""Key of a sample's metadata that holds the whole question."""
JUDGE = "oversight_judge"
"""Key of a sample's store that names the judge whose judgment is scored."""
SPEAKING, JUDGING = "debater", "judge"
"""Model roles of Inspect's that agents ask."""


# --- models and agents ---


def _engine_settings(model: Model) -> dict[str, Any]:
    """Settings that tell one model of Inspect's from another: name, arguments, options, address."""
    args = {name: value for name, value in model.model_args.items() if _is_plain(name, value)}
    options = model.config.model_dump(mode="json", exclude_none=True, exclude=set(OWN_OPTIONS))
    found: dict[str, Any] = {"model": str(model), "max_in_flight": 10_000}
    found |= {"model_args": args} if args else {}
    found |= {"options": options} if options else {}
    return found | ({"base_url": model.explicit_base_url} if model.explicit_base_url else {})


def _is_plain(name: str, value: Any) -> bool:
    try:
        json.dumps(value)
        check_no_secret({name: value})
    except (TypeError, ValueError):
        return False
    return True


class _Spanned:
    """An agent whose acts stand in Inspect's transcript, each in a span of its own."""

    def __init__(self, agent: Agent, question_of_debate: Mapping[str, Question]) -> None:
        self._agent, self._questions = agent, question_of_debate
        self.name = agent.name
        self.kind: JudgeKind = agent.kind

    async def act(self, view: View) -> Draft:
        """One act, with its words and its belief as events."""
        seat = "" if view.role is Role.JUDGE else f" {view.seat.value.upper()}"
        name = f"{view.role.value}{seat}, {view.act.value}, round {view.round}"
        async with span(name):
            draft = await self._agent.act(view)
            if draft.text:
                inspect_transcript().info(shown(draft.text), source="said")
            question = self._questions.get(view.debate_id)
            if draft.belief is not None and question is not None:
                probs = draft.belief.probs
                inspect_transcript().info(
                    {
                        "verdict": draft.belief.verdict.value,
                        "probs": None if probs is None else list(probs),
                        "in words": belief_line(question, draft.belief),
                    },
                    source="belief",
                )
            return draft


@dataclass
class _Runs:
    """Agents over the evaluation's models, and the store that their debates are kept in."""

    debater: str | None
    judge: str | None
    store: str | None
    seed: int
    settings: Mapping[str, Any]
    questions: dict[str, Question] = field(default_factory=dict)
    """Of the debates in flight, by the debate's id."""
    _opened: tuple[Store, Cast] | None = None

    def begin(self) -> tuple[Store, Cast]:
        """The store and the agents; made once, as the models are known only while it runs.

        Raises:
            ConfigError: A setting is wrong, or Inspect runs on another event loop than asyncio's.
        """
        if self._opened is not None:
            return self._opened
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "oversight's solvers run on asyncio, and Inspect was started with another event "
                "loop: unset INSPECT_ASYNC_BACKEND"
            ) from None
        speaking, judging = get_model(role=SPEAKING), get_model(role=JUDGING)
        made = [(speaking, _engine_settings(speaking)), (judging, _engine_settings(judging))]
        models = ModelOptions(
            debater_model=str(speaking),
            debater_engine="inspect",
            judge_model=str(judging),
            judge_engine="inspect",
        )
        changes = casting(debater=self.debater, judge=self.judge, models=models)
        for role, (_, described) in zip((SPEAKING, JUDGING), made, strict=True):
            if f"engines.{role}.engine" in changes:
                changes[f"engines.{role}.settings"] = described
                changes.pop(f"engines.{role}.settings.model")
        changes |= {"dataset.dataset": "in memory", "seed": self.seed, **self.settings}
        chosen = RunSettings.changed({}, changes)

        def opened(spec: EngineSpec) -> Engine:
            config = EngineConfig.parse(spec.settings, where="engine.inspect")
            model = next((each for each, own in made if own == dict(spec.settings)), None)
            return InspectEngine(config, model)

        actors = cast(chosen.cast(), chosen.engines, opened)
        spanned = {role: _Spanned(each, self.questions) for role, each in actors.agents.items()}
        self._opened = Store.open(self.store or self._place()), replace(actors, agents=spanned)
        return self._opened

    def _place(self) -> Path:
        """A file that is gone with the process."""
        folder = tempfile.mkdtemp(prefix="oversight-inspect-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder) / "debates.db"

    def told(self, state: TaskState, found: Transcript, judgment: Judgment | None) -> TaskState:
        """The state of a sample with the debate in it."""
        store, _ = self.begin()
        prompts = prompts_of(found, lambda id_, num: store.prompt(id_, num_tokens=num))
        state.messages = [_message(each) for each in messages_of(found, judgment)]
        state.output = ModelOutput.model_validate(output_of(found, judgment))
        state.store.set(RECORDS, records_text(found, prompts.values()))
        state.metadata = {**state.metadata, **about(found)}
        return state


def _message(given: dict[str, Any]) -> ChatMessage:
    kind = ChatMessageUser if given["role"] == "user" else ChatMessageAssistant
    return kind(content=given["content"], id=given["id"])


def _raise_failures(progress: DebateProgress) -> None:
    """Let Inspect count a failed debate as a sample's error.

    Raises:
        EngineError: What the debate failed by.
    """
    if progress.failures:
        raise EngineError(progress.failures[0].error)


# --- solvers ---


@solver(name="debate")
def debate_solver(
    protocol: str = "debate",
    debater: str | None = "debater",
    judge: str | None = "judge",
    seed: int = 0,
    store: str | None = None,
    swap: bool = False,
    settings: dict[str, Any] | None = None,
) -> Solver:
    """Run a sample's question as a debate, consultancy, critique or direct judgment.

    A sample of any data set with choices will do; a protocol that answers open prompts takes one
    without.

    Args:
        protocol: Name or path of a protocol.
        debater: The agent that debates, consults, criticises and responds.
        judge: The agent that judges.
        seed: Of every random draw; a later epoch has another.
        store: Store that the debates are kept in as well.
        swap: Judge each debate with the sides swapped as well.
        settings: Further ones by dotted name, as `oversight debate --set` takes them.
    """
    runs = _Runs(debater, judge, store, seed, settings or {})
    chosen = load_protocol(protocol)
    chosen = chosen.model_copy(update={"swap": True}) if swap else chosen

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        question = question_of(state)
        opened, actors = runs.begin()
        planned = list(plan([question], [chosen], actors.specs, seed=seed + state.epoch - 1))
        debate = planned[0][0]
        runs.questions[debate.id] = question
        try:
            done = await run_debates(planned, Runtime(opened, actors), concurrency=1)
        except BudgetExceededError as error:
            raise error.__cause__ or error from None
        finally:
            runs.questions.pop(debate.id, None)
            if opened.known([debate.id]):
                found = opened.transcript(debate.id)
                state = runs.told(state, found, first_judgment(found))
        _raise_failures(done)
        return state

    return solve


@solver(name="judge")
def judge_solver(
    store: str, judge: str = "judge", swap: bool = False, settings: dict[str, Any] | None = None
) -> Solver:
    """Have a recorded debate judged by one more judge, whose judgment the store keeps too.

    Args:
        store: Store that the debate is in.
        judge: The agent that judges.
        swap: Judge it with the sides swapped as well.
        settings: Further ones by dotted name, as `oversight judge --set` takes them.
    """
    runs = _Runs(None, judge, store, 0, settings or {})

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        opened, actors = runs.begin()
        name = name_of(actors.specs[Role.JUDGE])
        debate_id = str(state.metadata["debate_id"])
        recorded = opened.transcript(debate_id)
        runs.questions[debate_id] = recorded.question
        try:
            done = await judge_again([recorded], opened, actors, swap=swap, concurrency=1)
        except BudgetExceededError as error:
            raise error.__cause__ or error from None
        finally:
            runs.questions.pop(debate_id, None)
        _raise_failures(done)
        found = opened.transcript(debate_id)
        state.store.set(JUDGE, name)
        return runs.told(state, found, _judgment_by(found, name))

    return solve


def question_of(state: TaskState) -> Question:
    """The question of a sample: as oversight put it in, or made of its input and choices.

    Raises:
        DataError: It is none.
    """
    held = state.metadata.get(QUESTION)
    try:
        if held is not None:
            return Question.model_validate(held)
        given = [each.value for each in state.choices]
        targets = list(state.target)
        signs = [letter(index) for index in range(len(given))]
        right = signs.index(targets[0]) if len(targets) == 1 and targets[0] in signs else None
        return Question(
            id=str(state.sample_id),
            dataset="inspect",
            text=state.input_text,
            options=tuple(Option(text=each) for each in given),
            correct=right,
        )
    except ValueError as error:
        said = " ".join(str(error).split())
        raise DataError(f"sample {state.sample_id!r}: no question ({said})") from None


# --- scorers ---


def _scored(state: TaskState, name: str) -> Score:
    """One of the scores of the sample's judgment; not scored where there is none."""
    held = state.store.get(RECORDS)
    if not isinstance(held, str):
        return Score(value=math.nan, reason="scoring_failed", explanation="there is no debate")
    _, records = records_of(held)
    questions = [each for each in records if isinstance(each, Question)]
    judgments = [each for each in records if isinstance(each, Judgment)]
    judge = state.store.get(JUDGE)
    own = [each for each in judgments if each.judge == judge or (not judge and not each.agent)]
    own = sorted(own, key=lambda each: each.swapped)
    if not own:
        return Score(value=math.nan, reason="scoring_failed", explanation="there is no judgment")
    return Score(**scores_of(questions[0], own[0])[name])


@scorer(metrics=[accuracy(), stderr()], name=VERDICT)
def verdict() -> Scorer:
    """Score of the judge's choice: "C", "I", "P" of a tie; else not scored."""

    async def score(state: TaskState, target: Target) -> Score:
        return _scored(state, VERDICT)

    return score


@scorer(metrics=[mean(), stderr()], name=BELIEF)
def belief() -> Scorer:
    """The judge's probability of the right option at the end."""

    async def score(state: TaskState, target: Target) -> Score:
        return _scored(state, BELIEF)

    return score


@scorer(metrics=[mean()], name=INVALID)
def invalid() -> Scorer:
    """1 where the judge's answer could not be read at all, else 0: its mean is the rate."""

    async def score(state: TaskState, target: Target) -> Score:
        return _scored(state, INVALID)

    return score


def _judgment_by(found: Transcript, name: str) -> Judgment | None:
    return next((each for each in found.judgments if each.judge == name and not each.swapped), None)
