"""Lexical judge: a belief from the words of the transcript alone, without a language model.

It weighs verified quotes, and, much weaker, what was merely said (see
`_evidence`). Where it may see the source it looks up the evidence for every
option by itself. The order of the listing, and the order in which the sides
are shown, do not enter at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from oversight.agents._evidence import EvidenceSettings, scores
from oversight.agents.judging import check_judging, decide, settled
from oversight.agents.speaking import speaker_name
from oversight.types import Act, Agent, Belief, BeliefMethod, Draft, Engine, JudgeKind, Role, View

ROLES = frozenset({Role.JUDGE, Role.SCORER})


class Config(EvidenceSettings):
    """Settings of the lexical judge."""

    sharpness: float = Field(default=3.0, gt=0.0, le=100.0)
    """Log-odds between an option with the best evidence and one with none."""
    end_at: float = Field(default=0.95, gt=0.5, le=1.0)
    """Belief in one option at which a judge that may end the debate does so."""


class Lexical:
    """Weighs verified quotes by the words they share with the question and the options."""

    name = "lexical"
    kind = JudgeKind.LEXICAL

    def __init__(self, config: Config) -> None:
        self.config = config

    async def act(self, view: View) -> Draft:
        """A belief, or a question to the side whose evidence is weaker; no score of a response,
        as there is nothing that its words could be evidence for.

        Raises:
            ProtocolError: The view asks for a speech or a critique.
        """
        check_judging(view, self.name)
        if view.act is Act.SCORE:
            return Draft()
        evidence = scores(view, self.config)
        if view.act is Act.ASK:
            text = question(view, evidence)
            if view.emit is not None:
                view.emit(text)
            return Draft(text=text)
        belief = believe(evidence, self.config.sharpness)
        return Draft(belief=belief, ends=view.may_end and settled(belief, self.config.end_at))


def build(config: Config, engine: Engine | None) -> Agent:
    """A lexical judge; it leaves `engine` unused."""
    return Lexical(config)


def believe(evidence: Sequence[float], sharpness: float) -> Belief:
    """The belief that grows with the weight of the evidence; equal weights are a tie."""
    odds = [math.exp(sharpness * (weight - max(evidence))) for weight in evidence]
    total = math.fsum(odds)
    raw = "evidence: " + ", ".join(f"{weight:.3f}" for weight in evidence)
    return decide([part / total for part in odds], BeliefMethod.LEXICAL, raw, None)


def question(view: View, evidence: Sequence[float]) -> str:
    """A request for a quote: to the side whose evidence is weaker, or to all if none is."""
    defended = {
        (turn.seat, turn.role): view.orders.defended_by(turn.seat)
        for turn in view.turns
        if turn.argues
    }
    least = min((evidence[option] for option in defended.values()), default=0.0)
    weakest = [speaker for speaker, option in defended.items() if evidence[option] == least]
    if len(weakest) != 1:
        return ASK_ALL
    name = speaker_name(*weakest[0])
    return ASK_ONE.format(name=name, option=view.options[defended[weakest[0]]])


ASK_ALL = "Quote the passage of the source that supports your answer best."
ASK_ONE = "{name}, quote the passage of the source that shows: {option}"
