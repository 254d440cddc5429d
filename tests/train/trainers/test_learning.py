"""Trainers learn what they are asked to: measured on small worlds whose best answers are known.

The long ones are the measurements of `benchmarks/learning.py`.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from oversight.train import grpo, ppo, reward
from oversight.train.settings import DataSettings, OptimizerSettings

FAST = OptimizerSettings(lr=0.01, schedule="constant", warmup=2.0, betas=(0.9, 0.95))


def train_lines(cases: ModuleType, run: Path) -> list[dict[str, Any]]:
    return [line for line in cases.timeless(run) if line["split"] == "train"]


def test_the_source_of_words_has_the_entropy_that_it_says(learning: ModuleType) -> None:
    """Its rows' mean surprisal is that of the chain itself, worked out from its probabilities."""
    chain = learning.Chain(num_words=3, stop=0.1)
    rows = chain.rows(2000, seed=1)
    pairs = chain.next_word
    # The stationary distribution over the last two words.
    step = np.zeros((9, 9))
    for a in range(3):
        for b in range(3):
            step[3 * a + b, [3 * b + c for c in range(3)]] = pairs[a, b]
    vectors = np.linalg.matrix_power(step, 500)[0]
    word = float(-(vectors.reshape(3, 3)[..., None] * pairs * np.log(pairs)).sum())
    ends = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    # Long rows come to the chain's rate; short ones also have their first words.
    tokens = sum(row["num_tokens"] for row in rows)
    firsts = sum(np.log(3) for _ in rows)
    expected = (firsts + (tokens - 2 * len(rows)) * word + (tokens - 2 * len(rows)) * ends) / tokens
    assert chain.entropy(rows) == pytest.approx(expected, rel=0.03)


def test_sft_comes_near_the_entropy_of_a_small_source(learning: ModuleType, tmp_path: Path) -> None:
    chain = learning.Chain(num_words=3, stop=0.1)
    found = learning.learn_chain(tmp_path, seed=0, steps=100, chain=chain, batch_size=16)
    floor = found.bar / (1.0 + learning.CLOSE)
    assert found.start > 2.0 * floor
    assert floor * 0.98 < found.end < floor * 1.2


def test_a_reward_model_learns_which_word_is_good(cases: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(300):
        kept = [w for w in cases.WORDS if w != "gold"]
        said = [[kept[k] for k in rng.integers(len(kept), size=3)] for _ in range(2)]
        said[0][int(rng.integers(3))] = "gold"
        chosen, rejected = (" " + " ".join(words) for words in said)
        rows.append({"prompt": f"row {i}:", "chosen": chosen, "rejected": rejected})
    changes = {"optimizer": FAST, "steps": 50, "batch_size": 16, "save_every": 100}
    settings = cases.common(tmp_path / "run", **changes)
    settings |= {"data": DataSettings(eval_rows=60), "eval_every": 50}
    reward.train(reward.Config(**settings), rows=rows)
    ends = [line for line in cases.timeless(tmp_path / "run") if line["split"] == "eval"]
    assert ends[-1]["accuracy"] >= 0.95


@pytest.mark.parametrize("trainer", [grpo, ppo])
def test_what_is_rewarded_is_said_more_often(
    cases: ModuleType, tmp_path: Path, trainer: Any
) -> None:
    more = cases.rollouts(samples=8, mini_batches=1, reuse=1, shaping=cases.ShapingSettings())
    changes = {"optimizer": FAST.model_copy(update={"lr": 0.02}), "steps": 30, "save_every": 100}
    config = trainer.Config(**cases.common(tmp_path / "run", **changes, **more))
    trainer.train(config, rows=cases.prompts(), rewards=cases.TokenRewards())
    rewards = [line["reward"] for line in train_lines(cases, tmp_path / "run")]
    assert np.mean(rewards[:3]) < 2.6  # a third of six tokens, and what chance adds
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.8


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["sft", "reward"])
def test_sft_and_reward_model_reach_their_bars(
    learning: ModuleType, tmp_path: Path, name: str
) -> None:
    (found,) = learning.outcomes([name], [0], tmp_path)
    assert found.holds, found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dpo_ppo_and_grpo_raise_the_true_reward(
    learning: ModuleType, tmp_path: Path, seed: int
) -> None:
    found = learning.outcomes(["dpo", "ppo", "grpo"], [seed], tmp_path)
    assert [each.trainer for each in found] == ["dpo", "ppo", "grpo"]
    for each in found:
        assert 0.5 < each.start < 0.7  # right only part of the time, as its demonstrations were
        assert each.end >= each.start + learning.MARGIN, each
        assert each.kl is not None
        assert 0.0 < each.kl < 8.0, each


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_loss_of_the_family_raises_the_true_reward(
    learning: ModuleType, tmp_path: Path
) -> None:
    beginning = learning.begin_copying(tmp_path, seed=0, steps=250)
    family: dict[str, dict[str, Any]] = {
        "dr_grpo": {},
        "dapo": {"options": {"clip_high": 0.28}, "dynamic_sampling": 2},
        "gspo": {"options": {"clip_low": 3e-2, "clip_high": 4e-2}},
        "cispo": {},
        "reinforce": {"advantage": "rloo"},
        "grpo": {"advantage": "reinforce_plus_plus"},
    }
    for loss, changes in family.items():
        folder = tmp_path / loss
        folder.mkdir()
        reused = {"steps": 40, "mini_batches": 2, "batch_size": 32, "loss": loss}
        found = learning.learn_by_grpo(folder, 0, beginning, **reused, **changes)
        assert found.end >= found.start + 0.1, (loss, found)
