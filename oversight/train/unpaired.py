"""The DPO family's losses on single responses that were called good or bad (KTO and its kin).

Ethayarajh et al. 2024. What a run is and takes is described in `dpo`; only the
data and the estimate of the divergence differ.

Shapes: R response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from oversight.errors import ConfigError
from oversight.train import losses
from oversight.train.data.loading import load_labelled
from oversight.train.distributed import shard
from oversight.train.losses.metrics import Metrics
from oversight.train.losses.sequences import sequence_sum
from oversight.train.losses.unpaired.rows import UnpairedLogps
from oversight.train.model.batch import RowBatch
from oversight.train.model.loading import load_policy
from oversight.train.model.policy import PolicyModel
from oversight.train.padding import padded
from oversight.train.reference import Reference, open_reference
from oversight.train.scoring import row_logprobs
from oversight.train.session import Session, Task, num_steps
from oversight.train.start import Rows, about, begin, finished_model
from oversight.train.types import Labelled, TokenRow

if TYPE_CHECKING:
    from oversight.train.dpo import Config

PAIRED_ONLY = ("sft_weight", "length_alpha", "weighted", "pairs_of")
"""Settings that speak of pairs."""


def train_unpaired(config: Config, rows: Rows | None, resume: bool) -> Path:
    """Train on labelled responses, and give the folder of the finished model.

    Raises:
        ConfigError: A setting is given that needs pairs.
    """
    _check(config)
    start = begin(config, config.data, rows)
    loaded = start.load(load_labelled, config.data, config.batch_size, rows)
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
    held_out = loaded.eval_examples
    start_value = losses.load("unpaired", config.loss).start_value(**config.options)
    with Session(
        about("dpo", config, loaded),
        config,
        {"policy": policy},
        num_examples=len(loaded.examples),
        total=num_steps(config, len(loaded.examples)),
        world=start.world,
        # That of a row of weight 1; others have another.
        start_loss=start_value if _all_equal(loaded.examples) else None,
        resume=resume,
    ) as session:
        scorer = _Scorer(config, policy, reference, session, start.vocabulary.max_length)
        for _ in session.steps():
            batch = [loaded.examples[i] for i in session.take()]
            session.log(session.update(_task(config, policy, session, batch, scorer)))
            if held_out and session.evaluation_is_due:
                result = session.evaluate(_task(config, policy, session, held_out, scorer))
                session.evaluated(result["loss"], result)
        return session.finish(policy, start.tokenizer)


class _Scorer:
    """What is computed of a whole batch before its loss: the reference, and the divergence."""

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
        self._needs_kl = config.loss == "kto" and reference is not None
        self._policy = policy
        self._reference = reference
        self._world = session.world

    def reference(self, rows: Sequence[TokenRow]) -> list[torch.Tensor] | None:
        """The reference's log-probabilities, one tensor [R] a row."""
        if self._reference is None:
            return None
        return self._reference.logprobs(rows, self._world, self._max_tokens)

    def divergence(self, rows: Sequence[TokenRow]) -> float:
        """KTO's estimate: each prompt of the whole step with the next row's response."""
        if not self._needs_kl or self._reference is None:
            return 0.0
        shifted = self._world.share(mismatched(rows, self._max_length))
        ours = row_logprobs(self._policy, shifted, self._world, self._max_tokens)
        theirs = self._reference.logprobs(shifted, self._world, self._max_tokens)
        total = sum(float(a.sum() - b.sum()) for a, b in zip(ours, theirs, strict=True))
        total, count = self._world.sum([total, float(len(shifted))])
        return max(0.0, total / count)


def mismatched(rows: Sequence[TokenRow], max_length: int) -> list[TokenRow]:
    """Each row's prompt with the next row's response, in `max_length` tokens together.

    What does not fit is cut off the response, as data loading may cut one: left out, the pairs
    of the longest prompts and responses would be missing in every estimate. At least one token
    of a response fits behind each prompt, as that of its own row does.
    """
    return [
        TokenRow(row.prompt_ids, other.response_ids[: max_length - len(row.prompt_ids)])
        for row, other in zip(rows, [*rows[1:], *rows[:1]], strict=True)
    ]


def _task(
    config: Config,
    policy: PolicyModel,
    session: Session,
    whole: Sequence[Labelled],
    scorer: _Scorer,
) -> Task:
    """This process's part of the loss of `whole`, each response counted the same."""
    batch = session.world.share(whole)
    rows = [example.row for example in batch]
    reference = scorer.reference(rows)
    options = dict(config.options)
    if config.loss == "kto":
        options["kl"] = scorer.divergence([example.row for example in whole])
    loss = losses.bind("unpaired", config.loss, options, where="options")
    [normalizer] = session.world.sum([float(len(batch))])

    def loss_of(numbers: list[int]) -> tuple[torch.Tensor, Metrics]:
        scores = policy(RowBatch.build([rows[i] for i in numbers], policy.device))
        theirs_B = None
        if reference is not None:
            given = padded([reference[i] for i in numbers], scores.mask_BR)
            theirs_B = sequence_sum(given, scores.mask_BR)
        labelled = UnpairedLogps(
            sequence_sum(scores.logps_BR, scores.mask_BR),
            torch.tensor([batch[i].desirable for i in numbers], device=policy.device),
            theirs_B,
            torch.tensor([batch[i].weight for i in numbers], device=policy.device),
        )
        return loss(labelled, normalizer=normalizer)  # type: ignore[no-any-return]

    return Task([[row] for row in rows], loss_of)


def _all_equal(examples: Sequence[Labelled]) -> bool:
    return all(example.weight == 1.0 for example in examples)


def _check(config: Config) -> None:
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
