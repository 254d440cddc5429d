"""Part 4, weak to strong: what a strong learner recovers from a weak supervisor's labels.

A supervisor, a small model taught a few true answers, labels questions of the world; learners of
growing size are taught these labels, and for comparison the truth. Performance gap recovered (Burns
et al. 2023, arXiv:2312.09390) is (learner - supervisor) / (ceiling - supervisor) on held-out
questions. The supervisor labels alone, or is shown a debate or one critique of each question; the
learners never are. Controls are labels shuffled over questions, and labels with as many errors, as
surely held, that fall on questions by chance.

Shapes: P questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from oversight.evals.comparisons import gap_recovered
from oversight.evals.intervals import Estimate, mean_interval, paired_difference
from oversight.experiments.measured.best_of_n import Floats
from oversight.experiments.measured.shift import SHIFTS, said_by
from oversight.experiments.measured.suite import (
    MeasureSettings,
    PartDone,
    PartFigure,
    PartTable,
    WeakToStrongSettings,
    world_questions,
)
from oversight.ids import seed_from
from oversight.text.numbers import count, decimal, decimals, percent, share
from oversight.types import Question

Shown = Literal["nothing", "a debate", "a critique"]
SHOWN: tuple[Shown, ...] = ("nothing", "a debate", "a critique")
PLAIN, CONFIDENT, DEBATE, CRITIQUE = "plain", "confidence loss", "debate", "critique"
SCATTERED, SHUFFLED = "errors by chance (control)", "shuffled (control)"
CEILING, START = "ceiling", "start (control)"
METHODS = (PLAIN, CONFIDENT, DEBATE, CRITIQUE)
ARMS = (*METHODS, SCATTERED, SHUFFLED)
FEWEST_RUNGS = 3


@dataclass(frozen=True, slots=True)
class Graded:
    """Answers of one model to the held-out questions, over all seeds."""

    hits: tuple[tuple[str, int, float], ...]
    """Question, seed, and 1 if it was right."""

    @property
    def scores(self) -> list[tuple[str, float]]:
        """(question, hit) of each answer."""
        return [(question, hit) for question, _, hit in self.hits]

    @property
    def right(self) -> Estimate:
        """Share of right answers, clustered by question."""
        return mean_interval([hit for *_, hit in self.hits], [name for name, *_ in self.hits])

    def of_seed(self, seed: int) -> float:
        """Share of right answers of one seed."""
        return float(np.mean([hit for _, own, hit in self.hits if own == seed]))


@dataclass(frozen=True, slots=True)
class Recovered:
    """The gap that one arm recovers on one rung."""

    estimate: Estimate | None
    """Fieller's interval, questions being independent; None where nothing can be said."""
    by_seed: tuple[float, ...]
    reason: str = ""
    """Why nothing can be said."""


def recovered(arm: Graded, weak: Graded, ceiling: Graded, seeds: Sequence[int]) -> Recovered:
    """Performance gap recovered by an arm, or the reason why nothing is said of it.

    Each question counts once, as the mean over seeds. Where ceiling less supervisor is not clear of
    zero, or the supervisor is at chance, there is no ratio.
    """
    gap = paired_difference(ceiling.scores, weak.scores)
    if gap is None or gap.low is None or gap.low <= 0.0:
        return Recovered(None, (), "the supervisor is as good as the ceiling")
    if not weak.right.excludes(0.5) or weak.right.value < 0.5:
        return Recovered(None, (), "the supervisor is at chance")
    estimate, reason = gap_recovered(arm.scores, weak.scores, ceiling.scores)
    if estimate is None:
        return Recovered(None, (), reason)
    each = []
    for seed in seeds:
        low, high = weak.of_seed(seed), ceiling.of_seed(seed)
        each.append((arm.of_seed(seed) - low) / (high - low) if high > low else float("nan"))
    return Recovered(estimate, tuple(each))


