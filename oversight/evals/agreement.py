"""Agreement of raters on the same items, people and models, gathered over transcripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

from oversight.aggregation import (
    TIE_TOLERANCE,
    last_words,
    p_of_lower,
    p_of_revision,
    rater_rulings,
    rater_scores,
)
from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import Cluster, Observation, cluster_of
from oversight.panels.agreement import (
    alpha_interval,
    cohen_kappa,
    fleiss_kappa,
    pairwise_agreement,
)
from oversight.text.numbers import Table, decimal, percent
from oversight.types import (
    Feedback,
    ModelAnswer,
    OwnAnswer,
    PairAnswer,
    Preferred,
    RevisionAnswer,
    RevisionIs,
    Task,
    Transcript,
    Verdict,
)

FOLLOWS_ORDER = 0.5
"""Share of comparisons that turn with the order from which a rater is said to follow it."""
QUESTIONS = ("preferred", "revision", "criticism", "principles")


@dataclass(frozen=True, slots=True)
class RaterSummary:
    """Counts of one rater's ratings on one task, and the effect of order on them."""

    task: Task | str
    rater: str
    kind: str
    """`person` or `model`."""
    num_items: int
    num_ratings: int
    """Of a model one for each order and principle; of a person one an item."""
    num_unread: int
    """Ratings in which an answer could not be read."""
    first: Estimate | None
    """Of a model: mean probability that what stands first is better; 0.5 if blind to order."""
    flipped: Estimate | None
    """Of a model: share of comparisons that come out differently in the two orders."""
    consistent: Estimate | None = None
    """Of a model: the position-consistent share, of comparisons that come out the same in both."""

    @property
    def follows_order(self) -> bool:
        """True of a model that clearly prefers the one place, whatever stands there: half of its
        comparisons at least turn with the order."""
        first, turned = self.first, self.flipped
        if first is None or turned is None or turned.value < FOLLOWS_ORDER:
            return False
        if first.low is None or first.high is None:
            return False
        return not first.low <= 0.5 <= first.high


@dataclass(frozen=True, slots=True)
class RaterAgreement:
    """The share of equal answers of two raters to one question."""

    question: str
    raters: tuple[str, str]
    kinds: tuple[str, str]
    num_items: int
    """Rated by both; of principles, each principle of each item."""
    agreement: float
    kappa: float | None


@dataclass
class _Given:
    """One rater's ratings on one task, as they are gathered."""

    kind: str
    items: set[str] = field(default_factory=set)
    num_ratings: int = 0
    num_unread: int = 0
    first: list[tuple[Cluster, float]] = field(default_factory=list)
    flipped: list[tuple[Cluster, float]] = field(default_factory=list)


class RaterCounter:
    """Gathers what was said of responses, one transcript after the other."""

    def __init__(self) -> None:
        self._given: dict[tuple[Task | str, str, str], _Given] = {}
        self._values: dict[str, dict[tuple[str, str], dict[Hashable, Hashable]]] = {
            question: defaultdict(dict) for question in QUESTIONS
        }
        self._kinds: dict[tuple[str, str], str] = {}

    def add(self, transcript: Transcript) -> None:
        """Take in the feedback on one debate."""
        by_item: dict[str, list[Feedback]] = defaultdict(list)
        for each in last_words(transcript):
            by_item[each.item].append(each)
        cluster = cluster_of(transcript.question)
        for item, given in by_item.items():
            by_rater: dict[tuple[str, str], list[Feedback]] = defaultdict(list)
            for each in given:
                by_rater[each.judge, each.rater].append(each)
            for rater, words in by_rater.items():
                self._kinds[rater] = "person" if words[0].is_persons else "model"
                self._count(rater, words, cluster)
                for question, unit, value in _values(words):
                    self._values[question][rater][item, unit] = value

    def _count(self, rater: tuple[str, str], words: Sequence[Feedback], cluster: Cluster) -> None:
        key = (words[0].task, *rater)
        given = self._given.setdefault(key, _Given(self._kinds[rater]))
        given.items.add(words[0].item)
        given.num_ratings += len(words)
        given.num_unread += sum(_is_unread(each) for each in words)
        for some in _by_principle(words):
            read = {each.swapped: (each, p) for each in some if (p := p_of_item(each)) is not None}
            given.first += [(cluster, p_of_first(each, p)) for each, p in read.values()]
            if len(read) == 2:
                flipped = leaning(read[False][1]) != leaning(read[True][1])
                given.flipped.append((cluster, float(flipped)))

    def summaries(self) -> tuple[RaterSummary, ...]:
        """Each rater on each task, people first."""
        names = self._names()
        found = [
            RaterSummary(
                task=task,
                rater=names[judge, rater],
                kind=given.kind,
                num_items=len(given.items),
                num_ratings=given.num_ratings,
                num_unread=given.num_unread,
                first=_estimate(given.first),
                flipped=_estimate(given.flipped),
                consistent=_estimate([(cluster, 1.0 - each) for cluster, each in given.flipped]),
            )
            for (task, judge, rater), given in self._given.items()
        ]
        return tuple(sorted(found, key=lambda s: (s.task, s.kind != "person", s.rater)))

    def agreements(self) -> tuple[RaterAgreement, ...]:
        """Each two raters that answered the same question on some item, people first."""
        names = self._names()
        return tuple(
            found
            for question, by_rater in self._values.items()
            for one, other in combinations(sorted(by_rater, key=self._rank), 2)
            if (found := self._agreement(question, one, other, by_rater, names)) is not None
        )

    def _rank(self, rater: tuple[str, str]) -> tuple[bool, tuple[str, str]]:
        return (self._kinds[rater] != "person", rater)

    def _agreement(
        self,
        question: str,
        one: tuple[str, str],
        other: tuple[str, str],
        by_rater: Mapping[tuple[str, str], Mapping[Hashable, Hashable]],
        names: Mapping[tuple[str, str], str],
    ) -> RaterAgreement | None:
        units = [unit for unit in by_rater[one] if unit in by_rater[other]]
        both = [[by_rater[rater][unit] for unit in units] for rater in (one, other)]
        agreed = pairwise_agreement(both)
        if agreed is None:
            return None
        return RaterAgreement(
            question=question,
            raters=(names[one], names[other]),
            kinds=(self._kinds[one], self._kinds[other]),
            num_items=len(units),
            agreement=agreed,
            kappa=cohen_kappa(*both),
        )

    def _names(self) -> dict[tuple[str, str], str]:
        """Names of raters; of models that share theirs with another, with a part of the id."""
        judges = [judge for judge, _ in self._kinds]
        return {
            (judge, rater): judge
            if judges.count(judge) == 1 or kind == "person"
            else f"{judge} {rater[:6]}"
            for (judge, rater), kind in self._kinds.items()
        }


