"""Human: a person holds the seat; the graph waits until `oversight judge` brings their act."""

from __future__ import annotations

from oversight.config import Settings
from oversight.errors import ProtocolError
from oversight.types import Agent, Draft, Engine, JudgeKind, Role, View

ROLES = frozenset({Role.JUDGE, Role.DEBATER, Role.CONSULTANT})


class Config(Settings):
    """A person has no settings."""


class Human:
    """Holds the seat of a person."""

    name = "human"
    kind = JudgeKind.HUMAN

    async def act(self, view: View) -> Draft:
        """Never gives an answer: graphs wait for the person instead of asking this.

        Raises:
            ProtocolError: Always.
        """
        raise ProtocolError(
            f"the seat {view.seat.value!r} is held by a person, who cannot be asked by a program; "
            "run `oversight judge` on the store"
        )


def build(config: Config, engine: Engine | None) -> Agent:
    """A person's seat; it leaves `engine` unused."""
    return Human()
