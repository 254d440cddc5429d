"""Log-probabilities and entropies in chunks: those of the whole logits, gradients included."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from oversight.modeling.scoring.logprobs import Head, log_sum_sq_probs, token_logprobs

N, E, V = 7, 5, 11
TARGETS = torch.tensor([0, 3, 10, 3, 5, 5, 1])


def random_head(**kind: Any) -> Head:
    torch.manual_seed(0)
    weight = torch.randn(V, E, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(V, dtype=torch.float64, requires_grad=True) if kind.pop("bias", 0) else None
    return Head(weight, bias, **kind)


def plainly(
    hidden: torch.Tensor, head: Head, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = hidden @ head.weight_VE.T
    if head.bias_V is not None:
        logits = logits + head.bias_V
    logits = logits * head.scale
    if head.softcap:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    logps = (logits / temperature).log_softmax(-1)
    return logps[torch.arange(N), TARGETS], -(logps.exp() * logps).sum(-1)


@pytest.mark.parametrize("kind", [{}, {"bias": 1}, {"softcap": 2.0}, {"scale": 0.3, "bias": 1}])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("block_elements", [1, 3 * V, 1000])
def test_values_and_gradients_are_those_of_the_whole_logits(
    kind: dict[str, Any], temperature: float, block_elements: int
) -> None:
    head = random_head(**kind)
    hidden = torch.randn(N, E, dtype=torch.float64, requires_grad=True)
    learnt = [hidden, head.weight_VE] + ([] if head.bias_V is None else [head.bias_V])
    weights = torch.randn(2, N, dtype=torch.float64)

    def total(pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return (weights[0] * pair[0] + weights[1] * pair[1]).sum()

    ours = token_logprobs(
        hidden, head, TARGETS, temperature=temperature, block_elements=block_elements
    )
    plain = plainly(hidden, head, temperature)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(total(ours), learnt),
        torch.autograd.grad(total(plain), learnt),
        rtol=1e-10,
        atol=1e-12,
    )


def test_a_frozen_head_gets_no_gradient_and_passes_one_on() -> None:
    head = random_head()
    head.weight_VE.requires_grad_(False)
    hidden = torch.randn(N, E, dtype=torch.float64, requires_grad=True)
    token_logprobs(hidden, head, TARGETS)[0].sum().backward()
    assert hidden.grad is not None
    assert head.weight_VE.grad is None


def test_lower_precision_is_summed_in_float32() -> None:
    weight = torch.randn(V, E)
    logps, entropy = token_logprobs(
        torch.randn(N, E), Head(weight, precision=torch.bfloat16), TARGETS
    )
    assert logps.dtype == entropy.dtype == torch.float32


def test_a_distribution_that_is_certain_has_entropy_0_and_no_nan() -> None:
    weight = torch.zeros(V, 1)
    weight[3] = 1e4
    hidden = torch.ones(N, 1, requires_grad=True)
    logps, entropy = token_logprobs(hidden, Head(weight), torch.full((N,), 3))
    (logps.sum() + entropy.sum()).backward()
    assert logps.eq(0).all()
    assert entropy.eq(0).all()
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("block_elements", [1, 3 * V, 1000])
def test_the_sum_of_squared_probabilities_is_that_of_the_whole_logits(block_elements: int) -> None:
    head = random_head(bias=1)
    assert head.bias_V is not None
    hidden = torch.randn(N, E, dtype=torch.float64, requires_grad=True)
    ours = log_sum_sq_probs(hidden, head, temperature=0.7, block_elements=block_elements)
    probs = ((hidden @ head.weight_VE.T + head.bias_V) / 0.7).softmax(-1)
    torch.testing.assert_close(ours, probs.square().sum(-1).log(), rtol=1e-12, atol=1e-12)
    assert not ours.requires_grad


def test_a_head_that_reads_nothing_has_a_gradient_of_zeros() -> None:
    weight_VE = torch.randn(50, 8, requires_grad=True)
    hidden_NE = torch.randn(0, 8, requires_grad=True)
    logps_N, _ = token_logprobs(hidden_NE, Head(weight_VE), torch.zeros(0, dtype=torch.int64))
    logps_N.sum().backward()
    assert weight_VE.grad is not None
    assert weight_VE.grad.eq(0).all()
