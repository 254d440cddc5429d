"""Judges in groups in the report: how far each group agrees, what it loses by each rule, and whom
it is convinced by.

Groups are named as for preference rows: a judge's or rater's own name, or `persons` or `models` for
all others of that kind (`PreferenceSettings.groups`). Votes are the options that judges decided on,
and of two responses the one that a rater finds better; a tie is half a vote for either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oversight.errors import ConfigError
from oversight.evals.gathering import MeasuredRuling, RatedPair
from oversight.evals.observations import Cluster
from oversight.panels.agreement import alpha_interval
from oversight.panels.values import MIN_RATERS, group_ratings, rule_regrets
from oversight.preferences.settings import MODELS, PERSONS
from oversight.registry import nearest
from oversight.text.numbers import Table, decimal
from oversight.text.terminal import visible
from oversight.types import JudgeKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_QUESTIONS = 10
"""Questions below which nothing is said of a group's debaters or of its agreement."""


@dataclass(frozen=True, slots=True)
class JudgeGroup:
    """One group of judges on one protocol's debates, or of raters on its pairs of responses."""

    protocol: str
    group: str
    judges: tuple[str, ...]
    num_items: int
    """Debates, or pairs of responses, that somebody of it decided."""
    num_questions: int
    alpha: float | None
    """Krippendorff's alpha within the group."""
    alpha_low: float | None
    alpha_high: float | None
    flaw: str
    """Reason why its figures must not be read as the group's, or are missing; else empty."""


@dataclass(frozen=True, slots=True)
class GroupUnderRule:
    """One group's mean regret of the choices that one rule makes of all groups' votes."""

    protocol: str
    rule: str
    group: str
    regret: float
    """Its own favourite's share of its votes less the choice's; 0 to 1."""
    low: float | None
    high: float | None
    largest: float
    """Regret of the group that is worst off under this rule, with its interval."""
    largest_low: float | None
    largest_high: float | None
    worst: str
    """Name of that group."""
    num_items: int
    """Decided by every group; others are left out."""
    num_questions: int
    num_left_out: int


@dataclass(frozen=True, slots=True)
class DebaterInGroup:
    """One debater's Bradley–Terry rating by the decisions of one group of judges."""

    protocol: str
    group: str
    debater: str
    rating: float
    """Elo points beside the mean of those it met, directly or by others."""
    low: float
    high: float
    part: int
    """Debaters of different parts never met: their ratings do not compare."""
    flaw: str


