"""Each judge of a panel by itself: on repeats, by place, over a session, and by known answers.

Measures are of plain arrays, one place an answer, with intervals clustered by item. A measure is
None where the data cannot bear it. `panel_table` puts a panel's judges side by side, for a report;
what cannot be said of one of them stands there in words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from oversight.evals.intervals import Estimate, mean_interval, unpaired_difference
from oversight.evals.observations import Observation
from oversight.panels.labels import (
    MIN_RATERS,
    MIN_VOTES,
    MISSING,
    RaterQuality,
    rater_qualities,
    unfit,
)
from oversight.text.numbers import Table, share

MIN_ITEMS = 10
"""Different items below which nothing is said of a judge's accuracy, place or drift."""
NUM_OPTIONS = 2
"""Accuracy from agreement is of debates between two options: one label means one thing there."""


def repeat_consistency(
    first: Sequence[Hashable], again: Sequence[Hashable], items: Sequence[Hashable]
) -> Estimate | None:
    """Share of answers that a judge gave once more when asked again; None of no repeat.

    Args:
        first: Answers at the first time.
        again: Answers to the same at the second.
        items: The item of each.

    Raises:
        ValueError: They are not as many.
    """
    if not len(first) == len(again) == len(items):
        raise ValueError(f"{len(first)} answers, {len(again)} repeats and {len(items)} items")
    if not items:
        return None
    return mean_interval([float(a == b) for a, b in zip(first, again, strict=True)], items)


def first_place(chose_first: Sequence[bool], items: Sequence[Hashable]) -> Estimate | None:
    """Share of choices between two for the one that was shown first; one half if blind to place.

    Items have to be shown in either order equally often, or drawn so. None of fewer than
    `MIN_ITEMS` items.
    """
    if len(set(items)) < MIN_ITEMS:
        return None
    return mean_interval([float(each) for each in chose_first], items)


def session_drift(
    right: Sequence[float],
    places: Sequence[float],
    sessions: Sequence[Hashable],
    items: Sequence[Hashable],
) -> Estimate | None:
    """Mean of a measure in the later halves of sessions minus that in the earlier ones.

    Args:
        right: The measure of each answer: 1 where it is right, or agrees with the others.
        places: Place, or time, of each answer within its session.
        sessions: The session of each answer; the middle answer of an odd number is left out.
        items: The item of each answer, by which the interval is clustered.

    Returns:
        None where either half holds fewer than `MIN_ITEMS` items.
    """
    by_session: dict[Hashable, list[int]] = defaultdict(list)
    for index, session in enumerate(sessions):
        by_session[session].append(index)
    early: list[int] = []
    late: list[int] = []
    for indices in by_session.values():
        ordered = sorted(indices, key=lambda index: places[index])
        half = len(ordered) // 2
        early += ordered[:half]
        late += ordered[len(ordered) - half :]
    if min(len({items[i] for i in half}) for half in (early, late)) < MIN_ITEMS:
        return None
    return unpaired_difference(
        [right[i] for i in late],
        [items[i] for i in late],
        [right[i] for i in early],
        [items[i] for i in early],
    )


def gold_accuracy(right: Sequence[bool], items: Sequence[Hashable]) -> Estimate | None:
    """Share of right answers to items whose answer is known; None of fewer than `MIN_ITEMS`."""
    if len(set(items)) < MIN_ITEMS:
        return None
    return mean_interval([float(each) for each in right], items)


@dataclass(frozen=True, slots=True)
class JudgeStanding:
    """One judge among those who decided the same debates."""

    judge: str
    num_decided: int
    gold: Estimate | None
    """Accuracy on questions with a known answer."""
    fitted: RaterQuality | None
    """Accuracy from agreement with the others alone."""
    flaws: tuple[str, ...]
    """Reasons for figures that are missing."""


def judge_standings(observations: Iterable[Observation]) -> tuple[JudgeStanding, ...]:
    """Every judge of debates between two options, by name; nothing if there is only one judge.

    Accuracy by known answers and accuracy from agreement stand beside each other: where judges err
    together, the second is too high for all of them.
    """
    decided: dict[str, dict[str, Observation]] = defaultdict(dict)
    for each in observations:
        if each.choice is not None and each.num_options == NUM_OPTIONS:
            decided[each.arm.judge][each.debate_id] = each
    if len(decided) < 2:
        return ()
    fitted, reasons = _fitted(decided)
    found = []
    for judge, given in sorted(decided.items()):
        known = [each for each in given.values() if each.right is not None]
        gold = gold_accuracy([bool(each.right) for each in known], [e.cluster for e in known])
        flaws = [] if judge in fitted else [reasons[judge]]
        if gold is None:
            number = len({each.cluster for each in known})
            flaws.insert(0, f"{number} questions with a known answer; {MIN_ITEMS} are needed")
        found.append(JudgeStanding(judge, len(given), gold, fitted.get(judge), tuple(flaws)))
    return tuple(found)


def _fitted(
    decided: dict[str, dict[str, Observation]],
) -> tuple[dict[str, RaterQuality], dict[str, str]]:
    """Accuracies from agreement, and for the other judges why they have none."""
    import numpy as np

    shared = {debate for given in decided.values() for debate in given}
    shared = {d for d in shared if sum(d in given for given in decided.values()) > 1}
    reasons: dict[str, str] = {}
    for judge, given in decided.items():
        number = len(given.keys() & shared)
        if number < MIN_VOTES:
            reasons[judge] = f"{number} debates shared with others; {MIN_VOTES} are needed"
    judges = sorted(decided.keys() - reasons.keys())
    if len(judges) < MIN_RATERS:
        missing = f"fewer than {MIN_RATERS} judges share debates: who is right cannot be told"
        return {}, {judge: reasons.get(judge, missing) for judge in decided}
    debates = sorted(shared)
    place = {debate: index for index, debate in enumerate(debates)}
    votes_RU = np.full((len(judges), len(debates)), MISSING)
    for row, judge in enumerate(judges):
        for debate, each in decided[judge].items():
            if debate in place and each.choice is not None:
                votes_RU[row, place[debate]] = each.choice
    reason = unfit(votes_RU)
    if reason is not None:
        return {}, {judge: reasons.get(judge, reason) for judge in decided}
    return dict(zip(judges, rater_qualities(votes_RU, NUM_OPTIONS), strict=True)), reasons


def panel_table(standings: Sequence[JudgeStanding]) -> Table:
    """The judges side by side, with what cannot be said of each in words."""
    return Table(
        title="Judges of the same debates",
        note="Accuracy by known answers, clustered by question, and by agreement with the other "
        "judges alone (one-coin model, debates resampled), which is too high where judges err "
        "together.",
        columns=("judge", "decided", "by known answers", "by agreement", "not said, because"),
        rows=tuple(
            (
                each.judge,
                f"{each.num_decided:,}",
                share(each.gold),
                share(each.fitted),
                "; ".join(each.flaws),
            )
            for each in standings
        ),
    )
