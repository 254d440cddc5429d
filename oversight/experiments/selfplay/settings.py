"""The settings of a circle: questions, protocols, methods, seeds, budgets.

out = "runs/closed_circle"
model = "seedling"            # what debaters begin as
judge = "seedling"            # frozen: it judges, chooses and rewards
methods = ["expert_iteration", "grpo"]
seeds = [0, 1, 2]

[dataset]
dataset = "world"
settings = { difficulty = 1, telling = "plain" }

[grpo]                        # settings of the trainer, over the circle's own
steps = 60
optimizer = { lr = 1e-4 }

[quick]                       # what `--quick` sets
seeds = [0]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from oversight.chat import TemplateArgs
from oversight.config import DatasetSettings, ExperimentSettings
from oversight.experiments.trainer_runs import check_given

Method = Literal["expert_iteration", "dpo", "ppo", "grpo"]
Arena = Literal["debate", "consultancy"]

Overrides = dict[str, JsonValue]


def _is_empty(given: object) -> bool:
    """True of what a record leaves out: those of before have no word of it."""
    return not given


NUM_SEATS: dict[Arena, int] = {"debate": 2, "consultancy": 1}
BATCH_SIZES: dict[Method, int] = {"ppo": 64, "grpo": 16}
"""Prompts that a step learns from, where a recipe says nothing else."""


TABLES = ("sft", "sft_judge", "dpo", "reward", "ppo", "grpo")
"""Settings of a circle that are those of trainers."""
PLACES: dict[str, str] = {
    "model.path": "model",
    "model.tokenizer": "tokenizer",
    "reference": "reference",
    "loss": "function",
    "reward.models": "model",
    "reward.function": "function",
    "reward.parts.*.models": "model",
    "reward.parts.*.function": "function",
    "critic.path": "model",
}
"""Trainers' settings that count by their content (`Settings.by_content`), without loading one."""
DATA: dict[str, str] = {"data.path": "data", "data.eval_path": "data"}
"""Files of rows, which a trainer knows by the examples that it made of them."""


class CircleSettings(ExperimentSettings):
    """A circle, from the model that debaters begin as to the report."""

    incidental: ClassVar[frozenset[str]] = frozenset({"out", "jobs", "quick", "run", "tags"})
    by_content: ClassVar[Mapping[str, str]] = {
        "model": "model",
        "judge": "model",
        **{f"{table}.{place}": kind for table in TABLES for place, kind in (PLACES | DATA).items()},
    }

    out: Path = Path("runs/closed_circle")
    model: str = "seedling"
    """Model that debaters and consultants begin as: a folder, a hub name, or `seedling`."""
    judge: str = "seedling"
    """The frozen judge, likewise."""
    template_args: TemplateArgs = Field(default_factory=dict, exclude_if=_is_empty)
    """Further values for the chat template of `model`, such as `enable_thinking`, wherever it
    speaks, is read or is trained."""
    judge_template_args: TemplateArgs = Field(default_factory=dict, exclude_if=_is_empty)
    """The same of `judge`."""
    dataset: DatasetSettings
    """Data set of the questions; `split` and `limit` are set by the circle."""
    train_questions: int = Field(default=200, ge=8)
    held_out_questions: int = Field(default=500, ge=8)
    arenas: tuple[Arena, ...] = Field(default=("debate", "consultancy"), min_length=1)
    """Arenas that policies are trained and measured in; consultancy is the control."""
    methods: tuple[Method, ...] = ("expert_iteration", "dpo", "ppo", "grpo")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    max_tokens: int = Field(default=48, ge=4)
    """Longest speech."""
    iterations: int = Field(default=3, ge=1)
    """Of expert iteration: debates with best-of-N, and SFT on what was chosen."""
    opponents: int = Field(default=2, ge=1)
    """GRPO, debate: how many of the opponent's speeches each speech is judged against."""
    crossplay_questions: int = Field(default=60, ge=4)
    train_judge: bool = False
    """Also train the judge on outcomes: SFT on debates of trained debaters, with the right answer
    as its label, measured on held-out questions against the frozen judge."""
    sft: Overrides = Field(default_factory=dict)
    """Settings of expert iteration's SFT."""
    sft_judge: Overrides = Field(default_factory=dict)
    """Settings of the judge's SFT."""
    dpo: Overrides = Field(default_factory=dict)
    reward: Overrides = Field(default_factory=dict)
    """Of the reward model that PPO learns from."""
    ppo: Overrides = Field(default_factory=dict)
    grpo: Overrides = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("arenas", "methods", "seeds"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name} = {list(given)} names one twice")
        for table in TABLES:
            check_given(table, getattr(self, table))
        if self.dataset.split or self.dataset.limit:
            raise ValueError(
                "dataset.split and dataset.limit are the circle's own: set train_questions and "
                "held_out_questions"
            )
        if self.model == self.judge and self.template_args != self.judge_template_args:
            raise ValueError(
                f"judge_template_args = {self.judge_template_args!r}, but template_args = "
                f"{self.template_args!r}: judge and debaters are one model; give both the same"
            )
        for method in self.methods:
            if method in BATCH_SIZES:
                self._check_batch(method)
        return self

    def template_args_of(self, model: str, judge: str) -> dict[str, JsonValue]:
        """The values for a model's chat template where `judge` judges."""
        return self.judge_template_args if model == judge else self.template_args

    def num_questions(self) -> dict[str, int]:
        """Number of questions asked of each split."""
        held_out = max(self.held_out_questions, self.crossplay_questions)
        return {"train": self.train_questions, "held_out": held_out}

    def _check_batch(self, method: Method) -> None:
        """Every question gives one prompt for each seat in each assignment of sides."""
        given: Overrides = getattr(self, method)
        wanted = given.get("batch_size", BATCH_SIZES[method])
        if not isinstance(wanted, int):
            return  # the trainer names what is wrong with it
        for arena in self.arenas:
            found = 2 * NUM_SEATS[arena] * self.train_questions
            if found < wanted:
                raise ValueError(
                    f"train_questions = {self.train_questions} gives {found} prompts for "
                    f"{arena}, and {method} takes {wanted} a step: take more questions, or set "
                    f"{method}.batch_size"
                )
            if method == "grpo" and wanted % NUM_SEATS[arena]:
                raise ValueError(
                    f"grpo.batch_size = {wanted}: both seats of a {arena} learn in one step, so "
                    "it has to be even"
                )
