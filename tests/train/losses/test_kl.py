"""KL estimators on a softmax bandit, where every expectation is a finite sum."""

from __future__ import annotations

import pytest
import torch

from oversight.errors import ConfigError
from oversight.train.losses import kl
from oversight.train.losses.kl import AdaptiveKL, FixedKL

NUM_ARMS = 5


def bandit(seed=0):
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(3, NUM_ARMS, generator=generator, dtype=torch.float64)
    logits = draws[0].requires_grad_()
    return logits, draws[1].log_softmax(0), draws[2].log_softmax(0)


def exact_gradient(logits, ref):
    logps = logits.log_softmax(0)
    divergence = (logps.exp() * (logps - ref)).sum()
    (gradient,) = torch.autograd.grad(divergence, logits)
    return divergence.detach(), gradient


def expected_gradient(term, sampler, logits):
    """Gradient of the loss of one token, in expectation over tokens from `sampler`."""
    weights = sampler.exp().detach()
    (gradient,) = torch.autograd.grad((weights * term).sum(), logits)
    return gradient


@pytest.mark.parametrize("estimator", ["k2_ratio", "k3_ratio"])
@pytest.mark.parametrize("on_policy", [True, False])
def test_corrected_estimators_have_the_exact_gradient(estimator, on_policy):
    logits, ref, other = bandit()
    logps = logits.log_softmax(0)
    sampler = logps.detach() if on_policy else other
    term = kl.per_token(logps, ref, old_logps_BT=sampler, estimator=estimator)
    _, exact = exact_gradient(logits, ref)
    torch.testing.assert_close(expected_gradient(term, sampler, logits), exact)


def test_k2_has_the_exact_gradient_on_policy_only():
    logits, ref, other = bandit()
    logps = logits.log_softmax(0)
    term = kl.per_token(logps, ref, estimator="k2")
    _, exact = exact_gradient(logits, ref)
    torch.testing.assert_close(expected_gradient(term, logps, logits), exact)
    term = kl.per_token(logits.log_softmax(0), ref, estimator="k2")
    off = expected_gradient(term, other, logits)
    assert (off - exact).norm() > 0.1 * exact.norm()


def test_k3_as_a_loss_has_the_gradient_of_the_reverse_divergence():
    logits, ref, _ = bandit()
    logps = logits.log_softmax(0)
    term = kl.per_token(logps, ref, estimator="k3")
    biased = expected_gradient(term, logps, logits)
    _, exact = exact_gradient(logits, ref)
    reverse = (ref.exp() * (ref - logits.log_softmax(0))).sum()
    (reverse_gradient,) = torch.autograd.grad(reverse, logits)
    torch.testing.assert_close(biased, reverse_gradient)
    assert (biased - exact).norm() > 0.1 * exact.norm()


def test_k1_as_a_loss_has_no_gradient_in_expectation_and_is_refused():
    logits, ref, _ = bandit()
    logps = logits.log_softmax(0)
    gradient = expected_gradient(kl.estimate(logps, ref, estimator="k1"), logps, logits)
    torch.testing.assert_close(gradient, torch.zeros(NUM_ARMS, dtype=torch.float64))
    with pytest.raises(ConfigError, match="k1 has no gradient"):
        kl.per_token(logps, ref, estimator="k1")


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_have_the_exact_value(estimator):
    logits, ref, _ = bandit()
    logps = logits.detach().log_softmax(0)
    divergence, _ = exact_gradient(logits, ref)
    value = (logps.exp() * kl.estimate(logps, ref, estimator=estimator)).sum()
    torch.testing.assert_close(value, divergence)


def test_kl_in_the_reward_gives_the_exact_policy_gradient():
    logits, ref, _ = bandit()
    logps = logits.log_softmax(0)
    mask = torch.ones(NUM_ARMS, 1, dtype=torch.bool)
    reward = kl.kl_in_reward(logps[:, None], ref[:, None], mask, coefficient=0.7)[:, 0]
    assert not reward.requires_grad
    gradient = expected_gradient(-reward * logps, logps, logits)
    _, exact = exact_gradient(logits, ref)
    torch.testing.assert_close(gradient, 0.7 * exact)


def test_estimates_are_their_formulas():
    logp, ref = torch.tensor([-1.0], dtype=torch.float64), torch.tensor([-1.5], dtype=torch.float64)
    expected = {"k1": 0.5, "k2": 0.125, "k3": 0.6065306597126334 - 1 + 0.5}
    for name, value in expected.items():
        assert kl.estimate(logp, ref, estimator=name).item() == pytest.approx(value, abs=1e-12)


def test_penalty_ignores_what_is_masked_and_stays_finite():
    logps = torch.tensor([[-1.0, -2000.0, float("nan")]], requires_grad=True)
    ref = torch.tensor([[-1.5, -1.0, float("inf")]])
    mask = torch.tensor([[True, True, False]])
    loss, metrics = kl.penalty(logps, ref, mask, normalizer=2)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logps.grad).all()
    assert logps.grad[0, 2] == 0
    assert metrics["kl"].count == 2


def test_penalty_of_the_policy_against_itself_is_zero():
    logps = torch.randn(2, 3).requires_grad_()
    mask = torch.ones(2, 3, dtype=torch.bool)
    loss, _ = kl.penalty(logps, logps.detach(), mask, normalizer=6)
    loss.backward()
    assert loss.item() == 0
    assert (logps.grad == 0).all()


def test_adaptive_control_is_its_formula():
    control = AdaptiveKL(value=0.2, target=6.0, horizon=1000)
    control.update(6.6, num_sequences=64)  # 10 % above
    assert control.value == pytest.approx(0.2 * (1 + 0.1 * 64 / 1000))
    control.update(600.0, num_sequences=64)  # held to 20 %
    assert control.value == pytest.approx(0.2 * (1 + 0.1 * 0.064) * (1 + 0.2 * 0.064))
    before = control.value
    control.update(0.0, num_sequences=64)
    assert control.value < before


def test_controllers_go_on_from_their_state():
    control = AdaptiveKL(value=0.2, target=6.0)
    control.update(9.0, 8)
    again = AdaptiveKL.from_json(control.to_json())
    control.update(3.0, 8)
    again.update(3.0, 8)
    assert again == control
    fixed = FixedKL(0.1)
    fixed.update(100.0, 8)
    assert FixedKL.from_json(fixed.to_json()).value == 0.1


def test_a_target_of_zero_is_refused():
    with pytest.raises(ConfigError, match="target"):
        AdaptiveKL(value=0.1, target=0.0)
