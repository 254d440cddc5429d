"""Supervised fine-tuning: the likelihood of demonstrated responses (Ouyang et al. 2022, step 1).

Source of the loss: `losses.responses.sft_loss`. Which tokens of a row are learnt is the
data's business (`data.train_on`): the assistant's turns, or every one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.data.loading import load_demonstrations
from oversight.train.distributed import shard
from oversight.train.loading import load_policy
from oversight.train.losses.metrics import Metrics
from oversight.train.losses.responses import sft_loss
from oversight.train.plan import Plan, begin_alone
from oversight.train.registered import trainer
from oversight.train.session import Objective, Session, num_steps
from oversight.train.settings import SFTSettings
from oversight.train.start import Rows, about, begin, finished_model
from oversight.train.types import Demonstration

Config = SFTSettings


def plan(config: Config) -> Plan:
    """Return the plan of a run, after all checks that the run makes."""
    start = begin_alone(config)
    loaded = start.load(load_demonstrations, config.data, config.batch_size)
    return Plan("sft", config, start, loaded, groups=[[each.row] for each in loaded.examples])


@trainer(Config, plan=plan)
def train(config: Config, *, rows: Rows | None = None, resume: bool = False) -> Path:
    """Train, and give the folder of the finished model.

    Args:
        config: Settings of the run.
        rows: Rows in memory, in place of `config.data.path`.
        resume: Go on with the run in `config.out`.
    """
    start = begin(config, config.data, rows)
    loaded = start.load(load_demonstrations, config.data, config.batch_size, rows)
    if (model := finished_model("sft", config, loaded, resume=resume)) is not None:
        return model
    policy = load_policy(config.model, start.config, config.seed)
    shard(policy, start.world)
    held_out = start.world.share(loaded.eval_examples)
    with Session(
        about("sft", config, loaded),
        config,
        {"policy": policy},
        num_examples=len(loaded.examples),
        total=num_steps(config, len(loaded.examples)),
        world=start.world,
        resume=resume,
    ) as session:
        for _ in session.steps():
            batch = [loaded.examples[i] for i in session.take_own()]
            session.log(session.update(_task(config, policy, session, batch)))
            if held_out and session.evaluation_is_due:
                result = session.evaluate(_task(config, policy, session, held_out))
                session.evaluated(result["loss"], result)
        return session.finish(policy, start.tokenizer)


def _task(
    config: Config, policy: PolicyModel, session: Session, batch: Sequence[Demonstration]
) -> Objective:
    """The mean over tokens, or over rows, of all processes, each by its row's weight."""
    weights = [d.weight if config.per_sequence else d.weight * d.row.num_trained for d in batch]
    [normalizer] = session.world.sum([sum(weights)])

    def loss_of(numbers: list[int]) -> tuple[torch.Tensor, Metrics]:
        part = [batch[i] for i in numbers]
        scores = policy(RowBatch.build([d.row for d in part], policy.device))
        return sft_loss(
            scores.logps_BR,
            scores.mask_BR,
            normalizer=normalizer,
            weight_B=torch.tensor([d.weight for d in part], device=policy.device),
            per_sequence=config.per_sequence,
        )

    return Objective([[d.row] for d in batch], loss_of)
