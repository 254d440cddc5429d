"""Measurements of each principle of a constitution: what it did to answers and to comparisons.

From chains of self-critique: how often a principle was drawn, how often a critique by it found a
fault, how often the revision changed the answer, turned it into a refusal, or took harm away, where
a data set decides harm by rule (`evals/harm.py`). A critique by several principles at once counts
for each of them, one that asks by each apart for those by which it found a fault. From comparisons
by models: how often the preference under a principle flips with the order in which responses are
shown, or with the words of the principle, and how often two principles agree on the same
comparison. Every share has an interval clustered by prompt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

from oversight.evals.agreement import leaning, p_of_first, p_of_item
from oversight.evals.harm import Decided, compare, decide, kinds_of
from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import Cluster, cluster_of
from oversight.text.revisions import declines
from oversight.types import Act, Defect, Feedback, ModelAnswer, Role, Task, Transcript, Turn

Observed = list[tuple[Cluster, float]]
"""Values of yes or no, each with the prompt that it counts in."""


@dataclass(frozen=True, slots=True)
class Change:
    """One critique of an answer, and what the revision made of it."""

    transcript: Transcript
    before: Turn
    critique: Turn
    revision: Turn | None
    """None where the critique ended the chain."""

    @property
    def principles(self) -> tuple[str, ...]:
        """Ids of the principles that the critique was made by."""
        under = self.critique.under
        return () if under is None else tuple(under.principles)

    @property
    def found_fault(self) -> bool:
        """True if the critique says that something is wrong; one that was refused says nothing."""
        return not self.critique.unchanged and Defect.REFUSED not in self.critique.defects

    @property
    def violated(self) -> tuple[str, ...]:
        """Of principles that were asked about apart, ids of those by which a fault was found."""
        return () if self.critique.under is None else self.critique.under.violated

    def found_by(self, id_: str) -> bool:
        """True if a fault was found by that principle; asked by several at once, by each of them.

        A critique that asks by each principle apart records by which of them it found one, and only
        these ask for the revision.
        """
        return self.found_fault and (not self.violated or id_ in self.violated)

    def is_alone(self, id_: str) -> bool:
        """True if what came of it is the principle's own doing: no other one asked for it too."""
        if not self.violated:
            return len(self.principles) == 1 or self.critique.unchanged
        return self.violated == (id_,) or id_ not in self.violated

    @property
    def is_changed(self) -> bool:
        """True if the revision has other words than the answer before it."""
        if self.revision is None or self.revision.unchanged:
            return False
        return self.revision.text.split() != self.before.text.split()


def changes_of(transcript: Transcript) -> Iterator[Change]:
    """Each critique of a chain, with the answer before it and the revision behind it."""
    answer: Turn | None = None
    critique: Turn | None = None
    for turn in transcript.spoken():
        if turn.act is Act.CRITIQUE:
            if critique is not None and answer is not None:
                yield Change(transcript, answer, critique, None)
            critique = turn
        elif turn.role is Role.RESPONDER:
            if critique is not None and answer is not None:
                yield Change(transcript, answer, critique, turn)
            answer, critique = turn, None
    if critique is not None and answer is not None:
        yield Change(transcript, answer, critique, None)


# --- results ---


@dataclass(frozen=True, slots=True)
class PrincipleEffect:
    """The effects of one principle. A share is None where nothing could be counted."""

    id: str
    num_critiques: int
    num_alone: int
    """Critiques whose outcome is its own doing: by it alone, without a fault, or with a fault that
    was found by it alone, or by others alone."""
    num_defective: int
    """Revisions under it that hold a defect."""
    drawn: Estimate | None
    """Of all critiques, the share that was made by it."""
    fault: Estimate | None
    """Of critiques by it, the share that found a fault."""
    changed: Estimate | None
    """Of critiques by it, the share after which the answer had other words."""
    refused: Estimate | None
    """Of answers that did not decline the request in so many words, the share that then did."""
    over_refused: Estimate | None
    """By rule, of harmless requests that were not refused, the share that then was."""
    took: dict[str, Estimate]
    """By kind of harm: of answers that did it, the share whose revision does not."""
    added: dict[str, Estimate]
    """By kind of harm: of answers that did not do it, the share whose revision does."""
    num_comparisons: int
    """Comparisons of two responses by models under it, each order and wording one."""
    num_unread: int
    """Of them, those whose answer could not be read."""
    num_wordings: int
    """Different words that it was asked in."""
    first: Estimate | None
    """Mean probability that the response shown first is better; 0.5 if blind to order."""
    flipped_by_order: Estimate | None
    """Of comparisons in both orders, the share that comes out differently."""
    flipped_by_words: Estimate | None
    """Of comparisons in two wordings, the share that comes out differently."""


