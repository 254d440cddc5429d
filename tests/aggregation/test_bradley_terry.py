"""Bradley-Terry: the maximum that others find, intervals that cover, and no rating without games
that bear it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

from oversight.aggregation.bradley_terry import PairedGames
from oversight.aggregation.ratings import ELO, fit_ratings
from tests.aggregation.simulated import simulated

STRENGTHS = np.array([0.0, 0.5, 1.1, -0.6, 0.2])
STRENGTHS = STRENGTHS - STRENGTHS.mean()


def minus_log_likelihood(games, theta, order, betas, log_tie):
    """Davidson's likelihood written out game by game, apart from the package."""
    total = 0.0
    for f, s, result, x in zip(
        games.first_G, games.second_G, games.result_G, games.covariates_GP, strict=True
    ):
        effect = np.exp(order + float(x @ betas))
        a, b = np.exp(theta[f]) * effect, np.exp(theta[s])
        t = np.exp(log_tie) * np.sqrt(a * b)
        total -= np.log({1.0: a, 0.0: b, 0.5: t}[result] / (a + b + t))
    return total


def directly(games, fixed=None):
    """The maximum of that likelihood by scipy: strengths about 0, order, covariates, log nu."""
    k, c = len(games.players), games.covariates_GP.shape[1]

    def parts(x):
        theta = np.append(x[: k - 1], 0.0)
        return theta - theta.mean(), x[k - 1], x[k : k + c], x[-1]

    found = minimize(
        lambda x: minus_log_likelihood(games, *parts(x)),
        np.zeros(k + 1 + c),
        method="BFGS",
        options={"gtol": 1e-6},
    )
    return parts(found.x), found.fun


@pytest.fixture(scope="module")
def games():
    rng = np.random.default_rng(3)
    return simulated(rng, STRENGTHS, 300, order=0.4, tie=0.7, covariate=-0.5)


def test_ties_order_and_covariates_have_the_direct_maximum_of_the_likelihood(games):
    (theta, order, betas, log_tie), fun = directly(games)
    found = fit_ratings(games, order=True)
    assert [each.value for each in found.ratings] == pytest.approx(ELO * theta, abs=0.01)
    assert [each.value for each in found.effects] == pytest.approx(
        ELO * np.array([order, *betas]), abs=0.01
    )
    assert found.tie == pytest.approx(np.exp(log_tie), rel=1e-4)
    assert found.log_likelihood == pytest.approx(-fun, abs=1e-6)


def test_ends_of_profile_intervals_are_where_the_profile_has_fallen_by_half_a_quantile(games):
    found = fit_ratings(games, order=True)
    k, drop = 2, float(chi2.ppf(0.95, 1)) / 2

    def profile(value):
        others = [i for i in range(5) if i != k]

        def given(x):
            theta = np.zeros(5)
            theta[k] = value / ELO
            theta[others[:3]] = x[:3]
            theta[others[3]] = -theta.sum()
            return minus_log_likelihood(games, theta, x[3], x[4:5], x[5])

        return -minimize(given, np.zeros(6), method="BFGS", options={"gtol": 1e-6}).fun

    for end in (found.ratings[k].low, found.ratings[k].high):
        assert profile(end) == pytest.approx(found.log_likelihood - drop, abs=0.005)


def test_ends_are_the_same_where_few_games_bend_the_likelihood():
    won = [1, 1, 1, 1, 1, 1, 0]
    games = PairedGames.of(["a", "b"], [0] * 7, [1] * 7, won)
    found = fit_ratings(games, anchor="b").ratings[0]
    best = 6 * np.log(6 / 7) + np.log(1 / 7)
    for end in (found.low, found.high):
        p = 1 / (1 + np.exp(-end / ELO))
        fallen = best - (6 * np.log(p) + np.log(1 - p))
        assert fallen == pytest.approx(float(chi2.ppf(0.95, 1)) / 2, abs=2e-3)


def test_without_ties_the_ratings_are_those_of_choix():
    choix = pytest.importorskip("choix")
    games = simulated(np.random.default_rng(5), STRENGTHS, 400)
    pairs = [
        (int(f), int(s)) if result else (int(s), int(f))
        for f, s, result in zip(games.first_G, games.second_G, games.result_G, strict=True)
    ]
    theirs = choix.ilsr_pairwise(5, pairs, alpha=0.0, tol=1e-12)
    found = fit_ratings(games)
    assert found.tie is None
    values = np.array([each.value for each in found.ratings])
    assert values == pytest.approx(ELO * (theirs - theirs.mean()), abs=1e-2)


def test_games_that_choix_has_rated_have_its_ratings():
    """Its ratings (0.4.1, ilsr_pairwise, alpha 0) of 12 games, kept where it is not installed."""
    pairs = [(0, 1), (0, 1), (1, 0), (1, 2), (1, 2), (2, 1), (0, 2), (2, 0), (2, 3), (3, 2)]
    pairs += [(0, 3), (3, 1)]
    winners, losers = zip(*pairs, strict=True)
    found = fit_ratings(PairedGames.of(list("abcd"), winners, losers, [1.0] * len(pairs)))
    assert [each.value / ELO for each in found.ratings] == pytest.approx(CHOIX, abs=1e-6)


CHOIX = [0.50229823, -0.19762888, -0.25184641, -0.05282293]