def _values(words: Sequence[Feedback]) -> Iterator[tuple[str, str, Hashable]]:
    """One rater's answers on one item: (question, what of the item, value)."""
    first = words[0]
    if isinstance(first.answer, OwnAnswer):
        return
    if first.task is Task.PRINCIPLES:
        for principle, score in rater_scores(words).items():
            if score is not None:
                yield "principles", principle, round(score)
        return
    read = p_of_lower if first.task is Task.PAIRS else p_of_revision
    question = "preferred" if first.task is Task.PAIRS else "revision"
    (ruling,) = rater_rulings(words, read)
    if ruling.p is not None:
        yield question, "", _said(ruling.p)
    elif isinstance(first.answer, PairAnswer) and first.answer.preferred is Preferred.BOTH_BAD:
        yield question, "", Preferred.BOTH_BAD.value
    criticism = _criticism(words)
    if criticism is not None:
        yield "criticism", "", criticism


def _said(p: float) -> str:
    """The word for a probability that the one is better than the other."""
    if abs(p - 0.5) <= TIE_TOLERANCE:
        return RevisionIs.SAME.value
    return (RevisionIs.BETTER if p > 0.5 else RevisionIs.WORSE).value


def _criticism(words: Sequence[Feedback]) -> str | None:
    """The verdict on a criticism: a person's answer, or a model's most probable one."""
    answer = words[-1].answer
    if isinstance(answer, RevisionAnswer):
        return answer.criticism.value
    read = [
        None if (got := each.answer.answers.get("criticism")) is None else got.probs
        for each in words
        if isinstance(each.answer, ModelAnswer)
    ]
    known = [probs for probs in read if probs is not None]
    if not known or len(known) < len(read):
        return None
    return max(known[0], key=lambda value: fmean(probs[value] for probs in known))


def _by_principle(words: Iterable[Feedback]) -> Iterable[list[Feedback]]:
    """Ratings under the same principles, asked in the same words."""
    found: dict[tuple[tuple[str, str], ...], list[Feedback]] = defaultdict(list)
    for each in words:
        under = each.under
        key = () if under is None else (*under.principles.items(), *under.requests.items())
        found[key].append(each)
    return found.values()


def p_of_item(rating: Feedback) -> float | None:
    """A model's probability that of two responses the one is better, the same one in both orders:
    of a pair the turn of the lower id, else the revision. None where it compared nothing, or
    cannot be read."""
    if rating.is_persons or rating.task is Task.PRINCIPLES:
        return None
    return p_of_lower(rating) if rating.task is Task.PAIRS else p_of_revision(rating)


