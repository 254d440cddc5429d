"""TRL's trainers on the fixed inputs of `training_measure`, and what TRL computes on a batch.

`training_peers_timed.py` runs these trainers and reads the clock. Settings that are not TRL's
defaults: `gradient_checkpointing` off (TRL turns it on; it trades time for memory), bf16 off,
`logging_steps` 1 with no reporter (ours writes its metrics at each step too), no
checkpoints, `max_length` off (1,024 would cut every pair to its prompt).

GRPO gets fixed completions through TRL's own `rollout_func`, so generation costs nothing and all
else is in the step: decoding, padding, the reference's pass, rewards, advantages, loss and update.

The functions that end in `_reading` return loss, log-probabilities and gradient norm from TRL's own
code, for tests of equality.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
import training_measure
import trl
from datasets import Dataset
from training_measure import (
    PAD,
    Fixed,
    Pair,
    Row,
    build_llama,
    build_reward_model,
    build_tokenizer,
    text,
)

__all__ = ["Fixed", "build_llama", "build_reward_model"]

LEARNING_RATE = 1e-5
BETA_GRPO = 0.04


def quiet(folder: str, rows: int, **settings: Any) -> dict[str, Any]:
    """Arguments that every TRL trainer of this file has; `rows` is its batch."""
    base: dict[str, Any] = {
        "output_dir": folder,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "bf16": training_measure.LOWERED,
        "use_cpu": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "learning_rate": LEARNING_RATE,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 0,
    }
    return base | settings


def prompt_completion(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Rows as text; TRL adds the EOS that each completion ends in, unless it is there."""
    return [{"prompt": text(row.prompt), "completion": text(row.completion)} for row in rows]


