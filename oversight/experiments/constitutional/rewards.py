"""Sources of reward for answers to open prompts: a frozen model's critiques, or the data's rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from oversight import constitutions, protocols
from oversight.agents import critic
from oversight.chat.answers import AnswerDecoder
from oversight.chat.prompt_ids import ChatIds
from oversight.constitutions import Principle
from oversight.errors import DataError
from oversight.evals.harm import Assess
from oversight.graphs.planning import draw_orders
from oversight.graphs.views import turn_of, view_of
from oversight.modeling import TokenRow
from oversight.train.batches import row_logprobs
from oversight.train.distributed import World
from oversight.train.loading import frozen, load_policy, read_config
from oversight.train.rollouts.types import SampledResponse, grouped
from oversight.train.settings import ModelSettings
from oversight.train.types import PromptExample
from oversight.types import Act, Debate, Draft, Prompt, Question, Role, Seat

MAX_TOKENS = 16_384
"""Tokens that are computed at once."""


def prompt_rows(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """A row a question, for trainers that sample answers."""
    return [
        {"id": each.id, "prompt": each.chat.chat(), "number": number}
        for number, each in enumerate(questions)
    ]


def critique_prompt(question: Question, answer: str, principle: Principle) -> Prompt:
    """The prompt that asks the critic about an answer by one principle, as a graph makes it."""
    protocol = protocols.load("constitutional")
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocol,
        agents={},
        orders=draw_orders(question, 0),
        seed=0,
    )
    asked = (debate, question)
    responder = view_of(*asked, (), Seat.A, Role.RESPONDER, Act.RESPOND, 0, round=0)
    turn = turn_of(responder, Draft(text=answer), question)
    view = view_of(*asked, (turn,), Seat.B, Role.CRITIC, Act.CRITIQUE, 1, round=1, may_end=True)
    return critic.critique_prompt(view, (principle,))


class _Answers:
    """Reward of each answer by its question and its words."""

    def __init__(self, questions: Sequence[Question], tokenizer: Any) -> None:
        self.questions = questions
        self._divider = AnswerDecoder(tokenizer)
        self.metrics: dict[str, float] = {}

    def said(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> list[tuple[Question, str]]:
        """Each response with its question, in order.

        Raises:
            DataError: A prompt is none of the questions.
        """
        found = []
        for example, group in zip(examples, sampled, strict=True):
            number = example.fields.get("number")
            if not isinstance(number, int) or not 0 <= number < len(self.questions):
                raise DataError(f"row {example.id}: number = {number!r} is no question's")
            for response in group:
                text = self._divider.said(example.prompt_ids, response.token_ids).text
                found.append((self.questions[number], text.strip()))
        return found


class CritiqueRewards(_Answers):
    """A `RewardSource`: the mean over principles of the probability that a critique by it finds
    no fault, from 0 to 1.

    The feedback of reinforcement learning from AI feedback, read from the frozen model's own
    log-probabilities instead of sampled critiques.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        tokenizer: Any,
        model: str,
        principles: Sequence[Principle],
        template_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(questions, tokenizer)
        settings = ModelSettings(path=model)
        config, vocabulary = read_config(settings, ())
        self._policy = frozen(load_policy(settings, config, 0))
        self._chat = ChatIds(vocabulary.tokenizer, template_args=template_args)
        self._clean = np.array(
            vocabulary.tokenizer(critic.CLEAN, add_special_tokens=False)["input_ids"]
        )
        self._world = World(0, 1, self._policy.device)
        self._principles = tuple(principles)

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> list[list[float]]:
        """One reward for each response."""
        said = self.said(examples, sampled)
        known: dict[tuple[str, str], float] = {}
        asked = {(question.id, text): (question, text) for question, text in said}
        rows = [
            TokenRow(
                np.asarray(self._chat.prompt_ids(critique_prompt(question, text, principle))),
                self._clean,
            )
            for question, text in asked.values()
            for principle in self._principles
        ]
        found = [
            math.exp(float(logps_R.sum()))
            for logps_R in row_logprobs(self._policy, rows, self._world, MAX_TOKENS)
        ]
        size = len(self._principles)
        for number, key in enumerate(asked):
            known[key] = fmean(found[number * size : (number + 1) * size])
        scores = [known[question.id, text] for question, text in said]
        return grouped(scores, examples, sampled, "critiques")


@dataclass
class RuleRewards:
    """A `RewardSource`: 1 for an answer that does no harm and answers what is harmless, else 0."""

    answers: _Answers
    rule: Assess
    metrics: dict[str, float] = field(default_factory=dict)

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> list[list[float]]:
        """One reward for each response."""
        scores = []
        for question, text in self.answers.said(examples, sampled):
            found = self.rule(question, text)
            right = found.is_right or not found.is_harmless_request
            scores.append(float(right and not found.harms))
        return grouped(scores, examples, sampled, "the rule")


def rule_rewards(questions: Sequence[Question], tokenizer: Any, rule: Assess) -> RuleRewards:
    """The rule of a data set as a source of reward."""
    return RuleRewards(_Answers(questions, tokenizer), rule)


def principles_of(constitution: str) -> tuple[Principle, ...]:
    """The principles of a constitution, by its name or file."""
    return constitutions.load(constitution).principles
