"""Reward models: from compared responses to one number a response (Ouyang et al. 2022, step 2).

Losses: `losses/reward.py`. Pairs go through Bradley–Terry or one of the models of
ties; rankings of K responses whole through Plackett–Luce, or in pairs. Several
members with other seeds make an ensemble, whose disagreement says where a
reward is not to be trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, JsonValue

from oversight.errors import ConfigError, DataError
from oversight.train import losses
from oversight.train.comparisons import PairLabels, ranks_of
from oversight.train.data.examples import PairsOf, expand
from oversight.train.data.loading import Loaded, load_comparisons
from oversight.train.data.settings import DataSettings
from oversight.train.distributed import shard
from oversight.train.losses.metrics import Metrics
from oversight.train.model.batch import RowBatch
from oversight.train.model.loading import load_scalar
from oversight.train.model.policy import ScalarModel
from oversight.train.session import Session, Task, num_steps
from oversight.train.settings import TrainSettings
from oversight.train.start import Rows, about, begin, finished_model
from oversight.train.types import Comparison


class Config(TrainSettings):
    """Settings of a reward model's run."""

    by_content: ClassVar[Mapping[str, str]] = {"loss": "function"}

    data: DataSettings
    loss: str = "bradley_terry"
    """The name of a reward loss (below), or your own, as "file.py:function"."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """The loss's own, such as `centring` or `label_smoothing`."""
    soft_labels: bool = True
    """Learn the probabilities that judges gave, and not only who won."""
    pairs_of: PairsOf = "all"
    """Which pairs of a ranking are compared (not with plackett_luce, which takes it whole)."""
    members: int = Field(default=1, ge=1, le=64)
    """Models of an ensemble: each is a run of its own, in OUT/member-1 and so on."""


def train(config: Config, *, rows: Rows | None = None, resume: bool = False) -> Path:
    """Train, and give the folder of the finished model, or of the members of an ensemble.

    Args:
        config: Settings of the run.
        rows: Rows in memory, in place of `config.data.path`.
        resume: Go on with the run in `config.out`.
    """
    check_loss(config)
    if config.members == 1:
        return _train_one(config, rows, resume)
    kept = None if rows is None else list(rows)
    for number in range(1, config.members + 1):
        out = config.out / f"member-{number}"
        if not (resume and (out / "model").exists()):
            own = {"out": out, "members": 1, "seed": config.seed + number - 1}
            _train_one(config.model_copy(update=own), kept, resume and out.exists())
    return config.out


def check_loss(config: Config) -> None:
    """Refuse options that the loss has not, or not in their range.

    Raises:
        ConfigError: It names the nearest, or what is accepted.
    """
    losses.load("reward", config.loss).bind(config.options)
    if config.model.router_aux_coefficient:
        raise ConfigError(
            f"model.router_aux_coefficient = {config.model.router_aux_coefficient:g}: the "
            "load-balancing loss is of language models, and a reward model is trained without; "
            "leave it at 0"
        )


def check_examples(config: Config, loaded: Loaded[Comparison]) -> list[str]:
    """Refuse rows that say what the loss does not hear; nothing is to be said of others.

    Raises:
        DataError: It names the first of them, and what would work.
    """
    if not losses.load("reward", config.loss).rankings or not config.soft_labels:
        return []
    for each in [*loaded.examples, *loaded.eval_examples]:
        if each.soft_label is not None:
            raise DataError(
                f"loss = {config.loss!r} learns rankings, in which one response is better for "
                f"certain; row {each.id!r} has the soft label {each.soft_label:g}. Take "
                "soft_labels = false, or loss = 'bradley_terry'"
            )
    return []


def _train_one(config: Config, rows: Rows | None, resume: bool) -> Path:
    start = begin(config, config.data, rows)
    loaded = start.load(load_comparisons, config.data, config.batch_size, rows)
    check_examples(config, loaded)
    if (before := finished_model("reward", config, loaded, resume=resume)) is not None:
        return before
    model = load_scalar(config.model, start.config, config.seed)
    shard(model, start.world)
    examples = _as_learnt(config, loaded.examples)
    held_out = start.world.share(_as_learnt(config, loaded.eval_examples))
    with Session(
        about("reward", config, loaded),
        config,
        {"model": model},
        num_examples=len(examples),
        total=num_steps(config, len(examples)),
        world=start.world,
        higher_is_better=True,
        resume=resume,
    ) as session:
        for _ in session.steps():
            batch = [examples[i] for i in session.take_own()]
            session.log(session.update(_task(config, model, session, batch)))
            if held_out and session.evaluation_is_due:
                result = session.evaluate(_task(config, model, session, held_out))
                session.evaluated(result["accuracy"], result)
        return session.finish(model, start.tokenizer)


def _as_learnt(config: Config, found: Sequence[Comparison]) -> list[Comparison]:
    """Rankings whole, or as pairs; the other losses have a word for ties of two."""
    if losses.load("reward", config.loss).rankings:
        return list(found)
    return [pair for each in found for pair in expand(each, config.pairs_of, ties=True)]


def _task(
    config: Config, model: ScalarModel, session: Session, batch: Sequence[Comparison]
) -> Task:
    """The mean over the comparisons of all processes, each by its weight."""
    registered = losses.load("reward", config.loss)
    loss = registered.bind(config.options)
    [normalizer] = session.world.sum([sum(c.weight for c in batch)])

    def loss_of(numbers: list[int]) -> tuple[torch.Tensor, Metrics]:
        part = [batch[i] for i in numbers]
        rewards_R = model(RowBatch.build([row for c in part for row in c.rows()], model.device))
        labels = PairLabels.of(part, model.device, soft=config.soft_labels)
        given: dict[str, Any] = {"normalizer": normalizer, "weight_B": labels.weight_B}
        if registered.rankings:
            ranks_BK, mask_BK = ranks_of(part, model.device)
            rewards_BK = torch.zeros(mask_BK.shape, device=model.device)
            rewards_BK[mask_BK] = rewards_R
            return loss(rewards_BK, ranks_BK=ranks_BK, mask_BK=mask_BK, **given)  # type: ignore[no-any-return]
        given |= {"soft_label_B": labels.soft_label_B, "tie_B": labels.tie_B}
        given |= {"margin_B": labels.margin_B}
        return loss(rewards_R[::2], rewards_R[1::2], **given)  # type: ignore[no-any-return]

    return Task([c.rows() for c in batch], loss_of)
