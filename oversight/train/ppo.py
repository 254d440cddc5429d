"""Proximal policy optimisation with a critic: RLHF's third step (Ouyang et al. 2022).

Schulman et al. 2017. The critic shares the policy's layers, or is a model of its
own that may begin as the reward model. The KL divergence from the reference is a
part of the reward, token by token, with a fixed or an adaptive coefficient.

Shapes: B responses, R response tokens.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.modeling.scoring.policy import ScalarModel, Scores
from oversight.modeling.scoring.trie import RowBatch
from oversight.train import losses
from oversight.train.batches import padded, row_values
from oversight.train.data.loading import load_prompts
from oversight.train.distributed import shard
from oversight.train.experience import Experience, check_experience, open_sampler, plan_experience
from oversight.train.experience_settings import PPOSettings, RewardKLSettings
from oversight.train.loading import Vocabulary, load_policy, load_scalar, named, read_config
from oversight.train.losses.advantages import gae, token_rewards
from oversight.train.losses.kl import AdaptiveKL, FixedKL, kl_in_reward
from oversight.train.losses.metrics import SIGNAL, Metrics, is_rounding, masked_sum, peak_of
from oversight.train.losses.policy import value_loss
from oversight.train.losses.policy_batch import Extras
from oversight.train.plan import TRAINED, AuxiliaryModel, Plan
from oversight.train.policy_step import Added, policy_step
from oversight.train.reference import open_reference, same_vocabulary
from oversight.train.registered import trainer
from oversight.train.rollouts.buffer import RolloutBatch
from oversight.train.rollouts.rewards import open_rewards
from oversight.train.rollouts.types import Collector, RewardSource, Sampler
from oversight.train.session import Session, num_steps
from oversight.train.settings import ModelSettings
from oversight.train.start import Rows, about, begin, finished_model

Config = PPOSettings


def plan(config: Config) -> Plan:
    """Return the plan of a run, after all checks that the run makes."""
    check_loss(config)
    found = plan_experience("ppo", config)
    if config.critic.kind == "apart":
        settings, critic_config = read_critic(config, found.start.vocabulary)
        critic_config.num_labels = 1
        where = f"critic.path = {settings.path!r}"
        held = AuxiliaryModel("critic", "scalar", critic_config, settings.path, where, TRAINED)
        found.held.append(held)
        found.checked.append("critic")
    found.add_reference(config.reference if config.kl.coefficient else "none")
    return found


@trainer(Config, plan=plan)
def train(
    config: Config,
    *,
    rows: Rows | None = None,
    rewards: RewardSource | None = None,
    sampler: Sampler | None = None,
    resume: bool = False,
) -> Path:
    """Train, and give the folder of the finished policy.

    Args:
        config: Settings of the run.
        rows: Rows in memory, in place of `config.data.path`.
        rewards: A source of reward in place of `config.reward`.
        sampler: Answers prompts, in place of `config.engine`; it is closed at the end.
        resume: Go on with the run in `config.out`.
    """
    check_loss(config)
    start = begin(config, config.data, rows)
    room = config.sampling.max_new_tokens
    loaded = start.load(load_prompts, config.data, config.batch_size, rows, room=room)
    if (model := finished_model("ppo", config, loaded, resume=resume)) is not None:
        return model
    shared = config.critic.kind == "shared"
    check_experience(
        config, start, loaded.examples, rewards=rewards is None, engine=sampler is None
    )
    policy = load_policy(config.model, start.config, config.seed, value_head=shared)
    critic = None if shared else _critic(config, start.vocabulary)
    reference = open_reference(
        config.reference if config.kl.coefficient else "none",
        config.model,
        policy,
        start.vocabulary,
        start.config,
        config.seed,
        start.world,
        keeps=False,
    )
    models: dict[str, torch.nn.Module] = {"policy": policy}
    if critic is not None:
        models["critic"] = critic
        shard(critic, start.world, methods=["values"])
    shard(policy, start.world)
    source = rewards or open_rewards(config.reward, start.tokenizer, str(policy.device))
    with ExitStack() as opened:
        if sampler is None:
            ours = open_sampler(config, policy, start.tokenizer, start.world)
            sampler = opened.enter_context(ours)
        collector = Collector(sampler, config.ahead)
        opened.callback(collector.close)
        experience = Experience(
            config,
            loaded.examples,
            policy,
            collector,
            source,
            reference,
            start.world,
            tokenizer=start.tokenizer,
        )
        valuing = CriticAdvantages(config, experience, critic, _controller(config.kl))
        session = opened.enter_context(
            Session(
                about("ppo", config, loaded),
                config,
                models,
                num_examples=len(loaded.examples),
                total=num_steps(config, len(loaded.examples))
                * (1 if config.steps else config.steps_per_collection),
                world=start.world,
                parts={"experience": experience, "valuing": valuing},
                resume=resume,
            )
        )
        surrogate = partial(
            losses.bind("policy", "ppo", _options(config), where="ppo"),
            extras=Extras(entropy_coefficient=config.entropy_coefficient),
        )
        for step in session.steps():
            batch, found = experience.next(step - 1, session.take, valuing)
            added = _value_term(config, critic, session, batch)
            task = policy_step(config, policy, session, experience, batch, surrogate, added)
            session.log(_explained(session.update(task)) | found)
            session.keep(experience.samples)
        return session.finish(policy, start.tokenizer, best=False)


def check_loss(config: Config) -> None:
    """Refuse bounds of the loss that do not go together.

    Raises:
        ConfigError: It names one, and what it may be beside the others.
    """
    losses.bind("policy", config.loss, _options(config), where="")


@dataclass
class CriticAdvantages:
    """From shaped rewards to advantages and returns, by the critic and the KL penalty."""

    config: Config
    experience: Experience
    critic: ScalarModel | None
    controller: FixedKL | AdaptiveKL

    def __call__(self, batch: RolloutBatch) -> tuple[RolloutBatch, dict[str, float]]:
        """The collection with `values`, `advantages` and `returns` for each token."""
        mask_BR = _mask(batch)
        values_BR = padded(self._values(batch), mask_BR.float())
        penalty_BR, metrics = self._penalty(batch, mask_BR)
        scores_B = torch.from_numpy(batch.row_values["shaped"]).float()
        rewards_BR = token_rewards(scores_B, mask_BR, penalty_BT=penalty_BR)
        advantages_BR, returns_BR = gae(
            rewards_BR, values_BR, mask_BR, gamma=self.config.gamma, lam=self.config.lam
        )
        if self.config.whiten:
            advantages_BR = self._whitened(advantages_BR, mask_BR)
        kept = {"values": values_BR, "advantages": advantages_BR, "returns": returns_BR}
        arrays = {name: _cut(whole_BR, batch) for name, whole_BR in kept.items()}
        return batch.with_token_values(**arrays), metrics

    def state_dict(self) -> dict[str, Any]:
        """The KL controller."""
        return self.controller.to_json()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.controller = type(self.controller).from_json(state_dict)

    def _values(self, batch: RolloutBatch) -> list[torch.Tensor]:
        max_tokens, world = self.config.micro_batch_tokens, self.experience.world
        model = self.experience.policy if self.critic is None else self.critic
        return self.experience.by_row(
            batch, lambda rows: row_values(model, rows, world, max_tokens)
        )

    def _penalty(
        self, batch: RolloutBatch, mask_BR: torch.Tensor
    ) -> tuple[torch.Tensor | None, dict[str, float]]:
        """The KL divergence's part of the rewards; the controller takes its mean in."""
        if "ref_logps" not in batch.token_values:
            return None, {}
        ours_BR, theirs_BR = (
            padded([torch.from_numpy(v) for v in batch.token_values[name]], mask_BR.float())
            for name in ("old_logps", "ref_logps")
        )
        coefficient = self.controller.value
        divergence = float(masked_sum(ours_BR - theirs_BR, mask_BR)) / len(batch)
        if is_rounding(ours_BR[mask_BR], theirs_BR[mask_BR], self.config.model.precision):
            # The policy is the reference still, and rounding is nothing to be rewarded for.
            ours_BR = theirs_BR
        penalty_BR = kl_in_reward(
            ours_BR,
            theirs_BR,
            mask_BR,
            coefficient=coefficient,
            estimator=self.config.kl.estimator,
        )
        self.controller.update(divergence, len(batch))
        return penalty_BR, {"kl_coefficient": coefficient, "kl_rollout": divergence}

    def _whitened(self, values_BR: torch.Tensor, mask_BR: torch.Tensor) -> torch.Tensor:
        """Mean 0 and variance 1 over the tokens of the collection."""
        kept = values_BR[mask_BR].double()
        count = max(float(kept.numel()), 1.0)
        mean = float(kept.sum()) / count
        if kept.numel() and (kept - mean).abs().max() <= 1e-6 * kept.abs().max():
            return torch.zeros_like(values_BR)  # all alike: what differs is rounding
        std = math.sqrt(float((kept - mean).square().sum()) / count + 1e-8)
        return ((values_BR - mean) / std).masked_fill(~mask_BR, 0.0)


