"""Settings of training on sampled responses: what PPO and GRPO share, and their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from oversight.config import Settings
from oversight.train.losses.options import Estimator, LossEstimator
from oversight.train.settings import (
    NONE,
    DataSettings,
    DPOSettings,
    RewardModelSettings,
    SFTSettings,
    TrainSettings,
)


class SamplingSettings(Settings):
    """Settings of sampling: temperature, lengths and stops."""

    max_new_tokens: int = Field(default=256, ge=1)
    """A response that has not ended by then is cut off, and says so."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Of softmax(logits / temperature), which is also what the trainer scores."""
    rows_at_once: int = Field(default=256, ge=1)
    """Responses that are decoded side by side; changes memory and speed, and no token."""


REWARD_SETTINGS = {
    "model": ("models", "disagreement_penalty"),
    "function": ("function",),
    "matches": ("field", "how", "ignore_case"),
    "length": ("target_tokens",),
    "sum": ("parts",),
}
"""Settings of each source of reward."""


class SourceSettings(Settings):
    """One source of rewards, with its own settings."""

    by_content: ClassVar[Mapping[str, str]] = {"models": "model", "function": "function"}

    source: Literal["model", "function", "matches", "length", "sum"] = "model"
    models: tuple[str, ...] = ()
    """`model`: folders of reward models of one label; the mean of several is the reward."""
    disagreement_penalty: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """`model`: times the models' standard deviation, taken off the reward (after Coste et al. 2023,
    arXiv:2310.02743, whose uncertainty-weighted optimisation takes off the variance)."""
    function: str = ""
    """`function`: "package.module:function" or "file.py:function", called with the texts of the
    responses, without thoughts, and, for each, a mapping of its row's fields, its prompt's text
    (`prompt`) and its thoughts (`thoughts`)."""
    field: str = "answer"
    """`matches`: the example's field that a response is held against."""
    how: Literal["contains", "equals", "regex"] = "contains"
    """`matches`: how; a regex is the field itself, searched for in the response."""
    ignore_case: bool = True
    """`matches`: whether case and outer blanks are disregarded."""
    target_tokens: int = Field(default=64, ge=1)
    """`length`: 1 for a response of so many tokens, falling by its relative distance from that."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source == "model" and not self.models:
            raise ValueError("source = 'model' needs models, folders of reward models")
        if self.source == "function" and not self.function:
            raise ValueError("source = 'function' needs function, such as 'my_module:reward'")
        return self


class WeightedSource(SourceSettings):
    """A source that is one of several, and its weight among them."""

    weight: float = 1.0
    """Times this the source's rewards are added; 0 only draws its curve."""

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "sum":
            raise ValueError("source = 'sum' stands in a sum; name all sources side by side")
        return self


PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Name of a source in a sum: it is a part of the names of metrics."""


class RewardSettings(SourceSettings):
    """Source of rewards: one, or the weighted sum of several."""

    parts: dict[str, WeightedSource] = Field(default_factory=dict)
    """`sum`: sources by name, each a table `[reward.parts.NAME]` with its `weight`; the mean of
    each is the metric `rewards/NAME`."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.source != "sum":
            return self
        if not any(each.weight for each in self.parts.values()):
            raise ValueError(
                "source = 'sum' needs parts, tables such as [reward.parts.quotes], at least one "
                "of them with another weight than 0"
            )
        for name in self.parts:
            if not PART.fullmatch(name):
                raise ValueError(
                    f"parts.{name!r}: give a name of letters, digits, '-' and '_'; it is shown as "
                    "the metric rewards/NAME"
                )
        return self

    def sources(self) -> Iterator[tuple[str, SourceSettings]]:
        """Each source of rewards by its dotted setting: `reward`, or `reward.parts.NAME`."""
        if self.source != "sum":
            yield "reward", self
        for name, each in self.parts.items():
            yield f"reward.parts.{name}", each

    def models_named(self) -> Iterator[tuple[str, str]]:
        """Each reward model's folder, by the dotted setting that names it."""
        for place, each in self.sources():
            for folder in each.models if each.source == "model" else ():
                yield f"{place}.models", folder


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


class RewardKLSettings(Settings):
    """The hold to the reference, as a part of the reward."""

    coefficient: float = Field(default=0.05, ge=0.0)
    estimator: Estimator = "k1"
    target: float | None = Field(default=None, gt=0.0)
    """Nats a response that an adaptive coefficient steers to (Ziegler et al. 2019); None: fixed."""
    horizon: float = Field(default=10_000.0, gt=0.0)
    """Responses over which the adaptive coefficient reacts."""


