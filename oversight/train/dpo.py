"""Direct preference optimisation and its family: a policy from comparisons, without a reward model.

Rafailov et al. 2023. Losses: `losses/preference*.py` of pairs, `losses/unpaired.py`
of single responses that were called good or bad. A pair's two responses and all
others to one prompt share its computation.

Shapes: B pairs, R response tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, JsonValue

from oversight.errors import ConfigError, DataError
from oversight.train import losses
from oversight.train.comparisons import PairLabels
from oversight.train.data.examples import PairsOf, expand
from oversight.train.data.loading import Loaded, load_comparisons
from oversight.train.data.settings import DataSettings
from oversight.train.distributed import World, shard
from oversight.train.losses.metrics import Mean, Metrics, mean_of
from oversight.train.losses.pairs import PairLogps, sft_term
from oversight.train.losses.sequences import (
    length_desensitized_sum,
    lengths,
    sequence_sum,
    wpo_weight,
)
from oversight.train.model.batch import RowBatch
from oversight.train.model.loading import load_policy
from oversight.train.model.policy import PolicyModel, Scores
from oversight.train.padding import padded
from oversight.train.reference import INITIAL, Reference, open_reference
from oversight.train.session import Session, Task, num_steps
from oversight.train.settings import TrainSettings
from oversight.train.start import Rows, about, begin, finished_model
from oversight.train.types import Comparison, TokenRow


class Config(TrainSettings):
    """Settings of a DPO run."""

    by_content: ClassVar[Mapping[str, str]] = {"reference": "reference", "loss": "function"}

    data: DataSettings
    loss: str = "sigmoid"
    """The name of a loss of pairs or, for labelled single responses, of an unpaired one, both
    below; or your own, as "file.py:function"."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """The loss's own, such as `beta` or `label_smoothing`."""
    reference: str = "initial"
    """`initial`: the policy as it was before training. `none`: a uniform one. Or a model."""
    precompute: bool = True
    """Score all rows by the reference once, before training, and keep that by content hash."""
    sft_weight: float = Field(default=0.0, ge=0.0)
    """Of an added likelihood term on the chosen responses (Pang et al. 2024)."""
    length_alpha: float = Field(default=1.0, ge=0.0, le=1.0)
    """What tokens beyond the shorter response's length count (LD-DPO, Liu et al. 2024)."""
    weighted: bool = False
    """Weigh pairs by how likely the policy is to say them, beside what it would say itself (WPO,
    Zhou et al. 2024, eq. 2)."""
    soft_labels: bool = True
    """Learn the probabilities that judges gave, and not only who won."""
    pairs_of: PairsOf = "all"
    """Which pairs of a ranking are compared."""


def train(config: Config, *, rows: Rows | None = None, resume: bool = False) -> Path:
    """Train, and give the folder of the finished model.

    Args:
        config: Settings of the run.
        rows: Rows in memory, in place of `config.data.path`.
        resume: Go on with the run in `config.out`.
    """
    check_loss(config)
    if registered_loss(config).unpaired:
        from oversight.train.unpaired import train_unpaired

        return train_unpaired(config, rows, resume)
    start = begin(config, config.data, rows)
    loaded = start.load(load_comparisons, config.data, config.batch_size, rows)
    pairs = _pairs(config, loaded.examples)
    held_out = _pairs(config, loaded.eval_examples)
    _check_pairs(config, [*pairs, *held_out])
    held_out = start.world.share(held_out)
    if (model := finished_model("dpo", config, loaded, resume=resume)) is not None:
        return model
    policy = load_policy(config.model, start.config, config.seed)
    reference = open_reference(
        config.reference,
        config.model,
        policy,
        start.vocabulary,
        start.config,
        config.seed,
        start.world,
    )
    shard(policy, start.world)
    with Session(
        about("dpo", config, loaded),
        config,
        {"policy": policy},
        num_examples=len(pairs),
        total=num_steps(config, len(pairs)),
        world=start.world,
        resume=resume,
    ) as session:
        scorer = _ReferenceScores(config, session, reference, [*pairs, *held_out])
        del reference  # held by the scorer, if it needs it any longer
        for _ in session.steps():
            batch = [pairs[i] for i in session.take_own()]
            first = session.step == 1 and config.reference == INITIAL
            task = _task(config, policy, session, batch, scorer.of(batch), first)
            session.log(session.update(task))
            if held_out and session.evaluation_is_due:
                task = _task(config, policy, session, held_out, scorer.of(held_out))
                result = session.evaluate(task)
                session.evaluated(result["loss"], result)
        return session.finish(policy, start.tokenizer)


