"""The DPO family's losses on single responses that were called good or bad (KTO and its kin).

Ethayarajh et al. 2024. Runs and their settings are described in `dpo`; only the
data and the estimate of the divergence differ.

Shapes: R response tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from oversight.errors import ConfigError, DataError
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.batches import padded, row_logprobs
from oversight.train.data.examples import EpochOrder
from oversight.train.data.loading import LoadedExamples, load_labelled
from oversight.train.distributed import shard
from oversight.train.loading import load_policy
from oversight.train.losses import Loss, load
from oversight.train.losses.metrics import (
    SIGNAL,
    Mean,
    Metrics,
    random_points,
    signal_of,
    silence,
    silent_B,
)
from oversight.train.losses.responses import UnpairedLogps, sequence_sum
from oversight.train.reference import Reference, open_reference
from oversight.train.session import Objective, Session, num_steps
from oversight.train.settings import INITIAL, NONE
from oversight.train.start import Rows, about, begin, finished_model
from oversight.train.types import LabelledExample

if TYPE_CHECKING:
    from oversight.train.dpo import Config

WEIGHTS = ("desirable_weight", "undesirable_weight")
"""Options of the losses: lambda_D and lambda_U."""
PAIRED_ONLY = ("sft_weight", "length_alpha", "weighted", "pairs_of")
"""Settings that speak of pairs."""


def train_unpaired(config: Config, rows: Rows | None, resume: bool) -> Path:
    """Train on labelled responses, and give the folder of the finished model.

    Raises:
        ConfigError: A setting is given that needs pairs.
    """
    check_settings(config)
    start = begin(config, config.data, rows)
    loaded = start.load(load_labelled, config.data, config.batch_size, rows)
    check_labelled(config, loaded)
    lines = [*check_signal(config, loaded.examples), *balance_lines(config, loaded.examples)]
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
    held_out = loaded.eval_examples
    with Session(
        about("dpo", config, loaded),
        config,
        {"policy": policy},
        num_examples=len(loaded.examples),
        total=num_steps(config, len(loaded.examples)),
        world=start.world,
        resume=resume,
    ) as session:
        for line in lines:
            session.say(line)
        scorer = _Scorer(config, policy, reference, session, start.vocabulary.max_length)
        for _ in session.steps():
            batch = [loaded.examples[i] for i in session.take()]
            first = session.step == 1 and config.reference == INITIAL
            session.log(session.update(_task(config, policy, session, batch, scorer, first)))
            if held_out and session.evaluation_is_due:
                result = session.evaluate(_task(config, policy, session, held_out, scorer))
                session.evaluated(result["loss"], result)
        return session.finish(policy, start.tokenizer)


class _Scorer:
    """Values of a whole batch computed before its loss: the reference, and the divergence."""

    def __init__(
        self,
        config: Config,
        policy: PolicyModel,
        reference: Reference | None,
        session: Session,
        num_positions: int,
    ) -> None:
        self._max_length = min(config.data.max_length or num_positions, num_positions)
        self._max_tokens = config.micro_batch_tokens
        self._needs_kl = _estimates_kl(config)
        self._policy = policy
        self._reference = reference
        self._world = session.world

    def reference(self, rows: Sequence[TokenRow]) -> list[torch.Tensor] | None:
        """The reference's log-probabilities, one tensor [R] a row."""
        if self._reference is None:
            return None
        return self._reference.logprobs(rows, self._world, self._max_tokens)

    def divergence(self, rows: Sequence[TokenRow]) -> float:
        """KTO's estimate: each prompt of the whole step with another prompt's response."""
        if not self._needs_kl or self._reference is None:
            return 0.0
        shifted = self._world.share(mismatched(rows, self._max_length))
        ours = row_logprobs(self._policy, shifted, self._world, self._max_tokens)
        theirs = self._reference.logprobs(shifted, self._world, self._max_tokens)
        total = sum(float(a.sum() - b.sum()) for a, b in zip(ours, theirs, strict=True))
        total, count = self._world.sum([total, float(len(shifted))])
        return max(0.0, total / count)


