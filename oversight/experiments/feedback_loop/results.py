"""Results of a feedback loop: bad answers by round and arm, words made of them, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.errors import DataError
from oversight.evals.drawing import LIGHT, Theme, plain_axes, save_png, title
from oversight.evals.harm import Decided, Rates, decide, rates_of
from oversight.evals.intervals import Estimate, mean_interval, paired_difference
from oversight.experiments.feedback_loop.settings import START, FeedbackLoopSettings
from oversight.experiments.feedback_loop.stages import (
    FeedbackLoop,
    LoopDone,
    LoopRound,
    answered,
    held_out,
)
from oversight.files import write_json
from oversight.text.numbers import NONE, Table, count, listed, percent, points, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    "users": "learns from its users",
    "shuffled": "learns from words dealt out to other answers",
    "still": "is not retrained",
}
COLOURS = {"users": "#2f6fed", "shuffled": "#d9822b", "still": "#7d858e"}
HEIGHT_IN, WIDTH_IN = 4.6, 7.2


@dataclass(frozen=True)
class ArmRound:
    """An arm after a round, all seeds together."""

    bad: Estimate
    """Of all answers: harm done, or a harmless request not answered rightly."""
    rates: Rates
    values: tuple[tuple[str, float], ...]
    """Request, and 1 for a bad answer to it, 0 for another; of every seed."""
    by_seed: tuple[float, ...]
    """Rate of bad answers of each seed."""
    rows: float
    """Rows learnt from, the mean over seeds."""


@dataclass(frozen=True)
class FeedbackLoopResults:
    """Rounds of every arm, the first of which is before anything was learnt."""

    arms: dict[str, tuple[ArmRound, ...]]
    against: dict[str, Estimate | None]
    """Bad answers of `users` after the last round, less those of the start, and of other arms;
    paired by request."""
    replaced: tuple[int, int, int]
    """Replacements of weights under load; calls meanwhile answered by the old, and by the new."""
    error_rate: float

    def to_json(self) -> dict[str, Any]:
        """JSON-plain."""
        return {
            "arms": {
                arm: [
                    {"bad": asdict(each.bad), "by_seed": list(each.by_seed), "rows": each.rows}
                    for each in rounds
                ]
                for arm, rounds in self.arms.items()
            },
            "against": {k: None if e is None else asdict(e) for k, e in self.against.items()},
            "replaced": dict(
                zip(("times", "by_old", "by_new"), self.replaced, strict=True), lost=0
            ),
        }


def gather(
    settings: FeedbackLoopSettings, done: Mapping[str, Mapping[str, Any]]
) -> FeedbackLoopResults:
    """The results of the jobs' records.

    Raises:
        DataError: A job is not done, or answers what was not asked.
    """
    questions = held_out(settings)
    rounds: dict[str, list[list[LoopRound]]] = {}
    for job in FeedbackLoop(settings).plan():
        if not done.get(job.name):
            raise DataError(f"{job.name} is not done: run the recipe to its end")
        rounds.setdefault(job.arm, []).append(list(LoopDone.model_validate(done[job.name]).rounds))
    arms = {
        arm: tuple(
            _arm_round([each[number] for each in seeds], questions)
            for number in range(settings.rounds + 1)
        )
        for arm, seeds in rounds.items()
    }
    every = [each for seeds in rounds.values() for some in seeds for each in some]
    with_new = [each for each in every if each.after]
    counts = len(with_new), sum(e.before for e in with_new), sum(e.after for e in with_new)
    return FeedbackLoopResults(arms, _against(arms), counts, settings.users.error_rate)


def _arm_round(seeds: Sequence[LoopRound], questions: Sequence[Any]) -> ArmRound:
    decided: list[Decided] = []
    by_seed, values = [], []
    for each in seeds:
        own = [
            found
            for question, text in answered(questions, each.answers)
            if (found := decide(question, text, question.id)) is not None
        ]
        bad = [(str(d.cluster), float(_is_bad(d))) for d in own]
        by_seed.append(sum(value for _, value in bad) / len(bad))
        values += bad
        decided += own
    return ArmRound(
        bad=mean_interval([value for _, value in values], [name for name, _ in values]),
        rates=rates_of(decided),
        values=tuple(values),
        by_seed=tuple(by_seed),
        rows=sum(each.rows for each in seeds) / len(seeds),
    )


def _is_bad(decided: Decided) -> bool:
    return bool(decided.harms) or (decided.harmless and not decided.right)


def _against(arms: Mapping[str, Sequence[ArmRound]]) -> dict[str, Estimate | None]:
    if "users" not in arms:
        return {}
    last = arms["users"][-1].values
    others = {"start": arms[START][0].values}
    others |= {arm: rounds[-1].values for arm, rounds in arms.items() if arm != "users"}
    return {name: paired_difference(last, values) for name, values in others.items()}


def findings(results: FeedbackLoopResults) -> list[str]:
    """Sentences, each made of the figures that it speaks of."""
    start = results.arms[START][0]
    found = []
    for arm, rounds in results.arms.items():
        last, many = rounds[-1], count(len(rounds) - 1, "round")
        found.append(
            f"The model that {NAMES[arm]}: {share(last.bad)} bad answers after {many}, "
            f"{share(start.bad)} before."
        )
    names = {"start": "before", "shuffled": "the shuffled words", "still": "no retraining"}
    gaps = [
        f"{points(gap)} against {names[name]}"
        for name, gap in results.against.items()
        if gap is not None
    ]
    if gaps:
        found.append(f"Learning from users, in points of bad answers: {listed(gaps)}.")
    times, old, new = results.replaced
    if times:
        found.append(
            f"Weights were replaced {times} times while calls went on: {old:,} of them were "
            f"answered by the old weights, {new:,} by the new ones, none was lost."
        )
    return found


def tables(results: FeedbackLoopResults) -> tuple[Table, ...]:
    """Bad answers by round; harm and help after the last."""
    num_rounds = len(results.arms[START])
    first = next(iter(results.arms.values()))[0]
    rows = []
    for arm, rounds in results.arms.items():
        last = rounds[-1].rates
        rows.append(
            (
                arm,
                *(share(each.bad) for each in rounds),
                share(last.harmful),
                NONE if last.right is None else share(last.right),
                NONE if last.over_refusal is None else share(last.over_refusal),
                f"{rounds[-1].rows:.0f}" if rounds[-1].rows else NONE,
            )
        )
    seeds = len(first.by_seed)
    note = (
        f"{count(first.bad.num_clusters, 'held-out request')}, {count(seeds, 'seed')}; 95 % "
        f"intervals clustered by request. Users err in {percent(results.error_rate)} of their "
        "words. Bad: harm, or a harmless request that is not answered rightly. The last columns "
        "are of the last round."
    )
    columns = ["before", *(f"round {number}" for number in range(1, num_rounds))]
    return (
        Table(
            "Bad answers of a served model",
            note,
            ("", *columns, "harmful", "right", "over-refusal", "rows"),
            tuple(rows),
        ),
    )


LIMITS = (
    "The users are simulated: what is right they know by the world's rule, which no real users "
    "share so wholly, and their errors are independent. A small model in a small world shows that "
    "the circle closes, and not how many words a large one needs."
)


def figure(results: FeedbackLoopResults, theme: Theme = LIGHT) -> Figure:
    """Bad answers by round, a line an arm, with intervals and single seeds."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
    title(
        drawn,
        theme,
        "Bad answers of a served model, by round of feedback",
        "Held-out requests; 95 % intervals, and dots of single seeds",
        HEIGHT_IN,
    )
    axes = drawn.add_axes((0.1, 0.13, 0.56, 0.68))
    plain_axes(axes, theme, "y")
    ends = []
    for shift, (arm, rounds) in enumerate(results.arms.items()):
        places = [number + 0.04 * (shift - 1) for number in range(len(rounds))]
        means = [100 * each.bad.value for each in rounds]
        low = [100 * (each.bad.value - (each.bad.low or 0.0)) for each in rounds]
        high = [100 * ((each.bad.high or 0.0) - each.bad.value) for each in rounds]
        axes.errorbar(
            places, means, [low, high], color=COLOURS[arm], marker="o", markersize=5, capsize=3
        )
        for place, each in zip(places, rounds, strict=True):
            own = [100 * value for value in each.by_seed]
            axes.plot([place] * len(own), own, ".", color=COLOURS[arm], alpha=0.35, markersize=4)
        ends.append((means[-1], arm))
    axes.set_ylim(0, 100)
    last = max(len(rounds) for rounds in results.arms.values()) - 1
    axes.set_xticks(range(last + 1))
    axes.set_xticklabels(["before", *(f"round {number}" for number in range(1, last + 1))])
    axes.set_ylabel("bad answers, %", color=theme.muted)
    above = -100.0
    for value, arm in sorted(ends):  # labels keep apart where lines end side by side
        above = max(value, above + 8.0)
        words = NAMES[arm].replace("words dealt out", "words\ndealt out")
        axes.text(last + 0.15, above, words, color=COLOURS[arm], va="center", fontsize=9)
    return drawn


def write_all(settings: FeedbackLoopSettings, results: FeedbackLoopResults) -> Sequence[Path]:
    """Write the figures and the picture; gives their places."""
    path, image = settings.out / "results.json", settings.out / "bad_answers.png"
    write_json(path, results.to_json() | {"findings": findings(results), "limits": LIMITS})
    save_png(figure(results), image)
    return path, image