def read_as(question: Question, shown: Shown, careful: float, seed: int) -> Any:
    """The question as a model reads it: the log's lines on the thing asked for, and what is shown.

    Speeches are those of the shifted judge's part: each side claims its answer, and in a share
    `careful` quotes the line that tells it. A critique is the speech of one side, drawn by chance.
    """
    from oversight.experiments.measured.learners import Case
    from oversight.experiments.selfplay.games import games

    about: dict[str, Any] = dict(question.meta)
    log = question.source.text if question.source else ""
    lines = sorted((about[side][-1] for side in ("right_lines", "wrong_lines")), key=log.index)
    said = []
    if shown != "nothing":
        kind: Literal["debate", "consultancy"] = "debate" if shown == "a debate" else "consultancy"
        [game] = games((question,), kind, seed, both_sides=False)
        said = list(said_by(game, SHIFTS[0], seed, careful).values())
    first, second = (option.text for option in question.options)
    text = "\n".join([*lines, *said, question.text])
    return Case(question.id, text, (first, second), int(question.correct == 1))


@dataclass(frozen=True)
class Questions:
    """Questions of one seed: those with true labels, those without, and those held out."""

    truths: tuple[Question, ...]
    pool: tuple[Question, ...]
    held: tuple[Question, ...]

    @classmethod
    def of(cls, own: WeakToStrongSettings, seed: int) -> Questions:
        """The questions of that seed; those held out are the same for all."""
        begin = seed * (own.truths + own.labels)
        return cls(
            world_questions("train", own.truths, start=begin),
            world_questions("train", own.labels, start=begin + own.truths),
            world_questions("held_out", own.items),
        )


def truth_of(questions: Sequence[Question]) -> Floats:
    """1 where the second answer is right: [P]."""
    return np.array([float(each.correct == 1) for each in questions])


def measure(settings: MeasureSettings, folder: Path) -> PartDone:
    """The part's findings; a run that was killed goes on with the model that it was teaching."""
    from oversight.experiments.measured.learners import save_learner

    own = settings.weak_to_strong
    learners = {units: folder / f"units-{units}" for units in {own.supervisor, *own.learners}}
    sizes = {units: save_learner(settings.model, place, units) for units, place in learners.items()}
    hits: dict[tuple[int, str], list[tuple[str, int, float]]] = {}
    for seed in settings.seeds:
        found = one_seed(own, learners, folder / f"seed-{seed}", seed)
        for key, right in found.items():
            hits.setdefault(key, []).extend((name, seed, hit) for name, hit in right)
    graded = {key: Graded(tuple(each)) for key, each in hits.items()}
    return page(own, settings.seeds, sizes, graded)


def one_seed(
    own: WeakToStrongSettings, learners: Mapping[int, Path], folder: Path, seed: int
) -> dict[tuple[int, str], list[tuple[str, float]]]:
    """(question, hit) on held-out questions, by units and arm; the supervisor's arms are `SHOWN`,
    its units 0."""
    from oversight.experiments.measured.learners import second_of, taught

    asked = Questions.of(own, seed)

    def cases(questions: Sequence[Question], shown: Shown = "nothing") -> list[Any]:
        return [read_as(each, shown, own.careful, seed) for each in questions]

    def graded(second_P: Floats) -> list[tuple[str, float]]:
        right = (second_P >= 0.5) == (truth_of(asked.held) == 1.0)
        return [(q.id, float(hit)) for q, hit in zip(asked.held, right, strict=True)]

    found: dict[tuple[int, str], list[tuple[str, float]]] = {}
    labels: dict[str, Floats] = {}
    for shown in SHOWN:
        name = shown.rpartition(" ")[2]
        weak = taught(
            learners[own.supervisor],
            folder / f"supervisor-{name}",
            cases(asked.truths, shown),
            truth_of(asked.truths),
            seed=seed,
            epochs=own.supervisor_epochs,
        )
        labels[PLAIN if shown == "nothing" else name] = second_of(weak, cases(asked.pool, shown))
        found[0, shown] = graded(second_of(weak, cases(asked.held, shown)))
    rng = np.random.default_rng(seed_from("weak to strong", seed))
    truth = truth_of(asked.pool)
    # What the supervisor gives the right answer, over the questions anew: as many errors, as sure.
    on_right = rng.permutation(np.where(truth == 1.0, labels[PLAIN], 1.0 - labels[PLAIN]))
    labels[SCATTERED] = np.where(truth == 1.0, on_right, 1.0 - on_right)
    labels[SHUFFLED] = rng.permutation(labels[PLAIN])
    labels[CONFIDENT], labels[CEILING] = labels[PLAIN], truth
    drawn = {"strength": own.confidence, "warmup": own.warmup}
    for units in own.learners:
        found[units, START] = graded(second_of(learners[units], cases(asked.held)))
        for arm in (*ARMS, CEILING):
            model = taught(
                learners[units],
                folder / f"units-{units}-{arm.split()[0]}",
                cases(asked.pool),
                labels[arm],
                seed=seed,
                epochs=own.epochs,
                loss="confidence" if arm == CONFIDENT else "sigmoid",
                options=drawn if arm == CONFIDENT else None,
            )
            found[units, arm] = graded(second_of(model, cases(asked.held)))
    return found


