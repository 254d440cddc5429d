"""Sentences of a tournament."""

from __future__ import annotations

import pytest

from oversight.aggregation.ratings import FittedRatings, PlayerRating
from oversight.tournaments.results import TournamentResults, headlines


def results(ratings: list[tuple[str, float, float, float]]) -> TournamentResults:
    rows = tuple(PlayerRating(name, value, low, high, 0, 9) for name, value, low, high in ratings)
    fitted = FittedRatings(rows, (), None, (), "profile", -1.0, 9, 9)
    names = tuple(name for name, *_ in ratings)
    return TournamentResults(
        *(names, {}, "judge", "debate", "world", 3, 9, 1, ()),
        *(fitted, None, None, {}, (), (), "t.db", "run", 0),
    )


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (("b", 90.0, 40.0, 140.0), "; into its interval reach those of b."),
        (("b", 10.0, -20.0, 40.0), "beside the mean of 3 players."),
    ],
)
def test_who_leads_is_said_with_those_that_may_lead_as_well(second, said):
    rows = [("a", 92.0, 56.0, 127.0), second, ("c", -100.0, -150.0, -50.0)]
    [line] = headlines(results(rows))
    assert line.startswith("a is rated highest: +92 [56, 127]")
    assert line.endswith(said)
