"""Counts of answers to open prompts: nothing is right or wrong in them, so nothing is measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from oversight.evals.observations import Cluster, cluster_of, named
from oversight.preferences.rulings import (
    TIE_TOLERANCE,
    last_words,
    p_of_revision,
    rater_rulings,
)
from oversight.types import (
    Act,
    Debate,
    RevisionIs,
    Role,
    Task,
    Transcript,
)


@dataclass(frozen=True, slots=True)
class ResponseCount:
    """Counts of answers to open prompts in one protocol by one responder."""

    protocol: str
    responder: str
    num_runs: int
    num_prompts: int
    num_responses: int
    """Candidates that were not chosen included."""
    num_critiques: int
    num_revisions: int
    """Chosen ones."""
    num_unchanged: int
    """Revisions among these that found nothing to change."""
    num_rated: int
    """Ratings of revisions, of people or models, each one's last word."""
    num_better: int
    num_same: int
    num_worse: int
    num_other_ratings: int
    """Ratings of pairs and by principles."""


@dataclass
class _Counts:
    prompts: set[Cluster] = field(default_factory=set)
    of: Counter[str] = field(default_factory=Counter)


class ResponseCounter:
    """Counts answers to open prompts, one transcript after the other."""

    def __init__(self) -> None:
        self._by_arm: dict[tuple[str, str], _Counts] = {}

    def add(self, transcript: Transcript) -> None:
        """Count what one run answered."""
        debate = transcript.debate
        key = (debate.protocol.name, responder_of(debate))
        counts = self._by_arm.setdefault(key, _Counts())
        counts.prompts.add(cluster_of(transcript.question))
        counts.of["runs"] += 1
        for turn in transcript.turns:
            counts.of["responses"] += turn.act is Act.RESPOND
            if turn.chosen:
                counts.of["critiques"] += turn.act is Act.CRITIQUE
                counts.of["revisions"] += turn.act is Act.REVISE
                counts.of["unchanged"] += turn.unchanged
        given = last_words(transcript)
        for item in {each.item: None for each in given}:
            of_item = [each for each in given if each.item == item]
            for ruling in rater_rulings(of_item, p_of_revision):
                if of_item[0].task is not Task.REVISIONS:
                    counts.of["others"] += 1
                elif ruling.p is not None:
                    counts.of[_said(ruling.p)] += 1

    def counted(self) -> tuple[ResponseCount, ...]:
        """The counts so far, by protocol and responder."""
        return tuple(
            ResponseCount(
                protocol=protocol,
                responder=responder,
                num_runs=counts.of["runs"],
                num_prompts=len(counts.prompts),
                num_responses=counts.of["responses"],
                num_critiques=counts.of["critiques"],
                num_revisions=counts.of["revisions"],
                num_unchanged=counts.of["unchanged"],
                num_rated=sum(counts.of[each.value] for each in RevisionIs),
                num_better=counts.of[RevisionIs.BETTER.value],
                num_same=counts.of[RevisionIs.SAME.value],
                num_worse=counts.of[RevisionIs.WORSE.value],
                num_other_ratings=counts.of["others"],
            )
            for (protocol, responder), counts in sorted(self._by_arm.items())
        )


def _said(p: float) -> str:
    """The word for a probability that a revision is better."""
    if abs(p - 0.5) <= TIE_TOLERANCE:
        return RevisionIs.SAME.value
    return (RevisionIs.BETTER if p > 0.5 else RevisionIs.WORSE).value


def responder_of(debate: Debate) -> str:
    """Name of the responder: the model by its last name, or the agent where it has none."""
    return named(debate.agents[Role.RESPONDER])
