"""Each judge of a panel by itself: on repeats, by place, over a session, and by known answers.

Measures are of plain arrays, one place an answer, with intervals clustered by item. A measure is
None where the data cannot bear it. `judge_standings` and `panel_words` measure what a report has
gathered of judges who decided the same debates: each by itself, and what they say together; what
cannot be said stands there in words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from oversight.evals.gathering import MeasuredRuling
from oversight.evals.intervals import Estimate, mean_interval, unpaired_difference
from oversight.evals.observations import Observation
from oversight.ids import text_id
from oversight.panels.labels import (
    MIN_RATERS,
    MIN_VOTES,
    MISSING,
    RaterQuality,
    dawid_skene,
    majority,
    one_coin,
    rater_qualities,
    unfit,
)
from oversight.text.numbers import Table, points, share
from oversight.types import JudgeKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_ITEMS = 10
"""Different items below which nothing is said of a judge's accuracy, place, drift or repeats."""
NUM_OPTIONS = 2
"""Accuracy from agreement is of debates between two options: one label means one thing there."""
SESSION_GAP_S = 1800.0
"""Pause after which a person's next judgment begins another session."""


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
    """One judge among those who decided the same debates of one protocol."""

    protocol: str
    judge: str
    num_decided: int
    gold: Estimate | None
    """Accuracy on questions with a known answer."""
    fitted: RaterQuality | None
    """Accuracy from agreement with the others alone."""
    repeats: Estimate | None
    """Share of equal verdicts on the same words, judged again under another debate's id."""
    both_orders: Estimate | None
    """Share of equal choices in the two orders."""
    first_place: Estimate | None
    """Share of choices for the side that was shown first, or the option listed first."""
    drift: Estimate | None
    """Accuracy in the later halves of a person's sessions minus that in the earlier ones."""
    flaws: tuple[str, ...]
    """Reasons for figures that are missing."""


@dataclass(frozen=True, slots=True)
class PanelWord:
    """Labels that judges of the same debates give together, held against the known answers."""

    protocol: str
    num_judges: int
    num_debates: int
    """Debates between two options that two judges or more decided."""
    majority: Estimate | None
    """Share of right labels, ties half."""
    dawid_skene: Estimate | None
    one_coin: Estimate | None
    num_changed: int | None
    """Debates on which Dawid and Skene's label is not the majority's."""
    flaw: str
    """Reason for figures that are missing; empty where there is none."""


Panel = dict[str, dict[str, MeasuredRuling]]
"""Rulings by judge and debate."""


def panels_of(ruled: Iterable[MeasuredRuling]) -> dict[str, Panel]:
    """By protocol the rulings between two options, where two judges decided one debate at least;
    of judges who decided any."""
    found: dict[str, Panel] = defaultdict(lambda: defaultdict(dict))
    for each in ruled:
        seen = each.observation
        if seen.num_options == NUM_OPTIONS:
            found[seen.arm.protocol][seen.arm.judge][seen.debate_id] = each
    return {
        protocol: {judge: given for judge, given in panel.items() if _decided(given)}
        for protocol, panel in sorted(found.items())
        if _shared(panel)
    }


def _decided(given: dict[str, MeasuredRuling]) -> list[str]:
    """Debates that were decided, by id."""
    return [debate for debate, each in given.items() if each.observation.choice is not None]


def judge_standings(panels: Mapping[str, Panel]) -> tuple[JudgeStanding, ...]:
    """Every judge of each protocol's panel (`panels_of`), by protocol and name.

    Accuracy by known answers and accuracy from agreement stand beside each other: where judges err
    together, the second is too high for all of them.
    """
    found = []
    for protocol, panel in panels.items():
        fitted, reasons = _fitted(panel)
        for judge, given in sorted(panel.items()):
            found.append(
                _standing(protocol, judge, list(given.values()), fitted.get(judge), reasons)
            )
    return tuple(found)


def _standing(
    protocol: str,
    judge: str,
    given: Sequence[MeasuredRuling],
    fitted: RaterQuality | None,
    reasons: dict[str, str],
) -> JudgeStanding:
    seen = [each.observation for each in given]
    known = [each for each in seen if each.right is not None]
    gold = gold_accuracy([bool(each.right) for each in known], [e.cluster for e in known])
    flaws = [] if fitted is not None else [reasons[judge]]
    if gold is None:
        number = len({each.cluster for each in known})
        flaws.insert(0, f"{number} questions with a known answer; {MIN_ITEMS} are needed")
    repeats, lacking = _repeats(given)
    both, few = _both_orders(given)
    drift, short = _drift(given)
    flaws += [each for each in (lacking, few, short) if each]
    placed = [(f, e.observation.cluster) for e in given for f in _firsts(e)]
    return JudgeStanding(
        protocol=protocol,
        judge=judge,
        num_decided=sum(each.choice is not None for each in seen),
        gold=gold,
        fitted=fitted,
        repeats=repeats,
        both_orders=both,
        first_place=first_place([f for f, _ in placed], [cluster for _, cluster in placed]),
        drift=drift,
        flaws=tuple(flaws),
    )


