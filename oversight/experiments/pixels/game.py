"""The game: its rules, the players' search, and the way from a commitment to a verdict.

Players search by minimax. The judge sees which pixels are shown and not who showed them. So a
position is a set of pixels,
and the value of a position is found from those of the sets with one pixel more: for all sets of
one size at once. Values are margins of logits: what the honest side wants large.

Where there are more than `EXACT_SETS` final sets (MNIST), the pixels are first narrowed down to
those that on average help either side most, anew at every move. The paper's players use Monte
Carlo tree search with 10,000 rollouts a move.

Letters of dimensions: S sets of pixels, P pixels of an image, H hidden units, L labels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from math import comb

import numpy as np
import torch
from torch import Tensor

from oversight.experiments.pixels.judge import NUM_LABELS, SparseJudge


def index_of(members: Sequence[int]) -> int:
    """Index of a set among all sets of its size."""
    return sum(comb(member, rank) for rank, member in enumerate(sorted(members), start=1))


def members_at(index: int, size: int) -> tuple[int, ...]:
    """The set of that size at that index, in ascending order."""
    found = []
    for rank in range(size, 0, -1):
        member = rank - 1
        while comb(member + 1, rank) <= index:
            member += 1
        index -= comb(member, rank)
        found.append(member)
    return tuple(reversed(found))


def all_sets(num: int, size: int) -> Tensor:
    """All sets, [C(num, size), size], members in ascending order."""
    sets = torch.zeros(1, 0, dtype=torch.int64)
    for rank in range(1, size + 1):
        blocks = []
        for greatest in range(rank - 1, num):
            smaller = sets[: comb(greatest, rank - 1)]
            blocks.append(torch.nn.functional.pad(smaller, (0, 1), value=greatest))
        sets = torch.cat(blocks)
    return sets


@lru_cache(maxsize=8)
def children(num: int, size: int) -> Tensor:
    """Places of the sets that each set of `size` becomes by one more member: [num, C(num, size)].

    Row p is for member p. Where a set has p already, the place of another of its children stands
    instead, which changes neither a maximum nor a minimum over them.
    """
    sets = all_sets(num, size)
    binomial = torch.tensor([[comb(p, r) for r in range(size + 3)] for p in range(num)])
    ranks = torch.arange(1, size + 1)
    below = _sums(binomial[sets, ranks])  # of the members that keep their rank
    above = _sums(binomial[sets, ranks + 1])
    rows = []
    for p in range(num):
        rank = (sets < p).sum(1, keepdim=True)
        kept, raised = below.gather(1, rank), above[:, -1:] - above.gather(1, rank)
        place_of = (kept + raised + binomial[p, rank + 1]).squeeze(1)
        rows.append(torch.where((sets == p).any(1), -1, place_of).int())
    found = torch.stack(rows)
    return torch.where(found < 0, found.amax(0), found)


def _sums(terms: Tensor) -> Tensor:
    """Sums of the first 0, 1, … terms of each row."""
    return torch.nn.functional.pad(terms.cumsum(1), (1, 0))


EXACT_SETS = 6_000_000
"""Up to so many final sets are all looked at; the digits never have more with 6 pixels."""

POOL_SETS = 300_000
"""Number of final sets that are looked at where there are more than that."""

NUM_SAMPLED = 4096
"""Random final sets that tell which pixels are worth looking at."""

ROWS_A_READ = 65_536


def margins(logits_SL: Tensor, label: int) -> Tensor:
    """By how much the true label leads each other one, [S, L]; in its own column, all of them."""
    leads_SL = logits_SL[:, label : label + 1] - logits_SL
    leads_SL[:, label] = lead(logits_SL, label)
    return leads_SL


def lead(logits_SL: Tensor, label: int) -> Tensor:
    """By how much a label leads the best of the others: [S]."""
    first, *rest = (column for k, column in enumerate(logits_SL.unbind(1)) if k != label)
    best_S = first.clone()
    for column_S in rest:  # many times faster than a maximum along so short a dimension
        torch.maximum(best_S, column_S, out=best_S)
    return logits_SL[:, label] - best_S


def final_logits(judge: SparseJudge, base_H: Tensor, parts_PH: Tensor, size: int) -> Tensor:
    """The judge's logits [S, L] for all sets of `size` rows of `parts_PH` on top of `base_H`."""
    num = len(parts_PH)
    sums_SH = base_H[None]
    for rank in range(1, size):
        blocks = [sums_SH[: comb(m, rank - 1)] + parts_PH[m] for m in range(rank - 1, num)]
        sums_SH = torch.cat(blocks)
    reads = [
        judge.read(sums_SH[start : min(start + ROWS_A_READ, end)] + parts_PH[m])
        for m in range(size - 1, num)
        for end in [comb(m, size - 1)]
        for start in range(0, end, ROWS_A_READ)
    ]
    return torch.cat(reads)


