"""Group-relative policy optimisation and its family: several responses a prompt, no critic.

Shao et al. 2024. Losses: `losses/policy.py`; advantages: `losses/advantages.py`. All
responses to a prompt share its computation, and several prompts of one debate
what they have in common.

Shapes: B responses, R response tokens.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from oversight.train import losses
from oversight.train.data.loading import load_prompts
from oversight.train.distributed import shard
from oversight.train.experience import Experience, check_experience, open_sampler, plan_experience
from oversight.train.experience_settings import GRPOSettings
from oversight.train.loading import load_policy
from oversight.train.losses.advantages import (
    RoleBaseline,
    group,
    reinforce_plus_plus_baseline,
    rloo,
    role_baseline,
)
from oversight.train.losses.metrics import Metrics
from oversight.train.losses.policy_batch import Extras
from oversight.train.plan import Plan
from oversight.train.policy_step import policy_step
from oversight.train.reference import open_reference
from oversight.train.registered import trainer
from oversight.train.rollouts.buffer import RolloutBatch
from oversight.train.rollouts.rewards import open_rewards
from oversight.train.rollouts.types import Collector, RewardSource, Sampler
from oversight.train.session import Session, num_steps
from oversight.train.start import Rows, about, begin, finished_model

Config = GRPOSettings


def plan(config: Config) -> Plan:
    """Return the plan of a run, after all checks that the run makes."""
    check_loss(config)
    found = plan_experience("grpo", config)
    found.add_reference(config.reference if config.kl_coefficient else "none")
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
    """Train, and give the folder of the finished model.

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
    if (model := finished_model("grpo", config, loaded, resume=resume)) is not None:
        return model
    check_experience(
        config, start, loaded.examples, rewards=rewards is None, engine=sampler is None
    )
    policy = load_policy(config.model, start.config, config.seed)
    reference = open_reference(
        config.reference if config.kl_coefficient else "none",
        config.model,
        policy,
        start.vocabulary,
        start.config,
        config.seed,
        start.world,
        keeps=False,
    )
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
        valuing = GroupAdvantages(config, RoleBaseline(config.baseline_decay))
        session = opened.enter_context(
            Session(
                about("grpo", config, loaded),
                config,
                {"policy": policy},
                num_examples=len(loaded.examples),
                total=num_steps(config, len(loaded.examples))
                * (1 if config.steps else config.steps_per_collection),
                world=start.world,
                parts={"experience": experience, "valuing": valuing},
                resume=resume,
            )
        )
        for step in session.steps():
            batch, found = experience.next(step - 1, session.take, valuing)
            task = policy_step(config, policy, session, experience, batch, _surrogate(config))
            session.log(session.update(task) | found)
            session.keep(experience.samples)
        return session.finish(policy, start.tokenizer, best=False)


def check_loss(config: Config) -> None:
    """Refuse a loss that there is not, or options that it has not or not in their range.

    Raises:
        ConfigError: It names the nearest, or what is accepted.
    """
    losses.load("policy", config.loss).bind(config.options)


@dataclass
class GroupAdvantages:
    """From rewards to advantages; role baselines go on from one collection to the next."""

    config: Config
    baseline: RoleBaseline = field(default_factory=RoleBaseline)

    def __call__(self, batch: RolloutBatch) -> tuple[RolloutBatch, dict[str, float]]:
        """The collection, which all processes hold, with its advantages, one a response."""
        rewards_B = torch.from_numpy(batch.row_values["shaped"]).float()
        groups_B = torch.from_numpy(batch.groups_B)
        advantages_B, metrics = self._advantages(rewards_B, groups_B, batch)
        values = {name: found.value() for name, found in metrics.items() if name == "no_signal"}
        return batch.with_row_values(advantages=advantages_B.numpy()), values

    def _advantages(
        self, rewards_B: torch.Tensor, groups_B: torch.Tensor, batch: RolloutBatch
    ) -> tuple[torch.Tensor, Metrics]:
        kind = self.config.advantage
        if kind == "rloo":
            return rloo(rewards_B, groups_B)
        if kind == "reinforce_plus_plus":
            return reinforce_plus_plus_baseline(rewards_B, groups_B)
        if kind == "role_baseline":
            return role_baseline(rewards_B, batch.roles, self.baseline), {}
        scale = self.config.scale or losses.load("policy", self.config.loss).scale
        return group(rewards_B, groups_B, scale=scale)

    def state_dict(self) -> dict[str, Any]:
        """The role baselines."""
        return self.baseline.to_json()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.baseline = RoleBaseline.from_json(state_dict)


def _surrogate(config: Config) -> Any:
    """The loss with its options and added terms, without its normaliser."""
    extras = Extras(config.kl_coefficient, config.kl_estimator, config.entropy_coefficient)
    return partial(losses.load("policy", config.loss).bind(config.options), extras=extras)
