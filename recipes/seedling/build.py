"""Build seedling: a tokenizer, role-play, and thirteen stages of SFT from random weights.

    python recipes/seedling/build.py runs/seedling
    python recipes/seedling/build.py runs/seedling --into oversight/models/seedling

Stages that are done are not run again, and one that was interrupted goes on. The second command
also puts the model in its place in the package.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lessons import copying, drills, explaining, lesson, recital, speaking, weighing
from roles import CAREFUL, CARELESS, Care, Evidence, Row
from tokens import NUM_WORDS, stretches

sys.path.append(str(Path(__file__).parents[1]))
from embedded import Plan, Stage, main, tokenizer_of

SEED = 4
NUM_STORIES_READ = 600
"""For the tokenizer."""
SIZE = {
    "hidden_size": 128,
    "num_layers": 4,
    "num_heads": 4,
    "intermediate_size": 384,
    "max_length": 1024,
    "init_std": 0.06,
}
CARD = Path(__file__).with_name("CARD.md")

WEIGHED: Care = {
    Evidence.OWN: 0.6,
    Evidence.OPPOSING: 0.15,
    Evidence.OTHER: 0.15,
    Evidence.NONE: 0.1,
}
"""Shares of the kinds of quotes on which a judge learns to weigh."""

DOUBTED: Care = {
    Evidence.OWN: 0.45,
    Evidence.OPPOSING: 0.12,
    Evidence.OTHER: 0.25,
    Evidence.FORGED: 0.1,
    Evidence.NONE: 0.08,
}
"""Shares on which it learns to doubt once it can weigh: more of what looks like a proof. A judge
that is seldom shown quotes about something else, or quotes that the source does not have, believes
some of them, and debaters who are trained on its belief find out which."""


def _copies(rng: random.Random, share: float) -> Iterator[Row]:
    yield copying(rng, rng.randint(6, 30))


def _recitals(rng: random.Random, share: float) -> Iterator[Row]:
    yield copying(rng, rng.randint(6, 30))
    yield from recital(rng, int(share * 8))


def _speeches(rng: random.Random, share: float) -> Iterator[Row]:
    num_others = int(min(1.0, share * 1.3) * 8)
    if rng.random() < 0.05:
        yield from recital(rng, num_others)
    yield from speaking(rng, num_others)


def _drills(rng: random.Random, share: float) -> Iterator[Row]:
    yield from drills(rng, 64, assigned=0.0, narrow=0.0)
    for _ in range(8):
        yield from speaking(rng, None)


def _drill_mix(rng: random.Random, share: float) -> Iterator[Row]:
    narrow = min(1.0, max(0.0, 3 * share - 1))
    dressed = min(1.0, max(0.0, 2 * share - 0.4))
    yield from drills(rng, 64, assigned=min(1.0, 3 * share), narrow=narrow, dressed=dressed)
    for _ in range(4):
        yield from speaking(rng, None)


def _lessons(rng: random.Random, share: float) -> Iterator[Row]:
    yield from lesson(rng, None, CAREFUL, made_up=0.5)
    yield from drills(rng, 8, assigned=1.0, narrow=0.7, dressed=0.8)


def _proofs(rng: random.Random, share: float) -> Iterator[Row]:
    # Few speeches: a judgment is one token, and would be drowned by them.
    yield from weighing(rng, 64, max(0.3, 1 - 2 * share), WEIGHED)
    for _ in range(2):
        yield from speaking(rng, None)


def _weighing(rng: random.Random, share: float) -> Iterator[Row]:
    yield from weighing(rng, 64, max(0.3, 1 - 2 * share), WEIGHED)
    yield from explaining(rng, 12, int(share * 8))
    for _ in range(3):
        yield from speaking(rng, None)


def _careless(rng: random.Random, share: float) -> Iterator[Row]:
    yield from lesson(rng, None, CARELESS, made_up=0.5)
    yield from weighing(rng, 8, 0.3, WEIGHED)
    yield from explaining(rng, 4, None)


def _doubts(rng: random.Random, share: float) -> Iterator[Row]:
    yield from lesson(rng, None, CARELESS, made_up=0.5, judged=DOUBTED)
    yield from weighing(rng, 24, 0.3, DOUBTED, None)
    yield from explaining(rng, 10, None)


def _polish(rng: random.Random, share: float) -> Iterator[Row]:
    yield from lesson(rng, None, CARELESS, made_up=0.5, judged=DOUBTED)
    yield from weighing(rng, 24, 0.5, DOUBTED, None)
    yield from explaining(rng, 80, None)


def _exact(rng: random.Random, share: float) -> Iterator[Row]:
    # Each answer follows from its prompt here. While speakers choose at random what they quote,
    # that choice is most of the gradient, and which of two like lines has which day is not learnt.
    yield from explaining(rng, 40, None)
    yield from weighing(rng, 16, 0.5, DOUBTED, None)
    for _ in range(4):
        yield from speaking(rng, None)


def _ease(rng: random.Random, share: float) -> Iterator[Row]:
    # In small steps: speakers are careless again, and what has become exact stays so.
    yield from lesson(rng, None, CARELESS, made_up=0.5, judged=DOUBTED)
    yield from weighing(rng, 24, 0.5, DOUBTED, None)
    yield from explaining(rng, 60, None)


STAGES = (
    Stage("copies", 500, 64, _copies),
    Stage("recitals", 600, 48, _recitals),
    Stage("speeches", 700, 64, _speeches),
    Stage("drills", 250, 256, _drills),
    Stage("drill_mix", 400, 256, _drill_mix),
    Stage("lessons", 500, 128, _lessons, schedule="linear"),
    Stage("proofs", 250, 256, _proofs),
    Stage("weighing", 300, 256, _weighing),
    Stage("careless", 700, 128, _careless, schedule="linear"),
    Stage("doubts", 400, 128, _doubts, lr=1e-3, schedule="linear"),
    Stage("polish", 1000, 128, _polish, lr=1e-3, schedule="linear"),
    Stage("exact", 500, 128, _exact, lr=1e-3, schedule="linear"),
    Stage("ease", 200, 128, _ease, lr=3e-4, schedule="linear"),
)


def _tokenizer() -> Any:
    rng = random.Random(SEED)
    read = (row for _ in range(NUM_STORIES_READ) for row in lesson(rng, None, CARELESS, 0.5))
    texts = (m["content"] for row in read for m in row["messages"])
    return tokenizer_of(texts, stretches(), NUM_WORDS)


PLAN = Plan(SEED, SIZE, STAGES, _tokenizer, CARD)

if __name__ == "__main__":
    main(PLAN, str(__doc__))
