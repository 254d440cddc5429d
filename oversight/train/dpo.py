"""Direct preference optimisation and its family: a policy from comparisons, without a reward model.

Rafailov et al. 2023. Losses: `losses/preference*.py` of pairs, `losses/responses.py`
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
from typing import Any

import torch

from oversight.errors import ConfigError, DataError
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel, Scores
from oversight.modeling.scoring.trie import RowBatch
from oversight.train import losses
from oversight.train.batches import PairLabels, is_decided, padded, unread_margins
from oversight.train.data.examples import expand
from oversight.train.data.loading import LoadedExamples, load_comparisons, load_labelled
from oversight.train.distributed import World, shard
from oversight.train.loading import load_policy
from oversight.train.losses.metrics import (
    SIGNAL,
    Mean,
    Metrics,
    Peak,
    is_rounding,
    mean_of,
    random_points,
    signal_of,
    silence,
    silent_B,
)
from oversight.train.losses.pairs import PairLogps, sft_term
from oversight.train.losses.responses import (
    length_desensitized_sum,
    lengths,
    sequence_sum,
    wpo_weight,
)
from oversight.train.plan import Plan, begin_alone
from oversight.train.reference import Reference, open_reference
from oversight.train.registered import trainer
from oversight.train.session import Objective, Session, num_steps
from oversight.train.settings import INITIAL, NONE, DPOSettings
from oversight.train.start import Rows, about, begin, finished_model
from oversight.train.types import Comparison

Config = DPOSettings


def plan(config: Config) -> Plan:
    """Return the plan of a run, after all checks that the run makes."""
    check_loss(config)
    start = begin_alone(config)
    loaded: LoadedExamples[Any]
    groups: list[Sequence[TokenRow]]
    if registered_loss(config).unpaired:
        loaded = start.load(load_labelled, config.data, config.batch_size)
        groups = [[each.row] for each in loaded.examples]
    else:
        loaded = start.load(load_comparisons, config.data, config.batch_size)
        groups = [pair.rows() for pair in _pairs(config, loaded.examples)]
    notes = check_examples(config, loaded)
    found = Plan("dpo", config, start, loaded, groups, notes)
    found.add_reference(config.reference, times=0 if config.precompute else 1)
    return found


@trainer(Config, plan=plan)
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
    lines = check_examples(config, loaded)
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
        keeps=config.precompute,
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
        for line in lines:
            session.say(line)
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


def check_examples(config: Config, loaded: LoadedExamples[Any]) -> list[str]:
    """Refuse examples that the loss is not defined for; what is to be said of the others.

    Raises:
        ConfigError: Settings do not fit them.
        DataError: It names the first of them, and what would work.
    """
    if registered_loss(config).unpaired:
        from oversight.train.unpaired import balance_lines, check_labelled, check_signal

        check_labelled(config, loaded)
        said = check_signal(config, loaded.examples)
        return [*said, *balance_lines(config, loaded.examples)]
    pairs = _pairs(config, loaded.examples)
    _check_pairs(config, [*pairs, *_pairs(config, loaded.eval_examples)])
    return [*_check_signal(config, pairs), *unread_margins(config.loss, pairs)]


CHUNK = 4096
"""Pairs that a loss is tried on at once."""


def _check_signal(config: Config, pairs: Sequence[Comparison]) -> list[str]:
    """Refuse pairs none of which moves the policy from where it begins; what is said of others.

    Raises:
        DataError: There is no other pair.
    """
    if registered_loss(config).sorts:
        return []  # it takes no ties and no labels, and so no pair that says nothing
    never: list[bool] = []
    at_first: list[bool] = []
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        found = [torch.ones(len(part), dtype=torch.bool) for _ in range(2)]
        for theirs_B2 in random_points(len(part), 2):
            tried = partial(_value, config, _tried(config, part, theirs_B2))
            found[0] &= silent_B(tried, [theirs_B2.flip(0).flip(1)])
            found[1] &= silent_B(tried, [theirs_B2])
        never.extend(found[0].tolist())
        at_first.extend(found[1].tolist())
    ids = [pair.id for pair in pairs]
    if config.reference != INITIAL or any(never) or not all(at_first):
        why, instead = "the loss's options leave nothing of them", "other options"
        if not any(
            is_decided(pair, soft=config.soft_labels)
            for pair, silent in zip(pairs, never, strict=True)
            if silent
        ):
            why = "they are ties or have even labels, and what the loss has to say of both cancels"
            instead = "rows in which one response is better"
        return silence(config.loss, "pairs", ids, never, why=why, instead=instead)
    why = (
        "they are ties or have even labels, which hold the policy to its reference, and it begins "
        "as that reference"
    )
    instead = "rows in which one response is better, sft_weight above 0, or another reference"
    return silence(config.loss, "pairs", ids, at_first, why=why, instead=instead)


def _tried(config: Config, part: Sequence[Comparison], theirs_B2: torch.Tensor) -> PairLogps:
    """Pairs of which only the reference's sums are known, where there is a reference."""
    labels = PairLabels.of(part, theirs_B2.device, soft=config.soft_labels)
    lengths_B2 = torch.tensor([[len(ids) for ids in pair.responses] for pair in part])
    has_reference = config.reference != NONE
    return PairLogps(
        chosen_B=theirs_B2[:, 0],
        rejected_B=theirs_B2[:, 1],
        ref_chosen_B=theirs_B2[:, 0] if has_reference else None,
        ref_rejected_B=theirs_B2[:, 1] if has_reference else None,
        chosen_length_B=lengths_B2[:, 0],
        rejected_length_B=lengths_B2[:, 1],
        soft_label_B=labels.soft_label_B,
        tie_B=labels.tie_B,
        weight_B=labels.weight_B,
    )


