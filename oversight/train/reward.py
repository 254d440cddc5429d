"""Reward models: from compared responses to one number a response (Ouyang et al. 2022, step 2).

Losses: `losses/reward.py`. Pairs go through Bradley–Terry or one of the models of
ties; rankings of K responses whole through Plackett–Luce, or in pairs. Several
members with other seeds make an ensemble, whose disagreement says where a
reward is not to be trusted. With `trains = "head"` the layers stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from oversight.errors import ConfigError, DataError
from oversight.modeling.scoring.policy import ScalarModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train import losses
from oversight.train.batches import PairLabels, is_decided, ranks_of, unread_margins
from oversight.train.data.examples import expand
from oversight.train.data.loading import LoadedExamples, load_comparisons
from oversight.train.distributed import shard
from oversight.train.loading import head_alone, load_scalar
from oversight.train.losses.metrics import (
    SIGNAL,
    Metrics,
    random_points,
    signal_of,
    silence,
    silent_B,
)
from oversight.train.plan import Plan, begin_alone
from oversight.train.registered import trainer
from oversight.train.session import Objective, Session, num_steps
from oversight.train.settings import RewardModelSettings
from oversight.train.start import Rows, about, begin, finished_model
from oversight.train.types import Comparison

Config = RewardModelSettings


def plan(config: Config) -> Plan:
    """Return the plan of a run, after all checks that the run makes."""
    check_loss(config)
    start = begin_alone(config)
    loaded = start.load(load_comparisons, config.data, config.batch_size)
    notes = check_examples(config, loaded)
    groups = [each.rows() for each in _as_learnt(config, loaded.examples)]
    head = config.trains == "head"
    return Plan("reward", config, start, loaded, groups, notes, kind="scalar", head_alone=head)


@trainer(Config, plan=plan, makes="reward model")
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
    registered = losses.load("reward", config.loss)
    registered.bind(config.options)
    if registered.rankings:
        given = {
            "pairs_of": (config.pairs_of, "all"),
            "data.margin": (config.data.margin, "column"),
        }
        for name, (value, default) in given.items():
            if value != default:
                raise ConfigError(
                    f"{name} = {value!r} is read by nothing: loss = {config.loss!r} takes rankings "
                    "whole and without margins; leave it out"
                )


def check_examples(config: Config, loaded: LoadedExamples[Comparison]) -> list[str]:
    """Refuse rows that say what the loss does not hear; what is to be said of the others.

    Raises:
        DataError: It names the first of them, and what would work.
    """
    found = [*loaded.examples, *loaded.eval_examples]
    if losses.load("reward", config.loss).rankings:
        for each in found if config.soft_labels else ():
            if each.soft_label is not None:
                raise DataError(
                    f"loss = {config.loss!r} learns rankings, in which one response is better for "
                    f"certain; row {each.id!r} has the soft label {each.soft_label:g}. Take "
                    "soft_labels = false, or loss = 'bradley_terry'"
                )
    examples = _as_learnt(config, loaded.examples)
    decided = [is_decided(each, soft=config.soft_labels) for each in examples]
    silent = _silent(config, examples)
    why, instead = "the loss's options leave nothing of them", "other options"
    if not any(known and nothing for known, nothing in zip(decided, silent, strict=True)):
        why = "their responses are tied, and it compares no tied responses with one another"
        instead = "rows in which one response is better, or a loss that draws tied responses "
        instead += "together, such as 'bradley_terry' or 'davidson'"
    ids = [each.id for each in examples]
    lines = silence(config.loss, "comparisons", ids, silent, why=why, instead=instead)
    if not lines and not any(decided):
        lines = [
            f"all {len(examples):,} comparisons are ties or have even labels, so that nothing says "
            "what is better than what"
        ]
    if losses.load("reward", config.loss).rankings:
        return [*lines, *unread_margins(config.loss, examples)]
    if config.data.margin == "scores" and not any(each.margin is not None for each in examples):
        raise DataError(
            "data.margin = 'scores': no row is a pair with two scores, whose difference would be "
            "its margin; name them in data.columns, or leave data.margin out"
        )
    return lines


CHUNK = 1024
"""Comparisons that a loss is tried on at once."""


def _silent(config: Config, examples: Sequence[Comparison]) -> list[bool]:
    """Return the comparisons that say nothing, whatever the rewards are."""
    found: list[bool] = []
    for start in range(0, len(examples), CHUNK):
        part = examples[start : start + CHUNK]
        _, mask_BK = ranks_of(part, torch.device("cpu"))
        points = random_points(*mask_BK.shape)
        found.extend(silent_B(partial(_value, config, part), points, mask_BK).tolist())
    return found


def _value(config: Config, part: Sequence[Comparison], rewards_BK: torch.Tensor) -> torch.Tensor:
    """The loss of some rewards, summed."""
    return _loss(config, part, rewards_BK, 1.0)[0]


def _train_one(config: Config, rows: Rows | None, resume: bool) -> Path:
    start = begin(config, config.data, rows)
    loaded = start.load(load_comparisons, config.data, config.batch_size, rows)
    lines = check_examples(config, loaded)
    if (before := finished_model("reward", config, loaded, resume=resume)) is not None:
        return before
    model = load_scalar(config.model, start.config, config.seed)
    if config.trains == "head":
        head_alone(model)
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
        for line in lines:
            session.say(line)
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
) -> Objective:
    """The mean over the comparisons of all processes, each by its weight."""
    [normalizer] = session.world.sum([sum(c.weight for c in batch)])

    def loss_of(numbers: list[int]) -> tuple[torch.Tensor, Metrics]:
        part = [batch[i] for i in numbers]
        rewards_R = model(RowBatch.build([row for c in part for row in c.rows()], model.device))
        _, mask_BK = ranks_of(part, model.device)
        rewards_BK = rewards_R.new_zeros(mask_BK.shape)
        rewards_BK[mask_BK] = rewards_R
        total, metrics = _loss(config, part, rewards_BK, normalizer)
        if total.requires_grad:
            metrics[SIGNAL] = signal_of(partial(_value, config, part), rewards_BK)
        return total, metrics

    return Objective([c.rows() for c in batch], loss_of)


def _loss(
    config: Config, part: Sequence[Comparison], rewards_BK: torch.Tensor, normalizer: float
) -> tuple[torch.Tensor, Metrics]:
    """The loss of rewards and its metrics, with the labels of the comparisons."""
    registered, device = losses.load("reward", config.loss), rewards_BK.device
    loss = registered.bind(config.options)
    labels = PairLabels.of(part, device, soft=config.soft_labels)
    given: dict[str, Any] = {"normalizer": normalizer, "weight_B": labels.weight_B}
    if registered.rankings:
        ranks_BK, mask_BK = ranks_of(part, device)
        return loss(rewards_BK, ranks_BK=ranks_BK, mask_BK=mask_BK, **given)  # type: ignore[no-any-return]
    given |= {"soft_label_B": labels.soft_label_B, "tie_B": labels.tie_B}
    given |= {"margin_B": labels.margin_B}
    return loss(rewards_BK[:, 0], rewards_BK[:, 1], **given)  # type: ignore[no-any-return]