def page(
    own: WeakToStrongSettings,
    seeds: Sequence[int],
    sizes: Mapping[int, int],
    graded: Mapping[tuple[int, str], Graded],
) -> PartDone:
    """The page of all answers; `graded` is by units and arm, as of `one_seed`."""
    weak = graded[0, SHOWN[0]]
    gaps = {
        (units, arm): recovered(graded[units, arm], weak, graded[units, CEILING], seeds)
        for units in own.learners
        for arm in ARMS
    }
    figures = {
        f"{sizes[units] if units else 'supervisor'}.{arm}.right": PartFigure.of(each.right)
        for (units, arm), each in graded.items()
    }
    for (units, arm), each in gaps.items():
        if each.estimate is not None:
            figures[f"{sizes[units]}.{arm}.gap"] = PartFigure.of(each.estimate)
    return PartDone(
        title="Weak to strong: what a learner recovers from a weak supervisor",
        headlines=_headlines(own, sizes, graded, gaps),
        warnings=_warnings(own, seeds, sizes, graded, gaps),
        tables=(_gap_table(own, sizes, graded, gaps), _supervisor_table(graded)),
        not_shown=(
            "It does not show that people's labels would be enough for a model above them: the "
            "learners are cuts of one tiny model that had learnt to read the world's lines before, "
            "the question is one that a program decides, and nothing is extrapolated beyond the "
            "ladder."
        ),
        figures=figures,
        series={
            "sizes": [sizes[units] for units in own.learners],
            "weak": [weak.right.value, weak.right.low, weak.right.high],
            "right": {
                arm: [
                    [e.value, e.low, e.high]
                    for e in (graded[units, arm].right for units in own.learners)
                ]
                for arm in (*ARMS, CEILING, START)
            },
            "gaps": {
                arm: [
                    None if e is None else [e.value, e.low, e.high]
                    for e in (gaps[units, arm].estimate for units in own.learners)
                ]
                for arm in ARMS
            },
        },
        methods=_methods(own, seeds),
    )


def _headlines(
    own: WeakToStrongSettings,
    sizes: Mapping[int, int],
    graded: Mapping[tuple[int, str], Graded],
    gaps: Mapping[tuple[int, str], Recovered],
) -> tuple[str, ...]:
    shown = [graded[0, each].right for each in SHOWN]
    lines = [
        f"The supervisor is right in {share(shown[0])} of held-out questions; shown a debate in "
        f"{share(shown[1])}, shown a critique in {share(shown[2])}."
    ]
    told = [units for units in own.learners if gaps[units, PLAIN].estimate is not None]
    for arm in METHODS:
        clear = [
            f"{sizes[u]:,} weights ({decimals(PartFigure.of(estimate))})"
            for u in told
            if (estimate := gaps[u, arm].estimate) is not None
            and estimate.low is not None
            and estimate.low > 0.0
            and min(gaps[u, arm].by_seed) > 0.0
        ]
        lines.append(
            f"{arm.capitalize()}: a gap above zero, in every seed too, is recovered on "
            f"{len(clear)} of {count(len(told), 'rung')} that can be told"
            + (f", {', '.join(clear)}." if clear else ".")
        )
    return tuple(lines)