def check_loss(config: Config) -> None:
    """Refuse a loss that there is not, or options that it has not or not in their range.

    Raises:
        ConfigError: It names the nearest, or what is accepted.
    """
    registered_loss(config).bind(config.options)
    _check_together(config)


def registered_loss(config: Config) -> losses.Loss:
    """The loss that the settings name, of pairs or of single responses.

    Raises:
        ConfigError: There is none of that name.
    """
    return losses.find(("preference", "unpaired"), config.loss)


def _check_together(config: Config) -> None:
    """Refuse settings that the loss has no use for."""
    if registered_loss(config).unpaired:
        from oversight.train.unpaired import check_settings

        check_settings(config)
    elif registered_loss(config).sorts and config.weighted:
        raise ConfigError(
            f"weighted = true: the loss {config.loss!r} sorts a step's pairs among one another, "
            "and quantiles have no weights; set it to false, or take loss = 'sigmoid'"
        )


def check_examples(config: Config, loaded: Loaded[Any]) -> list[str]:
    """Refuse examples that the loss is not defined for; what is to be said of the others.

    Raises:
        ConfigError: Settings do not fit them.
        DataError: It names the first of them, and what would work.
    """
    if registered_loss(config).unpaired:
        from oversight.train.unpaired import balance_lines, check_labelled

        check_labelled(config, loaded)
        return balance_lines(config, loaded.examples)
    found = [*loaded.examples, *loaded.eval_examples]
    _check_pairs(config, _pairs(config, found))
    return []


def _check_pairs(config: Config, pairs: Sequence[Comparison]) -> None:
    if not registered_loss(config).sorts:
        return
    for pair in pairs:
        if config.soft_labels and pair.soft_label is not None:
            has, instead = f"the soft label {pair.soft_label:g}", "soft_labels = false"
        elif pair.is_tie:
            has, instead = "tied responses", "rows without ties"
        elif pair.weight != pairs[0].weight:
            has = f"the weight {pair.weight:g}, where row {pairs[0].id!r} has {pairs[0].weight:g}"
            instead = "rows of one weight"
        else:
            continue
        raise DataError(
            f"loss = {config.loss!r} sorts the pairs of a step among one another, and knows only "
            f"a better and a worse response, all pairs alike; row {pair.id!r} has {has}. Take "
            f"{instead}, or another loss, such as 'sigmoid'"
        )


class _ReferenceScores:
    """The reference's log-probabilities of each pair's two responses: kept, or made as needed."""

    def __init__(
        self,
        config: Config,
        session: Session,
        reference: Reference | None,
        pairs: Sequence[Comparison],
    ) -> None:
        self._reference = reference
        self._session = session
        self._max_tokens = config.micro_batch_tokens
        self._kept: Mapping[bytes, torch.Tensor] = {}
        if reference is not None and config.precompute:
            session.say(f"scoring {2 * len(pairs)} responses by the reference")
            rows = [row for pair in pairs for row in pair.rows()]
            scored = reference.kept_logprobs(rows, session.world, self._max_tokens)
            self._kept = {_content(r): logps_R for r, logps_R in zip(rows, scored, strict=True)}
            if not reference.is_policy:
                self._reference = None  # its weights are not needed any more

    def of(self, pairs: Sequence[Comparison]) -> list[torch.Tensor] | None:
        """One tensor [R] a response, pair by pair; None without a reference."""
        rows = [row for pair in pairs for row in pair.rows()]
        if self._kept:
            return [self._kept[_content(row)] for row in rows]
        if self._reference is None:
            return None
        return self._reference.logprobs(rows, self._session.world, self._max_tokens)


def _content(row: TokenRow) -> bytes:
    """A hash of what a row's scores depend on. Its id may be that of a row of another file."""
    hashed = hashlib.blake2b(len(row.prompt_ids).to_bytes(8, "little"), digest_size=16)
    hashed.update(row.ids().tobytes())
    return hashed.digest()


def _pairs(config: Config, found: Sequence[Comparison]) -> list[Comparison]:
    return [pair for each in found for pair in expand(each, config.pairs_of, ties=True)]