def preferences(pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """Pairs as text with an explicit prompt."""
    return [
        {"prompt": text(pair.prompt), "chosen": text(pair.chosen), "rejected": text(pair.rejected)}
        for pair in pairs
    ]


def same(what: str, found: Sequence[int], wanted: Sequence[int]) -> None:
    """Stop where TRL's ids are not the fixed ones: all that follows would compare other work."""
    if tuple(found) != tuple(wanted):
        raise SystemExit(f"TRL reads {what} as {len(found)} other ids than the {len(wanted)} fixed")


def saved(model: Any, folder: str) -> Any:
    """The model with a folder to its name: TRL loads its reference from there."""
    model.save_pretrained(folder)
    model.config._name_or_path = folder
    return model


def grpo_trainer(
    folder: str, groups: Sequence[Sequence[Row]], steps: int, **settings: Any
) -> trl.GRPOTrainer:
    """TRL's GRPO over fixed groups in every step: one batch of all their rows."""
    rows = [row for group in groups for row in group]

    def rollout(prompts: list[str], trainer: trl.GRPOTrainer) -> dict[str, Any]:
        if prompts != [text(row.prompt) for row in rows]:
            raise SystemExit("TRL's sampler gives the prompts in another order than the fixed one")
        return {
            "prompt_ids": [list(row.prompt) for row in rows],
            "completion_ids": [list(row.completion) for row in rows],
            "logprobs": None,
        }

    def reward(**_: Any) -> list[float]:
        return [row.reward for row in rows]

    settings = {
        "num_generations": len(groups[0]),
        "max_completion_length": max(len(row.completion) for row in rows),
        "temperature": 1.0,
        "shuffle_dataset": False,
        "max_steps": steps,
    } | settings
    return trl.GRPOTrainer(
        model=saved(build_llama(), folder),
        reward_funcs=reward,
        args=trl.GRPOConfig(**quiet(folder, len(rows), **settings)),
        train_dataset=Dataset.from_list([{"prompt": text(group[0].prompt)} for group in groups]),
        processing_class=build_tokenizer(),
        rollout_func=rollout,
    )


def dpo_trainer(
    folder: str, pairs: Sequence[Pair], steps: int, reference: Any = None, **settings: Any
) -> trl.DPOTrainer:
    """TRL's DPO over the same pairs in every step."""
    trainer = trl.DPOTrainer(
        model=saved(build_llama(), folder),
        ref_model=reference,
        args=trl.DPOConfig(
            **quiet(folder, len(pairs), max_steps=steps, max_length=None, **settings)
        ),
        train_dataset=Dataset.from_list(preferences(pairs) * steps),
        processing_class=build_tokenizer(),
    )
    for pair, row in zip(pairs, trainer.train_dataset, strict=False):
        same("a prompt", row["prompt_ids"], pair.prompt)
        same("a chosen completion", row["chosen_ids"], pair.chosen)
        same("a rejected completion", row["rejected_ids"], pair.rejected)
    return trainer


def sft_trainer(folder: str, rows: Sequence[Row], steps: int, **settings: Any) -> trl.SFTTrainer:
    """TRL's SFT over the same rows in every step, the loss on completions alone."""
    trainer = trl.SFTTrainer(
        model=saved(build_llama(), folder),
        args=trl.SFTConfig(
            **quiet(
                folder,
                len(rows),
                max_steps=steps,
                max_length=None,
                completion_only_loss=True,
                **settings,
            )
        ),
        train_dataset=Dataset.from_list(prompt_completion(rows) * steps),
        processing_class=build_tokenizer(),
    )
    for row, read in zip(rows, trainer.train_dataset, strict=False):
        same("a row", read["input_ids"], row.ids)
    return trainer


def reward_trainer(
    folder: str, pairs: Sequence[Pair], steps: int, **settings: Any
) -> trl.RewardTrainer:
    """TRL's reward trainer over the same pairs in every step."""
    trainer = trl.RewardTrainer(
        model=build_reward_model(),
        args=trl.RewardConfig(
            **quiet(folder, len(pairs), max_steps=steps, max_length=None, **settings)
        ),
        train_dataset=Dataset.from_list(preferences(pairs) * steps),
        processing_class=build_tokenizer(),
    )
    for pair, row in zip(pairs, trainer.train_dataset, strict=False):
        same("a chosen sequence", row["chosen_ids"], pair.prompt + pair.chosen)
        same("a rejected sequence", row["rejected_ids"], pair.prompt + pair.rejected)
    return trainer


# --- what TRL computes, for tests of equality ------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """Loss, log-probabilities and gradients of TRL's own code for one fixed batch."""

    loss: float
    grad_norm: float
    """L2 over all gradients, not clipped."""
    logps: list[list[float]] = field(default_factory=list)
    """Of each row's completion tokens, in TRL's order of rows; empty for a reward model."""
    ref_logps: list[list[float]] = field(default_factory=list)
    """The same of the reference, where the trainer has one."""
    rewards: list[float] = field(default_factory=list)
    """Of a reward model: one a sequence, the chosen ones first."""
    grads: dict[str, torch.Tensor] = field(default_factory=dict)
    """By parameter name."""


class Seen:
    """Keeps what a model returns, in the order of its calls."""

    def __init__(self, model: Any) -> None:
        self.outputs: list[Any] = []
        self._hook = model.register_forward_hook(lambda _, __, output: self.outputs.append(output))

    def logps(self, mask_BT: torch.Tensor, call: int = -1) -> list[list[float]]:
        """Log-probabilities where the mask is set; it covers the last positions."""
        logps_BT = self.outputs[call].log_probs[:, -mask_BT.shape[1] :]
        return [
            row_T[mask_T].tolist() for row_T, mask_T in zip(logps_BT, mask_BT.bool(), strict=True)
        ]


def reading(model: Any, loss: torch.Tensor, **parts: Any) -> Reading:
    """A reading after the loss's backward."""
    model.zero_grad()
    loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    norm = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(grad) for grad in grads.values()])
    )
    return Reading(loss=loss.item(), grad_norm=norm.item(), grads=grads, **parts)