def test_who_never_lost_has_no_rating_and_the_others_have_theirs():
    games = PairedGames.of(
        ["a", "b", "c"], [0, 0, 1, 1, 2], [1, 2, 2, 2, 1], [1.0, 1.0, 1.0, 0.0, 1.0]
    )
    found = fit_ratings(games)
    assert not found.is_connected
    assert found.parts == (("b", "c"), ("a",))
    best = found.ratings[0]
    assert (best.value, best.low, best.high, best.lack) == (None, None, None, "won every game")
    alone = fit_ratings(PairedGames.of(["b", "c"], [0, 0, 1], [1, 1, 0], [1.0, 0.0, 1.0]))
    assert found.ratings[1].value == pytest.approx(alone.ratings[0].value)


def test_parts_without_games_between_them_are_rated_within_themselves():
    first, second = [0, 0, 0, 2, 2, 2], [1, 1, 1, 3, 3, 3]
    games = PairedGames.of(list("abcde"), first, second, [1, 1, 0, 1, 0, 0])
    found = fit_ratings(games, order=False)
    assert found.parts == (("a", "b"), ("c", "d"), ("e",))
    values = [each.value for each in found.ratings]
    assert values[0] == pytest.approx(-values[1])
    assert values[0] == pytest.approx(ELO * np.log(2) / 2, abs=1e-4)
    assert values[2] == pytest.approx(-values[0], abs=1e-4)
    assert values[4] is None
    assert found.ratings[4].lack == "played no game"


def test_only_games_that_decide_nothing_between_players_give_no_rating():
    games = PairedGames.of(["a", "b"], [0, 0], [1, 1], [1.0, 1.0])
    found = fit_ratings(games)
    assert [each.value for each in found.ratings] == [None, None]
    assert [each.lack for each in found.ratings] == ["won every game", "lost every game"]


def test_an_order_effect_that_cannot_be_told_from_strengths_is_refused():
    games = PairedGames.of(["a", "b"], [0, 0, 0], [1, 1, 1], [1, 1, 0])
    with pytest.raises(ValueError, match=r"first.*cannot be told"):
        fit_ratings(games, order=True)


def test_an_effect_without_a_finite_estimate_is_refused():
    games = PairedGames.of(["a", "b"], [0, 1, 0, 1], [1, 0, 1, 0], [1, 1, 1, 1])
    with pytest.raises(ValueError, match="'first' has no finite estimate"):
        fit_ratings(games, order=True)


def test_a_bootstrap_over_one_question_is_refused():
    games = PairedGames.of(["a", "b"], [0, 0], [1, 1], [1, 0], cluster=[7, 7])
    with pytest.raises(ValueError, match="one question"):
        fit_ratings(games, intervals="bootstrap")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"first": [2]}, "first.0. = 2 is no index of 2 players"),
        ({"second": [-1]}, "second.0. = -1"),
        ({"result": [0.3]}, "result.0. = 0.3"),
        ({"first": [0, 1]}, "2 first"),
        ({"covariates": {"x": [np.inf]}}, "finite"),
        ({"first": [], "second": [], "result": []}, "no games"),
    ],
)
def test_games_that_are_none_are_refused(given, says):
    games = {"first": [0], "second": [1], "result": [1.0]} | given
    with pytest.raises(ValueError, match=says):
        PairedGames.of(["a", "b"], **games)


def test_an_unknown_anchor_is_refused():
    games = PairedGames.of(["a", "b"], [0, 0], [1, 1], [1, 0])
    with pytest.raises(ValueError, match="anchor = 'z' is none of the players a, b"):
        fit_ratings(games, anchor="z")


def test_games_against_oneself_tell_the_order_effect_and_no_strength():
    first, second, result = [0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0]
    plain = fit_ratings(PairedGames.of(["a", "b"], first, second, result), order=True)
    mirrored = PairedGames.of(
        ["a", "b"], [*first, *[0] * 10], [*second, *[0] * 10], [*result, *[1] * 8, 0, 0]
    )
    found = fit_ratings(mirrored, order=True)
    assert found.ratings[0].value == pytest.approx(plain.ratings[0].value, abs=1e-6)
    assert found.effects[0].value > plain.effects[0].value + 50


def test_clustered_intervals_are_wider_where_questions_suit_players():
    rng = np.random.default_rng(11)
    games = simulated(rng, STRENGTHS, 1500, num_clusters=25, cluster_sd=1.5)
    widths = [
        np.mean([each.high - each.low for each in fit_ratings(games, intervals=method).ratings])
        for method in ("profile", "bootstrap")
    ]
    assert widths[1] > 1.3 * widths[0]


def covered(num_simulations, method, **given):
    """Share of true strengths within their intervals."""
    inside = []
    for seed in range(num_simulations):
        games = simulated(np.random.default_rng(1000 + seed), STRENGTHS, 250, **given)
        order = "order" in given
        found = fit_ratings(games, order=order, intervals=method, num_resamples=200, seed=seed)
        truth = ELO * STRENGTHS
        inside += [
            row.low <= true <= row.high for row, true in zip(found.ratings, truth, strict=True)
        ]
        if order:
            inside.append(found.effects[0].low <= ELO * given["order"] <= found.effects[0].high)
    return float(np.mean(inside))


def test_profile_intervals_cover_known_strengths():
    assert 0.92 <= covered(60, "profile", order=0.3, tie=0.5) <= 0.985


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("profile", {"order": 0.3, "tie": 0.5}),
        ("profile", {}),
        ("bootstrap", {"order": 0.3, "tie": 0.5, "num_clusters": 50}),
    ],
)
def test_intervals_cover_known_strengths_over_400_simulations(method, given):
    assert 0.93 <= covered(400, method, **given) <= 0.97
