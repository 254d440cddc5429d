"""Variants of the trainers in whole runs: advantages, critics, steering, sampling, ensembles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from oversight.errors import ConfigError, TrainingStopped
from oversight.modeling import TokenRow
from oversight.train import grpo, plan, ppo, registered, reward
from oversight.train.experience_settings import CriticSettings
from oversight.train.guard_settings import DisagreementSettings, GuardSettings
from oversight.train.rollouts.buffer import RolloutBatch
from oversight.train.settings import ModelSettings, OptimizerSettings

FAST = OptimizerSettings(lr=0.02, schedule="constant", warmup=0.0)


def train_lines(cases: ModuleType, run: Path) -> list[dict[str, Any]]:
    return [line for line in cases.timeless(run) if line["split"] == "train"]


def scored(rewards: Sequence[float], groups: Sequence[int]) -> RolloutBatch:
    size = len(rewards)
    rows = [TokenRow(np.array([1]), np.array([2, 3]), id=f"r{i}") for i in range(size)]
    return RolloutBatch(
        tuple(rows),
        np.array(rewards, dtype=np.float64),
        np.array(groups),
        np.ones(size, dtype=np.bool_),
        ("",) * size,
        0,
        {"shaped": np.array(rewards, dtype=np.float32)},
    )


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [
        # By hand: 3 - (1 + 2)/2, and so on; the second group is constant.
        ("rloo", [1.5, -1.5, 0.0, 0.0, 0.0, 0.0]),
        # Less the group's mean: 1, -1, 0, 0, 0, 0; mean 0 and standard deviation sqrt(1/3).
        ("reinforce_plus_plus", [3**0.5, -(3**0.5), 0.0, 0.0, 0.0, 0.0]),
        # Of the group: 1 / std (by n - 1) = 1 in GRPO's own form, or sqrt(3/2) by n.
        ("group", None),
    ],
)
def test_advantages_are_those_of_their_papers(
    cases: ModuleType, tmp_path: Path, advantage: str, expected: list[float] | None
) -> None:
    settings = cases.common(tmp_path / "run", advantage=advantage, **cases.rollouts())
    valuing = grpo.GroupAdvantages(grpo.Config(**settings))
    batch = valuing(scored([3.0, 1.0, 2.0, 5.0, 5.0, 5.0], [0, 0, 0, 1, 1, 1]))[0]
    found = batch.row_values["advantages"]
    if expected is None:
        assert found[0] == -found[1] > 0.9
        assert found[2:].tolist() == [0.0] * 4
    else:
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("advantage", ["rloo", "reinforce_plus_plus", "role_baseline"])
def test_every_baseline_trains(cases: ModuleType, tmp_path: Path, advantage: str) -> None:
    cases.CASES["grpo"](tmp_path / "run", advantage=advantage, steps=4)
    lines = train_lines(cases, tmp_path / "run")
    assert len(lines) == 4
    # A part of a collection may happen to hold constant groups alone.
    assert sum(line["grad_norm"] > 1e-4 for line in lines) >= 2


class Sometimes:
    """1 for a response with an even number of tokens, so that some groups are all the same."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def score(self, examples: Sequence[Any], sampled: Sequence[Sequence[Any]]) -> list[list[float]]:
        return [[float(each.token_ids[0] % 4 == 0) for each in group] for group in sampled]


def test_dynamic_sampling_keeps_groups_whose_rewards_differ(
    cases: ModuleType, tmp_path: Path
) -> None:
    shares = {}
    for rounds in (0, 20):
        out = tmp_path / str(rounds)
        more = cases.rollouts(mini_batches=1, reuse=1, shaping=cases.ShapingSettings())
        config = grpo.Config(
            **cases.common(out, steps=4, loss="dapo", dynamic_sampling=rounds, **more)
        )
        grpo.train(config, rows=cases.prompts(), rewards=Sometimes())
        shares[rounds] = [line["no_signal"] for line in train_lines(cases, out)]
    assert max(shares[0]) > 0.2
    assert shares[20] == [0.0] * 4