def perturbed(seed: int = 1, scale: float = 0.02) -> Any:
    """The model of seed 0 moved a little: a reference that is not the policy."""
    model = build_llama()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


@contextmanager
def _bench() -> Iterator[str]:
    """A folder for a trainer that is thrown away, with its warnings silenced."""
    before = logging.root.manager.disable
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield folder
        finally:
            logging.disable(before)


def _first_batch(trainer: Any) -> Any:
    """The whole training set as one batch, in its own order, by TRL's collator."""
    trainer.model.train()
    return trainer.data_collator(list(trainer.train_dataset))


def _set_model(trainer: Any, weights: Any) -> None:
    """Weights of another model of the same shape, after TRL has patched its own."""
    if weights is not None:
        trainer.model.load_state_dict(weights.state_dict())


def sft_reading(rows: Sequence[Row], model: Any = None, **settings: Any) -> Reading:
    """SFT on completions (`completion_only_loss=False` for all tokens; `loss_type` nll or dft)."""
    with _bench() as folder:
        trainer = trl.SFTTrainer(
            model=build_llama(),
            args=trl.SFTConfig(**quiet(folder, len(rows), max_length=None, **settings)),
            train_dataset=Dataset.from_list(prompt_completion(rows)),
            processing_class=build_tokenizer(),
        )
        _set_model(trainer, model)
        batch = _first_batch(trainer)
        seen = Seen(trainer.model)
        mask_BT = batch["labels"][:, 1:] != -100
        loss = trainer.compute_loss(trainer.model, batch)
        return reading(trainer.model, loss, logps=seen.logps(mask_BT))


def dpo_reading(
    pairs: Sequence[Pair], model: Any = None, reference: Any = None, **settings: Any
) -> Reading:
    """DPO with any `loss_type`, `beta`, `label_smoothing`, `ld_alpha`, … of `trl.DPOConfig`.

    Rows of `logps`: all chosen ones, then all rejected. The reference is `perturbed()`
    unless given.
    """
    with _bench() as folder:
        reference = perturbed() if reference is None else reference
        trainer = dpo_trainer(folder, pairs, 1, reference=reference, **settings)
        _set_model(trainer, model)
        batch = _first_batch(trainer)
        policy, ref = Seen(trainer.model), Seen(trainer.ref_model)
        loss = trainer.compute_loss(trainer.model, batch)
        mask_BT = batch["completion_mask"][:, 1:]
        return reading(
            trainer.model, loss, logps=policy.logps(mask_BT), ref_logps=ref.logps(mask_BT)
        )


def kto_reading(
    rows: Sequence[Row],
    desirable: Sequence[bool],
    model: Any = None,
    reference: Any = None,
    **settings: Any,
) -> Reading:
    """KTO (`loss_type` kto or apo_zero_unpaired).

    Its KL is of each prompt with the completion of the row before, the first's with the
    last, and never below 0, where it would test nothing: with the default models and
    `Fixed().uneven()` it is 0.6.
    """
    with _bench() as folder:
        trainer = trl.KTOTrainer(
            model=build_llama(),
            ref_model=perturbed() if reference is None else reference,
            args=trl.KTOConfig(**quiet(folder, len(rows), max_length=None, **settings)),
            train_dataset=Dataset.from_list(
                [
                    row | {"label": label}
                    for row, label in zip(prompt_completion(rows), desirable, strict=True)
                ]
            ),
            processing_class=build_tokenizer(),
        )
        _set_model(trainer, model)
        batch = _first_batch(trainer)
        policy, ref = Seen(trainer.model), Seen(trainer.ref_model)
        loss = trainer.compute_loss(trainer.model, batch)
        mask_BT = batch["completion_mask"][:, 1:]
        return reading(
            trainer.model, loss, logps=policy.logps(mask_BT), ref_logps=ref.logps(mask_BT)
        )


