"""What a session of rating is: whose, on which task, over which items.

judge = "anna"
store = "debates.db"
name = "pilot"                  # of the study
overlap = 2                     # people an item
constitution = "honest_debate"  # of the task principles: a name, or a file
"""

from __future__ import annotations

import getpass
from typing import ClassVar, Literal

from pydantic import Field

from oversight.config.settings import Settings


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "judge"


class RatingSettings(Settings):
    """A session of rating."""

    incidental: ClassVar[frozenset[str]] = frozenset({"store", "judge", "keys", "theme"})

    store: str = "oversight.db"
    """Path of an SQLite file, or a postgresql:// URL."""
    judge: str = Field(default_factory=_user, min_length=1)
    """Your pseudonym, by which your ratings are known; your user name by default."""
    name: str = ""
    """Of the study that ratings are made in."""
    seed: int = 0
    """Of what is drawn: which response stands left, and which pair of candidates is asked about."""
    constitution: str = "honest_debate"
    """Of the task principles: the name of a constitution, or a .toml file of your own."""
    dataset: str | None = None
    """Only debates on questions of this data set."""
    protocol: str | None = None
    """Only debates of this protocol."""
    pairs: Literal["one", "all"] = "one"
    """Of the task pairs: ask about one pair of a turn's candidates, or about every pair."""
    overlap: int = Field(default=1, ge=1)
    """How many people are to rate an item."""
    shuffle_sides: bool = True
    """Draw for each judge and pair which response stands left; false keeps their own order."""
    require_rationale: bool = False
    idle_s: float = Field(default=30.0, gt=0.0)
    """Without a key or a movement for so long, attention is not counted on."""
    keys: dict[str, str] = Field(default_factory=dict)
    """Keys in place of the usual ones, by the name of what they do."""
    theme: Literal["dark", "light"] = "dark"
