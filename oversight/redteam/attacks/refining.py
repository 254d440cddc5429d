"""Searches that go by what came of the attempts before: best-of-N, mixtures, PAIR, TAP, climbing.

Best-of-N jailbreaking samples random variations until one succeeds (Hughes et al. 2024,
arXiv:2412.03556), PAIR has a model refine one attempt after the other (Chao et al. 2023,
arXiv:2310.08419), TAP a tree of them that is pruned (Mehrotra et al. 2023, arXiv:2312.02119).
"""

from __future__ import annotations

import random

from oversight.ids import seed_from
from oversight.redteam.attacks import POLICIES, search, steps
from oversight.redteam.attacks.asking import Novelty, answer_of, better_words
from oversight.redteam.attacks.transformations import augmented
from oversight.redteam.types import AttackCase, Attempt, Moves, Try

BATCH = 4
"""Attempts that are made at once where none depends on another."""
MAX_STEPS = 3
"""Rewritings that are put one over the other."""
MAX_CHARS = 8000
BRANCHING, WIDTH = 3, 3
"""Of TAP: requests at each leaf, and leaves that are kept at each level."""


@search("Tries random variations of the request's letters until one succeeds.", kinds=POLICIES)
def best_of_n(case: AttackCase) -> Moves:
    """Independent samples, so that success against their number follows a power law."""
    for start in range(0, case.budget, BATCH):
        numbers = range(start, min(start + BATCH, case.budget))
        rngs = [random.Random(seed_from("best of n", case.goal.id, number)) for number in numbers]
        done = yield [Try(augmented(case.words, rng)) for rng in rngs]
        if any(isinstance(each, Attempt) and each.is_success for each in done):
            return


@search("Puts one to three rewritings over each other, drawn at random.")
def mixtures(case: AttackCase) -> Moves:
    """Independent mixtures of all rewritings that fit."""
    known, left, idle = Novelty(case), case.budget, 0
    while left and idle < 50:
        batch: list[Try] = []
        while len(batch) < min(BATCH, left) and idle < 50:
            text, style = mixed(case, case.words, case.rng.randint(1, MAX_STEPS))
            idle += 1
            if text is not None and known.takes(text):
                batch.append(Try(text, style=style))
                idle = 0
        if not batch:
            return
        left -= len(batch)
        done = yield batch
        if any(isinstance(each, Attempt) and each.is_success for each in done):
            return


@search("Rewrites the best attempt so far, as long as that raises its score.")
def climbing(case: AttackCase) -> Moves:
    """Hill climbing over rewritings; where no score rises it goes on from the beginning."""
    known, left, idle = Novelty(case), case.budget, 0
    best: Attempt | None = None
    while left and idle < 50:
        base = best.text if best is not None and case.rng.random() < 0.8 else case.words
        text, style = mixed(case, base, 1)
        idle += 1
        if text is None or not known.takes(text):
            continue
        idle, left = 0, left - 1
        [done] = yield [Try(text, style=style)]
        if not isinstance(done, Attempt) or done.is_success:
            return
        if best is None or (done.score or 0.0) > (best.score or 0.0):
            best = done


@search("Has the attacker's model refine one attempt after the other (PAIR).", asks=True)
def pair(case: AttackCase) -> Moves:
    """A stream of attempts, each written in sight of the best and the last ones."""
    known, tried = Novelty(case), list[Attempt]()
    for number in range(case.budget):
        answers = yield [better_words(case, _in_order(tried), number)]
        text = answer_of(case, answers[0])
        if text is None or not known.takes(text):
            continue
        [done] = yield [Try(text)]
        if not isinstance(done, Attempt) or done.is_success:
            return
        tried.append(done)


@search("Has the attacker's model grow a tree of attempts, and prunes it (TAP).", asks=True)
def tap(case: AttackCase) -> Moves:
    """Level by level: several requests at each leaf; only the best attempts stay."""
    known, left = Novelty(case), case.budget
    leaves: list[list[Attempt]] = [[]]
    while left:
        asked = [
            (leaf, better_words(case, _in_order(leaf), number))
            for leaf in leaves
            for number in range(BRANCHING)
        ][:left]
        answers = yield [ask for _, ask in asked]
        texts = [
            (leaf, answer_of(case, each)) for (leaf, _), each in zip(asked, answers, strict=True)
        ]
        new = [(leaf, text) for leaf, text in texts if text is not None and known.takes(text)]
        left -= max(len(new), 1)
        if not new:
            continue
        done = yield [Try(text) for _, text in new]
        grown = [
            [*leaf, each]
            for (leaf, _), each in zip(new, done, strict=True)
            if isinstance(each, Attempt)
        ]
        if any(branch[-1].is_success for branch in grown):
            return
        grown.sort(key=lambda branch: -(branch[-1].score or 0.0))
        leaves = grown[:WIDTH] or leaves


def mixed(case: AttackCase, text: str, number: int) -> tuple[str | None, str]:
    """The text under so many rewritings drawn at random, and their names; None if unchanged."""
    able = list(steps(case.goal.kind))
    names: list[str] = []
    for _ in range(number):
        step = case.rng.choice(able)
        versions = step.versions(text, case, case.rng)
        if versions:
            longest = case.rng.choice(versions)
            if len(longest) > MAX_CHARS:
                continue
            text = longest
            names.append(step.name)
    return (text, "+".join(names)) if names else (None, "")


def _in_order(tried: list[Attempt]) -> list[Attempt]:
    """The best attempts and the last one, the best of all at the end."""
    kept = sorted(tried[:-1], key=lambda each: each.score or 0.0)[-2:]
    return sorted([*kept, *tried[-1:]], key=lambda each: each.score or 0.0)


ATTACKS = (best_of_n, mixtures, climbing, pair, tap)
