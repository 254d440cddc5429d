"""Players and a judge whose games are known: who says the larger number wins."""

from __future__ import annotations

import math
import os
import random
import re

from oversight.config import Settings
from oversight.errors import ProtocolError
from oversight.types import Act, Belief, BeliefMethod, Draft, JudgeKind, Role, Verdict


class Strong:
    """A debater that says how strong it is, and noise that follows from the debate and its seat."""

    ROLES = frozenset({Role.DEBATER})

    class Config(Settings):
        """Its strength, and the number that is added to it."""

        strength: float = 0.0
        noise: float = 1.0

    def __init__(self, config, engine):
        self.name, self.kind, self.config = "strong", JudgeKind.MODEL, config

    async def act(self, view):
        """The speech; in an environment that says so, some debates fail."""
        drawn = random.Random(view.debate_id).random()
        if drawn < 0.3 and os.environ.get("RIGGED_FAILS"):
            raise ProtocolError("no voice today")
        uniform = random.Random(f"{view.debate_id}{view.seat}").random()
        drawn = -math.log(-math.log(uniform))  # Gumbel: the larger of two follows Bradley-Terry
        return Draft(text=f"strength {self.config.strength + self.config.noise * drawn:.4f}")


class Sums:
    """A judge that believes the larger number, and likes what it reads first by `first`."""

    ROLES = frozenset({Role.JUDGE})

    class Config(Settings):
        """Its liking, and the difference below which it is a tie, or cannot be read."""

        first: float = 0.0
        tie: float = 0.0
        invalid: float = 0.0

    def __init__(self, config, engine):
        self.name, self.kind, self.config = "sums", JudgeKind.MODEL, config

    async def act(self, view):
        """The belief."""
        said = {
            turn.seat: float(re.search(r"strength (\S+)", turn.text)[1])
            for turn in view.turns
            if turn.act is Act.SPEAK and turn.text
        }
        a, b = (
            said[seat] + self.config.first * (view.orders.shown[0] is seat) for seat in sorted(said)
        )
        if abs(a - b) < self.config.invalid:
            return Draft(
                text="?", belief=Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED)
            )
        tied = abs(a - b) < self.config.tie
        p = 0.5 if tied else 0.9 if a > b else 0.1
        probs = [0.0] * len(view.options)
        first, second = view.orders.defends
        probs[first], probs[second] = p, 1.0 - p
        verdict = Verdict.TIE if tied else Verdict.DECIDED
        return Draft(
            text="so",
            belief=Belief(verdict=verdict, method=BeliefMethod.PARSED, probs=tuple(probs)),
        )