def _value(config: Config, pairs: PairLogps, ours_B2: torch.Tensor) -> torch.Tensor:
    """The summed loss of pairs whose chosen and rejected have the log-probabilities given."""
    pairs = replace(pairs, chosen_B=ours_B2[:, 0], rejected_B=ours_B2[:, 1])
    loss = registered_loss(config).bind(config.options)
    return _with_sft(config, loss, pairs, 1.0)[0]


def _with_sft(
    config: Config,
    loss: Callable[..., tuple[torch.Tensor, Metrics]],
    pairs: PairLogps,
    normalizer: float,
) -> tuple[torch.Tensor, Metrics]:
    """The loss with its added likelihood term, and the metrics of both."""
    total, metrics = loss(pairs, normalizer=normalizer)
    if config.sft_weight:
        term, found = sft_term(pairs, normalizer=normalizer, alpha=config.sft_weight)
        total, metrics = total + term, metrics | found
    return total, metrics


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
) -> Objective:
    """The mean over the pairs of all processes, each by its weight.

    Args:
        config: Settings of the run.
        policy: The model that is trained.
        session: The run.
        batch: This process's pairs.
        reference: The reference's log-probabilities, one tensor [R] a response.
        is_first: Whether policy and reference are one yet, so that the loss is known beforehand.
    """
    world = session.world
    loss = registered_loss(config).bind(config.options)
    if registered_loss(config).needs_progress:
        loss = partial(loss, progress=session.step / session.total)
    if sorts := registered_loss(config).sorts:
        loss = partial(_of_all, loss, world)
        # A step's pairs are sorted among one another, and of one weight (`_check_pairs`).
        batch = [replace(pair, weight=1.0) for pair in batch]
    [normalizer] = world.sum([sum(pair.weight for pair in batch)])

    def loss_of(numbers: list[int]) -> tuple[torch.Tensor, Metrics]:
        part = [batch[i] for i in numbers]
        rows = [row for pair in part for row in pair.rows()]
        scores = policy(RowBatch.build(rows, policy.device), with_sum_sq=config.weighted)
        given = None
        if reference is not None:
            given = padded([reference[2 * i + k] for i in numbers for k in (0, 1)], scores.mask_BR)
        pairs = _pair_logps(config, scores, given, part)
        total, metrics = _with_sft(config, loss, pairs, normalizer)
        metrics["response_length"] = mean_of(lengths(scores.mask_BR))
        if is_first and pairs.ref_chosen_B is not None and pairs.ref_rejected_B is not None:
            same = replace(pairs, chosen_B=pairs.ref_chosen_B, rejected_B=pairs.ref_rejected_B)
            weight = torch.tensor(sum(pair.weight for pair in part))
            at_start, _ = _with_sft(config, loss, same.apart(policy.device), 1.0)
            metrics["start_loss"] = Mean(at_start, weight)
        if total.requires_grad and not sorts:
            metrics[SIGNAL] = _signal(config, pairs, scores, given)
        return total, metrics

    return Objective([pair.rows() for pair in batch], loss_of, in_one=sorts)


def _signal(
    config: Config, pairs: PairLogps, scores: Scores, reference_BR: torch.Tensor | None
) -> Peak:
    """0 where the pairs say nothing: a policy that differs from its reference by rounding is
    looked at as that reference."""
    ours_B2 = torch.stack([pairs.chosen_B, pairs.rejected_B], 1)
    if reference_BR is not None and pairs.ref_chosen_B is not None:
        ours, theirs = scores.logps_BR[scores.mask_BR], reference_BR[scores.mask_BR]
        if is_rounding(ours, theirs, config.model.precision):
            assert pairs.ref_rejected_B is not None
            ours_B2 = torch.stack([pairs.ref_chosen_B, pairs.ref_rejected_B], 1)
    return signal_of(partial(_value, config, pairs.apart(ours_B2.device)), ours_B2)


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