def p_of_first(rating: Feedback, p: float) -> float:
    """Of `p_of_item`: the probability that the response that was shown first is better."""
    if rating.task is Task.PAIRS:
        return p if rating.turn_ids[0] == min(rating.turn_ids) else 1.0 - p
    # The criticised speech stands first, unless the order is swapped.
    return p if rating.swapped else 1.0 - p


def leaning(p: float) -> int:
    """The side that a probability prefers: 1, -1, or 0 for neither."""
    return 0 if abs(p - 0.5) <= TIE_TOLERANCE else 1 if p > 0.5 else -1


def _is_unread(rating: Feedback) -> bool:
    answer = rating.answer
    return isinstance(answer, ModelAnswer) and any(
        each.probs is None for each in answer.answers.values()
    )


def _estimate(found: Sequence[tuple[Cluster, float]]) -> Estimate | None:
    if not found:
        return None
    return mean_interval([value for _, value in found], [cluster for cluster, _ in found])


# --- judges ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of the judges of one protocol's debates on the option chosen."""

    protocol: str
    judges: tuple[str, ...]
    num_debates: int
    """Debates that at least two of them decided."""
    agreement: float
    alpha: float | None
    alpha_low: float | None
    """Interval of alpha over resampled questions; None of fewer than ten."""
    alpha_high: float | None
    kappa: float | None
    """Cohen's of two judges; Fleiss' of more, where all of them decided each of these debates."""
    num_questions: int
    flaw: str
    """Reason for figures that are missing; empty where there is none."""


MIN_QUESTIONS = 2
"""Questions from which agreement is corrected for chance."""


def judge_agreements(every: Iterable[Observation]) -> tuple[Agreement, ...]:
    """Agreement in each protocol whose debates several judges decided."""
    choices: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    clusters: dict[str, Cluster] = {}
    for each in every:
        if each.verdict is Verdict.DECIDED and each.choice is not None:
            choices[each.arm.protocol][each.arm.judge][each.debate_id] = each.choice
            clusters[each.debate_id] = each.cluster
    found = []
    for protocol, by_judge in sorted(choices.items()):
        shared = {
            debate
            for one, two in combinations(by_judge.values(), 2)
            for debate in one.keys() & two.keys()
        }
        units = sorted(shared)
        # A judge who decided nothing that another did agrees with nobody, and is not named.
        judges = sorted(judge for judge, given in by_judge.items() if given.keys() & shared)
        raters = [[by_judge[judge].get(unit) for unit in units] for judge in judges]
        agreed = pairwise_agreement(raters) if units else None
        if agreed is None:
            continue
        questions = [clusters[unit] for unit in units]
        number = len(set(questions))
        bears = number >= MIN_QUESTIONS
        alpha = alpha_interval(raters, clusters=questions) if bears else None
        found.append(
            Agreement(
                protocol=protocol,
                judges=tuple(judges),
                num_debates=len(units),
                agreement=agreed,
                alpha=None if alpha is None else alpha.value,
                alpha_low=None if alpha is None else alpha.low,
                alpha_high=None if alpha is None else alpha.high,
                kappa=_kappa(raters) if bears else None,
                num_questions=number,
                flaw="" if bears else f"{number} question; {MIN_QUESTIONS} are needed",
            )
        )
    return tuple(found)


def _kappa(raters: Sequence[Sequence[Hashable | None]]) -> float | None:
    """Cohen's kappa of two raters, Fleiss' of more where none is missing."""
    if len(raters) == 2:
        return cohen_kappa(*raters)
    whole = all(value is not None for given in raters for value in given)
    return fleiss_kappa(raters) if whole else None


SAME_ANSWER = (
    "Where every answer was the same, chance agrees as well, and nothing is left to measure: “–”."
)


def agreement_table(found: Sequence[Agreement]) -> Table:
    """Agreement of the judges of each protocol's debates."""
    said = ["On the option chosen, of debates that at least two judges decided."]
    if any(len(each.judges) > 2 for each in found):
        said.append("Of more than two, “agree” is of all their pairs; κ is Fleiss’, “–” where one")
        said.append("of them is missing somewhere.")
    if any(each.alpha is None and not each.flaw for each in found):
        said.append(SAME_ANSWER)
    return Table(
        title="Agreement of judges",
        note=" ".join(said),
        columns=(
            *("protocol", "judges", "agree", "Krippendorff’s α", "κ", "debates"),
            *("not said, because",) * any(each.flaw for each in found),
        ),
        rows=tuple(
            (
                each.protocol,
                ", ".join(each.judges),
                percent(each.agreement),
                decimal(each.alpha)
                if each.alpha_low is None
                else f"{decimal(each.alpha)} [{decimal(each.alpha_low)}, "
                f"{decimal(each.alpha_high)}]",
                decimal(each.kappa),
                f"{each.num_debates:,}",
                *(each.flaw,) * any(one.flaw for one in found),
            )
            for each in found
        ),
    )