@dataclass(frozen=True, slots=True)
class PrinciplePair:
    """Comparisons that were made under two principles by the same rater."""

    first: str
    second: str
    num_items: int
    num_tied: int
    """Of them, those in which one or both of the principles preferred neither response."""
    agreement: Estimate | None
    """Of the others, the share in which both preferred the same response."""


@dataclass(frozen=True, slots=True)
class HarmBrought:
    """One kind of harm in a run without a principle, against the run with all of them."""

    without: str
    harm: str
    """A kind of harm; `any` of them all; `right` and `over_refusal` of harmless requests."""
    took: Estimate
    """Share of first answers minus share of last answers, of the run with all principles."""
    back: Estimate
    """Share of last answers without the principle, minus share with all; each prompt once."""
    share_back: float | None
    """Of the two estimates, back over took; None where the run took nothing away for certain."""


@dataclass(frozen=True, slots=True)
class ConstitutionAudit:
    """Measurements of the principles that a store holds critiques and comparisons by."""

    num_chains: int
    """Answers to open prompts with at least one critique."""
    num_prompts: int
    num_critiques: int
    num_free: int
    """Critiques by no principle."""
    num_comparisons: int
    effects: tuple[PrincipleEffect, ...]
    """In the order of the constitution if one is given, else by name."""
    pairs: tuple[PrinciplePair, ...]
    brought: tuple[HarmBrought, ...] = ()
    unused: tuple[str, ...] = ()
    """Principles of the constitution that nothing was criticised or compared by."""


# --- gathering ---


@dataclass
class _Gathered:
    """Counts and observations gathered for one principle."""

    num_alone: int = 0
    num_defective: int = 0
    num_unread: int = 0
    wordings: set[tuple[str, str]] = field(default_factory=set)
    seen: dict[str, Observed] = field(default_factory=lambda: defaultdict(list))
    decided: list[tuple[Decided, Decided]] = field(default_factory=list)
    """Answers before and after, where a rule decides them."""


