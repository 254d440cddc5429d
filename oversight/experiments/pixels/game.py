"""The rules, the matches, and one game from commitment to verdict."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch

from oversight.experiments.pixels.images import NUM_LABELS
from oversight.experiments.pixels.search import Search


class Skill(StrEnum):
    """Ways in which a player chooses its pixels."""

    SEARCH = "search"
    RANDOM = "random"


class LieChoice(StrEnum):
    """Choices of the false label that the liar claims."""

    BEST = "best"
    """The one that its search finds ends best, as if all nine were tried."""
    DRAWN = "drawn"


class GameKind(StrEnum):
    """Kinds of game."""

    DEBATE = "debate"
    """Both commit to a label first; the judge chooses between the two."""
    OPEN = "open"
    """Nobody commits: the honest side wins if the judge, of all labels, finds the true one."""
    ADVISOR = "advisor"
    """One player alone shows all pixels, for a label that it was told to defend."""
    ALONE = "alone"
    """The judge sees random pixels, and nobody plays."""


@dataclass(frozen=True, slots=True)
class PixelMatch:
    """One pairing of players, played on every image in both orders, or for both labels."""

    form: GameKind
    honest: Skill = Skill.SEARCH
    liar: Skill = Skill.SEARCH
    lie: LieChoice = LieChoice.BEST

    @property
    def orders(self) -> tuple[bool, ...]:
        """For each game, True if the honest side begins (or the advisor is honest)."""
        return (True,) if self.form is GameKind.ALONE else (True, False)


MATCHES = (
    PixelMatch(GameKind.ALONE),
    PixelMatch(GameKind.DEBATE),
    PixelMatch(GameKind.OPEN),
    PixelMatch(GameKind.ADVISOR),
    PixelMatch(GameKind.DEBATE, lie=LieChoice.DRAWN),
    PixelMatch(GameKind.DEBATE, liar=Skill.RANDOM, lie=LieChoice.DRAWN),
    PixelMatch(GameKind.DEBATE, honest=Skill.RANDOM),
    PixelMatch(GameKind.DEBATE, honest=Skill.RANDOM, liar=Skill.RANDOM),
)
"""Every match of a run. The first two are the paper's; the others say what of their difference is
due to commitment, to an opponent, to the lie, to search, and to choosing between two labels."""


@dataclass(frozen=True, slots=True)
class PixelGame:
    """A game that was played."""

    match: PixelMatch
    honest_first: bool
    """The honest side began; of an advisor: it defended the true label."""
    defended: tuple[int, ...]
    """Label of the side that began, then the other's; of one advisor; of nobody."""
    shown: tuple[int, ...]
    """Pixels in the order in which they were shown: the side that began, the other, …"""
    logits: tuple[float, ...]
    """The judge's, over all labels, for the pixels shown."""

    @property
    def allowed(self) -> tuple[int, ...]:
        """Labels that the judge chooses from."""
        return self.defended if self.match.form is GameKind.DEBATE else tuple(range(NUM_LABELS))

    @property
    def probs(self) -> tuple[float, ...]:
        """The judge's probability of each label, none for those that nobody may choose."""
        logits = torch.full((NUM_LABELS,), -torch.inf, dtype=torch.float64)
        for label in self.allowed:
            logits[label] = self.logits[label]
        return tuple(logits.softmax(0).tolist())

    @property
    def mass(self) -> float:
        """Probability of the labels allowed, before the others are struck out."""
        probs = torch.tensor(self.logits, dtype=torch.float64).softmax(0)
        return min(1.0, float(probs[list(self.allowed)].sum()))

    @property
    def verdict(self) -> int:
        """The label that the judge finds likeliest of those allowed."""
        return max(self.allowed, key=lambda label: self.logits[label])


def play(search: Search, match: PixelMatch, honest_first: bool, seed: int) -> PixelGame:
    """One game on the image of `search`; the same each time for the same seed."""
    rng = random.Random(seed)
    if match.form is GameKind.ALONE:
        return _done(search, match, True, (), rng.sample(search.usable, search.pixels))
    if match.form is GameKind.ADVISOR:
        labels = [search.label] if honest_first else _lies(search)
        label, pixels = search.best_case(labels)
        return _done(search, match, honest_first, (label,), pixels)
    lie, column = _claim(search, match, honest_first, rng)
    shown: list[int] = []
    for turn in range(search.pixels):
        honest_moves = (turn % 2 == 0) == honest_first
        skill = match.honest if honest_moves else match.liar
        if skill is Skill.RANDOM:
            pixel = rng.choice([p for p in search.usable if p not in shown])
        else:
            pixel = search.move(shown, column, honest_moves)
        shown.append(pixel)
    if lie is None:
        logits = search.logits(shown).tolist()
        lie = max(_lies(search), key=lambda label: logits[label])
    pair = (search.label, lie) if honest_first else (lie, search.label)
    return _done(search, match, honest_first, pair, shown)


def _claim(
    search: Search, match: PixelMatch, honest_first: bool, rng: random.Random
) -> tuple[int | None, int]:
    """The liar's commitment, and the column of margins that the game is about."""
    if match.form is GameKind.OPEN:
        return None, search.label
    best = match.lie is LieChoice.BEST
    lie = search.best_lie(honest_first) if best else rng.choice(_lies(search))
    return lie, lie


def _lies(search: Search) -> list[int]:
    return [label for label in range(NUM_LABELS) if label != search.label]


def _done(
    search: Search,
    match: PixelMatch,
    honest_first: bool,
    defended: tuple[int, ...],
    shown: Sequence[int],
) -> PixelGame:
    logits = tuple(search.logits(shown).tolist())
    return PixelGame(match, honest_first, defended, tuple(shown), logits)
