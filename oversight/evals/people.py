"""Ratings by people: how often revisions, chosen responses and principles come out well, and
answers to tasks of one's own, each with an interval clustered by question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from oversight.aggregation import last_words, p_of_lower, p_of_revision
from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import Cluster, cluster_of
from oversight.text.numbers import Table, decimals, share
from oversight.text.terminal import visible
from oversight.types import (
    CriticismIs,
    Feedback,
    OwnAnswer,
    PairAnswer,
    Preferred,
    PrinciplesAnswer,
    RevisionAnswer,
    Task,
    Transcript,
)

MAX_CHOICES = 8
"""Different words of a question of one's own above which its answers are free text."""
MAX_CHOICE_CHARS = 40
"""Length of a word above which the same is true; as it is where most words came only once."""
CRITICISM = {CriticismIs.RIGHT: 1.0, CriticismIs.PARTLY: 0.5, CriticismIs.WRONG: 0.0}


@dataclass(frozen=True, slots=True)
class PeopleRating:
    """People's answers to one question of a task, in one protocol."""

    task: str
    protocol: str
    question: str
    """Such as `revision better`, `score: no-sermons` or a field of a task of one's own."""
    is_share: bool
    """True of a share, False of a mean on the task's own scale."""
    mean: Estimate
    num_people: int
    num_items: int


@dataclass
class _Answers:
    values: list[float] = field(default_factory=list)
    clusters: list[Cluster] = field(default_factory=list)
    people: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)

    def add(self, rating: Feedback, value: float, cluster: Cluster) -> None:
        self.values.append(value)
        self.clusters.append(cluster)
        self.people.add(rating.judge)
        self.items.add(rating.item)


Key = tuple[str, str, str, bool]


class PeopleCounter:
    """Gathers people's ratings, one transcript after the other."""

    def __init__(self) -> None:
        self._answers: dict[Key, _Answers] = defaultdict(_Answers)
        self._words: dict[tuple[str, str, str], list[tuple[str, Feedback, Cluster]]] = defaultdict(
            list
        )

    def add(self, transcript: Transcript) -> None:
        """Take in the last word of each person on each item."""
        if not transcript.ratings:
            return
        protocol, cluster = transcript.debate.protocol.name, cluster_of(transcript.question)
        chosen = {turn.id for turn in transcript.turns if turn.chosen}
        for rating in last_words(transcript):
            if not rating.is_persons:
                continue
            task = str(rating.task)
            for question, is_share, value in _values(rating, chosen):
                self._answers[task, protocol, question, is_share].add(rating, value, cluster)
            for name, word in _words(rating):
                self._words[task, protocol, name].append((word, rating, cluster))

    def ratings(self) -> tuple[PeopleRating, ...]:
        """Every question's mean or share, by task, protocol and question."""
        answers = dict(self._answers)
        choices = self._choices()
        for (task, protocol, name), given in self._words.items():
            for word in choices[task, name]:
                held = answers.setdefault((task, protocol, f"{name}: {word}", True), _Answers())
                for each, rating, cluster in given:
                    held.add(rating, float(each == word), cluster)
        return tuple(
            PeopleRating(
                task=task,
                protocol=protocol,
                question=question,
                is_share=is_share,
                mean=mean_interval(
                    held.values, held.clusters, bounds=(0.0, 1.0) if is_share else None
                ),
                num_people=len(held.people),
                num_items=len(held.items),
            )
            for (task, protocol, question, is_share), held in sorted(
                answers.items(), key=lambda each: each[0]
            )
        )

    def _choices(self) -> dict[tuple[str, str], list[str]]:
        """The words that each question of a task has for answers; none of free text."""
        given: dict[tuple[str, str], list[str]] = defaultdict(list)
        for (task, _, name), some in self._words.items():
            given[task, name] += [word for word, _, _ in some]
        return {key: _classes(words) for key, words in given.items()}


def _classes(words: Sequence[str]) -> list[str]:
    found = sorted(set(words))
    too_long = any(len(word) > MAX_CHOICE_CHARS for word in found)
    is_free = too_long or len(found) > MAX_CHOICES or len(words) < 2 * len(found)
    return [] if is_free else found


def _values(rating: Feedback, chosen: set[str]) -> Iterator[tuple[str, bool, float]]:
    """(question, whether it is a share, value) of one rating."""
    answer = rating.answer
    if isinstance(answer, RevisionAnswer):
        better = p_of_revision(rating)
        if better is not None:
            yield "revision better", True, better
        yield "criticism right", True, CRITICISM[answer.criticism]
    elif isinstance(answer, PairAnswer):
        yield "both bad", True, float(answer.preferred is Preferred.BOTH_BAD)
        yield from _of_pair(rating, chosen)
    elif isinstance(answer, PrinciplesAnswer):
        for principle, score in answer.scores.items():
            if score is not None:
                yield f"score: {principle}", False, float(score)
    elif isinstance(answer, OwnAnswer):
        if answer.preference is not None and answer.turns is not Task.PRINCIPLES:
            which = "revision" if answer.turns is Task.REVISIONS else "first shown"
            yield f"preference for the {which}", True, answer.preference
        for name, value in answer.fields.items():
            if isinstance(value, bool):
                yield name, True, float(value)
            elif isinstance(value, int | float):
                yield name, False, float(value)


def _of_pair(rating: Feedback, chosen: set[str]) -> Iterator[tuple[str, bool, float]]:
    """1 if the better of a pair is the one that was chosen, where one of the two was."""
    p = p_of_lower(rating)
    picked = [turn for turn in rating.turn_ids if turn in chosen]
    if p is None or len(picked) != 1 or len(rating.turn_ids) != 2:
        return
    own = p if picked[0] == min(rating.turn_ids) else 1.0 - p
    yield "chosen one better", True, 0.5 if own == 0.5 else float(own > 0.5)


def _words(rating: Feedback) -> Iterator[tuple[str, str]]:
    """Answers in words to a task of one's own, by field."""
    if isinstance(rating.answer, OwnAnswer):
        for name, value in rating.answer.fields.items():
            if isinstance(value, str) and value:
                yield name, value


def people_table(found: Sequence[PeopleRating]) -> Table:
    """People's ratings."""
    return Table(
        title="Ratings by people",
        note="Each person's last word on each item; a tie is half, partly right is half. Shares in "
        "per cent, scores on their own scale; intervals clustered by question.",
        columns=("task", "protocol", "what", "mean", "people", "items"),
        rows=tuple(
            (
                each.task,
                each.protocol,
                visible(each.question, newlines=False),
                share(each.mean) if each.is_share else _score(each.mean),
                f"{each.num_people:,}",
                f"{each.num_items:,}",
            )
            for each in found
        ),
    )


def _score(mean: Estimate) -> str:
    return f"{mean.value:.2f}".replace("-", "−") if mean.low is None else decimals(mean)