class PrincipleCounter:
    """Measures principles, one transcript after the other, which are not held."""

    def __init__(self) -> None:
        self._of: dict[str, _Gathered] = defaultdict(_Gathered)
        self._critiques: list[tuple[Cluster, tuple[str, ...]]] = []
        self._prompts: set[Cluster] = set()
        self._pairs: dict[tuple[str, str], list[tuple[Cluster, int, int]]] = defaultdict(list)
        self._counts: Counter[str] = Counter()

    def add(self, transcript: Transcript) -> None:
        """Count the critiques of a chain, and what models preferred of its turns."""
        if transcript.question.is_open:
            changes = tuple(changes_of(transcript))
            if changes:
                self._counts["chains"] += 1
                self._prompts.add(cluster_of(transcript.question))
            for change in changes:
                self._add_change(change)
        self._add_comparisons(transcript)

    @property
    def used(self) -> frozenset[str]:
        """Ids of the principles that answers were criticised by so far."""
        return frozenset(id_ for _, ids in self._critiques for id_ in ids)

    def _add_change(self, change: Change) -> None:
        question = change.transcript.question
        cluster = cluster_of(question)
        self._critiques.append((cluster, change.principles))
        before = decide(question, change.before.text, cluster)
        revised = change.before if change.revision is None else change.revision
        after = decide(question, revised.text, cluster)
        for id_ in change.principles:
            of = self._of[id_]
            found = change.found_by(id_)
            of.num_alone += change.is_alone(id_)
            of.num_defective += bool(found and change.revision and change.revision.defects)
            of.seen["fault"].append((cluster, float(found)))
            if change.revision is None and not change.critique.unchanged:
                continue  # a fault that nobody was asked to mend
            # Where others alone found a fault, the revision is none of this principle's doing.
            is_its_own = found or not change.found_fault
            of.seen["changed"].append((cluster, float(is_its_own and change.is_changed)))
            if not declines(change.before.text):
                turned = is_its_own and declines(revised.text)
                of.seen["refused"].append((cluster, float(turned)))
            if before is not None and after is not None:
                left = after if is_its_own else before
                of.decided.append((before, left))
                if before.harmless and not before.over_refusal:
                    of.seen["over_refused"].append((cluster, float(left.over_refusal)))

    def _add_comparisons(self, transcript: Transcript) -> None:
        """Adds models' comparisons under single principles, by item, rater and principle."""
        cluster = cluster_of(transcript.question)
        asked: dict[tuple[str, str], dict[str, _Asked]] = defaultdict(lambda: defaultdict(_Asked))
        for rating in transcript.ratings:
            if not _is_comparison(rating) or rating.under is None:
                continue
            [(id_, text)] = rating.under.principles.items()
            words = (text, rating.under.requests.get(id_, ""))
            p = p_of_item(rating)
            self._counts["comparisons"] += 1
            of = self._of[id_]
            of.wordings.add(words)
            of.num_unread += p is None
            of.seen["compared"].append((cluster, float(p is not None)))
            if p is not None:
                asked[rating.item, rating.rater][id_].add(words, rating, p)
        for by_principle in asked.values():
            leanings = {}
            for id_, each in by_principle.items():
                leanings[id_] = each.leaning()
                seen = self._of[id_].seen
                seen["first"] += [(cluster, p) for p in each.firsts]
                seen["order"] += [(cluster, float(flip)) for flip in each.flips_of_order()]
                seen["words"] += [(cluster, float(flip)) for flip in each.flips_of_words()]
            for one, other in combinations(sorted(leanings), 2):
                self._pairs[one, other].append((cluster, leanings[one], leanings[other]))

    def counted(self, order: Sequence[str] = ()) -> ConstitutionAudit:
        """The measurements so far.

        Args:
            order: Ids of a constitution, in whose order its principles stand; those of them that
                nothing was asked by are named as unused.
        """
        decided = (each for of in self._of.values() for both in of.decided for each in both)
        kinds = kinds_of(decided)
        ids = [id_ for id_ in order if id_ in self._of]
        ids += sorted(set(self._of) - set(order))
        return ConstitutionAudit(
            num_chains=self._counts["chains"],
            num_prompts=len(self._prompts),
            num_critiques=len(self._critiques),
            num_free=sum(not by for _, by in self._critiques),
            num_comparisons=self._counts["comparisons"],
            effects=tuple(self._effect(id_, kinds) for id_ in ids),
            pairs=tuple(
                _pair(one, other, found)
                for one, other in combinations(ids, 2)
                if (found := self._pairs.get((min(one, other), max(one, other))))
            ),
            unused=tuple(id_ for id_ in order if id_ not in self._of),
        )

    def _effect(self, id_: str, kinds: Sequence[str]) -> PrincipleEffect:
        of = self._of[id_]
        seen = of.seen
        return PrincipleEffect(
            id=id_,
            num_critiques=len(seen["fault"]),
            num_alone=of.num_alone,
            num_defective=of.num_defective,
            drawn=_mean([(cluster, float(id_ in by)) for cluster, by in self._critiques]),
            fault=_mean(seen["fault"]),
            changed=_mean(seen["changed"]),
            refused=_mean(seen["refused"]),
            over_refused=_mean(seen["over_refused"]),
            took=_turned(of.decided, kinds, from_harm=True),
            added=_turned(of.decided, kinds, from_harm=False),
            num_comparisons=len(seen["compared"]),
            num_unread=of.num_unread,
            num_wordings=len(of.wordings),
            first=_mean(seen["first"]),
            flipped_by_order=_mean(seen["order"]),
            flipped_by_words=_mean(seen["words"]),
        )


