"""Training of both stages: settings of the runs, and rewards of answers to open prompts.

A recipe's tables replace single values of the settings. An answer is rewarded by a frozen model's
critiques, or by the data's rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from oversight import constitutions, protocols
from oversight.agents import critic
from oversight.chat.prompt_ids import AnswerDecoder, ChatIds
from oversight.constitutions import Principle
from oversight.errors import DataError
from oversight.evals.harm import Assess
from oversight.experiments.constitutional.settings import ConstitutionalSettings
from oversight.experiments.trainer_runs import common, merged
from oversight.experiments.workers import folder_of
from oversight.graphs.planning import draw_orders
from oversight.graphs.views import turn_of, view_of
from oversight.modeling import TokenRow
from oversight.train import dpo, grpo, ppo, reward, sft
from oversight.train.batches import row_logprobs
from oversight.train.distributed import World
from oversight.train.loading import frozen, load_policy, read_config
from oversight.train.rollouts.types import SampledResponse, grouped
from oversight.train.settings import ModelSettings
from oversight.train.types import PromptExample
from oversight.types import Act, Debate, Draft, Prompt, Question, Role, Seat

Made = tuple[Any, dict[str, Any]]
"""A trainer and its settings."""


def _run(
    policy: str,
    out: Path,
    seed: int,
    own: dict[str, Any],
    settings: ConstitutionalSettings,
    name: str,
) -> dict[str, Any]:
    """All settings of a training run: the recipe's over the stage's `own`."""
    shared = common(policy, out, seed, settings.template_args)
    return merged(shared, own, getattr(settings, name))


def _sft(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    own = {"batch_size": 32, "steps": 150, "optimizer": {"lr": 5e-4, "schedule": "linear"}}
    return sft, _run(policy, out, seed, own, settings, "sft")


def _dpo(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    own = {"batch_size": 32, "steps": 100, "optimizer": {"lr": 2e-4}, "options": {"beta": 0.2}}
    return dpo, _run(policy, out, seed, own, settings, "dpo")


def _reward(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    own = {"batch_size": 32, "steps": 150, "optimizer": {"lr": 5e-4}}
    return reward, _run(policy, out, seed, own, settings, "reward")


def _ppo(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    judge = str(folder_of(settings.out, f"reward.{seed}") / "model")
    own = {
        "batch_size": 64,
        "steps": 60,
        "data": {"format": "prompt", "duplicates": "keep"},
        "optimizer": {"lr": 1e-4, "schedule": "linear"},
        "samples": 2,
        "mini_batches": 2,
        "reuse": 1,
        "kl": {"coefficient": 0.05},
        "sampling": {"max_new_tokens": settings.max_tokens},
        "shaping": {"missing_eos": 1.0},
        # It begins as the reward model, as InstructGPT's (Ouyang et al. 2022, C.4): one that begins
        # at 0 is still far from these rewards at the end, and what it lacks is noise to the policy.
        "critic": {"kind": "apart", "path": judge},
        "reward": {"source": "model", "models": [judge]},
    }
    return ppo, _run(policy, out, seed, own, settings, "ppo")


def _grpo(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    own = {
        "batch_size": 16,
        "steps": 80,
        "data": {"format": "prompt", "duplicates": "keep"},
        "optimizer": {"lr": 3e-4, "schedule": "linear"},
        "guards": {"entropy": {"action": "warn"}},
        "samples": 8,
        "loss": "dr_grpo",
        "kl_coefficient": 0.01,
        "sampling": {"max_new_tokens": settings.max_tokens},
        "shaping": {"missing_eos": 1.0},
        # Rewards come from a source in memory; the settings only have to name some source.
        "reward": {"source": "length"},
    }
    return grpo, _run(policy, out, seed, own, settings, "grpo")


TRAINERS: dict[str, Callable[[ConstitutionalSettings, str, Path, int], Made]] = {
    "sft": _sft,
    "dpo": _dpo,
    "reward": _reward,
    "ppo": _ppo,
    "grpo": _grpo,
}


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