def _warnings(
    own: WeakToStrongSettings,
    seeds: Sequence[int],
    sizes: Mapping[int, int],
    graded: Mapping[tuple[int, str], Graded],
    gaps: Mapping[tuple[int, str], Recovered],
) -> tuple[str, ...]:
    lines = []
    if len(own.learners) < FEWEST_RUNGS:
        lines.append(
            f"the ladder has {count(len(own.learners), 'rung')}: nothing is said of how the gap "
            f"changes with size, which takes {FEWEST_RUNGS}"
        )
    if len(seeds) < FEWEST_RUNGS:
        lines.append(f"{count(len(seeds), 'seed')}: how far runs differ is not measured")
    for shown in SHOWN:
        right = graded[0, shown].right
        if not right.excludes(0.5) or right.value < 0.5:
            lines.append(f"the supervisor shown {shown} is at chance ({share(right)})")
    for units in own.learners:
        if reason := gaps[units, PLAIN].reason:
            lines.append(f"{sizes[units]:,} weights: {reason}; no gap is told, nor averaged")
        if (graded[units, SHUFFLED].right.low or 0.0) > 0.5:
            lines.append(f"{sizes[units]:,} weights: better than chance on shuffled labels")
    return tuple(lines)


def _gap_table(
    own: WeakToStrongSettings,
    sizes: Mapping[int, int],
    graded: Mapping[tuple[int, str], Graded],
    gaps: Mapping[tuple[int, str], Recovered],
) -> PartTable:
    rows = []
    for units in own.learners:
        for arm in (START, CEILING, *ARMS):
            row = (f"{sizes[units]:,}", arm, share(graded[units, arm].right))
            rows.append((*row, *_told(gaps.get((units, arm)))))
    return PartTable(
        title="Learners by size and labels",
        note=(
            "Gap recovered: (learner − supervisor) / (ceiling − supervisor), the supervisor alone; "
            "Fieller's interval over questions, each the mean of its seeds: how far runs differ it "
            "does not hold, and the last column shows. –: the ceiling is not clear of the "
            "supervisor, or that is at chance. Start: the learner before it is taught."
        ),
        columns=("weights", "labels", "right", "gap recovered", "each seed"),
        rows=tuple(rows),
    )


def _told(gap: Recovered | None) -> tuple[str, str]:
    """The gap with its interval, and that of each seed; empty for what has none by nature."""
    if gap is None or gap.estimate is None:
        return ("", "") if gap is None else ("–", "")
    return decimals(PartFigure.of(gap.estimate)), ", ".join(decimal(each) for each in gap.by_seed)


def _supervisor_table(graded: Mapping[tuple[int, str], Graded]) -> PartTable:
    alone = graded[0, SHOWN[0]].scores
    rows = []
    for shown in SHOWN:
        each = graded[0, shown]
        gain = paired_difference(each.scores, alone)
        rows.append(
            (
                shown,
                share(each.right),
                "" if shown == SHOWN[0] or gain is None else decimals(PartFigure.of(gain)),
            )
        )
    return PartTable(
        title="The supervisor, and what it is shown",
        note="Gain: over the same questions without. Intervals of 95 %, clustered by question.",
        columns=("shown", "right", "gain"),
        rows=tuple(rows),
    )


def _methods(own: WeakToStrongSettings, seeds: Sequence[int]) -> tuple[str, ...]:
    return (
        f"Supervisor: the policy with {own.supervisor} units in each feed-forward layer, taught "
        f"{own.truths} true answers ({own.supervisor_epochs:g} passes); learners keep "
        f"{', '.join(str(units) for units in own.learners)} units and are taught its probabilities "
        f"on {own.labels} other questions ({own.epochs:g} passes), by the DPO trainer without "
        f"reference; {own.items} held-out questions, {count(len(seeds), 'seed')}, each with "
        "questions of its own to learn from.",
        "Each question is read with the log's lines on the thing asked for. Debates and critiques "
        f"are shown to the supervisor alone; {percent(own.careful)} of their speeches quote the "
        "line that tells their answer.",
        f"Confidence loss: weight {own.confidence:g} on the learner's own choice after a warm-up "
        f"of {percent(own.warmup)} of the steps.",
        "Controls: the supervisor's probabilities of the right answer dealt to other questions, so "
        "that as many errors, as surely held, have no system; its labels shuffled over questions; "
        "the truth; and the learner before it is taught.",
    )