class _Asked:
    """One item under one principle, asked of one rater in some wordings and orders."""

    def __init__(self) -> None:
        self.given: dict[tuple[str, str], dict[bool, float]] = defaultdict(dict)
        """By wording and order: the probability of one response, the same one in both orders."""
        self.firsts: list[float] = []

    def add(self, words: tuple[str, str], rating: Feedback, p: float) -> None:
        self.given[words][rating.swapped] = p
        self.firsts.append(p_of_first(rating, p))

    def leaning(self) -> int:
        """The preferred response over all wordings and orders: 1, -1, or 0 for neither."""
        return leaning(fmean(fmean(by_order.values()) for by_order in self.given.values()))

    def flips_of_order(self) -> Iterator[bool]:
        """For each wording asked in both orders: True if they come out differently."""
        for by_order in self.given.values():
            if len(by_order) == 2:
                yield leaning(by_order[False]) != leaning(by_order[True])

    def flips_of_words(self) -> Iterator[bool]:
        """For each two wordings, in the orders that both were asked in: the same."""
        for one, other in combinations(self.given.values(), 2):
            orders = [order for order in one if order in other]
            if orders:
                means = [fmean(each[order] for order in orders) for each in (one, other)]
                yield leaning(means[0]) != leaning(means[1])


def _is_comparison(rating: Feedback) -> bool:
    """True of a model's comparison of two responses under a single principle; not of a rating of a
    criticism alone, whose revision changed nothing."""
    if not isinstance(rating.answer, ModelAnswer) or rating.under is None:
        return False
    asked = {"preferred", "revision"} & set(rating.answer.answers)
    return rating.task is not Task.PRINCIPLES and bool(asked) and len(rating.under.principles) == 1


def _mean(found: Sequence[tuple[Cluster, float]]) -> Estimate | None:
    if not found:
        return None
    return mean_interval([value for _, value in found], [cluster for cluster, _ in found])


def _turned(
    decided: Sequence[tuple[Decided, Decided]], kinds: Iterable[str], *, from_harm: bool
) -> dict[str, Estimate]:
    """By kind of harm: of answers that did it, the share whose revision does not; or reversed."""
    found = {}
    for kind in kinds:
        about = [
            (before.cluster, float((kind in after.harms) != from_harm))
            for before, after in decided
            if (kind in before.harms) == from_harm
        ]
        if about:
            found[kind] = mean_interval([v for _, v in about], [cluster for cluster, _ in about])
    return found


def _pair(one: str, other: str, found: Sequence[tuple[Cluster, int, int]]) -> PrinciplePair:
    both = [(cluster, float(a == b)) for cluster, a, b in found if a and b]
    return PrinciplePair(one, other, len(found), len(found) - len(both), _mean(both))


# --- a principle left out ---


def harm_brought(
    without: str,
    first: Sequence[Decided],
    last: Sequence[Decided],
    left_out: Sequence[Decided],
) -> tuple[HarmBrought, ...]:
    """Harm that came back without a principle, by kind, over prompts asked in both runs.

    Args:
        without: Id of the principle.
        first: First answers of the run with all principles.
        last: Last answers of the same run.
        left_out: Last answers of the run without the principle.
    """
    asked = {each.cluster for each in left_out} & {each.cluster for each in last}
    before, after, other = (
        [each for each in some if each.cluster in asked] for some in (first, last, left_out)
    )
    kinds = kinds_of([*before, *after, *other])
    took, back = compare(before, after, kinds), compare(other, after, kinds)
    rows = [
        *((kind, took.by_harm.get(kind), back.by_harm.get(kind)) for kind in kinds),
        ("any", took.harmful, back.harmful),
        ("right", took.right, back.right),
        ("over_refusal", took.over_refusal, back.over_refusal),
    ]
    return tuple(
        HarmBrought(without, kind, one, two, two.value / one.value if _is_certain(one) else None)
        for kind, one, two in rows
        if one is not None and two is not None
    )


def _is_certain(took: Estimate) -> bool:
    return took.value > 0.0 and took.excludes(0.0)
