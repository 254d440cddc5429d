"""From debates to a better policy, four ways, each by the project's own trainers.

expert_iteration   best-of-N speeches by the judge's belief, and SFT on what was chosen; again with
                   the policy that came of it (Anthony et al. 2017; Arnesen et al. 2024)
dpo                the best against the worst of N speeches to one prompt (Rafailov et al. 2023)
ppo                a reward model of the same comparisons, which reads a speech as the judge does,
                   and PPO (Ouyang et al. 2022)
grpo               the judge's belief itself as reward, both sides of a game copies of one policy

The circle's defaults stand here; a recipe's tables replace single values of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oversight.agents.speaking import label_of
from oversight.errors import DataError
from oversight.experiments.selfplay.games import BEST_OF_N, PROTOCOLS, Game
from oversight.experiments.selfplay.rewards import (
    BeliefReader,
    JudgedGames,
    SpeechesAlone,
    comparisons,
    rows,
)
from oversight.experiments.selfplay.settings import BATCH_SIZES, Arena, CircleSettings
from oversight.experiments.trainer_runs import common, merged, tokenizer_of, train_or_find
from oversight.preferences.building import preferences
from oversight.preferences.settings import PreferenceSettings
from oversight.store import Store
from oversight.train import dpo, grpo, ppo, reward, sft
from oversight.train.experience_settings import RewardSettings
from oversight.train.rollouts.reward_models import RewardModels
from oversight.types import Purpose

MIN_SCORE_GAP = 0.05
"""Belief by which a speech has to be better than another to be a preference."""


def train_sft(
    circle: CircleSettings, policy: str, store: Path, arena: Arena, out: Path, seed: int
) -> int:
    """SFT of `policy` on the speeches that were chosen among candidates; from how many of them."""
    config = sft_config(circle, policy, store, arena, out, seed)
    return _run_on_candidates(sft, config, store, _num_preferences(store, arena))


def sft_config(
    circle: CircleSettings, policy: str, store: Path, arena: Arena, out: Path, seed: int
) -> dict[str, Any]:
    """Settings of expert iteration's SFT."""
    return merged(
        {
            **common(policy, out, seed, circle.template_args),
            "batch_size": 32,
            "steps": 100,
            "optimizer": {"lr": 5e-4},
        },
        {"data": {**_candidates_data(store, arena), "preferences": _PREFERENCES}},
        circle.sft,
    )


def _shared(circle: CircleSettings, policy: str, out: Path, seed: int) -> dict[str, Any]:
    """Settings that all runs of a circle share."""
    return common(policy, out, seed, circle.template_args_of(policy, circle.judge))


def train_dpo(
    circle: CircleSettings, policy: str, store: Path, arena: Arena, out: Path, seed: int
) -> int:
    """DPO of `policy` on candidates to one prompt; from how many pairs."""
    config = dpo_config(circle, policy, store, arena, out, seed)
    return _run_on_candidates(dpo, config, store, _num_preferences(store, arena))


def dpo_config(
    circle: CircleSettings, policy: str, store: Path, arena: Arena, out: Path, seed: int
) -> dict[str, Any]:
    """Settings of DPO."""
    return merged(
        {
            **common(policy, out, seed, circle.template_args),
            "batch_size": 32,
            "steps": 150,
            "optimizer": {"lr": 2e-4},
        },
        {
            "data": {**_candidates_data(store, arena), "preferences": _PREFERENCES},
            "options": {"beta": 0.3},
        },
        circle.dpo,
    )


def train_reward(
    circle: CircleSettings, policy: str, store: Path, arena: Arena, out: Path, seed: int
) -> int:
    """A reward model on the same comparisons, from the layers of `policy`; from how many."""
    config = reward_config(circle, policy, out, seed)
    tokenizer = tokenizer_of(policy)
    settings = PreferenceSettings.parse({**_PREFERENCES, "siblings": "all_pairs"})
    with Store.open(str(store), create=False) as opened:
        rows = list(
            comparisons(
                opened,
                BEST_OF_N[arena],
                PROTOCOLS[arena],
                settings,
                tokenizer,
                circle.template_args,
            )
        )
    return _run_on_candidates(reward, config, store, len(rows), rows=rows)


def reward_config(circle: CircleSettings, policy: str, out: Path, seed: int) -> dict[str, Any]:
    """Settings of the reward model that PPO learns from."""
    return merged(
        {
            **common(policy, out, seed, circle.template_args),
            "batch_size": 32,
            "steps": 150,
            "optimizer": {"lr": 5e-4},
        },
        {"data": {"format": "pair", "ids": "given", "duplicates": "keep"}},
        circle.reward,
    )


def train_ppo(
    circle: CircleSettings,
    policy: str,
    reward_model: Path,
    games: list[Game],
    out: Path,
    seed: int,
) -> Path:
    """PPO of `policy` against a reward model."""
    config = ppo_config(circle, policy, reward_model, out, seed)
    tokenizer = tokenizer_of(policy)
    rewards = RewardSettings.parse(config["reward"])
    models = RewardModels.load(rewards, tokenizer, "cpu")
    judged = SpeechesAlone(games, models, tokenizer, circle.template_args)
    return train_or_find(ppo, config, rows=rows(games), rewards=judged)


