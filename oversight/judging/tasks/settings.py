"""What a session of rating is: whose, on which task, over which items.

judge = "anna"
store = "debates.db"
name = "pilot"                  # of the study
overlap = 2                     # people an item
constitution = "honest_debate"  # of the task principles: a name, or a file
"""

from __future__ import annotations

from typing import Literal

from oversight.judging.settings import SessionSettings


class RatingSettings(SessionSettings):
    """A session of rating."""

    constitution: str = "honest_debate"
    """Of the task principles: the name of a constitution, or a .toml file of your own."""
    pairs: Literal["one", "all"] = "one"
    """Of the task pairs: ask about one pair of a turn's candidates, or about every pair."""