def _task(
    config: Config,
    policy: PolicyModel,
    session: Session,
    batch: Sequence[Comparison],
    reference: Sequence[torch.Tensor] | None,
    is_first: bool = False,
) -> Task:
    """The mean over the pairs of all processes, each by its weight.

    Args:
        config: Settings of the run.
        policy: What is trained.
        session: The run.
        batch: This process's pairs.
        reference: The reference's log-probabilities, one tensor [R] a response.
        is_first: Whether policy and reference are one yet, so that the loss is known beforehand.
    """
    world = session.world
    loss = registered_loss(config).bind(config.options)
    if sorts := registered_loss(config).sorts:
        loss = partial(_of_all, loss, world)
        # A step's pairs are sorted among one another, and of one weight (`_check_pairs`).
        batch = [replace(pair, weight=1.0) for pair in batch]
    [normalizer] = world.sum([sum(pair.weight for pair in batch)])

    def whole_loss(pairs: PairLogps, normalizer: float) -> tuple[torch.Tensor, Metrics]:
        total, metrics = loss(pairs, normalizer=normalizer)
        if config.sft_weight:
            term, found = sft_term(pairs, normalizer=normalizer, alpha=config.sft_weight)
            total, metrics = total + term, metrics | found
        return total, metrics

    def loss_of(numbers: list[int]) -> tuple[torch.Tensor, Metrics]:
        part = [batch[i] for i in numbers]
        rows = [row for pair in part for row in pair.rows()]
        scores = policy(RowBatch.build(rows, policy.device), with_sum_sq=config.weighted)
        given = None
        if reference is not None:
            given = padded([reference[2 * i + k] for i in numbers for k in (0, 1)], scores.mask_BR)
        pairs = _pair_logps(config, scores, given, part)
        total, metrics = whole_loss(pairs, normalizer)
        metrics["response_length"] = mean_of(lengths(scores.mask_BR))
        if is_first and pairs.ref_chosen_B is not None and pairs.ref_rejected_B is not None:
            same = replace(pairs, chosen_B=pairs.ref_chosen_B, rejected_B=pairs.ref_rejected_B)
            weight = torch.tensor(sum(pair.weight for pair in part))
            metrics["start_loss"] = Mean(whole_loss(same.apart(policy.device), 1.0)[0], weight)
        return total, metrics

    return Task([pair.rows() for pair in batch], loss_of, in_one=sorts)


def _of_all(
    loss: Callable[..., tuple[torch.Tensor, Metrics]],
    world: World,
    pairs: PairLogps,
    *,
    normalizer: float,
) -> tuple[torch.Tensor, Metrics]:
    """A loss that sorts a step's pairs, over those of all processes.

    Each process computes the whole of it. Its gradient reaches the process's own pairs alone, so
    that the sum over processes is the whole gradient; its value is an equal part of the whole.
    """
    if world.size == 1:
        return loss(pairs, normalizer=normalizer)
    device = pairs.chosen_B.device
    parts = [each.apart(device) for each in world.gather(pairs.apart("cpu"))]
    parts[world.rank] = pairs
    total, metrics = loss(PairLogps.joined(parts), normalizer=normalizer)
    return total - total.detach() * (1.0 - 1.0 / world.size), metrics


def _pair_logps(
    config: Config,
    scores: Scores,
    reference_BR: torch.Tensor | None,
    part: Sequence[Comparison],
) -> PairLogps:
    """The pairs' summed log-probabilities; rows alternate between chosen and rejected."""
    logps_BR, mask_BR = scores.logps_BR, scores.mask_BR
    lengths_B = lengths(mask_BR)
    others_B = lengths_B.view(-1, 2).flip(1).reshape(-1)

    def summed(rows_BR: torch.Tensor) -> torch.Tensor:
        if config.length_alpha == 1.0:
            return sequence_sum(rows_BR, mask_BR)
        return length_desensitized_sum(rows_BR, mask_BR, others_B, alpha=config.length_alpha)

    ours_B = summed(logps_BR)
    theirs_B = None if reference_BR is None else summed(reference_BR)
    labels = PairLabels.of(part, logps_BR.device, soft=config.soft_labels)
    weight_B = labels.weight_B
    if config.weighted:
        sure_BR = scores.log_sum_sq_probs_BR
        weight_B = weight_B * wpo_weight(logps_BR, mask_BR, sure_BR).view(-1, 2).prod(1)
    return PairLogps(
        chosen_B=ours_B[::2],
        rejected_B=ours_B[1::2],
        ref_chosen_B=None if theirs_B is None else theirs_B[::2],
        ref_rejected_B=None if theirs_B is None else theirs_B[1::2],
        chosen_length_B=lengths_B[::2],
        rejected_length_B=lengths_B[1::2],
        soft_label_B=labels.soft_label_B,
        tie_B=labels.tie_B,
        weight_B=weight_B,
    )