def test_a_critic_apart_begins_as_a_reward_model_and_learns(
    cases: ModuleType, tmp_path: Path
) -> None:
    rows = cases.prompts()
    policy = cases.CASES["sft"](tmp_path / "sft", steps=3)
    told = ModelSettings(path=str(policy), device="cpu")
    judge = cases.CASES["reward"](tmp_path / "reward", model=told, steps=3)
    out = tmp_path / "ppo"
    config = ppo.Config(
        **cases.common(
            out,
            model=told,
            critic=CriticSettings(kind="apart", path=str(judge), coefficient=1.0, clip=None),
            optimizer=FAST.model_copy(update={"lr": 3e-3}),
            steps=16,
            whiten=True,
            **cases.rollouts(samples=6, shaping=cases.ShapingSettings()),
        )
    )
    path = ppo.train(config, rows=rows)
    losses = [line["value/loss"] for line in train_lines(cases, out)]
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(path)


@pytest.mark.parametrize(("target", "rises"), [(0.001, True), (50.0, False)])
def test_the_kl_coefficient_is_steered_towards_its_target(
    cases: ModuleType, tmp_path: Path, target: float, rises: bool
) -> None:
    kl = ppo.RewardKLSettings(coefficient=0.1, target=target, horizon=40.0)
    cases.CASES["ppo"](tmp_path / "run", kl=kl, optimizer=FAST, steps=16)
    lines = [line for line in train_lines(cases, tmp_path / "run") if "kl_coefficient" in line]
    assert len(lines) == 4
    # Before anything is learnt the divergence is 0, which is below every target.
    assert abs(lines[0]["kl_rollout"]) < 1e-4
    assert lines[1]["kl_coefficient"] < lines[0]["kl_coefficient"] == 0.1
    later = [line["kl_coefficient"] for line in lines[1:]]
    assert all(b > a if rises else b < a for a, b in pairwise(later)), lines


def test_dual_clip_bounds_what_a_bad_response_costs(cases: ModuleType, tmp_path: Path) -> None:
    wild = OptimizerSettings(lr=0.3, schedule="constant", warmup=0.0)
    off = GuardSettings.model_validate(
        {name: {"action": "off"} for name in ("kl", "entropy", "gradient", "length")}
    )
    shares = {}
    for bound in (None, 1.5):
        out = tmp_path / str(bound)
        cases.CASES["ppo"](out, dual_clip=bound, optimizer=wild, guards=off, steps=4)
        shares[bound] = [line.get("clip_dual") for line in train_lines(cases, out)]
    assert shares[None] == [None] * 4
    assert max(shares[1.5]) > 0.0


@pytest.fixture
def ensemble(cases: ModuleType, tmp_path: Path) -> tuple[ModelSettings, tuple[str, ...]]:
    """A policy and three reward models with its vocabulary."""
    policy = cases.CASES["sft"](tmp_path / "sft", steps=2)
    told = ModelSettings(path=str(policy), device="cpu")
    out = cases.CASES["reward"](tmp_path / "members", model=told, members=3, steps=2)
    folders = tuple(str(out / f"member-{i}" / "model") for i in (1, 2, 3))
    return told, folders


def test_an_ensemble_tells_how_far_its_members_disagree(
    cases: ModuleType, ensemble: tuple[ModelSettings, tuple[str, ...]], tmp_path: Path
) -> None:
    told, folders = ensemble
    weights = {(Path(folder) / "model.safetensors").read_bytes() for folder in folders}
    assert len(weights) == 3
    reward = cases.RewardSettings(source="model", models=folders)
    cases.CASES["grpo"](tmp_path / "run", model=told, reward=reward, steps=5)
    fresh = [line for line in train_lines(cases, tmp_path / "run") if "reward" in line]
    assert len(fresh) == 2
    assert all(line["disagreement"] > 1e-4 for line in fresh)


