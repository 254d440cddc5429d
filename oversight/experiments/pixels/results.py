"""The results of a run: how often the judge was right, as a table and in words.

Intervals are clustered by image.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from oversight.evals.intervals import Estimate, mean_interval, paired_difference
from oversight.evals.observations import Cluster, observations
from oversight.experiments.pixels.game import GameKind, LieChoice, PixelMatch, Skill
from oversight.experiments.pixels.running import FinishedRun, PlannedGame
from oversight.text.numbers import Table, count, percent, points, share
from oversight.types import Transcript

Scores = list[tuple[Cluster, float]]

PUBLISHED: dict[tuple[int, GameKind], float] = {
    (4, GameKind.ALONE): 0.482,
    (4, GameKind.DEBATE): 0.852,
    (6, GameKind.ALONE): 0.594,
    (6, GameKind.DEBATE): 0.889,
}
"""Irving et al. 2018 (arXiv:1805.00899), abstract: on MNIST, with a convolutional judge and
players by Monte Carlo tree search."""

NAMES: dict[PixelMatch, str] = {
    PixelMatch(GameKind.ALONE): "judge alone, random pixels",
    PixelMatch(GameKind.DEBATE): "debate, liar's best lie",
    PixelMatch(GameKind.OPEN): "debate without commitment",
    PixelMatch(GameKind.ADVISOR): "one advisor, honest or lying",
    PixelMatch(GameKind.DEBATE, lie=LieChoice.DRAWN): "debate, random lie",
    PixelMatch(GameKind.DEBATE, liar=Skill.RANDOM, lie=LieChoice.DRAWN): "random liar, random lie",
    PixelMatch(GameKind.DEBATE, honest=Skill.RANDOM): "random honest side, best lie",
    PixelMatch(
        GameKind.DEBATE, honest=Skill.RANDOM, liar=Skill.RANDOM
    ): "same labels, random pixels",
}

ALONE, DEBATE = PixelMatch(GameKind.ALONE), PixelMatch(GameKind.DEBATE)
TWO_LABELS = PixelMatch(GameKind.DEBATE, honest=Skill.RANDOM, liar=Skill.RANDOM)
"""The same choice between the same labels, without anybody arguing."""


@dataclass(frozen=True, slots=True)
class PixelRow:
    """One match with one number of pixels."""

    pixels: int
    name: str
    form: GameKind
    labels: int
    """Number of labels that the judge chooses from."""
    right: Estimate
    """Share of games in which the judge chose the true label."""
    liar_second: Estimate | None
    """Share that the liar won when the honest side began; None where there is no liar."""
    liar_first: Estimate | None
    """The same when the liar began; of an advisor: when it lied."""
    published: float | None
    """The paper's share, on MNIST."""
    is_main: bool
    """The paper has a figure for this match."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A difference in the judge's accuracy, paired by image."""

    pixels: int
    first: str
    second: str
    difference: Estimate


@dataclass(frozen=True, slots=True)
class PixelResults:
    """The whole table."""

    dataset: str
    num_games: int
    num_images: int
    rows: tuple[PixelRow, ...]
    gaps: tuple[Gap, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON-plain data."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def results(
    dataset: str,
    games: Mapping[str, PlannedGame],
    stored: Iterable[tuple[str, Transcript]],
) -> PixelResults:
    """The table of the games planned, read from what is stored."""
    scores: dict[tuple[int, PixelMatch], dict[bool, Scores]] = defaultdict(
        lambda: defaultdict(list)
    )
    for key, transcript in stored:
        if key in games:
            planned = games[key]
            group = scores[planned.pixels, planned.match][planned.honest_first]
            group += [(each.cluster, float(bool(each.right))) for each in observations(transcript)]
    ordered = [(pixels, match) for pixels in sorted({n for n, _ in scores}) for match in NAMES]
    found = {each: scores[each] for each in ordered if each in scores}
    every = [score for group in found.values() for some in group.values() for score in some]
    return PixelResults(
        dataset=dataset,
        num_games=len(every),
        num_images=len({cluster for cluster, _ in every}),
        rows=tuple(_row(pixels, match, group) for (pixels, match), group in found.items()),
        gaps=tuple(_gaps(found)),
    )


def _row(pixels: int, match: PixelMatch, group: Mapping[bool, Scores]) -> PixelRow:
    alone = match.form is GameKind.ALONE
    published = PUBLISHED.get((pixels, match.form)) if match in (ALONE, DEBATE) else None
    advisor = match.form is GameKind.ADVISOR
    return PixelRow(
        pixels=pixels,
        name=NAMES[match],
        form=match.form,
        labels=2 if match.form is GameKind.DEBATE else 10,
        right=_mean(_both(group)),
        liar_second=None if alone or advisor else _mean(_lost(group[True])),
        liar_first=None if alone else _mean(_lost(group[False])),
        published=published,
        is_main=match in (ALONE, DEBATE),
    )


