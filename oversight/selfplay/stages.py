"""A circle in pieces: what there is to do, what each piece needs, and where it keeps its result.

A piece that is done has `done.json` in its folder, with its result.

candidates   best-of-N debates of a policy on training questions
debates      the same without candidates
sft dpo reward ppo grpo   a trainer's run; its model is in the folder's `model/`
judge        SFT of the judge on outcomes
arm          debates on held-out questions, and what is measured of them
crossplay    every policy against every other
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oversight.selfplay.settings import Arena, CircleSettings

START = "start"
"""The name of the policy that training begins with."""
SECONDS = {"arm": 30, "candidates": 30, "crossplay": 90, "grpo": 60, "ppo": 50}
"""Of a typical piece on one core, for the time that is left; 20 of others."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A piece of the work."""

    name: str
    kind: str
    needs: tuple[str, ...] = ()
    arena: Arena | None = None
    policy: str = START
    """Whose debates, or what training begins with: `start`, or the stage that trained it."""
    seed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else its kind takes, see `work.py`."""

    @property
    def weight(self) -> int:
        """Seconds that it takes, roughly."""
        return SECONDS.get(self.kind, 20)


def plan_stages(circle: CircleSettings) -> list[Stage]:
    """All of a circle's pieces, each after those it needs."""
    found = [
        Stage("arm.naive", "arm", facts={"protocol": "naive"}),
        Stage("arm.expert", "arm", facts={"protocol": "expert", "rationale": True}),
    ]
    for arena in circle.arenas:
        found += [
            Stage(f"arm.{START}.{arena}", "arm", arena=arena),
            Stage(f"arm.best_of_n.{arena}", "arm", arena=arena, facts={"best_of_n": True}),
            *(
                Stage(f"arm.{agent}.{arena}", "arm", arena=arena, facts={"agent": agent})
                for agent in ("placebo", "retrieval")
            ),
        ]
    trained: dict[Arena, list[Stage]] = {arena: [] for arena in circle.arenas}
    for seed in circle.seeds:
        for arena in circle.arenas:
            stages = _training(circle, arena, seed)
            found += stages
            trained[arena] += [stage for stage in stages if "measured" in stage.facts]
    for arena in circle.arenas:
        found += [_arm_of(stage) for stage in trained[arena]]
        names = tuple(stage.name for stage in trained[arena])
        if names:
            found.append(Stage(f"crossplay.{arena}", "crossplay", names, arena))
    if circle.train_judge and "debate" in trained and trained["debate"]:
        found += _judge(trained["debate"][-1])
    return found


def _training(circle: CircleSettings, arena: Arena, seed: int) -> list[Stage]:
    end = f"{arena}.{seed}"
    candidates = Stage(f"candidates.{end}", "candidates", (), arena, seed=seed)
    by_debates = {"expert_iteration", "dpo", "ppo"} & set(circle.methods)
    found = [candidates] if by_debates else []
    if "expert_iteration" in circle.methods:
        found += _expert_iteration(circle, candidates, arena, seed)
    if "dpo" in circle.methods:
        facts = {"measured": True, "candidates": candidates.name, "method": "dpo"}
        found.append(Stage(f"dpo.{end}", "dpo", (candidates.name,), arena, seed=seed, facts=facts))
    if "ppo" in circle.methods:
        facts = {"candidates": candidates.name}
        needs = (candidates.name,)
        found.append(Stage(f"reward.{end}", "reward", needs, arena, seed=seed, facts=facts))
        facts = {"measured": True, "reward": f"reward.{end}", "method": "ppo"}
        needs = (f"reward.{end}",)
        found.append(Stage(f"ppo.{end}", "ppo", needs, arena, seed=seed, facts=facts))
    if "grpo" in circle.methods:
        facts = {"measured": True, "method": "grpo"}
        found.append(Stage(f"grpo.{end}", "grpo", (), arena, seed=seed, facts=facts))
    return found


def _expert_iteration(
    circle: CircleSettings, candidates: Stage, arena: Arena, seed: int
) -> list[Stage]:
    found: list[Stage] = []
    policy, source = START, candidates.name
    for number in range(1, circle.iterations + 1):
        end = f"{arena}.{seed}.{number}"
        last = number == circle.iterations
        if number > 1:
            source = f"candidates.expert_iteration.{end}"
            found.append(Stage(source, "candidates", (policy,), arena, policy, seed))
        facts = {
            "measured": True,
            "candidates": source,
            "method": "expert_iteration" if last else f"expert_iteration, round {number}",
        }
        needs = (source,) if policy == START else (source, policy)
        name = f"expert_iteration.{end}"
        found.append(Stage(name, "sft", needs, arena, policy, seed, facts))
        policy = name
    return found


def _arm_of(trained: Stage) -> Stage:
    facts = {"method": trained.facts["method"], "measured": True}
    return Stage(
        f"arm.{trained.name}", "arm", (trained.name,), trained.arena, trained.name, trained.seed,
        facts,
    )  # fmt: skip


def _judge(trained: Stage) -> list[Stage]:
    """A judge trained on what a trained policy's debates came to, and measured on new ones."""
    seed = trained.seed
    source = Stage("debates.judge", "debates", (trained.name,), "debate", trained.name, seed)
    judge = Stage("judge", "judge", (source.name,), "debate", seed=seed)
    facts = {"judge": judge.name}
    needs = (trained.name, judge.name)
    return [source, judge, Stage("arm.judge", "arm", needs, "debate", trained.name, seed, facts)]


# --- where things are ---


def folder_of(circle: CircleSettings, name: str) -> Path:
    """A piece's folder."""
    return circle.out / "stages" / name


def model_of(circle: CircleSettings, policy: str) -> str:
    """A policy's model."""
    return circle.model if policy == START else str(folder_of(circle, policy) / "model")


def result_of(circle: CircleSettings, name: str) -> Result | None:
    """What a piece came to, or None if it is not done."""
    try:
        text = (folder_of(circle, name) / "done.json").read_text(encoding="utf-8")
    except OSError:
        return None
    found: Result = json.loads(text)
    return found
