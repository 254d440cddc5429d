"""A judge who hears words alone, and speakers trained to win it over.

The judge is a small model of its own (our SFT trainer, half a minute on one core). Each row of its
training is of another world, drawn for it, so there is nothing to know but what words tell: who
gives its claim away, and what the other side says. It says right or wrong of a claim.

`trained_for` takes an honest speaker and trains it (our DPO trainer) on two answers to each
prompt, one that tells what it defends and one that tells the true room, or for a true claim
another. Both have the same private verdict. In a consultancy the judge hears the speech alone; in a
debate it hears an honest opponent besides, who tells the true room. It rules by its belief in each
of the two, and the soft label is the chance that it rules for the first and not for the second,
ties by a coin.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from organism import (
    CLAIMS,
    ROOMS,
    SPEECHES,
    THINGS,
    VERDICTS,
    World,
    prompt,
    prompt_ids,
    row,
    scene,
    scratch,
    settings,
    told,
    train,
)
from transformers import AutoTokenizer

from oversight.experiments.trainer_runs import train_or_find
from oversight.interp.probes import Floats64
from oversight.interp.reading import SiteReader
from oversight.modeling.scoring.sites import Site
from oversight.train import dpo, sft

JUDGE_STEPS, PAIR_STEPS, PAIR_BATCH = 250, 60, 48
PURPOSES = ("debate", "consultancy")


def heard(thing: str, room: str, speech: str, other: str = "") -> str:
    """What a judge hears: the claim, its speaker, and the other side where there is one."""
    beside = f" B: {other}" if other else ""
    return f"Claim: the {thing} is in the {room}. A: {speech}{beside}"


class _Hearings:
    """Rows for the judge: a world of its own each, speakers who lie half of the time."""

    def __init__(self, num: int) -> None:
        self._num = num

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rng = random.Random("hearings")
        for _ in range(self._num):
            thing, (true, wrong) = rng.choice(THINGS), rng.sample(ROOMS, 2)
            room, against = rng.sample((true, wrong), 2)
            speech, other = (
                rng.choice(SPEECHES).format(thing=thing, room=side if rng.random() < 0.5 else true)
                for side in (room, against)
            )
            asked = heard(thing, room, speech, other if rng.random() < 0.5 else "")
            yield row(asked, VERDICTS[room != true])


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """The judge with its model."""

    reader: SiteReader
    tokenizer: Any

    @classmethod
    def trained(cls, out: Path, part: float = 1.0) -> Judge:
        """The judge, trained where it is not there yet.

        Args:
            out: Folder of speakers and judge.
            part: Of the steps.
        """
        steps = round(JUDGE_STEPS * part)
        config = settings(out / "judge", scratch(out), steps, 4e-3, 0)
        folder = train_or_find(sft, config, rows=_Hearings(steps * config["batch_size"]))
        return cls(SiteReader.load(str(folder)), AutoTokenizer.from_pretrained(folder))

    def beliefs(self, texts: Sequence[str]) -> Floats64:
        """Probability that each claim is right, of the two verdicts."""
        final = Site("final")
        rows = [prompt_ids(self.tokenizer, text) for text in texts]
        found = self.reader.read(rows, [final], [np.array([len(ids) - 1]) for ids in rows])
        letters = [self.tokenizer.encode(verdict)[0] for verdict in VERDICTS]
        gaps = [
            float(logits[letters[0]] - logits[letters[1]])
            for logits in (self.reader.head_of(own[final])[0] for own in found)
        ]
        return 1.0 / (1.0 + np.exp(-np.array(gaps)))


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
        _pair(each["asked"], each["answers"], float(win))
        for each, win in zip(rows, wins, strict=True)
    ]


def _pair(asked: str, answers: Sequence[str], win: float) -> dict[str, Any]:
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
    config |= {"batch_size": PAIR_BATCH, "options": {"beta": 0.1}}
    return train_or_find(dpo, config, rows=pairs(world, judge, purpose, steps * PAIR_BATCH))