def _value_term(
    config: Config, critic: ScalarModel | None, session: Session, batch: RolloutBatch
) -> Added:
    """The critic's loss, to be added to the policy's."""
    [num_tokens] = session.world.sum([float(sum(row.num_trained for row in batch.rows))])

    def term(scores: Scores, part: RolloutBatch, line: RowBatch) -> tuple[torch.Tensor, Metrics]:
        values_BR: torch.Tensor | None = scores.values_BR
        if critic is not None:
            values_BR = critic.values(line)
        if values_BR is None:
            raise ValueError("the policy has no value head")
        old_BR, returns_BR = (
            padded([torch.from_numpy(v) for v in part.token_values[name]], scores.mask_BR)
            for name in ("values", "returns")
        )
        total, metrics = value_loss(
            values_BR,
            old_BR,
            returns_BR,
            scores.mask_BR,
            normalizer=num_tokens,
            clip=config.critic.clip,
        )
        if config.critic.coefficient:
            off_BR = (values_BR.detach() - returns_BR).abs()
            off_BR = off_BR.masked_fill(off_BR <= 1e-6 * returns_BR.abs().clamp(min=1.0), 0.0)
            metrics[SIGNAL] = peak_of(off_BR, scores.mask_BR)
        weighted: torch.Tensor = config.critic.coefficient * total
        return weighted, metrics

    return term