def _firsts(each: MeasuredRuling) -> tuple[bool, ...]:
    return each.reading.first_argued or each.reading.first_chosen


def _repeats(given: Sequence[MeasuredRuling]) -> tuple[Estimate | None, str]:
    """Consistency on the same words, or why there is none; no reason where nothing came again."""
    by_words: dict[str, list[MeasuredRuling]] = defaultdict(list)
    for each in given:
        by_words[each.words].append(each)
    pairs = []
    for some in by_words.values():
        ordered = sorted(some, key=lambda each: (each.sent_at, each.observation.debate_id))
        pairs += list(pairwise(ordered))
    items = [one.observation.cluster for one, _ in pairs]
    if len(set(items)) < MIN_ITEMS:
        number = len(set(items))
        return None, f"{number} questions came again; {MIN_ITEMS} are needed" if number else ""
    first, again = (
        [(pair[at].observation.verdict, pair[at].observation.choice) for pair in pairs]
        for at in (0, 1)
    )
    return repeat_consistency(first, again, items), ""


def _both_orders(given: Sequence[MeasuredRuling]) -> tuple[Estimate | None, str]:
    turned = [(e.reading.flipped, e.observation.cluster) for e in given]
    kept = [(float(not flip), cluster) for flip, cluster in turned if flip is not None]
    number = len({cluster for _, cluster in kept})
    if number < MIN_ITEMS:
        return None, f"{number} questions in both orders; {MIN_ITEMS} are needed" if number else ""
    return mean_interval([value for value, _ in kept], [cluster for _, cluster in kept]), ""


def _drift(given: Sequence[MeasuredRuling]) -> tuple[Estimate | None, str]:
    """Drift of a person, or why there is none; models have no sessions."""
    if given[0].observation.judge_kind is not JudgeKind.HUMAN:
        return None, ""
    timed = sorted(
        (datetime.fromisoformat(each.sent_at).timestamp(), each.observation)
        for each in given
        if each.sent_at and each.observation.right is not None
    )
    if not timed:
        return None, "no time of any judgment with a known answer, so nothing of drift"
    sessions, number = [], 0
    for place, (at, _) in enumerate(timed):
        number += place > 0 and at - timed[place - 1][0] > SESSION_GAP_S
        sessions.append(number)
    found = session_drift(
        [float(bool(each.right)) for _, each in timed],
        [at for at, _ in timed],
        sessions,
        [each.cluster for _, each in timed],
    )
    short = f"drift needs {MIN_ITEMS} questions in either half of the sessions"
    return found, "" if found is not None else short


def _shared(panel: Panel) -> list[str]:
    """Debates that two judges or more decided, by id."""
    times: dict[str, int] = defaultdict(int)
    for given in panel.values():
        for debate in _decided(given):
            times[debate] += 1
    return sorted(debate for debate, number in times.items() if number > 1)


def _label(seen: Observation) -> int:
    """The choice as a label that says the same of every debate and nothing of what is right.

    0 is the option that A, or the consultant, defends; where nobody speaks, an option that is drawn
    by the question. The place of an option in its data set could tell the answer.
    """
    assert seen.choice is not None
    first = seen.defends[0] if seen.defends else int(text_id("label", *seen.cluster)[0], 16) % 2
    return int(seen.choice != first)


def _votes(panel: Panel, judges: Sequence[str], debates: Sequence[str]) -> NDArray[np.intp]:
    import numpy as np

    place = {debate: index for index, debate in enumerate(debates)}
    votes_RU = np.full((len(judges), len(debates)), MISSING)
    for row, judge in enumerate(judges):
        for debate in _decided(panel[judge]):
            if debate in place:
                votes_RU[row, place[debate]] = _label(panel[judge][debate].observation)
    return votes_RU


def _fitted(panel: Panel) -> tuple[dict[str, RaterQuality], dict[str, str]]:
    """Accuracies from agreement, and for the other judges why they have none."""
    debates = _shared(panel)
    shared = set(debates)
    reasons: dict[str, str] = {}
    for judge, given in panel.items():
        number = len(shared.intersection(_decided(given)))
        if number < MIN_VOTES:
            reasons[judge] = f"{number} debates shared with others; {MIN_VOTES} are needed"
    judges = sorted(panel.keys() - reasons.keys())
    if len(judges) < MIN_RATERS:
        missing = f"fewer than {MIN_RATERS} judges share debates: who is right cannot be told"
        return {}, {judge: reasons.get(judge, missing) for judge in panel}
    votes_RU = _votes(panel, judges, debates)
    reason = unfit(votes_RU)
    if reason is not None:
        return {}, {judge: reasons.get(judge, reason) for judge in panel}
    seen = {debate: each.observation for given in panel.values() for debate, each in given.items()}
    clusters = [seen[debate].cluster for debate in debates]
    found = rater_qualities(votes_RU, NUM_OPTIONS, clusters=clusters)
    return dict(zip(judges, found, strict=True)), reasons


def panel_words(panels: Mapping[str, Panel]) -> tuple[PanelWord, ...]:
    """Labels of all judges of each protocol's panel (`panels_of`) together."""
    return tuple(_word(protocol, panel) for protocol, panel in panels.items())