def reward_reading(
    pairs: Sequence[Pair],
    model: Any = None,
    margins: Sequence[float] | None = None,
    **settings: Any,
) -> Reading:
    """Bradley–Terry, with margins and `center_rewards_coefficient` where given."""
    with _bench() as folder:
        trainer = reward_trainer(folder, pairs, 1, **settings)
        _set_model(trainer, model)
        examples = list(trainer.train_dataset)
        if margins is not None:
            examples = [row | {"margin": m} for row, m in zip(examples, margins, strict=True)]
        trainer.model.train()
        seen = Seen(trainer.model)
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(examples))
        rewards = seen.outputs[-1].logits.squeeze(-1).tolist()
        return reading(trainer.model, loss, rewards=rewards)


def _pad(rows: Sequence[Sequence[float]], side: str, fill: float, dtype: Any) -> torch.Tensor:
    width = max(map(len, rows))
    filled = [
        [fill] * (width - len(row)) + list(row)
        if side == "left"
        else list(row) + [fill] * (width - len(row))
        for row in rows
    ]
    return torch.tensor(filled, dtype=dtype)


def grpo_reading(
    rows: Sequence[Row],
    advantages: Sequence[float],
    old_logps: Sequence[Sequence[float]] | None = None,
    model: Any = None,
    reference: Any = None,
    **settings: Any,
) -> Reading:
    """GRPO's loss on given advantages and old log-probabilities (None: those of the policy).

    `settings` are of `trl.GRPOConfig`: `loss_type` (grpo, bnpo, dr_grpo, dapo, cispo, sapo, luspo,
    vespo), `importance_sampling_level`, `epsilon`, `epsilon_high`, `delta`, `beta`, …
    """
    with _bench() as folder:
        settings = {"beta": BETA_GRPO, "num_generations": 2} | settings
        trainer = grpo_trainer(folder, [rows], 1, **settings)
        _set_model(trainer, model)
        trainer.model.train()
        prompts = [row.prompt for row in rows]
        completions = [row.completion for row in rows]
        mask_BT = _pad([[1] * len(ids) for ids in completions], "right", 0, torch.long)
        inputs = {
            "prompt_ids": _pad(prompts, "left", PAD, torch.long),
            "prompt_mask": _pad([[1] * len(ids) for ids in prompts], "left", 0, torch.long),
            "completion_ids": _pad(completions, "right", PAD, torch.long),
            "completion_mask": mask_BT,
            "advantages": torch.tensor(list(advantages), dtype=torch.float32),
            "num_items_in_batch": mask_BT.sum(),
        }
        if old_logps is not None:
            inputs["old_per_token_logps"] = _pad(old_logps, "right", 0.0, torch.float32)
        ref_logps: list[list[float]] = []
        if trainer.beta:
            trainer.ref_model.load_state_dict(
                (perturbed() if reference is None else reference).state_dict()
            )
            ref = Seen(trainer.ref_model)
            ids_BT = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            attended_BT = torch.cat([inputs["prompt_mask"], mask_BT], dim=1)
            with torch.no_grad():
                inputs["ref_per_token_logps"], *_ = trainer._get_per_token_logps_and_entropies(
                    trainer.ref_model, ids_BT, attended_BT, mask_BT.shape[1]
                )
            ref_logps = ref.logps(mask_BT)
        trainer.current_gradient_accumulation_steps = 1
        seen = Seen(trainer.model)
        loss = trainer.compute_loss(trainer.model, inputs)
        return reading(trainer.model, loss, logps=seen.logps(mask_BT), ref_logps=ref_logps)


DPO_LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
"""Every `loss_type` of TRL's DPO; exo_pair wants a `label_smoothing` above 0."""
GRPO_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")
"""Every `loss_type` of TRL's GRPO."""
KTO_LOSSES = ("kto", "apo_zero_unpaired")
"""Every `loss_type` of TRL's KTO."""