def mismatched(rows: Sequence[TokenRow], max_length: int) -> list[TokenRow]:
    """Each row's prompt with the response of the next row of another prompt.

    The paper's are of another prompt: a response to the same one, such as the worse one of a pair
    behind the better, is what the policy learns and no mismatch. They have `max_length` tokens
    together.

    The excess is cut off the response, as data loading may cut one: left out, the pairs
    of the longest prompts and responses would be missing in every estimate. At least one token
    of a response fits behind each prompt, as that of its own row does.

    Raises:
        ValueError: All rows have one prompt (`check_labelled` refuses such steps beforehand).
    """
    prompts = [row.prompt_ids.tobytes() for row in rows]
    if len(set(prompts)) < 2:
        raise ValueError("rows of one prompt have no mismatched responses")
    found = []
    for place, row in enumerate(rows):
        other = place + 1
        while prompts[other % len(rows)] == prompts[place]:
            other += 1
        response = rows[other % len(rows)].response_ids[: max_length - len(row.prompt_ids)]
        found.append(TokenRow(row.prompt_ids, response))
    return found


def check_labelled(config: Config, loaded: LoadedExamples[LabelledExample]) -> None:
    """Refuse steps in which KTO has no mismatched responses to estimate the divergence from.

    Raises:
        ConfigError: Steps have one response.
        DataError: The responses of a step, or all that are held out, are to one prompt.
    """
    if not _estimates_kl(config):
        return
    why = (
        "KTO estimates its divergence from each prompt with the response to another prompt of the "
        "same step, and there is none"
    )
    instead = "or loss = 'apo_zero_unpaired', which has no such estimate"
    if config.batch_size == 1:
        raise ConfigError(f"batch_size = 1: {why}; take 2 or more, {instead}")
    examples, held_out = loaded.examples, loaded.eval_examples
    order = EpochOrder(len(examples), config.seed, config.shuffle)
    prompts = _numbers([example.row.prompt_ids.tobytes() for example in examples])
    steps = islice(order.batches(config.batch_size), num_steps(config, len(examples)))
    for step, taken in enumerate(steps, 1):
        if (prompts[taken] == prompts[taken[0]]).all():
            raise DataError(
                f"step {step} of {len(taken)} responses, all to the prompt of row "
                f"{examples[int(taken[0])].id!r}: {why}. Of {len(examples):,} examples "
                f"batch_size = {config.batch_size} leaves such a step: take another one, "
                f"{instead}"
            )
    if held_out and len({example.row.prompt_ids.tobytes() for example in held_out}) < 2:
        raise DataError(
            f"all {len(held_out)} held-out responses are to the prompt of row "
            f"{held_out[0].id!r}: {why}; hold out more, {instead}"
        )


def check_signal(config: Config, examples: Sequence[LabelledExample]) -> list[str]:
    """Refuse responses none of which the loss learns from; what is said of others.

    Raises:
        DataError: There is no other.
    """
    desirable_B = torch.tensor([each.desirable for each in examples])
    weight_B = torch.tensor([each.weight for each in examples])
    silent = torch.ones(len(examples), dtype=torch.bool)
    for theirs_B1 in random_points(len(examples), 1):
        ref_B = None if config.reference == NONE else theirs_B1[:, 0]
        rows = UnpairedLogps(theirs_B1[:, 0], desirable_B, ref_B, weight_B)
        silent &= silent_B(partial(_value, config, rows, {}), [theirs_B1 * 0.9])
    return silence(
        config.loss,
        "responses",
        [each.id for each in examples],
        silent.tolist(),
        why="the loss's options leave nothing of them",
        instead="options.desirable_weight and options.undesirable_weight above 0",
    )


def _value(
    config: Config, rows: UnpairedLogps, given: Mapping[str, Any], ours_B1: torch.Tensor
) -> torch.Tensor:
    """The summed loss of rows that have the log-probabilities given."""
    loss = _loss_of(config).bind(config.options)
    total: torch.Tensor = loss(replace(rows, logps_B=ours_B1[:, 0]), normalizer=1.0, **given)[0]
    return total


