"""Policy losses against their formulas, in plain Python floats."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from oversight.errors import ConfigError
from oversight.train import losses
from oversight.train.losses.policy_batch import Extras, PolicyBatch

# Two sequences of 3 and 2 tokens: ratios, advantages, current log-probabilities.
RATIO = [[1.5, 0.5, 1.1], [0.7, 1.6]]
ADVANTAGE = [[1.0, 1.0, 1.0], [-2.0, -2.0]]
LOGP = [[-1.0, -2.0, -0.5], [-1.5, -0.25]]
REF = [[-1.2, -1.5, -0.75], [-1.0, -0.5]]
MASK = torch.tensor([[True, True, True], [True, True, False]])


def padded(rows):
    return torch.tensor([row + [0.0] * (3 - len(row)) for row in rows], dtype=torch.float64)


def batch(**extra):
    logps = padded(LOGP)
    ratio = torch.where(MASK, padded(RATIO), 1.0)
    return PolicyBatch(
        logps_BT=logps.requires_grad_(),
        old_logps_BT=logps.detach() - ratio.log(),
        advantages_BT=padded(ADVANTAGE),
        mask_BT=MASK,
        **extra,
    )


def clipped(w, a, low, high, dual=None):
    out = min(w * a, min(max(w, 1 - low), 1 + high) * a)
    return -max(out, dual * a) if dual and a < 0 else -out


def tokens(function):
    return [
        [function(w, a, lp) for w, a, lp in zip(ws, as_, lps, strict=True)]
        for ws, as_, lps in zip(RATIO, ADVANTAGE, LOGP, strict=True)
    ]


def by_token(rows):
    return sum(map(sum, rows)) / sum(map(len, rows))


def by_sequence(rows):
    return sum(sum(row) / len(row) for row in rows) / len(rows)


GEOMETRIC = [math.prod(ws) ** (1 / len(ws)) for ws in RATIO]
PRODUCT = [math.prod(ws) for ws in RATIO]
FIRST_ADVANTAGE = [row[0] for row in ADVANTAGE]


def whole(ratios, low, high):
    pairs = zip(ratios, FIRST_ADVANTAGE, strict=True)
    return sum(clipped(w, a, low, high) for w, a in pairs) / 2


CASES = [
    ("ppo", {}, 5, by_token(tokens(lambda w, a, _: clipped(w, a, 0.2, 0.2)))),
    (
        "ppo",
        {"dual_clip": 1.4},
        5,
        by_token(tokens(lambda w, a, _: clipped(w, a, 0.2, 0.2, 1.4))),
    ),
    ("grpo", {}, 2, by_sequence(tokens(lambda w, a, _: clipped(w, a, 0.2, 0.2)))),
    (
        "dr_grpo",
        {},
        2 * 10,
        sum(map(sum, tokens(lambda w, a, _: clipped(w, a, 0.2, 0.2)))) / 20,
    ),
    ("dapo", {}, 5, by_token(tokens(lambda w, a, _: clipped(w, a, 0.2, 0.28)))),
    ("gspo", {"clip_low": 0.02, "clip_high": 0.03}, 2, whole(GEOMETRIC, 0.02, 0.03)),
    ("gspo_token", {"clip_low": 0.02, "clip_high": 0.03}, 2, whole(GEOMETRIC, 0.02, 0.03)),
    ("cispo", {"clip_high": 0.3}, 5, by_token(tokens(lambda w, a, lp: -min(w, 1.3) * a * lp))),
    (
        "cispo",
        {"clip_low": 0.2, "clip_high": 0.3},
        5,
        by_token(tokens(lambda w, a, lp: -max(min(w, 1.3), 0.8) * a * lp)),
    ),
    ("reinforce", {}, 2, sum(map(sum, tokens(lambda w, a, lp: -a * lp))) / 2),
    ("rloo_trl", {}, 2, whole(PRODUCT, 0.2, 0.2)),
]


@pytest.mark.parametrize(("name", "options", "normalizer", "expected"), CASES)
def test_loss_is_its_formula(name, options, normalizer, expected):
    loss, _ = losses.load("policy", name).loss(batch(), normalizer=normalizer, **options)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_every_policy_loss_has_a_formula_here():
    assert {name for name, _, _, _ in CASES} == set(losses.names("policy"))


def test_no_gradient_where_clipping_binds():
    given = batch()
    losses.load("policy", "ppo").loss(given, normalizer=1)[0].backward()
    moves = (given.logps_BT.grad != 0).tolist()
    # 1.5 with A > 0 and 0.7 with A < 0 are bounded; 1.6 with A < 0 is not.
    assert moves == [[False, True, True], [False, True, False]]


def test_dual_clip_stops_what_grew_too_likely_and_is_bad():
    given = batch()
    _, metrics = losses.load("policy", "ppo").loss(given, normalizer=1, dual_clip=1.4)
    losses.load("policy", "ppo").loss(given, normalizer=1, dual_clip=1.4)[0].backward()
    assert given.logps_BT.grad[1, 1] == 0
    assert metrics["clip_dual"].value() == pytest.approx(1 / 5)


def test_cispo_keeps_the_gradient_of_every_token():
    given = batch()
    losses.load("policy", "cispo").loss(given, normalizer=1, clip_high=0.3)[0].backward()
    assert given.logps_BT.grad[0].tolist() == pytest.approx([-1.3, -0.5, -1.1])
    assert given.logps_BT.grad[1, :2].tolist() == pytest.approx([1.4, 2.6])


def test_gspo_and_its_token_form_have_one_gradient_for_one_advantage():
    one, other = batch(), batch()
    losses.load("policy", "gspo").loss(one, normalizer=2)[0].backward()
    losses.load("policy", "gspo_token").loss(other, normalizer=2)[0].backward()
    torch.testing.assert_close(one.logps_BT.grad, other.logps_BT.grad)


def test_clip_shares_count_tokens_by_the_sign_of_their_advantage():
    _, metrics = losses.load("policy", "grpo").loss(batch(), normalizer=2)
    assert metrics["clip_high"].value() == pytest.approx(1 / 5)  # 1.5 with A > 0; not 1.6
    assert metrics["clip_low"].value() == pytest.approx(1 / 5)  # 0.7 with A < 0; not 0.5
    assert metrics["ratio"].value() == pytest.approx(sum(map(sum, RATIO)) / 5)
    assert metrics["ratio_max"].value() == pytest.approx(1.6)
    k3 = by_token(tokens(lambda w, a, lp: w - 1 - math.log(w)))
    assert metrics["approx_kl"].value() == pytest.approx(k3)


@pytest.mark.parametrize(("name", "reduce"), [("grpo", by_sequence), ("dapo", by_token)])
def test_kl_and_entropy_are_reduced_like_the_policy_term(name, reduce):
    entropy = [[1.0, 2.0, 3.0], [0.5, 0.25]]
    given = batch(ref_logps_BT=padded(REF), entropy_BT=padded(entropy))
    normalizer = 2 if name == "grpo" else 5
    module = losses.load("policy", name)
    plain, _ = module.loss(given, normalizer=normalizer)
    extras = Extras(kl_coefficient=0.3, kl_estimator="k3", entropy_coefficient=0.1)
    loss, metrics = module.loss(given, normalizer=normalizer, extras=extras)
    k3 = [
        [math.exp(r - lp) - 1 - (r - lp) for r, lp in zip(rs, lps, strict=True)]
        for rs, lps in zip(REF, LOGP, strict=True)
    ]
    expected = plain.item() + 0.3 * reduce(k3) - 0.1 * reduce(entropy)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert metrics["kl"].value() == pytest.approx(by_token(k3))
    assert metrics["entropy"].value() == pytest.approx(by_token(entropy))


def test_importance_weights_leave_grpos_own_kl_alone_but_not_the_corrected_one():
    doubled = {"importance_BT": torch.full((2, 3), 2.0, dtype=torch.float64)}
    flat = dataclasses.replace(batch(ref_logps_BT=padded(REF)), advantages_BT=torch.zeros(2, 3))
    module = losses.load("policy", "dapo")
    for estimator, factor in [("k3", 1.0), ("k3_ratio", 2.0), ("k2_ratio", 2.0)]:
        extras = Extras(kl_coefficient=1.0, kl_estimator=estimator)
        one, _ = module.loss(flat, normalizer=5, extras=extras)
        two, _ = module.loss(dataclasses.replace(flat, **doubled), normalizer=5, extras=extras)
        assert two.item() == pytest.approx(factor * one.item())


def test_a_kl_coefficient_without_a_reference_is_refused():
    with pytest.raises(ValueError, match="ref_logps_BT"):
        losses.load("policy", "ppo").loss(batch(), normalizer=1, extras=Extras(kl_coefficient=0.1))


def test_an_entropy_bonus_without_entropy_is_refused():
    with pytest.raises(ValueError, match="entropy_BT"):
        losses.load("policy", "ppo").loss(
            batch(), normalizer=1, extras=Extras(entropy_coefficient=0.1)
        )


def test_bounds_out_of_range_are_refused():
    module = losses.load("policy", "ppo")
    with pytest.raises(ConfigError, match="dual_clip"):
        module.loss(batch(), normalizer=1, dual_clip=1.0)
    with pytest.raises(ConfigError, match="clip_low"):
        module.loss(batch(), normalizer=1, clip_low=2.0)
    with pytest.raises(ConfigError, match="k1"):
        Extras(kl_estimator="k1")


def test_a_sampler_without_log_probabilities_does_not_spoil_the_metric():
    sampler = padded(LOGP).detach()
    sampler[0, 0] = float("nan")
    _, metrics = losses.load("policy", "ppo").loss(batch(sampler_logps_BT=sampler), normalizer=1)
    assert metrics["sampler_kl"].count == 4
    assert math.isfinite(metrics["sampler_kl"].value())
