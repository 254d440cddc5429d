"""Checks by models: a judge that reads an answer under principles, and a trained classifier.

The judge is asked as a critic is, one principle a call, and may find no fault; its score is the
probability of a fault, by the log-probability of the critique that it begins. The classifier is a
reward model of our own trainer, whose low rewards are high scores.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from oversight import constitutions
from oversight.agents.critic import NO_FAULT, critique_prompt
from oversight.config import Settings
from oversight.constitutions import Principle
from oversight.errors import ConfigError, NoLogprobsError
from oversight.guard.checks.base import GuardedExchange, Score, Surroundings, WholeCheck, texts_of
from oversight.ids import content_id, text_id
from oversight.types import (
    Act,
    Completion,
    Engine,
    Message,
    Orders,
    Prompt,
    Request,
    Role,
    Sampling,
    Seat,
    Source,
    Turn,
    View,
)

if TYPE_CHECKING:
    from oversight.chat.prompt_ids import ChatIds
    from oversight.train.rollouts.reward_models import RewardModels

NAMES = {"classifier": "A reward model of one's own, whose low rewards are found."}


class Config(Settings):
    """Model and principles of a judge."""

    engine: str
    """A name under [engines] of the guard's file."""
    constitution: str
    """Name of a constitution, or its file."""
    principles: tuple[str, ...] = ()
    """Ids of its principles; all by default."""
    threshold: float = Field(default=0.5, gt=0.0, le=1.0)
    """Probability of a fault from which on something is found."""
    source: Literal["none", "first"] = "none"
    """`first`: the last message is a source, a blank line, and the request, as prompts of our data
    sets with a source are; the judge then reads both as such."""
    title: str = ""
    """Of that source, as the judge is told; clients send none."""
    max_tokens: int = Field(default=64, ge=1)
    """Longest critique."""
    max_words: int = Field(default=150, ge=1)
    """Length that the judge is told to keep to."""


class JudgeCheck(WholeCheck):
    """Asks a model under each principle; the highest probability of a fault is the score."""

    def __init__(self, config: Config, principles: Sequence[Principle], engine: Engine) -> None:
        self.threshold = config.threshold
        self._config = config
        self._principles = principles
        self._engine = engine

    async def examine(self, exchange: GuardedExchange) -> Score:
        """The probability of a fault, and the principle that it is most likely under.

        Raises:
            EngineError: The model could not answer.
        """
        view = _view(exchange, self._config)
        has_logprobs = self._engine.capabilities.logprobs
        sampling = Sampling(
            max_tokens=self._config.max_tokens, temperature=0.0, logprobs=has_logprobs
        )
        # A judge of a recorded view asks as a critic of it would, who may find no fault.
        prompts = [self._prompt(view, each) for each in self._principles]
        requests = [
            Request(prompt, sampling, id=content_id("guard", prompt.id, number))
            for number, prompt in enumerate(prompts)
        ]
        try:
            answers = await self._engine.generate(requests)
        except NoLogprobsError:
            plain = Sampling(max_tokens=self._config.max_tokens, temperature=0.0)
            answers = await self._engine.generate(
                [Request(r.prompt, plain, r.id) for r in requests]
            )
        scores = [fault_of(answer) for answer in answers]
        best = max(range(len(scores)), key=scores.__getitem__)
        said = " ".join(answers[best].text.split())[:120]
        return Score(scores[best], f"{self._principles[best].id}: {said}")

    def _prompt(self, view: View, principle: Principle) -> Prompt:
        return critique_prompt(replace(view, max_words=self._config.max_words), [principle])

    async def prepare(self) -> None:
        """Load the model by a first question."""
        await self.examine(GuardedExchange([{"role": "user", "content": "Hello."}], "Hello."))

    async def aclose(self) -> None:
        """Close the model, also for other checks that share it."""
        await self._engine.aclose()


def fault_of(answer: Completion) -> float:
    """The probability that a critique finds a fault, of a greedy answer.

    Where it finds none, one minus the probability of saying so; where it finds one, at least the
    probability of its first token, and one half. Without log-probabilities 0 or 1.
    """
    clean = NO_FAULT.fullmatch(answer.text.strip()) is not None
    if not answer.logprobs:
        return 0.0 if clean else 1.0
    if clean:
        return min(0.5 - 1e-9, 1.0 - math.exp(min(0.0, sum(answer.logprobs))))
    return max(0.5, math.exp(min(0.0, answer.logprobs[0])))


