"""A run's results in words: the headlines, the table, and how it was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from oversight.evals.findings import count, points, share
from oversight.evals.intervals import Estimate
from oversight.evals.tables import Table
from oversight.pixels.results import ALONE, NAMES, Results, Row
from oversight.pixels.running import Played
from oversight.text.shares import percent

TITLE = "Pixel debate"


def extent(results: Results) -> str:
    """How much was played, in one line."""
    return (
        f"Pixel debate · {count(results.num_games, 'game')} on "
        f"{count(results.num_images, 'held-out image')} of {results.dataset}"
    )


def headlines(results: Results) -> tuple[str, ...]:
    """What the run says, most important first."""
    return tuple(_headlines(results))


def _headlines(results: Results) -> Iterator[str]:
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


def table(results: Results, *, wide: bool) -> Table:
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
    return "–" if estimate is None else percent(estimate.value)


def _cells(row: Row, shown: Callable[[Estimate | None], str]) -> tuple[str, ...]:
    published = "" if row.published is None else f"{100 * row.published:.1f} %"
    return (
        row.name,
        str(row.pixels),
        str(row.labels),
        share(row.right),
        published,
        shown(row.liar_second),
        shown(row.liar_first),
    )


def methods(played: Played, results: Results) -> tuple[str, ...]:
    """How it was measured, for those who want to repeat it."""
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
