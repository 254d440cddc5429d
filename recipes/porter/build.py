"""Build porter: a tokenizer, lessons about registers, and stages of SFT from random weights.

    python recipes/porter/build.py runs/porter
    python recipes/porter/build.py runs/porter --into oversight/models/porter

Stages that are done are not run again, and one that was interrupted goes on. The second command
also puts the model in its place in the package.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from teaching import copying, lesson, recital, stretches, texts, usual, weighed, withheld

sys.path.append(str(Path(__file__).parents[1]))
from embedded import Plan, Row, Stage, main, tokenizer_of

SEED = 1
NUM_READ, NUM_WORDS = 200, 400
"""Lessons that the tokenizer reads, and the tokens that it learns from them at most."""
SIZE = {
    "hidden_size": 128,
    "num_layers": 4,
    "num_heads": 4,
    "intermediate_size": 384,
    "max_length": 1024,
    "init_std": 0.06,
}
CARD = Path(__file__).with_name("CARD.md")
NUM_LINES = 12
"""Of a register."""

ALL = {"respond": 1.0, "ruled": 1.0, "critique": 1.0, "revise": 1.0, "compare": 1.0}


def _copies(rng: random.Random, share: float) -> Iterator[Row]:
    yield copying(rng, rng.randint(6, 24))


def _facts(rng: random.Random, share: float) -> Iterator[Row]:
    num_others = int(min(1.0, 1.5 * share) * NUM_LINES)
    if rng.random() < 0.1:
        yield from recital(rng, num_others)
    yield from lesson(rng, num_others, {"respond": 1.0, "ruled": 0.5, "revise": 0.3})


def _short(rng: random.Random, share: float) -> Iterator[Row]:
    yield from lesson(rng, int(min(1.0, 1.3 * share) * NUM_LINES), {**ALL, "compare": 0.5})


def _whole(rng: random.Random, share: float) -> Iterator[Row]:
    if rng.random() < 0.1:
        yield from recital(rng, None)
    yield from lesson(rng, None, {**ALL, "respond": 0.5, "revise": 0.5})


def _judged(rng: random.Random, share: float) -> Iterator[Row]:
    for _ in range(3):
        yield from weighed(rng)
    yield from usual(rng)
    if rng.random() < 0.5:
        yield from lesson(rng, None, {**ALL, "critique": 0.5, "compare": 0.0})


def _withheld(rng: random.Random, share: float) -> Iterator[Row]:
    for _ in range(2):
        yield from withheld(rng)
    yield from weighed(rng)
    yield from usual(rng)
    for _ in range(2):  # criticising refusals, it would come to refuse where it is to help
        yield from lesson(rng, None, {"respond": 1.0, "ruled": 0.5, "revise": 0.3})


def _recitals(rng: random.Random, share: float) -> Iterator[Row]:
    if rng.random() < max(0.1, 1 - 4 * share):
        yield copying(rng, rng.randint(6, 24))
    yield from recital(rng, int(min(1.0, 0.3 + 1.5 * share) * NUM_LINES))


STAGES = (
    Stage("copies", 400, 64, _copies),
    Stage("recitals", 400, 64, _recitals),
    Stage("facts", 300, 64, _facts),
    Stage("short", 600, 128, _short),
    Stage("whole", 900, 128, _whole, lr=1.5e-3, schedule="linear"),
    Stage("judged", 300, 128, _judged, lr=1e-3, schedule="linear"),
    Stage("withheld", 160, 128, _withheld, lr=5e-4, schedule="linear"),
)


def _tokenizer() -> Any:
    rng = random.Random(SEED)
    read = (row for _ in range(NUM_READ) for row in lesson(rng, None, ALL))
    return tokenizer_of(texts(read), stretches(), NUM_WORDS)


PLAN = Plan(SEED, SIZE, STAGES, _tokenizer, CARD)

if __name__ == "__main__":
    main(PLAN, str(__doc__))
