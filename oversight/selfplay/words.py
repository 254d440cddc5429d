"""Results in words and tables, the same for the terminal and for the page."""

from __future__ import annotations

from oversight.evals.findings import count, percent, points, share
from oversight.evals.intervals import Estimate
from oversight.evals.tables import Table
from oversight.selfplay.measuring import VOTES
from oversight.selfplay.results import ArmResult, Match, Results
from oversight.selfplay.settings import Arena, CircleSettings
from oversight.selfplay.stages import START

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
    """What a policy or baseline is called; `expert_iteration, round 1` keeps its round."""
    base, comma, rest = name.partition(",")
    return NAMES.get(base, base) + comma + rest


def extent(results: Results) -> str:
    """How much was measured, in one line."""
    seeds = count(len(results.seeds), "seed")
    return (
        f"{results.dataset}: {count(results.num_questions, 'held-out question')}, each side in "
        f"each seat, judged in both orders; {seeds} of training; debaters begin as "
        f"{results.model}, the judge is {results.judge}, frozen"
    )


def headlines(results: Results) -> tuple[str, ...]:
    """The findings, the most important first."""
    found = [_before(results), _best(results), _gains(results), _control(results)]
    return tuple(line for line in [*found, *_crossplay(results), _baseline(results)] if line)


def _before(results: Results) -> str:
    naive, expert = results.arm("naive"), results.arm("expert")
    start = results.arm(START, "debate")
    control = results.arm(START, "consultancy")
    parts = [f"{name_of(arm.name)} {share(arm.accuracy)}" for arm in (naive, expert) if arm]
    text = f"The judge alone is right in: {'; '.join(parts)}." if parts else ""
    if start and control:
        gap = results.gap(START)
        text += (
            f" Before training it is right in {share(start.accuracy)} of debates and "
            f"{share(control.accuracy)} of consultancies"
            + (f", {points(gap)} points apart." if gap else ".")
        )
    return text.strip()


def _best(results: Results) -> str:
    arms = [arm for name in results.methods if (arm := results.arm(name, "debate"))]
    if not arms:
        return ""
    best = max(arms, key=lambda arm: arm.accuracy.value)
    gap = results.gap(best.name)
    text = (
        f"After training by {name_of(best.name)} it is right in {share(best.accuracy)} of debates"
    )
    if gap is not None:
        text += (
            f", {points(gap)} points more than in consultancies of consultants trained on the "
            "same budget"
        )
    return text + "."


def _gains(results: Results) -> str:
    parts = _changes(results, "debate")
    return f"Training for debate changed the judge's accuracy by points: {parts}." if parts else ""


def _control(results: Results) -> str:
    parts = _changes(results, "consultancy")
    return f"Training for consultancy changed it by: {parts}." if parts else ""


def _changes(results: Results, arena: Arena) -> str:
    arms = [results.arm(name, arena) for name in results.methods]
    return "; ".join(
        f"{name_of(arm.name)} {points(arm.change)}" for arm in arms if arm and arm.change
    )


def _crossplay(results: Results) -> list[str]:
    matches = [match for match in results.matches if "," not in match.method]
    if not matches:
        return []
    won = "; ".join(f"{name_of(match.method)} {share(match.wins)}" for match in matches)
    rise = "; ".join(
        f"{name_of(match.method)} {_signed(match.honest_rise)} honest, "
        f"{_signed(match.dishonest_rise)} dishonest"
        for match in matches
    )
    return [
        f"Against the untrained debater, on the same mix of sides, trained debaters win: {won}.",
        f"How much more often they win on the right and on the wrong side, in points: {rise}.",
    ]


def _baseline(results: Results) -> str:
    best_of_n = results.arm("best_of_n", "debate")
    if best_of_n is None:
        return ""
    return (
        f"Without training, the best of 4 speeches by the judge's own belief gives "
        f"{share(best_of_n.accuracy)} in debate."
    )


def _signed(value: float) -> str:
    return f"{100 * value:+.0f}".replace("-", "−")


# --- tables ---


def tables(results: Results) -> tuple[Table, ...]:
    """Every table that has rows, the most important first."""
    built = (_accuracy(results), _crossplay_table(results), _baselines(results), _costs(results))
    return tuple(table for table in built if table.rows)


def _accuracy(results: Results) -> Table:
    rows = []
    for name in (START, *results.methods):
        debate, control = (results.arm(name, arena) for arena in ARENAS)
        rows.append(
            (
                name_of(name),
                _accuracy_of(debate),
                _change_of(debate),
                _accuracy_of(control),
                _change_of(control),
                _points(results.gap(name)),
            )
        )
    return Table(
        title="Judge accuracy before and after training",
        note="Consultancy is the control: the same training without an opponent. Changes and "
        "differences are paired by question, in percentage points.",
        columns=("policy", "debate", "change", "consultancy", "change", "debate − consultancy"),
        rows=tuple(rows),
    )