@dataclass(eq=False)
class Tree:
    """All positions that follow from one, by adding candidates until `depth` were added."""

    candidates: tuple[int, ...]
    """Pixels of the image, ascending; sets are of places in this tuple."""
    depth: int
    logits: Tensor
    """[S, L] of the final sets."""
    label: int
    _levels: dict[bool, list[Tensor]] = field(default_factory=dict)

    @cached_property
    def margins(self) -> Tensor:
        """`margins` of the final sets."""
        return margins(self.logits, self.label)

    def levels(self, honest_first: bool) -> list[Tensor]:
        """Values [S, L] of all sets of 0, 1, … `depth` candidates, with the players in turn."""
        if honest_first not in self._levels:
            levels = [self.margins]
            for size in range(self.depth - 1, -1, -1):
                honest_moves = (size % 2 == 0) == honest_first
                levels.insert(0, _step(levels[0], len(self.candidates), size, honest_moves))
            self._levels[honest_first] = levels
        return self._levels[honest_first]

    def best(self, shown: Sequence[int], column: int, honest_moves: bool) -> int:
        """The pixel that is best for the side to move; `shown` are candidates shown since."""
        held = sorted(self.candidates.index(pixel) for pixel in shown)
        honest_first = honest_moves == (len(held) % 2 == 0)
        values = self.levels(honest_first)[len(held) + 1][:, column]
        free = [p for p in range(len(self.candidates)) if p not in held]
        found = [float(values[index_of([*held, p])]) for p in free]
        best = max(found) if honest_moves else min(found)
        return self.candidates[free[found.index(best)]]


def _step(values_SL: Tensor, num: int, size: int, honest_moves: bool) -> Tensor:
    """Values of the sets of `size`, from those with one member more."""
    choose = torch.maximum if honest_moves else torch.minimum
    first, *rest = children(num, size)
    best_SL = values_SL.index_select(0, first)
    for row in rest:
        choose(best_SL, values_SL.index_select(0, row), out=best_SL)
    return best_SL


class Search:
    """All that is found out about one image before one judge."""

    def __init__(
        self,
        judge: SparseJudge,
        values_P: Tensor,
        label: int,
        pixels: int,
        exact_sets: int = EXACT_SETS,
        pool_sets: int = POOL_SETS,
    ) -> None:
        self.label = label
        self.pixels = pixels
        self.usable = tuple(torch.nonzero(values_P).flatten().tolist())
        """The pixels that may be shown: those that are not zero."""
        self._judge = judge
        self._parts_PH = judge.parts(values_P)
        self._exact_sets = exact_sets
        self._pool_sets = pool_sets

    @cached_property
    def root(self) -> Tree:
        """The tree of the whole game."""
        return self._tree((), self.label)

    @property
    def exact(self) -> bool:
        """True if the whole game was looked at, so that play is perfect."""
        return len(self.root.candidates) == len(self.usable)

    def logits(self, shown: Sequence[int]) -> Tensor:
        """The judge's logits [L] for these pixels."""
        return self._judge.read(self._sum(shown)[None])[0]

    def move(self, shown: Sequence[int], column: int, honest_moves: bool) -> int:
        """The best pixel to show next, by minimax over column `column` of `margins`."""
        if self.exact:
            return self.root.best(shown, column, honest_moves)
        return self._tree(shown, column).best((), column, honest_moves)

    def value(self, column: int, honest_first: bool) -> float:
        """The margin that the game ends with under best play."""
        return float(self.root.levels(honest_first)[0][0, column])

    def best_lie(self, honest_first: bool) -> int:
        """The false label that ends best for the liar."""
        lies = [label for label in range(self.root.logits.shape[1]) if label != self.label]
        return min(lies, key=lambda label: self.value(label, honest_first))

    def best_case(self, labels: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """The label of `labels` that can be made to look likeliest, and the pixels that do it."""
        tops = []
        for label in labels:
            leads_S = lead(self.root.logits, label)
            tops.append((float(leads_S.max()), label, int(leads_S.argmax())))
        _, label, index = max(tops)
        members = members_at(index, self.root.depth)
        return label, tuple(self.root.candidates[member] for member in members)

    def _sum(self, shown: Sequence[int]) -> Tensor:
        return self._judge.first.bias + self._parts_PH[list(shown)].sum(0)

    def _tree(self, shown: Sequence[int], column: int) -> Tree:
        free = [pixel for pixel in self.usable if pixel not in shown]
        depth = self.pixels - len(shown)
        if comb(len(free), depth) > self._exact_sets:
            free = self._narrowed(free, shown, depth, column)
        logits_SL = final_logits(self._judge, self._sum(shown), self._parts_PH[free], depth)
        return Tree(tuple(free), depth, logits_SL, self.label)

    def _narrowed(
        self, free: list[int], shown: Sequence[int], depth: int, column: int
    ) -> list[int]:
        """As many pixels as `pool_sets` allows: half that help the true label, half that hurt."""
        size = depth
        while comb(size + 1, depth) <= self._pool_sets and size < len(free):
            size += 1
        rng = np.random.default_rng([len(free), depth])
        drawn = rng.random((NUM_SAMPLED, len(free))).argsort(1)[:, :depth].copy()
        member = torch.zeros(NUM_SAMPLED, len(free)).scatter_(1, torch.from_numpy(drawn), 1.0)
        sums_SH = self._sum(shown) + member @ self._parts_PH[free]
        leads_S = margins(self._judge.read(sums_SH), self.label)[:, column]
        effect = (leads_S - leads_S.mean()) @ member / member.sum(0).clamp(min=1.0)
        order = effect.argsort().tolist()
        kept = order[: size // 2] + order[len(order) - (size - size // 2) :]
        return sorted(free[index] for index in kept)


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
