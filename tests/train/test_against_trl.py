"""On a fixed batch our trainers' losses, log-probabilities and gradients are TRL 1.16's.

Both sides run their own code from ids to gradients, padding and all; ours over the trie. Bar:
1e-4 relative. Where TRL departs from a paper, the option that is named after TRL is taken.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel, ScalarModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train import dpo, grpo, losses, reward, sft, unpaired
from oversight.train.batches import row_logprobs
from oversight.train.distributed import World
from oversight.train.losses.policy_batch import Extras
from oversight.train.policy_step import policy_step
from oversight.train.rollouts.buffer import RolloutBatch
from oversight.train.session import Objective
from oversight.train.types import Comparison, Demonstration, LabelledExample

pytestmark = pytest.mark.slow  # importing TRL alone takes ten seconds
pytest.importorskip("trl", reason="TRL is the peer: pip install 'oversight[dev]'")

ALONE = World(0, 1, torch.device("cpu"))
SESSION: Any = SimpleNamespace(world=ALONE)
RELATIVE = 1e-4


@pytest.fixture(scope="module")
def peers(root: Path) -> Iterator[Any]:
    """TRL's side, and the inputs that both share."""
    sys.path.insert(0, str(root / "benchmarks"))
    import training_peers

    yield training_peers
    sys.path.remove(str(root / "benchmarks"))


def ids(values: Sequence[int]) -> Any:
    return np.array(values, dtype=np.int64)


def token_row(row: Any) -> TokenRow:
    return TokenRow(ids(row.prompt), ids(row.completion))


def comparisons(pairs: Sequence[Any]) -> list[Comparison]:
    return [
        Comparison(str(i), ids(p.prompt), (ids(p.chosen), ids(p.rejected)), (0, 1))
        for i, p in enumerate(pairs)
    ]


def settings(kind: Any, **own: Any) -> Any:
    return kind.Config.parse({"out": "unused", "model": {"path": "unused"}, "data": {}, **own})


def run(task: Objective, model: Any) -> float:
    """The loss of a task, computed in two parts, with its gradients in the model."""
    half = max(1, len(task.groups) // 2)
    numbers = list(range(len(task.groups)))
    total = 0.0
    for part in (numbers[:half], numbers[half:]):
        if part:
            loss, _ = task.loss_of(part)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    return total


def agree(model: Any, loss: float, theirs: Any) -> None:
    """Loss, gradient norm, and every gradient."""
    assert loss == pytest.approx(theirs.loss, rel=RELATIVE, abs=1e-7)
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norm = torch.stack([grad.norm() for grad in grads.values()]).norm().item()
    assert norm == pytest.approx(theirs.grad_norm, rel=RELATIVE)
    for name, grad in grads.items():
        difference = (grad - theirs.grads[name]).norm()
        assert difference <= 2e-4 * theirs.grads[name].norm() + 1e-6 * norm, name


def test_log_probabilities_of_each_token_and_sft_agree(peers: Any) -> None:
    rows = peers.Fixed().uneven()
    theirs = peers.sft_reading(rows)
    policy = PolicyModel(peers.build_llama())
    ours = row_logprobs(policy, [token_row(row) for row in rows], ALONE, 10_000)
    for a, b in zip(ours, theirs.logps, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=RELATIVE)
    batch = [Demonstration(token_row(row)) for row in rows]
    task = sft._task(settings(sft), policy, SESSION, batch)
    agree(policy.model, run(task, policy), theirs)


DPO: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sigmoid": ({"loss_type": ["sigmoid"]}, {}),
    "robust": (
        {"loss_type": ["robust"], "label_smoothing": 0.1},
        {"loss": "robust", "options": {"label_smoothing": 0.1}},
    ),
    "hinge": ({"loss_type": ["hinge"]}, {"loss": "hinge"}),
    "ipo": ({"loss_type": ["ipo"]}, {"loss": "ipo", "options": {"trl_mean": True}}),
    "apo_zero": ({"loss_type": ["apo_zero"]}, {"loss": "apo_zero"}),
    "apo_down": ({"loss_type": ["apo_down"]}, {"loss": "apo_down"}),
    "nca_pair": ({"loss_type": ["nca_pair"]}, {"loss": "nca_pair"}),
    "length": ({"loss_type": ["sigmoid_norm"]}, {"loss": "length_normalised"}),
    "desensitised": ({"loss_type": ["sigmoid"], "ld_alpha": 0.3}, {"length_alpha": 0.3}),
    "weighted": ({"loss_type": ["sigmoid"], "use_weighting": True}, {"weighted": True}),
}