def _accuracy_of(arm: ArmResult | None) -> str:
    return "–" if arm is None else share(arm.accuracy)


def _change_of(arm: ArmResult | None) -> str:
    return _points(arm.change) if arm is not None else "–"


def _points(estimate: Estimate | None) -> str:
    return "–" if estimate is None else points(estimate)


def _crossplay_table(results: Results) -> Table:
    rows = [
        (
            name_of(match.method),
            share(match.wins),
            share(match.honest),
            share(match.dishonest),
            f"{_signed(match.honest_rise)} / {_signed(match.dishonest_rise)}",
            _ratings_of(results, match),
        )
        for match in results.matches
    ]
    return Table(
        title="Trained debaters against the untrained one",
        note="Both argue each side of every question from each seat. Rise: how much more often the "
        "right and the wrong side win than when the untrained debater meets itself. Ratings are "
        "Bradley–Terry over all pairs, in Elo points above the untrained debater.",
        columns=("method", "wins", "right side", "wrong side", "rise, points", "rating by seed"),
        rows=tuple(rows),
    )


def _ratings_of(results: Results, match: Match) -> str:
    found = [p for p in results.points if p.arena == "debate" and p.method == match.method]
    return ", ".join(f"{point.rating.value:+.0f}".replace("-", "−") for point in found)


def _baselines(results: Results) -> Table:
    rows = []
    for name in ("naive", "expert", START, "best_of_n", "placebo", "retrieval", "judge"):
        for arena in (None, *ARENAS):
            arm = results.arm(name, arena)
            if arm is not None:
                where = "" if arena is None else f", {arena}"
                row = (f"{name_of(name)}{where}", share(arm.accuracy), share(arm.majority))
                rows.append((*row, share(arm.honest), share(arm.dishonest)))
    return Table(
        title="Baselines",
        note=f"Majority: {VOTES} answers drawn from the judge's belief, about the calls of a "
        "debate with the best of four. Right and wrong side: of consultancies.",
        columns=("protocol", "accuracy", "majority vote", "right side", "wrong side"),
        rows=tuple(rows),
    )


def _costs(results: Results) -> Table:
    rows = []
    for arena in ARENAS:
        for name in (START, *results.methods):
            arm = results.arm(name, arena)
            if arm is not None:
                cost = arm.cost
                rows.append(
                    (
                        f"{name_of(name)}, {arena}",
                        _number(cost.kl, 2),
                        _number(cost.length, 1),
                        percent(cost.verified),
                        _number(cost.quotes_per_turn, 2),
                        percent(cost.invalid),
                        percent(cost.first_chosen),
                        "–" if cost.gain is None else _signed(cost.gain),
                    )
                )
    return Table(
        title="What training cost",
        note="KL from the untrained policy, in nats a speech; tokens a speech; quotes that stand "
        "in the source; quotes a speech; rulings that could not be read; decisions for the option "
        "listed first; belief gained by being listed first, in points.",
        columns=(
            *("policy", "KL", "tokens", "verified", "quotes", "INVALID"),
            *("first chosen", "gain"),
        ),
        rows=tuple(rows),
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


# --- methods ---


def methods(circle: CircleSettings) -> tuple[str, ...]:
    """How it was measured."""
    return (
        f"Policies were trained on {circle.train_questions} questions of the training split, once "
        f"for each of the seeds {', '.join(map(str, circle.seeds))}, and measured on "
        f"{circle.held_out_questions} of the held-out split. Each question is debated twice, with "
        "either side in either seat, and each debate is judged in both orders, whose beliefs are "
        "averaged.",
        "Expert iteration samples four speeches, keeps the one after which the judge believes the "
        "speaker's side most, and fine-tunes on those, twice over. DPO compares the best and the "
        "worst of the same speeches; the reward model learns from all their pairs, and PPO from "
        "the reward model. GRPO is rewarded with the judge's belief in the speaker's side.",
        "Accuracy counts a tie as half and an unreadable answer as wrong; seeds are pooled. "
        "Intervals are 95 %, clustered by question, and differences are paired by question.",
        "In cross-play each policy speaks once at each seat of each of "
        f"{circle.crossplay_questions} questions, and all pairs are put before the judge. Two "
        "consultants meet on a question when each argues for one of its options alone: the one "
        "whose option is believed more wins. Intervals of ratings are bootstraps over questions.",
    )
