"""Outcomes of circles that are hard to speak of."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from oversight.experiments.selfplay import results as circles
from oversight.experiments.selfplay.jobs import plan_jobs
from oversight.experiments.selfplay.settings import CircleSettings


def arm(score: float, num: int, *, valid: bool = True, sided: bool = False) -> dict[str, Any]:
    rulings = [
        {
            "question": f"q{n}",
            "score": score,
            "p_right": score if valid else None,
            "honest": n % 2 == 0 if sided else None,
            "valid": valid,
            "majority": score,
        }
        for n in range(num)
    ]
    first = None if score == 0.5 or not valid else {"value": 1.0, "num": num}
    return {
        "rulings": rulings,
        "position": {"first_chosen": first, "first_argued": None, "gain": None, "flipped": None},
        "quotes": None,
        "empty": 0.0,
        "num_turns": num,
        "length": {"value": 20.0},
        "kl": {"value": 0.5},
    }


def circle(**changes: Any) -> CircleSettings:
    small = {
        "dataset": {"dataset": "world"},
        "train_questions": 40,
        "held_out_questions": 12,
        "crossplay_questions": 4,
        "seeds": (0,),
        "iterations": 1,
    }
    return CircleSettings.model_validate(small | changes)


CIRCLES: dict[str, CircleSettings] = {
    "one of everything": circle(),
    "several": circle(seeds=(0, 1, 2), iterations=3),
    "five iterations": circle(iterations=5, methods=("expert_iteration",)),
    "without expert iteration": circle(methods=("dpo", "grpo"), seeds=(4, 5)),
    "ppo alone": circle(methods=("ppo",)),
    "untrained": circle(methods=()),
    "no control": circle(arenas=("debate",), methods=("grpo",)),
    "control alone": circle(arenas=("consultancy",), methods=("dpo",)),
}
OUTCOMES: dict[str, dict[str, Any]] = {
    "right": {"score": 1.0},
    "wrong": {"score": 0.0},
    "tied": {"score": 0.5},
    "unreadable": {"score": 0.0, "valid": False},
}


@cache
def outcome_of(case: str, made: str, num: int) -> circles.CircleResults:
    return outcome(CIRCLES[case], num, **OUTCOMES[made])


def outcome(settings: CircleSettings, num: int = 12, **made: Any) -> circles.CircleResults:
    done: dict[str, dict[str, Any]] = {}
    for job in plan_jobs(settings):
        if job.kind == "arm":
            done[job.name] = arm(num=num, sided=job.arena == "consultancy", **made)
        elif job.kind == "crossplay":
            players = ["start", *job.needs]
            games = 8
            shape = (len(players),) * (2 if job.arena == "debate" else 1) + (games,)
            done[job.name] = {
                "players": players,
                "questions": [f"q{g // 2}" for g in range(games)],
                "first_is_honest": [g % 2 == 0 for g in range(games)],
                "beliefs": np.full(shape, 0.5).tolist(),
            }
        else:
            done[job.name] = {"rows": 1}
    return circles.gather(settings, done)