def _numbers(items: Sequence[bytes]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A number for each item, the same for equal ones."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(item, len(known)) for item in items], dtype=np.int64)


def _loss_of(config: Config) -> Loss:
    return load("unpaired", config.loss)


def _estimates_kl(config: Config) -> bool:
    return _loss_of(config).needs_kl and config.reference != NONE


LEAST, MOST = 1.0, 4.0 / 3.0
"""Bounds of lambda_D n_good / (lambda_U n_bad) that KTO's paper found to work."""


def balance_lines(config: Config, examples: Sequence[LabelledExample]) -> list[str]:
    """Return lines on the total weights of good and bad responses, where unbalanced, and a remedy.

    Ethayarajh et al. 2024 keep lambda_D n_good / (lambda_U n_bad) between 1 and 4/3 (between 1
    and 3/2 in later versions). A row's own weight counts as so many rows.
    """
    weights = {name: float(config.options.get(name, 1.0)) for name in WEIGHTS}  # type: ignore[arg-type]
    good, bad = (
        sum(each.weight for each in examples if each.desirable is kind) for kind in (True, False)
    )
    counts = [sum(each.desirable is kind for each in examples) for kind in (True, False)]
    said = f"labels: {counts[0]:,} good, {counts[1]:,} bad"
    if not good or not bad:
        only = "bad" if not good else "good"
        return [f"{said}: all are {only}, so that nothing says what is better than what"]
    desirable, undesirable = weights["desirable_weight"], weights["undesirable_weight"]
    if not desirable or not undesirable:
        return []  # one of the two is left out on purpose
    ratio = desirable * good / (undesirable * bad)
    if LEAST * 0.999 <= ratio <= MOST * 1.001:
        return []
    if good < bad:
        low, high = (undesirable * bad * bound / good for bound in (LEAST, MOST))
        mended = f"options.desirable_weight between {low:.3g} and {high:.3g}"
    else:
        low, high = (desirable * good / (bad * bound) for bound in (MOST, LEAST))
        mended = f"options.undesirable_weight between {low:.3g} and {high:.3g}"
    return [
        f"{said}: good ones count {ratio:.3g} times as much as bad ones together, and KTO's paper "
        f"keeps that between 1 and 4/3: set {mended}"
    ]


def _task(
    config: Config,
    policy: PolicyModel,
    session: Session,
    whole: Sequence[LabelledExample],
    scorer: _Scorer,
    is_first: bool = False,
) -> Objective:
    """This process's part of the mean over `whole`, each response by its weight.

    Args:
        config: Settings of the run.
        policy: The model that is trained.
        session: The run.
        whole: The responses of all processes.
        scorer: Of the reference and the divergence.
        is_first: Whether policy and reference are one yet, so that the loss is known beforehand.
    """
    batch = session.world.share(whole)
    rows = [example.row for example in batch]
    reference = scorer.reference(rows)
    at_start = _loss_of(config).bind(config.options)
    moved: dict[str, Any] = {}
    if _loss_of(config).needs_kl:
        moved["kl"] = scorer.divergence([example.row for example in whole])
    loss = partial(at_start, **moved)
    [normalizer] = session.world.sum([sum(example.weight for example in batch)])

    def loss_of(numbers: list[int]) -> tuple[torch.Tensor, Metrics]:
        scores = policy(RowBatch.build([rows[i] for i in numbers], policy.device))
        theirs_B = None
        if reference is not None:
            given = padded([reference[i] for i in numbers], scores.mask_BR)
            theirs_B = sequence_sum(given, scores.mask_BR)
        weight_B = torch.tensor([batch[i].weight for i in numbers], device=policy.device)
        labelled = UnpairedLogps(
            sequence_sum(scores.logps_BR, scores.mask_BR),
            torch.tensor([batch[i].desirable for i in numbers], device=policy.device),
            theirs_B,
            weight_B,
        )
        total, metrics = loss(labelled, normalizer=normalizer)
        if is_first and theirs_B is not None:
            same = replace(labelled, logps_B=theirs_B)
            metrics["start_loss"] = Mean(at_start(same, normalizer=1.0)[0], weight_B.sum())
        if total.requires_grad:
            value = partial(_value, config, labelled, moved)
            metrics[SIGNAL] = signal_of(value, labelled.logps_B[:, None])
        return total, metrics

    return Objective([[row] for row in rows], loss_of)


def check_settings(config: Config) -> None:
    """Refuse settings of pairs.

    Raises:
        ConfigError: It names the first of them.
    """
    given = [
        name
        for name in PAIRED_ONLY
        if getattr(config, name) != type(config).model_fields[name].default
    ]
    if given:
        raise ConfigError(
            f"{given[0]} = {getattr(config, given[0])!r} is for pairs; the loss {config.loss!r} "
            "takes single responses"
        )
