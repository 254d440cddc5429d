"""Results in words and tables, the same for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from oversight.evals.intervals import Estimate
from oversight.experiments.selfplay.jobs import START, VOTES
from oversight.experiments.selfplay.results import OFTEN, ArmResult, CircleResults, Cost
from oversight.experiments.selfplay.settings import Arena, CircleSettings, Method
from oversight.text.numbers import (
    NONE,
    Table,
    count,
    decimal,
    listed,
    percent,
    points,
    share,
    signed,
)

NAMES = {
    START: "before training",
    "expert_iteration": "expert iteration",
    "dpo": "DPO",
    "ppo": "reward model + PPO",
    "grpo": "GRPO",
    "best_of_n": "before training, best of 4",
    "placebo": "placebo turns",
    "retrieval": "retrieval agents",
    "naive": "naive: no argument",
    "expert": "expert: reads the source",
    "judge": "judge trained on outcomes",
}
ARENAS: tuple[Arena, Arena] = ("debate", "consultancy")


def name_of(name: str) -> str:
    """Name of a policy or baseline in words; `expert_iteration, round 1` keeps its round."""
    base, comma, rest = name.partition(",")
    return NAMES.get(base, base) + comma + rest


def extent(results: CircleResults) -> str:
    """The extent of the measurement, in one line."""
    trained = f"{count(len(results.seeds), 'seed')} of training" if results.methods else "untrained"
    return (
        f"{results.dataset}: {count(results.num_questions, 'held-out question')}, each side in "
        f"each seat, judged in both orders; {trained}; debaters begin as "
        f"{results.model}, the judge is {results.judge}, frozen"
    )


def headlines(results: CircleResults) -> tuple[str, ...]:
    """The findings, the most important first."""
    found = [_before(results), _best(results), _gains(results), _control(results)]
    return tuple(line for line in [*found, *_crossplay(results), _baseline(results)] if line)


def _before(results: CircleResults) -> str:
    naive, expert = results.arm("naive"), results.arm("expert")
    start = results.arm(START, "debate")
    control = results.arm(START, "consultancy")
    parts = [f"{name_of(arm.name)} {_right(arm)}" for arm in (naive, expert) if arm]
    found = [f"The judge alone is right in: {'; '.join(parts)}."] if parts else []
    arenas = [
        f"{_right(arm)} of {plural}"
        for arm, plural in ((start, "debates"), (control, "consultancies"))
        if arm
    ]
    if arenas:
        gap = (
            results.gap(START) if start and start.decided and control and control.decided else None
        )
        apart = f", {points(gap)} points apart" if gap else ""
        when = "Before training" if results.methods else "With untrained speakers"
        found.append(
            f"{when} {'it' if parts else 'the judge'} is right in {listed(arenas)}{apart}."
        )
    return " ".join(found)


def _right(arm: ArmResult) -> str:
    """The judge's accuracy, and the share counted as wrong because it could not be read."""
    if arm.share_right is None:
        return f"none ({'nothing could be read' if arm.cost.invalid == 1.0 else 'nothing decided'})"
    unread = f" ({percent(arm.cost.invalid)} unreadable)" if arm.cost.invalid > OFTEN else ""
    return f"{share(arm.accuracy)}{unread}"


def _best(results: CircleResults) -> str:
    arms = [arm for name in results.methods if (arm := results.arm(name, "debate"))]
    decided = [arm for arm in arms if arm.decided]
    if not decided:
        return "After training nothing was decided in debates." if arms else ""
    highest = max(arm.accuracy.value for arm in decided)
    best = [arm for arm in decided if arm.accuracy.value >= highest - 1e-9]
    text = (
        f"After training by {listed([name_of(arm.name) for arm in best])} it is right in "
        f"{_right(best[0])} of debates"
    )
    if len(best) > 1:
        return text + f", {'both' if len(best) == 2 else 'all'} alike."
    gap, control = results.gap(best[0].name), results.arm(best[0].name, "consultancy")
    if gap is None or control is None or not control.decided:
        return text + "."
    if not gap.excludes(0.0):
        return text + f", which does not differ reliably from consultancies: {points(gap)} points."
    than = "more" if gap.value > 0 else "away"
    return (
        f"{text}, {points(gap)} points {than} than in consultancies of consultants trained on the "
        "same budget."
    )


def _gains(results: CircleResults) -> str:
    parts = _changes(results, "debate")
    return f"Training for debate changed the judge's accuracy by points: {parts}." if parts else ""