@pytest.mark.parametrize("name", DPO)
def test_dpo_agrees(peers: Any, name: str) -> None:
    theirs_settings, ours_settings = DPO[name]
    pairs = peers.Fixed().uneven_pairs()
    theirs = peers.dpo_reading(pairs, beta=0.3, **theirs_settings)
    options = {"beta": 0.3, **ours_settings.get("options", {})}
    config = settings(dpo, **{**ours_settings, "options": options})
    policy = PolicyModel(peers.build_llama())
    batch = comparisons(pairs)
    rows = [row for pair in batch for row in pair.rows()]
    reference = row_logprobs(PolicyModel(peers.perturbed()), rows, ALONE, 10_000)
    task = dpo._task(config, policy, SESSION, batch, reference)
    agree(policy.model, run(task, policy), theirs)


def test_kto_agrees(peers: Any) -> None:
    rows = peers.Fixed().uneven(prompts=6)
    desirable = [True, False, True, True, False, False]
    theirs = peers.kto_reading(rows, desirable, beta=1.0, loss_type="apo_zero_unpaired")
    config = settings(dpo, loss="apo_zero_unpaired", options={"beta": 1.0})
    policy = PolicyModel(peers.build_llama())
    batch = [LabelledExample(token_row(r), good) for r, good in zip(rows, desirable, strict=True)]
    model = PolicyModel(peers.perturbed())
    reference = SimpleNamespace(
        logprobs=lambda rows, world, size: row_logprobs(model, rows, world, size)
    )
    scorer = unpaired._Scorer(config, policy, reference, SESSION, num_positions=10_000)
    task = unpaired._task(config, policy, SESSION, batch, scorer)
    agree(policy.model, run(task, policy), theirs)


def test_reward_models_agree(peers: Any) -> None:
    pairs = peers.Fixed().uneven_pairs()
    theirs = peers.reward_reading(pairs)
    model = ScalarModel(peers.build_reward_model())
    batch = comparisons(pairs)
    with torch.no_grad():
        ours = model(RowBatch.build([row for pair in batch for row in pair.rows()]))
    chosen_first = torch.cat([ours[::2], ours[1::2]]).numpy()
    np.testing.assert_allclose(chosen_first, theirs.rewards, rtol=1e-3, atol=1e-5)
    task = reward._task(settings(reward), model, SESSION, batch)
    agree(model.model, run(task, model), theirs)


CLIPS = {"clip_low": 0.2, "clip_high": 0.2}

GRPO: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grpo": ({"loss_type": "grpo"}, {"loss": "grpo"}),
    "dapo": ({"loss_type": "dapo"}, {"loss": "dapo", "options": {"clip_high": 0.2}}),
    "clip_higher": (
        {"loss_type": "dapo", "epsilon_high": 0.28},
        {"loss": "dapo", "options": {"clip_high": 0.28}},
    ),
    "dr_grpo": ({"loss_type": "dr_grpo"}, {"loss": "dr_grpo"}),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        {"loss": "gspo", "options": CLIPS},
    ),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.5},
        {"loss": "cispo", "options": {"clip_high": 0.5}},
    ),
}
"""TRL's settings and ours, of one and the same loss. Both are without KL: its estimators are
compared loss by loss."""


@pytest.mark.parametrize("name", GRPO)
def test_grpo_agrees(peers: Any, name: str) -> None:
    theirs_settings, ours_settings = GRPO[name]
    rows = peers.Fixed().uneven()
    advantages = [1.3, -0.4, -0.9, 0.7, 0.2, -0.9]
    batch_rows = [token_row(row) for row in rows]
    old = row_logprobs(PolicyModel(peers.perturbed(seed=2)), batch_rows, ALONE, 10_000)
    theirs = peers.grpo_reading(
        rows,
        advantages,
        old_logps=[each.tolist() for each in old],
        beta=0.0,
        max_completion_length=16,
        **theirs_settings,
    )
    config = settings(
        grpo,
        **ours_settings,
        reward={"source": "length"},
        importance={"mode": "none"},
        sampling={"max_new_tokens": 16},
    )
    batch = RolloutBatch(
        rows=tuple(batch_rows),
        rewards_B=np.zeros(len(rows)),
        groups_B=np.array([0, 0, 0, 1, 1, 1]),
        finished_B=np.ones(len(rows), dtype=bool),
        roles=("",) * len(rows),
        version=0,
        row_values={"advantages": np.array(advantages)},
        token_values={"old_logps": tuple(each.numpy() for each in old)},
    )
    policy = PolicyModel(peers.build_llama())
    surrogate = partial(losses.bind("policy", config.loss, config.options), extras=Extras())
    experience: Any = SimpleNamespace(is_fresh=False)
    task = policy_step(config, policy, SESSION, experience, batch, surrogate)
    agree(policy.model, run(task, policy), theirs)