class Hacked:
    """Rewards that rise with every call, while the models that give them agree less and less."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self._calls = 0

    def score(self, examples: Sequence[Any], sampled: Sequence[Sequence[Any]]) -> list[list[float]]:
        self._calls += 1
        self.metrics = {"reward/disagreement": 0.1 * self._calls}
        return [[self._calls + 0.1 * i for i in range(len(group))] for group in sampled]


def test_a_reward_that_rises_with_disagreement_is_stopped(
    cases: ModuleType, tmp_path: Path
) -> None:
    guards = GuardSettings(disagreement=DisagreementSettings(window=3, factor=2.0))
    more = cases.rollouts(mini_batches=1, reuse=1, shaping=cases.ShapingSettings())
    settings = cases.common(tmp_path / "run", guards=guards, steps=30, **more)
    with pytest.raises(TrainingStopped, match="reward models know nothing") as raised:
        grpo.train(grpo.Config(**settings), rows=cases.prompts(), rewards=Hacked())
    assert raised.value.guard == "disagreement"


def test_a_head_learns_alone_on_layers_that_stay(cases: ModuleType, tmp_path: Path) -> None:
    trunk = cases.CASES["reward"](tmp_path / "trunk", steps=3)
    told = {
        "model": ModelSettings(path=str(trunk), device="cpu"),
        "optimizer": FAST.model_copy(update={"lr": 0.05}),
        "trains": "head",
        "steps": 30,
    }
    head = cases.CASES["reward"](tmp_path / "head", **told)
    before, after = (load_file(each / "model.safetensors") for each in (trunk, head))
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {"score.weight"}
    lines = train_lines(cases, tmp_path / "head")
    assert sum(each["loss"] for each in lines[-5:]) < 0.9 * sum(each["loss"] for each in lines[:5])
    config = reward.Config(**cases.common(tmp_path / "planned", **told))
    data = config.data.model_copy(update={"path": str(tmp_path / "rows.jsonl")})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, cases.pairs())), "utf-8")
    said = " ".join(plan.lines(registered.load("reward"), config.model_copy(update={"data": data})))
    assert f"{before['score.weight'].numel()} of them trained" in said


def test_a_head_cut_short_goes_on_as_if_it_had_not_been(cases: ModuleType, tmp_path: Path) -> None:
    trunk = cases.CASES["reward"](tmp_path / "trunk", steps=2)
    told = {"model": ModelSettings(path=str(trunk), device="cpu"), "trains": "head", "steps": 6}
    whole = cases.CASES["reward"](tmp_path / "whole", **told)
    with pytest.MonkeyPatch.context() as patch:
        saved = reward.Session.update

        def cut(session: Any, *given: Any) -> Any:
            if session.step == 3:
                raise KeyboardInterrupt
            return saved(session, *given)

        patch.setattr(reward.Session, "update", cut)
        with pytest.raises(KeyboardInterrupt):
            cases.CASES["reward"](tmp_path / "cut", **told)
    resumed = cases.CASES["reward"](tmp_path / "cut", resume=True, **told)
    one, two = (load_file(each / "model.safetensors") for each in (whole, resumed))
    assert all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"scratch": {}}, "trains = 'head' learns a head on the layers of a trained model"),
        (
            {"path": "x", "lora": {}},
            "model.lora = .* trains = 'head' leaves all layers as they are",
        ),
        ({"path": "x", "gradient_checkpointing": True}, "model.gradient_checkpointing = True"),
        ({"path": "x", "router_aux_coefficient": 0.1}, "model.router_aux_coefficient = 0.1"),
    ],
)
def test_what_trains_layers_is_refused_where_only_a_head_learns(
    tmp_path: Path, model: dict[str, Any], told: str
) -> None:
    given = {"out": tmp_path, "model": model, "data": {}, "trains": "head"}
    with pytest.raises(ConfigError, match=told):
        reward.Config.parse(given)
