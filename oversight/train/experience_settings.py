"""Settings of training on sampled responses, which PPO and GRPO share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from oversight.config import Settings
from oversight.train.reference import NONE
from oversight.train.rollouts.types import RewardSettings, SamplingSettings
from oversight.train.settings import DataSettings, TrainSettings
from oversight.train.types import REWARD_SETTINGS


class ImportanceSettings(Settings):
    """Correction for a sampler whose log-probabilities are not the trainer's."""

    mode: Literal["none", "truncate", "mask"] = "truncate"
    level: Literal["token", "sequence", "geometric"] = "token"
    high: float | None = Field(default=2.0, gt=0.0)
    low: float | None = Field(default=None, ge=0.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low = {self.low} has to be below high = {self.high}")
        return self


class ShapingSettings(Settings):
    """Changes to rewards before they become advantages."""

    missing_eos: float = Field(default=0.0, ge=0.0)
    """Taken off the reward of a response that did not end by itself."""
    overlong_cache: int | None = Field(default=None, ge=1)
    """Tokens before the limit over which the reward falls by 1 (DAPO, eq. 13)."""
    mask_unfinished: bool = False
    """Learn nothing from responses that were cut off."""
    scale: bool = False
    """Divide rewards by their running standard deviation."""
    clip: float | None = Field(default=None, gt=0.0)
    """With `scale`: the largest scaled reward."""


class ExperienceSettings(TrainSettings):
    """Settings that PPO and GRPO share."""

    by_content: ClassVar[Mapping[str, str]] = {"reference": "reference"}
    incidental: ClassVar[frozenset[str]] = TrainSettings.incidental | {
        "weight_sync",
        "samples_kept",
    }

    data: DataSettings
    reward: RewardSettings
    sampling: SamplingSettings = SamplingSettings()
    samples: int = Field(default=8, ge=1)
    """Responses to each prompt; a collection has `batch_size` prompts."""
    engine: Literal["in_process", "vllm"] = "in_process"
    """Sampler of responses: the policy itself, or vLLM servers that are given its weights."""
    engine_settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of the vllm engine."""
    weight_sync: Literal["folder", "nccl"] = "folder"
    """New weights reach the servers in a folder, or by NCCL from GPU to GPU."""
    ahead: bool = False
    """Sample the next collection while learning from the last: one step off-policy."""
    mini_batches: int = Field(default=1, ge=1)
    """Optimiser steps that a collection is cut into."""
    reuse: int = Field(default=1, ge=1)
    """Number of times that a collection is gone through."""
    reference: str = "initial"
    """`initial`, `none`, or a model; asked only where a KL coefficient is above 0."""
    importance: ImportanceSettings = ImportanceSettings()
    shaping: ShapingSettings = ShapingSettings()
    dynamic_sampling: int = Field(default=0, ge=0)
    """Sample again, at most so many times, until every prompt's rewards differ (DAPO, eq. 11)."""
    samples_kept: int = Field(default=1, ge=0)
    """Prompts of each collection whose best and worst response are kept in `samples.jsonl`; now and
    then one is shown."""

    @model_validator(mode="after")
    def _check_experience(self) -> Self:
        if self.mini_batches > self.batch_size:
            raise ValueError(
                f"mini_batches = {self.mini_batches}, but a collection has only batch_size = "
                f"{self.batch_size} prompts to cut into parts"
            )
        if self.model.lora is not None and self.model.lora.dropout:
            raise ValueError(
                f"model.lora.dropout = {self.model.lora.dropout}: a policy that is trained with "
                "dropout is not the one that was sampled, so their ratio is off 1; set it to 0"
            )
        cache, most = self.shaping.overlong_cache, self.sampling.max_new_tokens
        if cache is not None and cache > most:
            raise ValueError(
                f"shaping.overlong_cache = {cache} is more than sampling.max_new_tokens = {most}: "
                "it is a number of tokens before that limit"
            )
        if self.ahead and self.engine == "in_process":
            raise ValueError("ahead needs engine = 'vllm': the policy itself is busy learning")
        if self.ahead and self.dynamic_sampling:
            raise ValueError("dynamic_sampling cannot know ahead what it will need; turn one off")
        return self

    def unread(self) -> Iterator[tuple[str, str]]:
        """Settings that nothing reads beside the others, each with the reason."""
        yield from super().unread()
        for name in ("patience", "eval_every"):
            yield name, "PPO and GRPO evaluate nothing on held-out rows"
        for name in ("data.train_on", "data.margin"):
            yield name, "PPO and GRPO take the prompts alone"
        if self.engine == "in_process":
            yield "engine_settings", "they are those of engine = 'vllm'"
            yield "weight_sync", "only servers of engine = 'vllm' are handed weights"
        if not self.shaping.scale:
            yield "shaping.clip", "it bounds rewards that shaping.scale = true has scaled"
        if self.importance.mode == "none":
            for name in ("level", "high", "low"):
                yield f"importance.{name}", "importance.mode = 'none' corrects nothing"
        for place, given in (*self.reward.sources(), ("reward", self.reward)):
            for source, names in REWARD_SETTINGS.items():
                for name in names if source != given.source else ():
                    if name in type(given).model_fields:
                        yield f"{place}.{name}", f"it is of {place}.source = {source!r}"
            if len(given.models) < 2:
                reason = "fewer than two reward models cannot disagree"
                yield f"{place}.disagreement_penalty", reason

    def check_reference(self, name: str, coefficient: float) -> None:
        """Refuse to hold the policy to a reference that there is none of.

        Raises:
            ValueError: The coefficient of the divergence is above 0.
        """
        if coefficient and self.reference == NONE:
            raise ValueError(
                f"{name} = {coefficient:g}: it holds the policy to a reference, and reference = "
                f"'none'; set {name} to 0, or take reference = 'initial'"
            )

    needs_logprobs: ClassVar[bool] = False
    """Score a collection by the policy even if it is used once."""

    @property
    def steps_per_collection(self) -> int:
        """Optimiser steps before responses are sampled anew."""
        return self.mini_batches * self.reuse