def _view(exchange: GuardedExchange, config: Config) -> View:
    """The exchange as a critic sees an answer to an open prompt."""
    messages = plain_messages(exchange.messages)
    question, source = exchange.request, None
    if config.source == "first" and "\n\n" in question:
        before, _, question = question.rpartition("\n\n")
        source = Source(title=config.title, text=before)
    last = max((n for n, each in enumerate(messages) if each.role == "user"), default=0)
    debate_id = text_id("guard", question, exchange.output or "")
    answer = Turn(
        debate_id=debate_id,
        step=0,
        round=0,
        seat=Seat.A,
        role=Role.RESPONDER,
        act=Act.RESPOND,
        text=exchange.output or "",
    )
    return View(
        debate_id=debate_id,
        question=question,
        options=(),
        orders=Orders(options=(), defends=(), shown=(Seat.A,)),
        source=source,
        turns=(answer,),
        seat=Seat.B,
        role=Role.CRITIC,
        act=Act.CRITIQUE,
        step=1,
        round=1,
        num_rounds=1,
        max_words=150,
        seed=0,
        may_end=True,
        history=tuple(each for each in messages[:last] if each.role != "system"),
    )


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The messages that have words, in the three roles of a prompt."""
    roles = {"system": "system", "developer": "system", "assistant": "assistant"}
    return [
        Message(role=roles.get(str(each.get("role")), "user"), parts=("\n\n".join(said),))
        for each in messages
        if any(said := texts_of(each))
    ]


def build(config: Config, around: Surroundings) -> JudgeCheck:
    """The check of a judge.

    Raises:
        ConfigError: The engine or a principle is not there.
        UnknownNameError: There is no constitution of that name.
    """
    whole = constitutions.load(config.constitution).principles
    known = {each.id: each for each in whole}
    for name in config.principles:
        if name not in known:
            raise ConfigError(
                f"settings.principles: constitution {config.constitution!r} has no principle "
                f"{name!r}; it has {', '.join(known)}"
            )
    chosen = [known[name] for name in config.principles] if config.principles else list(whole)
    return JudgeCheck(config, chosen, around.engine(config.engine, "settings"))


# --- classifier ---


class ClassifierConfig(Settings):
    """A reward model, and the score from which on an answer is found."""

    model: str = Field(min_length=1)
    """Folder that `oversight train reward` has made, of one label."""
    threshold: float = Field(default=0.5, gt=0.0, le=1.0)
    """Score from which on something is found: one minus the logistic function of the reward."""
    device: str = "cpu"


class ClassifierCheck(WholeCheck):
    """Scores request and answer by a reward model, which is read with the first of them."""

    def __init__(self, config: ClassifierConfig) -> None:
        self.threshold = config.threshold
        self._config = config
        self._loaded: tuple[RewardModels, ChatIds, int | None] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def examine(self, exchange: GuardedExchange) -> Score:
        """One minus the logistic function of the reward.

        Raises:
            ConfigError: The folder holds no reward model.
        """
        async with self._one_at_a_time:
            reward = await asyncio.to_thread(self._reward, exchange)
        return Score(1.0 / (1.0 + math.exp(max(-60.0, min(60.0, reward)))), f"reward {reward:.2f}")

    def _reward(self, exchange: GuardedExchange) -> float:
        import numpy as np

        from oversight.modeling import TokenRow

        models, chat, end = self._loaded = self._loaded or self._load()
        messages = plain_messages(exchange.messages) or [Message(role="user", parts=("",))]
        prompt = Prompt(messages=tuple(messages))
        prompt_ids = chat.prompt_ids(prompt)
        answer_ids = chat.choice_ids(prompt, exchange.output or "")
        if end is not None:
            answer_ids = np.append(answer_ids, end)
        return models.score_rows([TokenRow(prompt_ids, answer_ids)])[0]

    def _load(self) -> tuple[RewardModels, ChatIds, int | None]:
        from transformers import AutoTokenizer

        from oversight.chat.prompt_ids import ChatIds
        from oversight.train.experience_settings import SourceSettings
        from oversight.train.rollouts.reward_models import RewardModels

        folder = self._config.model
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            said = str(error).splitlines()[0]
            raise ConfigError(f"classifier.model = {folder!r} cannot be read: {said}") from error
        settings = SourceSettings(models=(folder,))
        models = RewardModels.load(settings, tokenizer, self._config.device)
        return models, ChatIds(tokenizer), tokenizer.eos_token_id

    async def prepare(self) -> None:
        """Load the model."""
        async with self._one_at_a_time:
            self._loaded = await asyncio.to_thread(self._load)

    async def aclose(self) -> None:
        """Let the model go."""
        self._loaded = None


def named(name: str) -> SimpleNamespace:
    """The check of one of `NAMES`, with what a module of its own would hold."""

    def build_classifier(config: ClassifierConfig, around: Surroundings) -> ClassifierCheck:
        return ClassifierCheck(config)

    return SimpleNamespace(__doc__=NAMES[name], Config=ClassifierConfig, build=build_classifier)