@dataclass(frozen=True, slots=True)
class GroupedVotes:
    """Decisions of judges in groups; empty without groups."""

    groups: tuple[JudgeGroup, ...] = ()
    rules: tuple[GroupUnderRule, ...] = ()
    debaters: tuple[DebaterInGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class _Vote:
    item: str
    judge: str
    group: str
    cluster: Cluster
    shares: tuple[float, ...]
    """Of one vote, by alternative."""
    players: tuple[str, ...] = ()
    """Debaters of the alternatives, where they differ."""


def read_groups(path: Path) -> dict[str, str]:
    """The groups of a TOML file: its table `groups`, from a judge's name to the group's.

    Raises:
        ConfigError: It cannot be read, or holds no such table.
    """
    from oversight.config import read_toml

    read = read_toml(path)
    groups = read.get("groups")
    if not isinstance(groups, dict) or not all(isinstance(each, str) for each in groups.values()):
        raise ConfigError(
            f"{path}: groups = {groups!r}: a table with each judge's group is needed, such as "
            '[groups] and below it anna = "nurses"'
        )
    return dict(groups)


def grouped_votes(
    ruled: Iterable[MeasuredRuling], rated: Iterable[RatedPair], groups: Mapping[str, str]
) -> GroupedVotes:
    """Agreement within groups, regrets under every rule, and ratings of debaters, by protocol.

    Args:
        ruled: What judges decided.
        rated: What raters of pairs of responses said.
        groups: Group of a judge by name, or of all other `persons` or `models`.

    Raises:
        ConfigError: There are fewer than two groups, or a name is nobody's.
    """
    if len(set(groups.values())) < 2:
        raise ConfigError(
            f"groups = {dict(groups)!r}: whose values differ takes two groups or more; name each "
            "judge's group"
        )
    votes: dict[tuple[str, int], list[_Vote]] = defaultdict(list)
    names: set[str] = set()
    for one in ruled:
        seen = one.observation
        names.add(seen.arm.judge)
        is_person = seen.judge_kind is JudgeKind.HUMAN
        group = groups.get(seen.arm.judge, groups.get(PERSONS if is_person else MODELS))
        if group is not None and seen.choice is not None:
            shares = tuple(float(k == seen.choice) for k in range(seen.num_options))
            votes[seen.arm.protocol, seen.num_options].append(
                _Vote(seen.debate_id, seen.arm.judge, group, seen.cluster, shares, one.debaters)
            )
    for each in rated:
        names.add(each.rater)
        group = groups.get(each.rater, groups.get(PERSONS if each.is_person else MODELS))
        if group is not None:
            p = 0.5 if each.p_lower == 0.5 else float(each.p_lower > 0.5)
            vote = _Vote(each.item, each.rater, group, each.cluster, (p, 1.0 - p))
            votes[f"{each.protocol}, pairs", 2].append(vote)
    for name in groups:
        if name not in {PERSONS, MODELS, *names}:
            raise ConfigError(
                f"groups = {name!r}: nobody of that name has judged or rated anything."
                + nearest(name, {PERSONS, MODELS, *names})
            )
    every = list(dict.fromkeys(groups.values()))
    found = GroupedVotes()
    for (protocol, _), given in sorted(votes.items()):
        found = GroupedVotes(
            (*found.groups, *_within(protocol, given, every)),
            (*found.rules, *_under_rules(protocol, given, every)),
            (*found.debaters, *_debaters(protocol, given, every)),
        )
    return found


def _within(protocol: str, given: Sequence[_Vote], every: Sequence[str]) -> Iterable[JudgeGroup]:
    decided = [{vote.item for vote in given if vote.group == group} for group in every]
    in_common = bool(set.intersection(*decided))
    for group in every:
        own = [vote for vote in given if vote.group == group]
        cluster_of = {vote.item: vote.cluster for vote in own}
        by_judge: dict[str, dict[str, tuple[float, ...]]] = defaultdict(dict)
        for vote in own:
            by_judge[vote.judge][vote.item] = vote.shares
        items = sorted(cluster_of)
        shared = [i for i in items if sum(i in said for said in by_judge.values()) > 1]
        number = len({cluster_of[item] for item in shared})
        flaws = []
        if len(by_judge) < MIN_RATERS:
            flaws.append(f"a group of {len(by_judge)}: one judge's word is not yet a group's")
        elif number < MIN_QUESTIONS:
            flaws.append(f"{number} questions that two of it decided; {MIN_QUESTIONS} are needed")
        if not in_common:
            flaws.append("no item that every group decided, so nothing of regret")
        alpha = None
        if not flaws or number >= MIN_QUESTIONS:
            raters = [[said.get(item) for item in shared] for said in by_judge.values()]
            alpha = alpha_interval(raters, clusters=[cluster_of[item] for item in shared])
        yield JudgeGroup(
            protocol=protocol,
            group=group,
            judges=tuple(sorted(by_judge)),
            num_items=len(items),
            num_questions=len(set(cluster_of.values())),
            alpha=None if alpha is None else alpha.value,
            alpha_low=None if alpha is None else alpha.low,
            alpha_high=None if alpha is None else alpha.high,
            flaw="; ".join(flaws),
        )


def _under_rules(
    protocol: str, given: Sequence[_Vote], every: Sequence[str]
) -> Iterable[GroupUnderRule]:
    """Regrets under every rule; nothing where no item has a vote of every group."""
    import numpy as np

    items = {vote.item: vote.cluster for vote in given}
    place = {item: number for number, item in enumerate(items)}
    votes_QGA = np.zeros((len(items), len(every), len(given[0].shares)))
    for vote in given:
        votes_QGA[place[vote.item], every.index(vote.group)] += vote.shares
    if not (votes_QGA.sum(2) > 0).all(1).any():
        return
    numbers = [len({vote.judge for vote in given if vote.group == group}) for group in every]
    for found in rule_regrets(votes_QGA, every, numbers, clusters=list(items.values())):
        for each in found.groups:
            yield GroupUnderRule(
                protocol=protocol,
                rule=found.rule,
                group=each.group,
                regret=each.regret,
                low=each.low,
                high=each.high,
                largest=found.largest,
                largest_low=found.low,
                largest_high=found.high,
                worst=found.worst,
                num_items=found.num_items,
                num_questions=found.num_questions,
                num_left_out=found.num_left_out,
            )


def _debaters(
    protocol: str, given: Sequence[_Vote], every: Sequence[str]
) -> Iterable[DebaterInGroup]:
    """Ratings of debaters in each group, where they differ within a debate."""
    met = [vote for vote in given if len(set(vote.players)) == len(vote.shares) == 2]
    players = sorted({player for vote in met for player in vote.players})
    if not players:
        return
    numbers = [len({vote.judge for vote in met if vote.group == group}) for group in every]
    wins = [_wins([vote for vote in met if vote.group == group], players) for group in every]
    enough = [len(each) >= MIN_QUESTIONS for each in wins]
    kept = [place for place, is_enough in enumerate(enough) if is_enough]
    for place in kept:
        (found,) = group_ratings(players, wins[place][None], [every[place]], [numbers[place]])
        for each in found.ratings:
            yield DebaterInGroup(
                protocol=protocol,
                group=found.group,
                debater=each.player,
                rating=each.value,
                low=each.low,
                high=each.high,
                part=each.part,
                flaw=found.flaw or "",
            )


def _wins(given: Sequence[_Vote], players: Sequence[str]) -> NDArray[np.float64]:
    """Number of times that each beat each, by question."""
    import numpy as np

    place = {player: number for number, player in enumerate(players)}
    questions = {cluster: at for at, cluster in enumerate({vote.cluster: None for vote in given})}
    wins_QKK = np.zeros((len(questions), len(players), len(players)))
    for vote in given:
        one, other = (place[player] for player in vote.players)
        wins_QKK[questions[vote.cluster], one, other] += vote.shares[0]
        wins_QKK[questions[vote.cluster], other, one] += vote.shares[1]
    return wins_QKK


def group_tables(
    groups: Sequence[JudgeGroup],
    rules: Sequence[GroupUnderRule],
    debaters: Sequence[DebaterInGroup],
) -> tuple[Table, Table, Table]:
    """Groups by themselves, under every rule, and the debaters by group."""
    names = list(dict.fromkeys(each.group for each in groups))
    by_rule: dict[tuple[str, str], dict[str, GroupUnderRule]] = defaultdict(dict)
    for each in rules:
        by_rule[each.protocol, each.rule][each.group] = each
    within = Table(
        title="Groups of judges",
        note="Items: debates, or pairs of responses, that somebody of the group decided; α within "
        f"the group, of {MIN_QUESTIONS} questions or more that two of it decided.",
        columns=(
            *("protocol", "group", "judges", "items", "Krippendorff’s α"),
            *("not said, because",) * any(each.flaw for each in groups),
        ),
        rows=tuple(
            (
                each.protocol,
                visible(each.group, newlines=False),
                f"{len(each.judges):,}",
                f"{each.num_items:,}",
                _ranged(each.alpha, each.alpha_low, each.alpha_high),
                *(each.flaw,) * any(one.flaw for one in groups),
            )
            for each in groups
        ),
    )
    under = Table(
        title="Whose values: regret by rule",
        note="A group's share of votes for its own favourite less that for the rule's choice, on "
        "items that every group decided; largest: of the group that is worst off. Intervals "
        "clustered by question. The rule has seen the votes that it is measured by.",
        columns=(
            *("protocol", "rule", *(visible(name, newlines=False) for name in names)),
            *("largest", "worst off", "items"),
        ),
        rows=tuple(
            (
                protocol,
                rule,
                *(_ranged(each.regret, each.low, each.high) for each in of.values()),
                _ranged(one.largest, one.largest_low, one.largest_high),
                visible(one.worst, newlines=False),
                f"{one.num_items:,}",
            )
            for (protocol, rule), of in by_rule.items()
            for one in [next(iter(of.values()))]
        ),
    )
    rated = Table(
        title="Debaters by group of judges",
        note="Bradley–Terry in each group, in Elo points beside the mean of those who met, "
        "questions resampled; compare order and distance between groups, not the zero. Groups that "
        f"decided on fewer than {MIN_QUESTIONS} questions are left out.",
        columns=(
            *("protocol", "group", "debater", "rating"),
            *("not the group's, because",) * any(each.flaw for each in debaters),
        ),
        rows=tuple(
            (
                each.protocol,
                visible(each.group, newlines=False),
                visible(each.debater, newlines=False),
                _ranged(each.rating, each.low, each.high, digits=0),
                *(each.flaw,) * any(one.flaw for one in debaters),
            )
            for each in sorted(debaters, key=lambda e: (e.protocol, e.group, -e.rating))
        ),
    )
    return within, under, rated


def _ranged(value: float | None, low: float | None, high: float | None, digits: int = 2) -> str:
    if value is None or low is None or high is None:
        return decimal(value, digits)
    return f"{decimal(value, digits)} [{decimal(low, digits)}, {decimal(high, digits)}]"
