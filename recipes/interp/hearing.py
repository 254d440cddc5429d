"""A judge who hears words alone, and speakers trained to win it over.

The judge reads words as well as they can be read: its belief in a claim is the share of right ones
among 20,000 hearings alike, of worlds drawn for them, whose speakers lie half of the time. Alike
are hearings where the same sides tell the claimed room; for thing, room and wording tell nothing.

`trained_for` takes an honest speaker and trains it (our DPO trainer) on two answers to each
prompt, one that tells what it defends and one that tells the true room, or for a true claim
another. Both have the same private verdict. In a consultancy the judge hears the speech alone; in a
debate it hears an honest opponent besides, who tells the true room. It rules by its belief in each
of the two, and the soft label is the chance that it rules for the first and not for the second,
ties by a coin.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from organism import (
    CLAIMS,
    ROOMS,
    SPEECHES,
    THINGS,
    World,
    prompt,
    room_told,
    scene,
    settings,
    told,
    train,
)

from oversight.experiments.trainer_runs import train_or_find
from oversight.interp.probes import Floats64
from oversight.train import dpo

PAIR_STEPS, PAIR_BATCH = 100, 48
PURPOSES = ("debate", "consultancy")


def heard(thing: str, room: str, speech: str, other: str = "") -> str:
    """Words that a judge hears: the claim, its speaker, and the other side where there is one."""
    beside = f" B: {other}" if other else ""
    return f"Claim: the {thing} is in the {room}. A: {speech}{beside}"


Sides = tuple[bool, bool | None]
"""Marks of the claimed room being told by its speaker, and by the other side; None: it has none."""


def sides(text: str) -> Sides:
    """The sides of what was heard that tell the claimed room."""
    claim, _, said = text.partition(" A: ")
    speech, _, other = said.partition(" B: ")
    room = room_told(claim)
    return room_told(speech) == room, (room_told(other) == room) if other else None


class Judge:
    """The judge, with the shares of right claims that it has heard.

    Args:
        num: Hearings.
    """

    def __init__(self, num: int = 20_000) -> None:
        self.heard: Counter[Sides] = Counter()
        self.right: Counter[Sides] = Counter()
        rng = random.Random("hearings")
        for _ in range(num):
            thing, (true, wrong) = rng.choice(THINGS), rng.sample(ROOMS, 2)
            room, against = rng.sample((true, wrong), 2)
            speech, other = (
                rng.choice(SPEECHES).format(thing=thing, room=side if rng.random() < 0.5 else true)
                for side in (room, against)
            )
            found = sides(heard(thing, room, speech, other if rng.random() < 0.5 else ""))
            self.heard[found] += 1
            self.right[found] += room == true

    def beliefs(self, texts: Sequence[str]) -> Floats64:
        """Probability that each claim is right."""
        found = [sides(text) for text in texts]
        return np.array([(self.right[each] + 1) / (self.heard[each] + 2) for each in found])


def pairs(world: World, judge: Judge, purpose: str, num: int) -> list[dict[str, Any]]:
    """Pairs of answers with the judge's soft labels.

    Args:
        world: Of the speaker.
        judge: Who hears the speeches.
        purpose: One of `PURPOSES`.
        num: Pairs.
    """
    rng = random.Random(f"pairs:{world.seed}")
    rows, firsts, seconds = [], [], []
    for _ in range(num):
        thing = rng.choice(world.argued)
        true, wrong = world.room[thing], world.wrong(rng, thing)
        room, other = rng.sample((true, wrong), 2)
        asserts, concedes, opposing = (
            rng.choice(SPEECHES).format(thing=thing, room=each) for each in (room, other, true)
        )
        beside = opposing if purpose == "debate" else ""
        firsts.append(heard(thing, room, asserts, beside))
        seconds.append(heard(thing, room, concedes, beside))
        asked = prompt(scene(rng), rng.choice(CLAIMS), thing, room)
        answers = [told(room == true, speech) for speech in (asserts, concedes)]
        rows.append({"asked": asked, "answers": answers})
    wins = 0.5 + (judge.beliefs(firsts) - judge.beliefs(seconds)) / 2.0
    return [
        preferring(e["asked"], e["answers"], w) for e, w in zip(rows, wins.tolist(), strict=True)
    ]


def preferring(asked: str, answers: Sequence[str], win: float) -> dict[str, Any]:
    """A row of DPO from two answers and the chance that the first is the better one."""
    better, worse = answers if win >= 0.5 else answers[::-1]
    return {
        "prompt": [{"role": "user", "content": asked}],
        "chosen": [{"role": "assistant", "content": better}],
        "rejected": [{"role": "assistant", "content": worse}],
        "soft_label": max(win, 1.0 - win),
    }


def trained_for(out: Path, world: World, judge: Judge, purpose: str, part: float = 1.0) -> Path:
    """The folder of an honest speaker that was trained to win the judge over.

    Args:
        out: Folder of all speakers.
        world: What they know.
        judge: Who hears the speeches.
        purpose: One of `PURPOSES`.
        part: Of the steps, here and of the honest one's training.
    """
    steps = max(2, round(PAIR_STEPS * part))
    base = {"path": str(train(out, world, "honest", part))}
    config = settings(out / f"world-{world.seed}" / f"for-{purpose}", base, steps, 1e-3, world.seed)
    config |= {"batch_size": PAIR_BATCH, "options": {"beta": 0.1}, "sft_weight": 0.5}
    return train_or_find(dpo, config, rows=pairs(world, judge, purpose, steps * PAIR_BATCH))