def _word(protocol: str, panel: Panel) -> PanelWord:
    """Majority, and both fits where the votes bear them, on the debates with a known answer."""
    import numpy as np

    debates, judges = _shared(panel), sorted(panel)
    seen = {debate: each.observation for given in panel.values() for debate, each in given.items()}
    votes_RU = _votes(panel, judges, debates)
    voted = (votes_RU != MISSING).sum(1)
    few = [judge for judge, number in zip(judges, voted, strict=True) if 0 < number < MIN_VOTES]
    kept_RU = votes_RU[voted >= MIN_VOTES]
    reason = unfit(kept_RU) or ""
    shares_UL = majority(votes_RU, NUM_OPTIONS)
    fits = [] if reason else [fit(kept_RU, NUM_OPTIONS) for fit in (dawid_skene, one_coin)]

    def right(probs_UL: NDArray[np.float64]) -> Estimate | None:
        said = [
            (_share_right(probs_UL[place], seen[debate]), seen[debate].cluster)
            for place, debate in enumerate(debates)
            if seen[debate].correct is not None
        ]
        if len({cluster for _, cluster in said}) < MIN_ITEMS:
            return None
        return mean_interval([value for value, _ in said], [cluster for _, cluster in said])

    flaws = [reason] if reason else []
    if not reason and few:
        flaws.append(f"left out of the fits, with fewer than {MIN_VOTES} votes: {', '.join(few)}")
    by_majority = right(shares_UL)
    if by_majority is None:
        flaws.append(f"fewer than {MIN_ITEMS} questions with a known answer")
    changed = None
    if fits:
        moved = np.sign(fits[0].posterior_UL[:, 0] - 0.5) * np.sign(shares_UL[:, 0] - 0.5)
        changed = int((moved < 0).sum())
    return PanelWord(
        protocol=protocol,
        num_judges=int((voted > 0).sum()),
        num_debates=len(debates),
        majority=by_majority,
        dawid_skene=right(fits[0].posterior_UL) if fits else None,
        one_coin=right(fits[1].posterior_UL) if fits else None,
        num_changed=changed,
        flaw="; ".join(flaws),
    )


def _share_right(probs_L: NDArray[np.float64], seen: Observation) -> float:
    """1 of a right label, 0 of a wrong one, 1/2 of a tie."""
    if abs(probs_L[0] - probs_L[1]) < EQUAL:
        return 0.5
    label = int(probs_L[1] > probs_L[0])
    first = seen.defends[0] if seen.defends else int(text_id("label", *seen.cluster)[0], 16) % 2
    return float((label == 0) == (seen.correct == first))


EQUAL = 1e-9
BECAUSE = "not said, because"
"""Column of the reasons, where there are any."""


def panel_tables(
    standings: Sequence[JudgeStanding], words: Sequence[PanelWord]
) -> tuple[Table, Table, Table]:
    """Judges together, and side by side: how good and how steady; with what cannot be said."""
    together = Table(
        title="Judges together",
        note="One label of all judges, held against the known answers, ties half; Dawid and "
        "Skene’s model and the one-coin model learn who is good from agreement alone. Changed: "
        "debates on which the former’s label is not the majority’s.",
        columns=(
            *("protocol", "judges", "debates", "majority", "Dawid–Skene", "one-coin", "changed"),
            *(BECAUSE,) * any(each.flaw for each in words),
        ),
        rows=tuple(
            (
                each.protocol,
                f"{each.num_judges:,}",
                f"{each.num_debates:,}",
                *(share(found) for found in (each.majority, each.dawid_skene, each.one_coin)),
                "–" if each.num_changed is None else f"{each.num_changed:,}",
                *(each.flaw,) * any(one.flaw for one in words),
            )
            for each in words
        ),
    )
    alone = Table(
        title="Judges of the same debates",
        note="Accuracy by known answers, clustered by question, and by agreement with the other "
        "judges alone (one-coin model, questions resampled), which is too high where judges err "
        "together.",
        columns=(
            *("protocol", "judge", "decided", "by known answers", "by agreement"),
            *(BECAUSE,) * any(each.flaws for each in standings),
        ),
        rows=tuple(
            (
                each.protocol,
                each.judge,
                f"{each.num_decided:,}",
                share(each.gold),
                share(each.fitted),
                *("; ".join(each.flaws),) * any(one.flaws for one in standings),
            )
            for each in standings
        ),
    )
    steady = Table(
        title="Steadiness of judges",
        note="Same verdict on the same words judged again, and on both orders; choices of what was "
        "shown first, half if blind to place; percentage points of accuracy that a person gains "
        f"in the later half of sessions (pauses of {SESSION_GAP_S / 60:.0f} minutes end one).",
        columns=("protocol", "judge", "on repeats", "in both orders", "first wins", "drift"),
        rows=tuple(
            (
                each.protocol,
                each.judge,
                *(share(found) for found in (each.repeats, each.both_orders, each.first_place)),
                "–" if each.drift is None else points(each.drift),
            )
            for each in standings
            if any((each.repeats, each.both_orders, each.first_place, each.drift))
        ),
    )
    return together, alone, steady