class CriticSettings(Settings):
    """The model of values."""

    by_content: ClassVar[Mapping[str, str]] = {"path": "model"}

    kind: Literal["shared", "apart"] = "shared"
    """A head on the policy's own layers, or a model of its own."""
    path: str | None = None
    """`apart`: what it begins as, such as a reward model; None for the policy's own beginning."""
    coefficient: float = Field(default=0.5, ge=0.0)
    """Of its loss, which is added to the policy's."""
    clip: float | None = Field(default=0.2, gt=0.0)
    """Most that a value may move from its former one; None for the plain square."""


class PPOSettings(ExperienceSettings):
    """Settings of a PPO run."""

    needs_logprobs: ClassVar[bool] = True  # for the divergence in the reward

    samples: int = Field(default=1, ge=1)
    mini_batches: int = Field(default=4, ge=1)
    reuse: int = Field(default=4, ge=1)
    loss: Literal["ppo"] = "ppo"
    clip_low: float = Field(default=0.2, ge=0.0, le=1.0)
    clip_high: float = Field(default=0.2, ge=0.0)
    dual_clip: float | None = Field(default=None, gt=1.0)
    """Bound on the ratio where the advantage is negative (Ye et al. 2020); 3 is usual."""
    gamma: float = Field(default=1.0, ge=0.0, le=1.0)
    lam: float = Field(default=0.95, ge=0.0, le=1.0)
    """Of generalised advantage estimation."""
    whiten: bool = True
    """Advantages with mean 0 and variance 1 over the collection, all processes together."""
    kl: RewardKLSettings = RewardKLSettings()
    critic: CriticSettings = CriticSettings()
    entropy_coefficient: float = Field(default=0.0, ge=0.0)

    def unread(self) -> Iterator[tuple[str, str]]:
        """Settings that nothing reads beside the others, each with the reason."""
        yield from super().unread()
        if not self.kl.coefficient:
            for name in ("estimator", "target", "horizon"):
                yield f"kl.{name}", "kl.coefficient = 0 takes nothing off the reward"
        if self.kl.target is None:
            yield "kl.horizon", "without kl.target the coefficient is fixed"
        if self.critic.kind == "shared":
            yield "critic.path", "critic.kind = 'shared' is a head on the policy's own layers"
        if not self.critic.coefficient:
            yield "critic.clip", "critic.coefficient = 0 trains no critic"

    @model_validator(mode="after")
    def _check_ppo(self) -> Self:
        self.check_reference("kl.coefficient", self.kl.coefficient)
        return self


Advantage = Literal["group", "rloo", "reinforce_plus_plus", "role_baseline"]


class GRPOSettings(ExperienceSettings):
    """Settings of a GRPO run."""

    by_content: ClassVar[Mapping[str, str]] = {"reference": "reference", "loss": "function"}

    loss: str = "grpo"
    """The name of a policy loss (below): grpo, dr_grpo, dapo, gspo, cispo, reinforce …; or your
    own, as "file.py:function"."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """The loss's own, such as `clip_high`."""
    advantage: Advantage = "group"
    scale: Literal["group", "none", "batch"] | None = None
    """Of group advantages: what they are divided by. None: what the loss says, which is nothing for
    dr_grpo, else the group's standard deviation."""
    baseline_decay: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Of role baselines."""
    kl_coefficient: float = Field(default=0.0, ge=0.0)
    """Of KL(policy || reference) in the loss."""
    kl_estimator: LossEstimator = "k3_ratio"
    entropy_coefficient: float = Field(default=0.0, ge=0.0)

    @model_validator(mode="after")
    def _check_grpo(self) -> Self:
        if self.samples == 1 and self.advantage != "role_baseline":
            raise ValueError(
                "samples = 1: a group of one response has no advantage over itself; take more "
                "samples, or advantage = 'role_baseline'"
            )
        self.check_reference("kl_coefficient", self.kl_coefficient)
        return self

    def unread(self) -> Iterator[tuple[str, str]]:
        """Settings that nothing reads beside the others, each with the reason."""
        yield from super().unread()
        if self.advantage != "group":
            yield "scale", f"advantage = {self.advantage!r} has no such divisor"
        if self.advantage != "role_baseline":
            yield "baseline_decay", f"advantage = {self.advantage!r} has no role baselines"
        if not self.kl_coefficient:
            yield "kl_estimator", "kl_coefficient = 0 adds no divergence"


SETTINGS_OF: dict[str, type[TrainSettings]] = {
    "sft": SFTSettings,
    "reward": RewardModelSettings,
    "dpo": DPOSettings,
    "ppo": PPOSettings,
    "grpo": GRPOSettings,
}
"""Settings of the trainers of this package by their names, without torch, which they load."""
