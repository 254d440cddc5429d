"""Words generated under edits have the log-probabilities that scoring gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError
from oversight.interp.steering import generate, scores, steered
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.sites import Site, ablate, add, replace
from tests.modeling.conftest import make_lm


def edits_of(width: int) -> dict[str, list[Any]]:
    torch.manual_seed(3)
    vector, first = torch.randn(width), torch.zeros(1, 1, 12)
    first[..., 3] = 1.0
    return {
        "none": [],
        "steering": [add(Site("residual", 1), vector)],
        "ablation": [ablate(Site("residual", 1), vector)],
        "a head": [ablate(Site("heads", 1), heads=[1])],
        "one token": [replace(Site("mlp", 0), vector, [9])],
        "an answer's token": [add(Site("attention", 1), 4 * vector, [14])],
        "a pattern": [replace(Site("pattern", 1), first, [11], heads=[0])],
    }


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma3_text", "gpt2"])
@pytest.mark.parametrize("name", list(edits_of(1)))
def test_what_is_generated_under_edits_is_what_they_score(architecture: str, name: str) -> None:
    policy = PolicyModel(make_lm(architecture).eval())
    prompt = np.random.default_rng(0).integers(2, 97, 12)
    edits = edits_of(32)[name]
    found = generate(policy, prompt, edits, max_new_tokens=9, temperature=1.0, seed=1)
    row = TokenRow(prompt, found.ids)
    own = scores(policy, [row], [edits])[0]
    torch.testing.assert_close(found.logprobs, own, rtol=1e-4, atol=1e-4)
    plain = scores(policy, [row])[0]
    assert plain.allclose(own, rtol=1e-4, atol=1e-4) == (name == "none")


def test_greedy_tokens_without_edits_are_those_of_transformers() -> None:
    policy, plain = PolicyModel(make_lm()), make_lm()
    prompt = np.random.default_rng(0).integers(2, 97, 12)
    found = generate(policy, prompt, max_new_tokens=12, stop_ids=[1])
    wanted = plain.generate(
        torch.from_numpy(prompt)[None], max_new_tokens=12, do_sample=False, pad_token_id=0
    )[0, 12:]
    assert found.ids.tolist() == wanted.tolist()


def test_a_steered_model_is_steered_whoever_calls_it_and_only_for_a_while() -> None:
    model, policy = make_lm(), PolicyModel(make_lm())
    vector = torch.randn(32)
    prompt = np.random.default_rng(0).integers(2, 97, 12)
    edit = add(Site("residual", 1), 3 * vector)
    ids = torch.from_numpy(prompt)[None]
    before = model(ids).logits
    with steered(model, [edit]):
        given = model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, 12:]
    own = generate(policy, prompt, [edit], max_new_tokens=8, stop_ids=[1])
    assert given.tolist() == own.ids.tolist()
    assert model(ids).logits.equal(before)
    with pytest.raises(ConfigError, match="everywhere means at all tokens"):
        steered(model, [add(Site("mlp", 0), vector, [1])]).__enter__()


def test_a_gradient_reaches_an_edit() -> None:
    policy = PolicyModel(make_lm().requires_grad_(False))
    row = TokenRow(np.arange(5, 15), np.arange(20, 24))
    delta = torch.zeros(14, 32, requires_grad=True)
    edit = add(Site("residual", 1), delta, range(14))
    scores(policy, [row], [[edit]]).sum().backward()
    assert delta.grad is not None
    assert delta.grad[:13].abs().sum(-1).gt(0).all()
    assert delta.grad[13].abs().sum() == 0  # the last token predicts nothing that is scored
    bump = torch.zeros(14, 32)
    bump[4, 7] = 1e-3
    changed, plain = (
        scores(policy, [row], [own]).sum() for own in ([add(edit.site, bump, range(14))], [])
    )
    assert (changed - plain) / 1e-3 == pytest.approx(float(delta.grad[4, 7]), rel=0.05, abs=1e-3)


def test_tokens_counted_from_a_moving_end_are_refused() -> None:
    policy = PolicyModel(make_lm())
    with pytest.raises(ConfigError, match=r"positions \[-1\] count from an end that moves"):
        generate(policy, np.arange(5, 9), [add(Site("mlp", 0), torch.ones(32), [-1])])
