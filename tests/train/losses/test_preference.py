"""Preference losses against their formulas, in plain Python floats."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from oversight.train import losses
from oversight.train.losses.pairs import PairLogps, davidson_from_raw, rao_kupper_from_raw, sft_term

# Two pairs: sums of log-probabilities, and lengths.
CHOSEN, REJECTED = (-12.0, -31.0), (-15.5, -20.0)
REF_CHOSEN, REF_REJECTED = (-13.0, -30.0), (-14.0, -22.5)
LONG, SHORT = (8, 20), (10, 11)


def pairs(**extra):
    def tensor(values):
        return torch.tensor(values, dtype=torch.float64)

    given = {
        "chosen_B": tensor(CHOSEN),
        "rejected_B": tensor(REJECTED),
        "ref_chosen_B": tensor(REF_CHOSEN),
        "ref_rejected_B": tensor(REF_REJECTED),
        "chosen_length_B": torch.tensor(LONG),
        "rejected_length_B": torch.tensor(SHORT),
    }
    return PairLogps(**{**given, **extra})


def sigma(x):
    return 1 / (1 + math.exp(-x))


def log_sigma(x):
    return -math.log(1 + math.exp(-x))


C = [a - b for a, b in zip(CHOSEN, REF_CHOSEN, strict=True)]  # 1, -1
R = [a - b for a, b in zip(REJECTED, REF_REJECTED, strict=True)]  # -1.5, 2.5
D = [c - r for c, r in zip(C, R, strict=True)]  # 2.5, -3.5
PER_TOKEN = [c / n - r / m for c, r, n, m in zip(C, R, LONG, SHORT, strict=True)]
MEANS = [(a / n, b / m) for a, b, n, m in zip(CHOSEN, REJECTED, LONG, SHORT, strict=True)]


def exo(d, beta, eps):
    p = sigma(beta * d)
    return p * math.log(p / (1 - eps)) + (1 - p) * math.log((1 - p) / eps)


def discopop(d, beta, tau):
    m = sigma(beta * d / tau)
    return (1 - m) * math.log(1 + math.exp(-beta * d)) + m * math.exp(-beta * d)


def orpo(chosen, rejected, lam):
    def odds(logp):
        return math.exp(logp) / (1 - math.exp(logp))

    return -chosen - lam * log_sigma(math.log(odds(chosen)) - math.log(odds(rejected)))


def rao_kupper_win(d, nu):
    return math.exp(d) / (math.exp(d) + nu)


def davidson_win(d, nu):
    return math.exp(d) / (math.exp(d) + 1 + 2 * nu * math.exp(d / 2))


def confident(z, weight):
    """Of a pair that the learner holds the other way round."""
    return -(1 - weight) * log_sigma(z) - weight * log_sigma(-z)


def mean(values):
    return sum(values) / len(values)


CASES = [
    ("sigmoid", {"beta": 0.3}, mean([-log_sigma(0.3 * d) for d in D])),
    (
        "sigmoid",
        {"beta": 0.3, "label_smoothing": 0.2},
        mean([-0.8 * log_sigma(0.3 * d) - 0.2 * log_sigma(-0.3 * d) for d in D]),
    ),
    (
        "confidence",
        {"beta": 0.3, "strength": 0.5, "warmup": 0.4, "progress": 0.1},
        mean(
            [-log_sigma(0.3 * d) if d > 0 else confident(0.3 * d, 0.125) for d in D],
        ),
    ),
    (
        "confidence",
        {"beta": 0.3, "strength": 0.5, "warmup": 0.4, "progress": 0.9},
        mean([-log_sigma(0.3 * d) if d > 0 else confident(0.3 * d, 0.5) for d in D]),
    ),
    (
        "robust",
        {"beta": 0.3, "label_smoothing": 0.2},
        mean([(-0.8 * log_sigma(0.3 * d) + 0.2 * log_sigma(-0.3 * d)) / 0.6 for d in D]),
    ),
    ("hinge", {"beta": 0.3}, mean([max(0, 1 - 0.3 * d) for d in D])),
    ("ipo", {"beta": 0.3}, mean([(d - 1 / 0.6) ** 2 for d in D])),
    ("ipo", {"beta": 0.3, "trl_mean": True}, mean([(d - 1 / 0.6) ** 2 for d in PER_TOKEN])),
    ("length_normalised", {"beta": 2.0}, mean([-log_sigma(2 * d) for d in PER_TOKEN])),
    (
        "length_regularised",
        {"beta": 0.3, "alpha": 0.05},
        mean(
            [-log_sigma(0.3 * d + 0.05 * (n - m)) for d, n, m in zip(D, LONG, SHORT, strict=True)]
        ),
    ),
    (
        "simpo",
        {"beta": 2.0, "gamma": 0.5},
        mean([-log_sigma(2 * c - 2 * r - 0.5) for c, r in MEANS]),
    ),
    ("orpo", {"beta": 0.2}, mean([orpo(c, r, 0.2) for c, r in MEANS])),
    (
        "apo_zero",
        {"beta": 0.3},
        mean([1 - sigma(0.3 * c) + sigma(0.3 * r) for c, r in zip(C, R, strict=True)]),
    ),
    (
        "apo_down",
        {"beta": 0.3},
        mean([sigma(0.3 * c) + 1 - sigma(0.3 * d) for c, d in zip(C, D, strict=True)]),
    ),
    (
        "nca_pair",
        {"beta": 0.3},
        mean(
            [
                -log_sigma(0.3 * c) - 0.5 * log_sigma(-0.3 * c) - 0.5 * log_sigma(-0.3 * r)
                for c, r in zip(C, R, strict=True)
            ]
        ),
    ),
    ("exo_pair", {"beta": 0.3, "label_smoothing": 0.01}, mean([exo(d, 0.3, 0.01) for d in D])),
    (
        "bco_pair",
        {"beta": 0.3, "shift": 0.1},
        mean(
            [
                -log_sigma(0.3 * c - 0.1) - log_sigma(-(0.3 * r - 0.1))
                for c, r in zip(C, R, strict=True)
            ]
        ),
    ),
    (
        "sppo_hard",
        {"beta": 0.3},
        mean([(c - 0.5 / 0.3) ** 2 + (r + 0.5 / 0.3) ** 2 for c, r in zip(C, R, strict=True)]),
    ),
    ("discopop", {"beta": 0.3, "tau": 0.5}, mean([discopop(d, 0.3, 0.5) for d in D])),
    (
        "aot",
        {"beta": 0.3, "label_smoothing": 0.1},
        # ours: 3.5 and -11; reference: 1 and -7.5; sorted: -11 against -7.5, 3.5 against 1
        mean([-0.9 * log_sigma(0.3 * d) - 0.1 * log_sigma(-0.3 * d) for d in (-3.5, 2.5)]),
    ),
    (
        "aot_unpaired",
        {"beta": 0.3},
        mean([-log_sigma(0.3 * (-1 - -1.5)), -log_sigma(0.3 * (1 - 2.5))]),
    ),
    (
        "rao_kupper",
        {"beta": 0.3, "tie_strength": 2.0},
        mean([-math.log(rao_kupper_win(0.3 * d, 2.0)) for d in D]),
    ),
    (
        "davidson",
        {"beta": 0.3, "tie_strength": 0.7},
        mean([-math.log(davidson_win(0.3 * d, 0.7)) for d in D]),
    ),
]


@pytest.mark.parametrize(("name", "options", "expected"), CASES)
def test_loss_is_its_formula(name, options, expected):
    loss, _ = losses.load("preference", name).loss(pairs(), normalizer=2, **options)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_every_preference_loss_has_a_formula_here():
    assert {name for name, _, _ in CASES} == set(losses.names("preference"))


def test_without_a_reference_its_log_probabilities_are_zero():
    zeros = torch.zeros(2, dtype=torch.float64)
    none = pairs(ref_chosen_B=None, ref_rejected_B=None)
    zero = pairs(ref_chosen_B=zeros, ref_rejected_B=zeros)
    for name in losses.names("preference"):
        module = losses.load("preference", name)
        one, other = module.loss(none, normalizer=2)[0], module.loss(zero, normalizer=2)[0]
        assert one.item() == other.item(), name


def test_half_a_reference_is_refused():
    with pytest.raises(ValueError, match="ref_rejected_B"):
        pairs(ref_rejected_B=None)


def test_a_loss_that_needs_lengths_says_so():
    with pytest.raises(ValueError, match="chosen_length_B"):
        losses.load("preference", "simpo").loss(pairs(chosen_length_B=None), normalizer=1)


def test_soft_labels_are_a_cross_entropy_and_smoothing_flips_them():
    label = torch.tensor([0.7, 0.5], dtype=torch.float64)
    loss, metrics = losses.load("preference", "sigmoid").loss(
        pairs(soft_label_B=label), normalizer=2, beta=0.3, label_smoothing=0.1
    )
    q = [0.7 * 0.9 + 0.3 * 0.1, 0.5]
    expected = mean(
        [-p * log_sigma(0.3 * d) - (1 - p) * log_sigma(-0.3 * d) for p, d in zip(q, D, strict=True)]
    )
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert metrics["accuracy"].count == 1  # the even label has no better side
    assert metrics["accuracy"].value() == 1


def test_smoothing_equals_a_soft_label():
    module = losses.load("preference", "sigmoid")
    smooth, _ = module.loss(pairs(), normalizer=2, label_smoothing=0.2)
    soft = pairs(soft_label_B=torch.full((2,), 0.8, dtype=torch.float64))
    assert module.loss(soft, normalizer=2)[0].item() == pytest.approx(smooth.item(), rel=1e-12)


def test_exo_is_least_where_the_policy_has_the_labels_probability():
    module = losses.load("preference", "exo_pair")
    d = math.log(0.8 / 0.2)
    pair = PairLogps(
        torch.tensor([d], dtype=torch.float64, requires_grad=True),
        torch.zeros(1, dtype=torch.float64),
    )
    loss, _ = module.loss(pair, normalizer=1, beta=1.0, label_smoothing=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert pair.chosen_B.grad.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "nu", "probability"),
    [
        ("rao_kupper", 2.0, lambda d: 3 * rao_kupper_win(d, 2.0) * rao_kupper_win(-d, 2.0)),
        ("davidson", 0.7, lambda d: 1 - davidson_win(d, 0.7) - davidson_win(-d, 0.7)),
    ],
)
def test_tie_aware_dpo_gives_ties_their_probability(name, nu, probability):
    tie = torch.tensor([True, False])
    loss, _ = losses.load("preference", name).loss(
        pairs(tie_B=tie), normalizer=2, beta=0.3, tie_strength=nu
    )
    win = rao_kupper_win if name == "rao_kupper" else davidson_win
    expected = mean([-math.log(probability(0.3 * D[0])), -math.log(win(0.3 * D[1], nu))])
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["rao_kupper", "davidson"])
def test_tie_aware_start_value_counts_the_tied_share(name):
    module = losses.load("preference", name)
    same = pairs(
        ref_chosen_B=pairs().chosen_B,
        ref_rejected_B=pairs().rejected_B,
        tie_B=torch.tensor([True, False]),
    )
    loss, _ = module.loss(same, normalizer=2, tie_strength=2.5)
    assert module.start_value(tie_strength=2.5, tie_share=0.5) == pytest.approx(loss.item())


@pytest.mark.parametrize(
    ("name", "from_raw"),
    [("rao_kupper", rao_kupper_from_raw), ("davidson", davidson_from_raw)],
)
def test_a_learnable_tie_strength_gets_a_gradient(name, from_raw):
    module = losses.load("preference", name)
    raw = torch.zeros((), dtype=torch.float64, requires_grad=True)
    strength = from_raw(raw)
    tied = pairs(tie_B=torch.tensor([True, True]))
    module.loss(tied, normalizer=2, tie_strength=strength)[0].backward()
    assert raw.grad < 0  # many ties ask for a larger one


def test_discopop_rises_with_the_margin_at_the_start():
    chosen = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    pair = PairLogps(chosen, torch.zeros(1, dtype=torch.float64))
    losses.load("preference", "discopop").loss(pair, normalizer=1)[0].backward()
    assert chosen.grad > 0


def test_metrics_are_means_over_pairs():
    _, metrics = losses.load("preference", "sigmoid").loss(pairs(), normalizer=77, beta=0.3)
    values = {name: metric.value() for name, metric in metrics.items()}
    assert values["accuracy"] == 0.5
    assert values["margin"] == pytest.approx(0.3 * mean(D))
    assert values["reward_chosen"] == pytest.approx(0.3 * mean(C))
    assert values["reward_rejected"] == pytest.approx(0.3 * mean(R))
    assert values["logp_chosen"] == pytest.approx(mean(CHOSEN))
    assert values["loss"] == pytest.approx(mean([-log_sigma(0.3 * d) for d in D]))


def test_r_dpo_learns_less_from_a_longer_winner():
    chosen_B = torch.tensor([-12.0, -12.0], dtype=torch.float64, requires_grad=True)
    same = torch.tensor([-12.0, -12.0], dtype=torch.float64)
    given = pairs(chosen_B=chosen_B, rejected_B=same, ref_chosen_B=same, ref_rejected_B=same)
    loss, _ = losses.load("preference", "length_regularised").loss(given, normalizer=2)
    loss.backward()
    # The first winner is shorter than what it beat, the second longer.
    shorter, longer = chosen_B.grad.abs().tolist()
    assert longer < shorter


def test_sft_term_is_the_mean_nll_of_each_chosen_response():
    loss, metrics = sft_term(pairs(), normalizer=2, alpha=0.5)
    nll = mean([-c for c, _ in MEANS])
    assert loss.item() == pytest.approx(0.5 * nll, rel=1e-12)
    assert metrics["sft_nll"].value() == pytest.approx(nll)


def test_sft_term_per_token_divides_by_all_tokens():
    loss, _ = sft_term(pairs(), normalizer=sum(LONG), alpha=1.0, per_token=True)
    assert loss.item() == pytest.approx(-sum(CHOSEN) / sum(LONG), rel=1e-12)


def test_sft_term_follows_the_label():
    label = torch.tensor([0.1, 0.9])
    tie = torch.tensor([False, True])
    loss, _ = sft_term(pairs(soft_label_B=label, tie_B=tie), normalizer=1, alpha=1.0)
    assert loss.item() == pytest.approx(-MEANS[0][1] - mean(MEANS[1]), rel=1e-12)


def test_rows_and_swapped_keep_their_company():
    there = pairs(weight_B=torch.tensor([1.0, 2.0]))
    one = there.rows(torch.tensor([1]))
    assert one.weight_B.tolist() == [2.0]
    assert one.tie_B is None
    back = there.swapped().swapped()
    for field in dataclasses.fields(there):
        assert getattr(back, field.name) is getattr(there, field.name)
