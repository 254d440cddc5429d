"""Reward losses against their formulas."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oversight.errors import DataError
from oversight.train.losses.pairs import (
    davidson_from_raw,
    davidson_log_probabilities,
    rao_kupper_from_raw,
    rao_kupper_log_probabilities,
)
from oversight.train.losses.reward import (
    bradley_terry,
    combine,
    davidson,
    ensemble_metrics,
    pairwise_disagreement,
    plackett_luce,
    rao_kupper,
)

CHOSEN, REJECTED = (1.2, -0.4, 0.3), (0.5, 0.9, 0.3)


def tensors():
    return torch.tensor(CHOSEN, dtype=torch.float64), torch.tensor(REJECTED, dtype=torch.float64)


def log_sigma(x):
    return -math.log(1 + math.exp(-x))


def test_bradley_terry_is_its_formula():
    loss, metrics = bradley_terry.loss(*tensors(), normalizer=3)
    expected = -sum(log_sigma(c - r) for c, r in zip(CHOSEN, REJECTED, strict=True)) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert metrics["accuracy"].value() == pytest.approx(1 / 3)  # equal rewards are not right
    assert metrics["margin"].value() == pytest.approx((0.7 - 1.3 + 0) / 3)


def test_bradley_terry_with_everything_is_its_formula():
    loss, _ = bradley_terry.loss(
        *tensors(),
        normalizer=4,
        soft_label_B=torch.tensor([0.9, 1.0, 0.2]),
        margin_B=torch.tensor([0.5, 0.25, 9.0]),
        weight_B=torch.tensor([1.0, 2.0, 0.5]),
        tie_B=torch.tensor([False, False, True]),
        label_smoothing=0.1,
        centring=0.01,
    )
    expected = 0.0
    for c, r, p, m, w in zip(
        CHOSEN, REJECTED, (0.9, 1.0, 0.5), (0.5, 0.25, 0.0), (1.0, 2.0, 0.5), strict=True
    ):
        q = p * 0.9 + (1 - p) * 0.1
        nll = -q * log_sigma(c - r - m) - (1 - q) * log_sigma(-(c - r - m))
        expected += w * (nll + 0.01 * (c + r) ** 2)
    assert loss.item() == pytest.approx(expected / 4, abs=1e-6)


@pytest.mark.parametrize(
    "log_probabilities", [rao_kupper_log_probabilities, davidson_log_probabilities]
)
@settings(max_examples=30, deadline=None)
@given(lead=st.floats(-30, 30), nu=st.floats(1.01, 20))
def test_the_three_outcomes_are_a_distribution(log_probabilities, lead, nu):
    outcomes = log_probabilities(torch.tensor(lead, dtype=torch.float64), nu)
    assert sum(float(o.exp()) for o in outcomes) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(
    ("model", "log_probabilities", "nu"),
    [
        (rao_kupper, rao_kupper_log_probabilities, 3.0),
        (davidson, davidson_log_probabilities, 1.0),
    ],
)
def test_equal_responses_tie_half_of_the_time_by_default(model, log_probabilities, nu):
    loss, _ = model.loss(
        torch.zeros(1, dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
        normalizer=1,
        tie_B=torch.tensor([True]),
    )
    first, tie, _ = log_probabilities(torch.zeros((), dtype=torch.float64), nu)
    assert loss.item() == pytest.approx(math.log(2))
    assert tie.exp().item() == pytest.approx(0.5)
    assert first.exp().item() == pytest.approx(0.25)


def test_rao_kupper_is_its_formula():
    tie = torch.tensor([False, True, False])
    loss, metrics = rao_kupper.loss(*tensors(), normalizer=3, tie_B=tie, tie_strength=2.0)

    def win(a, b):
        return math.exp(a) / (math.exp(a) + 2 * math.exp(b))

    expected = (
        -math.log(win(1.2, 0.5))
        - math.log((4 - 1) * win(-0.4, 0.9) * win(0.9, -0.4))
        - math.log(win(0.3, 0.3))
    ) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert metrics["accuracy"].count == 2


def test_davidson_is_its_formula():
    tie = torch.tensor([False, True, False])
    loss, _ = davidson.loss(*tensors(), normalizer=3, tie_B=tie, tie_strength=0.7)

    def share(a, b, top):
        return top / (math.exp(a) + math.exp(b) + 1.4 * math.exp((a + b) / 2))

    expected = (
        -math.log(share(1.2, 0.5, math.exp(1.2)))
        - math.log(share(-0.4, 0.9, 1.4 * math.exp(0.25)))
        - math.log(share(0.3, 0.3, math.exp(0.3)))
    ) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("model", [rao_kupper, davidson])
def test_a_tie_draws_rewards_together_and_a_soft_label_apart(model):
    chosen = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.zeros(1, dtype=torch.float64)
    model.loss(chosen, rejected, normalizer=1, tie_B=torch.tensor([True]))[0].backward()
    assert chosen.grad > 0
    chosen.grad = None
    soft = torch.tensor([0.95], dtype=torch.float64)
    model.loss(chosen, rejected, normalizer=1, soft_label_B=soft)[0].backward()
    assert chosen.grad < 0


@pytest.mark.parametrize(
    ("model", "log_probabilities", "from_raw"),
    [
        (rao_kupper, rao_kupper_log_probabilities, rao_kupper_from_raw),
        (davidson, davidson_log_probabilities, davidson_from_raw),
    ],
)
def test_a_tie_strength_is_learnt_from_the_share_of_ties(model, log_probabilities, from_raw):
    """Equal rewards of which 70 % are tied: the likeliest nu gives a tie 70 %."""
    raw = torch.zeros((), dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(10, dtype=torch.float64)
    tie = torch.arange(10) < 7
    optimizer = torch.optim.LBFGS([raw], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss, _ = model.loss(zeros, zeros, normalizer=10, tie_B=tie, tie_strength=from_raw(raw))
        loss.backward()
        return loss

    optimizer.step(closure)
    _, tied, _ = log_probabilities(zeros[0], from_raw(raw.detach()))
    assert tied.exp().item() == pytest.approx(0.7, abs=1e-3)


# --- Plackett–Luce ------------------------------------------------------------------------

REWARDS = torch.tensor([[0.3, -0.7, 1.1, 0.0], [2.0, 0.5, 0.1, 99.0]], dtype=torch.float64)
RANKS = torch.tensor([[1, 3, 0, 2], [0, 1, 2, 0]])
RAGGED = torch.tensor([[True] * 4, [True, True, True, False]])


def ranking_nll(best_first):
    return sum(
        math.log(sum(math.exp(b) for b in best_first[i:])) - a for i, a in enumerate(best_first)
    )


def test_plackett_luce_is_its_formula_for_ragged_rankings_in_any_order():
    loss, metrics = plackett_luce.loss(REWARDS, ranks_BK=RANKS, mask_BK=RAGGED, normalizer=2)
    expected = (ranking_nll([1.1, 0.3, 0.0, -0.7]) + ranking_nll([2.0, 0.5, 0.1])) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert metrics["accuracy"].value() == 1
    assert metrics["top_accuracy"].value() == 1
    assert metrics["ties"].value() == 0


def test_all_rankings_have_probabilities_that_sum_to_one():
    rewards = REWARDS[:1]
    total = 0.0
    for order in itertools.permutations(range(4)):
        nll, _ = plackett_luce.loss(rewards, ranks_BK=torch.tensor([order]), normalizer=1)
        total += math.exp(-nll.item())
    assert total == pytest.approx(1)


@pytest.mark.parametrize("ties", ["apart", "breslow", "refuse"])
def test_a_ranking_of_two_is_bradley_terry(ties):
    chosen, rejected = tensors()
    stacked = torch.stack([rejected, chosen], 1)
    ranks = torch.tensor([[1, 0]] * 3)
    one, _ = plackett_luce.loss(stacked, ranks_BK=ranks, normalizer=3, ties=ties, centring=0.1)
    other, _ = bradley_terry.loss(chosen, rejected, normalizer=3, centring=0.1)
    assert one.item() == pytest.approx(other.item(), rel=1e-12)


def test_tied_responses_apart_compete_only_with_what_is_worse():
    rewards = torch.tensor([[1.0, 0.5, -0.2]], dtype=torch.float64)
    ranks = torch.tensor([[0, 0, 1]])
    loss, metrics = plackett_luce.loss(rewards, ranks_BK=ranks, normalizer=1)
    assert loss.item() == pytest.approx(ranking_nll([1.0, -0.2]) + ranking_nll([0.5, -0.2]))
    assert metrics["ties"].value() == pytest.approx(1 / 3)
    tied, _ = plackett_luce.loss(rewards, ranks_BK=torch.zeros(1, 3), normalizer=1)
    assert tied.item() == pytest.approx(0, abs=1e-12)


def test_tied_responses_by_breslow_share_their_rivals_and_draw_together():
    rewards = torch.tensor([[1.0, 0.5, -0.2]], dtype=torch.float64, requires_grad=True)
    loss, _ = plackett_luce.loss(
        rewards, ranks_BK=torch.tensor([[0, 0, 1]]), normalizer=1, ties="breslow"
    )
    everything = math.log(math.exp(1.0) + math.exp(0.5) + math.exp(-0.2))
    assert loss.item() == pytest.approx(2 * everything - 1.5)
    loss, _ = plackett_luce.loss(
        rewards, ranks_BK=torch.zeros(1, 3, dtype=torch.long), normalizer=1, ties="breslow"
    )
    loss.backward()
    assert rewards.grad[0, 0] > 0 > rewards.grad[0, 2]


def test_ties_can_be_refused_by_row():
    with pytest.raises(DataError, match=r"ranking 1 .* has ties"):
        plackett_luce.loss(
            REWARDS,
            ranks_BK=torch.tensor([[0, 1, 2, 3], [0, 1, 1, 2]]),
            normalizer=1,
            ties="refuse",
        )
    padding = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 2]])  # the tie is with padding
    plackett_luce.loss(REWARDS, ranks_BK=padding, mask_BK=RAGGED, normalizer=1, ties="refuse")


def test_padding_and_weight_zero_have_no_influence_on_a_ranking():
    rewards = REWARDS.clone()
    rewards[1, 3] = float("nan")
    rewards = torch.cat([rewards, torch.full((1, 4), float("inf"))]).requires_grad_()
    loss, _ = plackett_luce.loss(
        rewards,
        ranks_BK=torch.cat([RANKS, RANKS[:1]]),
        mask_BK=torch.cat([RAGGED, RAGGED[:1]]),
        weight_B=torch.tensor([1.0, 1.0, 0.0]),
        normalizer=2,
    )
    loss.backward()
    expected, _ = plackett_luce.loss(REWARDS, ranks_BK=RANKS, mask_BK=RAGGED, normalizer=2)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert rewards.grad[1, 3] == 0
    assert (rewards.grad[2] == 0).all()


def test_plackett_luce_raises_the_best_and_lowers_the_worst():
    rewards = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    plackett_luce.loss(rewards, ranks_BK=torch.tensor([[2, 0, 1]]), normalizer=1)[0].backward()
    assert rewards.grad[0, 1] < 0 < rewards.grad[0, 0]


# --- ensembles ----------------------------------------------------------------------------

MEMBERS = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 3.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [3.0, 1.0]),
        ("min", [1.0, 0.0]),
        ("minus_std", [3 - 0.5 * math.sqrt(8 / 3), 1 - 0.5 * math.sqrt(2)]),
        ("minus_variance", [3 - 0.5 * 8 / 3, 1 - 0.5 * 2]),
    ],
)
def test_members_are_combined(how, expected):
    combined = combine(MEMBERS, how=how, coefficient=0.5)
    assert combined.tolist() == pytest.approx(expected)


def test_members_disagree_by_the_share_that_orders_a_pair_apart():
    chosen = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.5]])
    rejected = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.5]])
    out = pairwise_disagreement(chosen, rejected)
    assert out.tolist() == pytest.approx([0, 0.5])  # unanimous; one for, one against, one even
    scaled = pairwise_disagreement(10 * chosen, 10 * rejected)
    assert torch.equal(out, scaled)


def test_an_ensembles_metrics_are_means():
    values = {k: m.value() for k, m in ensemble_metrics(MEMBERS).items()}
    assert values["reward"] == 2.0
    assert values["disagreement"] == pytest.approx((math.sqrt(8 / 3) + math.sqrt(2)) / 2)