def _gaps(found: Mapping[tuple[int, PixelMatch], Mapping[bool, Scores]]) -> Iterable[Gap]:
    for pixels in sorted({n for n, _ in found}):
        for other in (ALONE, TWO_LABELS):
            difference = paired_difference(
                _both(found[pixels, DEBATE]), _both(found[pixels, other])
            )
            if difference is not None:
                yield Gap(pixels, NAMES[DEBATE], NAMES[other], difference)


def _both(group: Mapping[bool, Scores]) -> Scores:
    return [score for some in group.values() for score in some]


def _lost(scores: Scores) -> Scores:
    return [(cluster, 1.0 - value) for cluster, value in scores]


def _mean(scores: Sequence[tuple[Cluster, float]]) -> Estimate:
    return mean_interval([value for _, value in scores], [cluster for cluster, _ in scores])


TITLE = "Pixel debate"


def extent(results: PixelResults) -> str:
    """The extent of what was played, in one line."""
    return (
        f"Pixel debate · {count(results.num_games, 'game')} on "
        f"{count(results.num_images, 'held-out image')} of {results.dataset}"
    )


def headlines(results: PixelResults) -> tuple[str, ...]:
    """The findings of the run, most important first."""
    return tuple(_headlines(results))


def _headlines(results: PixelResults) -> Iterator[str]:
    for gap in results.gaps:
        rows = {row.name: row for row in results.rows if row.pixels == gap.pixels}
        debate, other = rows[gap.first], rows[gap.second]
        against = (
            "the judge alone" if gap.second == NAMES[ALONE] else "the same labels and random pixels"
        )
        yield (
            f"{count(gap.pixels, 'pixel')}: debate {percent(debate.right.value)}, {against} "
            f"{percent(other.right.value)}: {points(gap.difference)} points."
        )


def table(results: PixelResults, *, wide: bool) -> Table:
    """Every match: how often the judge was right, and how often the liar won by order.

    Args:
        results: The run's.
        wide: With the intervals of the liar's shares as well, for the page.
    """
    return Table(
        title="How often the judge was right",
        note=(
            "95 % intervals clustered by image; of: labels that the judge chooses from; liar "
            "2nd, 1st: share that the liar wins when it shows the second, or the first, pixel; "
            "paper: Irving et al. 2018, on MNIST, with another judge."
        ),
        columns=(
            "game",
            "px",
            "of",
            "judge right",
            "paper",
            "liar 2nd",
            "1st",
        ),
        rows=tuple(_cells(row, share if wide else _share) for row in results.rows),
    )


def _share(estimate: Estimate | None) -> str:
    return percent(None if estimate is None else estimate.value)


def _cells(row: PixelRow, shown: Callable[[Estimate | None], str]) -> tuple[str, ...]:
    published = "" if row.published is None else percent(row.published, 1)
    return (
        row.name,
        str(row.pixels),
        str(row.labels),
        share(row.right),
        published,
        shown(row.liar_second),
        shown(row.liar_first),
    )


def methods(played: FinishedRun, results: PixelResults) -> tuple[str, ...]:
    """The methods of measurement, for those who want to repeat it."""
    pixels = played.settings.pixels
    if len(pixels) == 1:
        judges = f"a perceptron, trained on {count(pixels[0], 'random pixel')}"
        judges += " that is not zero" if pixels[0] == 1 else " that are not zero"
    else:
        numbers = ", ".join(map(str, pixels))
        judges = f"one perceptron for each number of pixels ({numbers}), trained on that many "
        judges += "random pixels that are not zero"
    compared = "The paper's figures stand beside ours for comparison, not as a target."
    if played.dataset == "digits":
        compared = f"Digits are not MNIST: {compared[0].lower()}{compared[1:]}"
    were = "was" if results.num_images == 1 else "were"
    source = (
        "scikit-learn's bundled digits (8 × 8, 17 grey levels)"
        if played.dataset == "digits"
        else "MNIST (28 × 28)"
    )
    found = [
        f"Images: {source}; {played.num_train:,} to train on, {played.num_held_out:,} held out, "
        f"of which {results.num_images:,} {were} played on. {compared}",
        f"Judge: {judges}; it does not change during the games.",
        "Debate: both sides commit to a label, then show one pixel each in turn; the judge "
        "chooses between the two labels. The liar claims the label that its search finds best, as "
        "if all nine were tried. Each image is played with either side first.",
    ]
    if played.share_exact is not None:
        shares = ", ".join(
            f"{count(number, 'pixel')}: {percent(value)}"
            for number, value in played.share_exact.items()
        )
        found.append(
            "Players: minimax over all sets of pixels before the very judge that decides, so play "
            f"is perfect where the whole game was searched (share of images: {shares})."
        )
    return (*found, f"Seed {played.settings.seed} for the split, the judges and every draw.")