def _critic(config: Config, vocabulary: Vocabulary) -> ScalarModel:
    """A critic of its own, from a reward model or from the policy's beginning."""
    settings, critic_config = read_critic(config, vocabulary)
    with named(settings.path, f"critic.path = {settings.path!r}"):
        return load_scalar(settings, critic_config, config.seed)


def read_critic(config: Config, vocabulary: Vocabulary) -> tuple[ModelSettings, Any]:
    """Settings and configuration of a critic of its own; reads no weight.

    Raises:
        ConfigError: It has another vocabulary, or cannot be read.
    """
    settings = config.model
    if config.critic.path is not None:
        changes = {"path": config.critic.path, "scratch": None, "tokenizer": None, "lora": None}
        settings = settings.model_copy(update=changes)
    elif settings.scratch is not None:
        raise ConfigError(
            "critic.kind = 'apart' needs critic.path where the policy is from scratch"
        )
    with named(settings.path, f"critic.path = {settings.path!r}"):
        critic_config, own = read_config(settings, ())
    if not same_vocabulary(own, vocabulary):
        raise ConfigError(
            f"critic.path = {config.critic.path!r}: its vocabulary ({own.size} ids) is not the "
            f"policy's ({vocabulary.size} ids), so its values would be of other tokens; name a "
            "model with the same tokenizer"
        )
    return settings, critic_config


def _controller(settings: RewardKLSettings) -> FixedKL | AdaptiveKL:
    if settings.target is None:
        return FixedKL(settings.coefficient)
    return AdaptiveKL(settings.coefficient, settings.target, settings.horizon)


def _options(config: Config) -> dict[str, Any]:
    return {
        "clip_low": config.clip_low,
        "clip_high": config.clip_high,
        "dual_clip": config.dual_clip,
    }


def _explained(values: dict[str, float]) -> dict[str, float]:
    """The share of the returns' variance that the critic explains, beside its other metrics."""
    names = ("return", "return_squared", "error", "error_squared")
    mean, square, error, error_square = (values.get(f"value/{n}", 0.0) for n in names)
    variance = square - mean**2
    if variance <= 1e-12:
        return values
    return values | {"value/explained": 1.0 - (error_square - error**2) / variance}


def _mask(batch: RolloutBatch) -> torch.Tensor:
    """Return the mask [B, R] of response tokens that the policy has said."""
    longest = max(1, *(len(row.response_ids) for row in batch.rows))
    mask_BR = torch.zeros(len(batch), longest, dtype=torch.bool)
    for place, row in enumerate(batch.rows):
        own = np.ones(len(row.response_ids), bool) if row.mask is None else row.mask
        mask_BR[place, : len(own)] = torch.from_numpy(own)
    return mask_BR


def _cut(whole_BR: torch.Tensor, batch: RolloutBatch) -> list[np.ndarray[Any, Any]]:
    return [whole_BR[i, : len(row.response_ids)].numpy() for i, row in enumerate(batch.rows)]