def _control(results: CircleResults) -> str:
    parts = _changes(results, "consultancy")
    return f"Training for consultancy changed it by: {parts}." if parts else ""


def _changes(results: CircleResults, arena: Arena) -> str:
    start = results.arm(START, arena)
    arms = [results.arm(name, arena) for name in results.methods]
    return "; ".join(
        f"{name_of(arm.name)} {points(arm.change)}"
        if arm.decided and start is not None and start.decided
        else f"{name_of(arm.name)} unknown (nothing was decided)"
        for arm in arms
        if arm and arm.change
    )


def _crossplay(results: CircleResults) -> list[str]:
    matches = [match for match in results.matches if "," not in match.method]
    if not matches:
        return []
    won = "; ".join(f"{name_of(match.method)} {share(match.wins)}" for match in matches)
    rise = "; ".join(
        f"{name_of(match.method)} {signed(match.honest_rise)} honest, "
        f"{signed(match.dishonest_rise)} dishonest"
        for match in matches
    )
    return [
        f"Against the untrained debater, on the same mix of sides, trained debaters win: {won}.",
        f"How much more often they win on the right and on the wrong side, in points: {rise}.",
    ]


def _baseline(results: CircleResults) -> str:
    best_of_n = results.arm("best_of_n", "debate")
    if best_of_n is None:
        return ""
    return (
        f"Without training, the best of 4 speeches by the judge's own belief gives "
        f"{_right(best_of_n)} in debate."
    )


# --- tables ---


def tables(results: CircleResults, *, wide: bool = True) -> tuple[Table, ...]:
    """Every table that has rows, the most important first; without intervals unless `wide`."""
    shown = _Shown(wide)
    built = (
        _accuracy(results, shown),
        _crossplay_table(results, shown),
        _baselines(results, shown),
        _costs(results, shown),
    )
    return tuple(table for table in built if table.rows)


@dataclass(frozen=True, slots=True)
class _Shown:
    """Writes estimates as they stand in tables."""

    wide: bool

    def share(self, estimate: Estimate | None) -> str:
        if estimate is None or self.wide:
            return share(estimate)
        return percent(estimate.value)

    def points(self, estimate: Estimate | None) -> str:
        if estimate is None:
            return NONE
        return points(estimate) if self.wide else signed(estimate.value)


def _accuracy(results: CircleResults, shown: _Shown) -> Table:
    rows = []
    for name in (START, *results.methods):
        row = [name_of(name)]
        for arm in (results.arm(name, arena) for arena in ARENAS):
            row += [
                shown.share(arm.share_right if arm else None),
                shown.points(arm.change if arm and arm.decided else None),
            ]
        rows.append((*row, shown.points(results.gap(name))))
    return Table(
        title="Judge accuracy before and after training",
        note="Consultancy is the control: the same training without an opponent. Changes, and the "
        "gap between debate and consultancy, are paired by question, in percentage points.",
        columns=("policy", "debate", "change", "consultancy", "change", "gap"),
        rows=tuple(rows),
    )


def _crossplay_table(results: CircleResults, shown: _Shown) -> Table:
    rows = [
        (
            name_of(match.method),
            shown.share(match.wins),
            shown.share(match.honest),
            shown.share(match.dishonest),
            f"{signed(match.honest_rise)} / {signed(match.dishonest_rise)}",
            ", ".join(
                signed(point.rating.value, 1)
                for point in results.points
                if point.arena == "debate" and point.method == match.method
            ),
        )
        for match in results.matches
    ]
    return Table(
        title="Trained debaters against the untrained one",
        note="Both argue each side of every question from each seat. Rise: how much more often the "
        "right and the wrong side win than when the untrained debater meets itself, in points. "
        "Ratings, one a seed: Bradley–Terry over all pairs, in Elo points above the untrained.",
        columns=("method", "wins", "right side", "wrong side", "rise", "rating"),
        rows=tuple(rows),
    )


def _baselines(results: CircleResults, shown: _Shown) -> Table:
    rows = []
    for name in ("naive", "expert", START, "best_of_n", "placebo", "retrieval", "judge"):
        for arena in (None, *ARENAS):
            arm = results.arm(name, arena)
            if arm is not None:
                where = "" if arena is None else f", {arena}"
                found = (arm.accuracy, arm.majority, arm.honest, arm.dishonest)
                shares = found if arm.decided else (None,) * len(found)
                rows.append((name_of(name) + where, *map(shown.share, shares)))
    of_judge = " The judge trained on outcomes judges the debaters trained last."
    return Table(
        title="Baselines",
        note=f"Vote: most of {VOTES} answers drawn from the judge's belief, about the calls of a "
        "debate with the best of four. Right and wrong side: of consultancies."
        + of_judge
        * (results.arm("judge", "debate") is not None),
        columns=("protocol", "accuracy", "vote", "right side", "wrong side"),
        rows=tuple(rows),
    )


