"""Settings of an experiment in Constitutional AI: prompts, model, constitution, stages, trainers.

out = "runs/constitutional"
model = "porter"              # answers, criticises, revises, and compares
constitution = "register"
stages = ["sl", "rl"]
methods = ["dpo", "grpo"]
seeds = [0, 1, 2]

[dataset]
dataset = "register"

[sft]                         # settings of the trainer, over the experiment's own
steps = 100

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

Stage = Literal["sl", "rl"]
RlMethod = Literal["dpo", "ppo", "grpo", "grpo_rule"]
Control = Literal["plain", "without_critique", "random_principle", "wrong_principle"]
Overrides = dict[str, JsonValue]


def _is_empty(given: object) -> bool:
    """True of what a record leaves out: those of before have no word of it."""
    return not given


class ConstitutionalSettings(ExperimentSettings):
    """An experiment, from a model that only helps to the report."""

    # Stages, methods and arms only add jobs, each known by its name: a folder in which the first
    # stage was run goes on with the second.
    incidental: ClassVar[frozenset[str]] = frozenset(
        {
            *("out", "jobs", "quick", "stages", "methods", "controls", "left_out", "seeds"),
            *("run", "tags"),
        }
    )
    by_content: ClassVar[Mapping[str, str]] = {"model": "model"}

    out: Path = Path("runs/constitutional")
    model: str = "porter"
    """Model that answers at the start, and that criticises, revises and compares throughout: a
    folder, a hub name, or an embedded model."""
    template_args: TemplateArgs = Field(default_factory=dict, exclude_if=_is_empty)
    """Further values for the model's chat template, such as `enable_thinking`, wherever it answers,
    criticises, compares or is trained."""
    constitution: str = "register"
    """A constitution's name, or its file."""
    dataset: DatasetSettings
    """Data set whose rule decides harm; `split` and `limit` are set by the experiment."""
    train_prompts: int = Field(default=800, ge=8)
    """Of the stage sl."""
    rl_prompts: int = Field(default=800, ge=8)
    """Of the stage rl, behind those of the stage sl: of prompts that a policy has learnt by heart
    its answers hardly differ, and there is little to compare."""
    held_out_prompts: int = Field(default=480, ge=8)
    stages: tuple[Stage, ...] = Field(default=("sl", "rl"), min_length=1)
    """`sl`: critiques, revisions, SFT; `rl`: feedback and reinforcement learning behind it."""
    methods: tuple[RlMethod, ...] = Field(default=("dpo", "ppo", "grpo", "grpo_rule"))
    """Of the stage rl. `dpo` and `ppo` learn from comparisons, `grpo` from the frozen model's own
    critiques, `grpo_rule` from the data set's rule: what the others are held against."""
    controls: tuple[Control, ...] = ()
    """Of the stage sl: SFT on first answers, on revisions without a critique, after critiques by
    one principle drawn at random, after critiques by all principles but those that apply."""
    left_out: bool = False
    """Do the stage sl again with each principle left out."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    temperature: float = Field(default=0.5, ge=0.0, le=2.0)
    """Of answers that are criticised, and of those that are measured; candidates that are compared
    are drawn at 1, so that they differ."""
    max_tokens: int = Field(default=32, ge=4)
    """Longest answer."""
    candidates: int = Field(default=8, ge=2, le=64)
    """Answers to each prompt of which every two that differ are compared: the better a policy is
    already, the fewer differ."""
    sft: Overrides = Field(default_factory=dict)
    dpo: Overrides = Field(default_factory=dict)
    reward: Overrides = Field(default_factory=dict)
    """Of the reward model that PPO learns from."""
    ppo: Overrides = Field(default_factory=dict)
    grpo: Overrides = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("stages", "methods", "controls", "seeds"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name} = {list(given)} names one twice")
        if "sl" not in self.stages:
            raise ValueError("stages = ['rl']: it begins with what the stage sl has made")
        for table in ("sft", "dpo", "reward", "ppo", "grpo"):
            check_given(table, getattr(self, table))
        if self.dataset.split or self.dataset.limit:
            raise ValueError(
                "dataset.split and dataset.limit are the experiment's own: set train_prompts and "
                "held_out_prompts"
            )
        return self