def ppo_config(
    circle: CircleSettings, policy: str, reward_model: Path, out: Path, seed: int
) -> dict[str, Any]:
    """Settings of PPO."""
    return merged(
        {
            **common(policy, out, seed, circle.template_args),
            "batch_size": BATCH_SIZES["ppo"],
            "steps": 80,
        },
        {
            "data": {"format": "prompt", "duplicates": "keep"},
            "optimizer": {"lr": 3e-4, "schedule": "linear"},
            "samples": 2,
            "mini_batches": 2,
            "reuse": 1,
            "kl": {"coefficient": 0.05},
            "sampling": {"max_new_tokens": circle.max_tokens},
            # A reward model that tells speeches apart well gives them rewards far apart. Unscaled,
            # the loss of values is fifty times the policy's, on layers that they share, and undoes
            # what those know: verified quotes fall from 78 to 50 %.
            "shaping": {"missing_eos": 1.0, "scale": True},
            "critic": {"coefficient": 0.1},
            "reward": {"source": "model", "models": [str(reward_model)]},
        },
        circle.ppo,
    )


def train_grpo(
    circle: CircleSettings, policy: str, games: list[Game], out: Path, seed: int
) -> Path:
    """GRPO of `policy` with the judge's belief as reward.

    A group is the answers of one seat to one prompt, so that its mean is the baseline of that
    very seat on that very question; `advantage = "role_baseline"` takes a running one a seat.
    """
    config = grpo_config(circle, policy, out, seed)
    tokenizer = tokenizer_of(policy)
    judged = JudgedGames(
        games, BeliefReader(circle.judge, circle.judge_template_args), tokenizer, circle.opponents
    )
    return train_or_find(grpo, config, rows=rows(games), rewards=judged)


def grpo_config(circle: CircleSettings, policy: str, out: Path, seed: int) -> dict[str, Any]:
    """Settings of GRPO."""
    return merged(
        {
            **common(policy, out, seed, circle.template_args),
            "batch_size": BATCH_SIZES["grpo"],
            "steps": 200,
        },
        {
            "data": {"format": "prompt", "duplicates": "keep"},
            # It falls to nothing: a policy that goes on at full speed finds out what its judge
            # does not see through.
            "optimizer": {"lr": 5e-4, "schedule": "linear"},
            # To prove a claim there is one best line: near certainty is what is wanted here.
            "guards": {"entropy": {"action": "warn"}},
            "samples": 8,
            "loss": "dr_grpo",
            "kl_coefficient": 0.01,
            "sampling": {"max_new_tokens": circle.max_tokens},
            "shaping": {"missing_eos": 1.0},
            "shuffle": False,
            # Rewards come from games in memory; the settings only have to name some source.
            "reward": {"source": "length"},
        },
        circle.grpo,
    )


def train_judge(circle: CircleSettings, store: Path, out: Path, seed: int) -> Path:
    """SFT of the judge on outcomes: what it read in debates, and the letter of the right option."""
    config = judge_config(circle, out, seed)
    with Store.open(str(store), create=False) as opened:
        outcomes = sorted(_outcomes(opened), key=lambda row: row["id"])
    return train_or_find(sft, config, rows=outcomes)


def judge_config(circle: CircleSettings, out: Path, seed: int) -> dict[str, Any]:
    """Settings of the judge's SFT."""
    return merged(
        {
            **common(circle.judge, out, seed, circle.judge_template_args),
            "batch_size": 64,
            "steps": 60,
        },
        {
            "data": {"format": "prompt_completion", "duplicates": "keep"},
            "optimizer": {"lr": 2e-4},
        },
        circle.sft_judge,
    )


def _outcomes(store: Store) -> Iterator[dict[str, Any]]:
    for transcript in store.transcripts():
        correct = transcript.question.correct
        for judgment in transcript.judgments:
            decided = [s for s in judgment.samples if s.purpose is Purpose.BELIEF]
            if correct is None or not decided:
                continue
            yield {
                "id": f"{transcript.debate.id}-{int(judgment.swapped)}",
                "question_id": transcript.question.id,
                "prompt": store.prompt(decided[-1].prompt_id).prompt.chat(),
                "completion": label_of(correct, judgment.orders.options),
            }


def _run_on_candidates(
    trainer: Any, config: dict[str, Any], store: Path, num_rows: int, **given: Any
) -> int:
    """Train on what a store's candidates tell, in batches of all of it where that is less.

    The more a policy's speeches are alike to the judge, the fewer of them are better than others:
    that there are few is a result, and no fault.

    Returns:
        `num_rows`, the number of preference rows.

    Raises:
        DataError: There is none.
    """
    if num_rows == 0:
        raise DataError(
            f"{store}: of no speech the judge thinks better than of its other candidates "
            f"by {MIN_SCORE_GAP} or more; there is nothing to learn from"
        )
    train_or_find(trainer, {**config, "batch_size": min(config["batch_size"], num_rows)}, **given)
    return num_rows


def _num_preferences(store: Path, arena: Arena) -> int:
    """Number of preferences that a trainer will read of the store."""
    settings = PreferenceSettings.parse(_PREFERENCES)
    with Store.open(str(store), create=False) as opened:
        transcripts = opened.transcripts(protocol=BEST_OF_N[arena])
        return sum(1 for _ in preferences(transcripts, settings, opened.prompt))


_PREFERENCES: dict[str, Any] = {
    "kinds": ["siblings"],
    "siblings": "best_worst",
    "min_score_gap": MIN_SCORE_GAP,
    "ties": False,
}


def _candidates_data(store: Path, arena: Arena) -> dict[str, Any]:
    return {"store": str(store), "protocol": BEST_OF_N[arena], "duplicates": "keep"}
