"""A weak supervisor and a ladder of learners, cut from one policy, and their runs.

Each is the policy with fewer units in its feed-forward layers, those of largest norm. It chooses
the answer to a question that it gives the larger log-probability; labels are taught by the DPO
trainer without a reference, whose loss is then the logistic one of the difference. So the learners'
words are the policy's own, and no head begins at random.

Shapes: P questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from oversight.chat.prompt_ids import ChatIds
from oversight.errors import ConfigError
from oversight.experiments.measured.best_of_n import Floats
from oversight.experiments.trainer_runs import train_or_find
from oversight.modeling import TokenRow
from oversight.modeling.scoring.trie import RowBatch
from oversight.train import dpo
from oversight.train.loading import frozen, is_saved_model, load_policy, read_config
from oversight.train.settings import ModelSettings
from oversight.types import Message, Prompt

ROWS_AT_ONCE = 128
RATE, BATCH = 2e-3, 16
BETA = 0.1
"""Of the logistic loss, and of the probability that a label is: log-probabilities of whole answers
lie tens apart, and undamped a wrong label would weigh more than all right ones."""


@dataclass(frozen=True, slots=True)
class Case:
    """A question as a model reads it, and its two answers."""

    id: str
    text: str
    answers: tuple[str, str]
    correct: int


def save_learner(policy: str, out: Path, units: int) -> int:
    """Write the policy with so many units in each feed-forward layer; the number of its weights.

    Args:
        policy: Folder or name of a causal language model.
        out: Folder of the model; one that is there is kept.
        units: Units that are kept; as many as the policy has: it stays whole.

    Raises:
        ConfigError: It has fewer units, or its layers cannot be read as Llama's.
    """
    settings = ModelSettings(path=policy, device="cpu")
    config, vocabulary = read_config(settings, ())
    model = load_policy(settings, config, 0).model
    try:
        for block in model.model.layers:
            _narrow(block.mlp, units)
    except AttributeError as error:
        raise ConfigError(
            f"model = {policy!r}: the feed-forward layers of a model of type {config.model_type!r} "
            f"cannot be cut ({error}); take one with Llama's layers"
        ) from None
    model.config.intermediate_size = units
    if not is_saved_model(out):
        vocabulary.tokenizer.save_pretrained(out)
        model.save_pretrained(out)
    return sum(weight.numel() for weight in model.parameters())


def _narrow(feed: Any, units: int) -> None:
    """Keep the units whose maps in and out have the largest norms."""
    total = feed.down_proj.weight.shape[1]
    if units > total:
        raise ConfigError(
            f"weak_to_strong: a learner of {units} units cannot be cut from a policy of {total}"
        )
    norms = feed.down_proj.weight.norm(dim=0)
    norms = norms * feed.gate_proj.weight.norm(dim=1) * feed.up_proj.weight.norm(dim=1)
    kept = norms.topk(units).indices.sort().values
    for each, rows in ((feed.gate_proj, True), (feed.up_proj, True), (feed.down_proj, False)):
        weight = each.weight.detach()
        each.weight = torch.nn.Parameter((weight[kept] if rows else weight[:, kept]).clone())


def taught(
    learner: Path,
    out: Path,
    cases: Sequence[Case],
    second_P: Floats,
    *,
    seed: int,
    epochs: float,
    loss: str = "sigmoid",
    options: Mapping[str, Any] | None = None,
) -> Path:
    """The learner after it was taught labels; a run that is there is gone on with, or found.

    Args:
        learner: Folder of the model that it begins as.
        out: Folder of the run.
        cases: The questions.
        second_P: Label of each: the probability that its second answer is right.
        seed: Of the order of the questions.
        epochs: Passes over them.
        loss: That of the DPO trainer.
        options: Its options besides `beta`.
    """
    rows = []
    for case, second in zip(cases, second_P.tolist(), strict=True):
        pick = int(second >= 0.5)
        rows.append(
            {
                "prompt": [{"role": "user", "content": case.text}],
                "chosen": [{"role": "assistant", "content": case.answers[pick]}],
                "rejected": [{"role": "assistant", "content": case.answers[1 - pick]}],
                "soft_label": second if pick else 1.0 - second,
            }
        )
    config = {
        "out": str(out),
        "model": {"path": str(learner), "device": "cpu"},
        "data": {},
        "reference": "none",
        "loss": loss,
        "options": {"beta": BETA} | dict(options or {}),
        "seed": seed,
        "epochs": epochs,
        "batch_size": BATCH,
        "optimizer": {"lr": RATE, "schedule": "cosine", "warmup": 0.1},
        "save_every": 10_000,
        "log_every": 10,
        "keep": 1,
    }
    return train_or_find(dpo, config, rows=rows)


def second_of(model: Path, cases: Sequence[Case]) -> Floats:
    """The probability that a model gives the second answer of each case, of the two: [P]."""
    settings = ModelSettings(path=str(model), device="cpu")
    config, vocabulary = read_config(settings, ())
    policy, tokenizer = frozen(load_policy(settings, config, 0)), vocabulary.tokenizer
    ids = ChatIds(tokenizer)
    rows = []
    for case in cases:
        asked = Prompt(messages=(Message(role="user", parts=(case.text,)),))
        begin = np.asarray(ids.prompt_ids(asked))
        for answer in case.answers:
            said = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
            rows.append(TokenRow(begin, np.asarray(said)))
    found = []
    with torch.no_grad():
        for at in range(0, len(rows), ROWS_AT_ONCE):
            scores = policy(RowBatch.build(rows[at : at + ROWS_AT_ONCE], policy.device))
            found.append((scores.logps_BR * scores.mask_BR).sum(1))
    logps_P2 = torch.cat(found).double().view(-1, 2)
    return cast(Floats, torch.sigmoid(BETA * (logps_P2[:, 1] - logps_P2[:, 0])).numpy())