def _costs(results: CircleResults, shown: _Shown) -> Table:
    columns: dict[str, Callable[[Cost], str]] = {
        "KL": lambda cost: decimal(cost.kl, 2),
        "tokens": lambda cost: decimal(cost.length, 1),
        "verified": lambda cost: percent(cost.verified),
        "quotes": lambda cost: decimal(cost.quotes_per_turn, 2),
        "INVALID": lambda cost: percent(cost.invalid),
        "first": lambda cost: percent(cost.first_chosen),
        "gain": lambda cost: NONE if cost.gain is None else signed(cost.gain),
    }
    if not shown.wide:
        del columns["quotes"], columns["first"]
    arms = [
        arm
        for arena in ARENAS
        for name in (START, *results.methods)
        if (arm := results.arm(name, arena)) is not None
    ]
    return Table(
        title="What training cost",
        note="KL from the untrained policy, in nats a speech; tokens a speech; quotes that stand "
        "in the source, and quotes a speech; rulings that could not be read; decisions for the "
        "option listed first; belief gained by being shown first, in points.",
        columns=("policy", *columns),
        rows=tuple(
            (f"{name_of(arm.name)}, {arm.arena}", *(show(arm.cost) for show in columns.values()))
            for arm in arms
        ),
    )


# --- methods ---


TRAINED: dict[Method, str] = {
    "expert_iteration": "Expert iteration samples four speeches, keeps the one after which the "
    "judge believes the speaker's side most, and fine-tunes on those, {times}.",
    "dpo": "DPO compares the best and the worst of {speeches}.",
    "ppo": "The reward model learns from all pairs of {speeches}, and PPO from the reward model.",
    "grpo": "GRPO is rewarded with the judge's belief in the speaker's side.",
}
TIMES = {1: "once", 2: "twice over", 3: "three times over"}


def methods(circle: CircleSettings) -> tuple[str, ...]:
    """The methods of measurement, for what this circle holds."""
    return tuple(text for text in (*_training(circle), *_measured(circle)) if text)


def _training(circle: CircleSettings) -> tuple[str, str]:
    """On what policies were trained and how often measured; and what each method does."""
    measured = (
        f"measured on {count(circle.held_out_questions, 'question')} of the held-out split. "
        + _assignments(circle)
        + "Where nobody speaks, the judge decides once with either option listed first."
    )
    if not circle.methods:
        return f"No policy was trained; the untrained one was {measured}", ""
    seeds = ", ".join(map(str, circle.seeds))
    one = len(circle.seeds) == 1
    often = f"with seed {seeds}" if one else f"once for each of the seeds {seeds}"
    times = TIMES.get(circle.iterations, f"{circle.iterations} times over")
    told, speeches = [], "four sampled speeches"
    for method in sorted(circle.methods, key=list(TRAINED).index):
        if method == "expert_iteration":
            speeches = "the same speeches"
        told.append(TRAINED[method].format(times=times, speeches=speeches))
        speeches = "the same speeches"
    return (
        f"Policies were trained on {count(circle.train_questions, 'question')} of the training "
        f"split, {often}, and {measured}",
        " ".join(told),
    )


def _assignments(circle: CircleSettings) -> str:
    if "debate" in circle.arenas:
        twice = "Each question is debated twice, with either side in either seat, and each debate "
    else:
        twice = "Each question is argued twice, once for either option, and each consultancy "
    return twice + "is judged in both orders, whose beliefs are averaged. "


def _measured(circle: CircleSettings) -> tuple[str, str]:
    pooled = "; seeds are pooled" if len(circle.seeds) > 1 and circle.methods else ""
    accuracy = (
        f"Accuracy counts a tie as half and an unreadable answer as wrong{pooled}. "
        "Intervals are 95 %, clustered by question, and differences are paired by question."
    )
    if not circle.methods:
        return accuracy, ""
    crossplay = (
        "In cross-play each policy speaks once at each seat of each of "
        f"{count(circle.crossplay_questions, 'question')}, and all pairs are put before the judge. "
    )
    if "consultancy" in circle.arenas:
        crossplay += (
            "Two consultants meet on a question when each argues for one of its options alone: "
            "the one whose option is believed more wins. "
        )
    return accuracy, crossplay + "Intervals of ratings are bootstraps over questions."
