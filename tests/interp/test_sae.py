"""A sparse autoencoder finds planted features, says which are dead, and keeps SAELens's format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from oversight.errors import ConfigError, DataError
from oversight.interp.planted import planted_features
from oversight.interp.sae import (
    SparseAutoencoder,
    fit_sae,
    mean_max_cosine,
    strongest_contexts,
)


@pytest.fixture(scope="module")
def fitted() -> tuple[SparseAutoencoder, torch.Tensor, torch.Tensor]:
    states, features = planted_features(6000)
    sae = fit_sae(states, 64, 3, num_steps=1500, hook="residual.2", model="seedling")
    return sae, torch.from_numpy(states), torch.from_numpy(features)


def test_planted_features_are_found(
    fitted: tuple[SparseAutoencoder, torch.Tensor, torch.Tensor],
) -> None:
    sae, states, features = fitted
    assert mean_max_cosine(features, sae.w_dec_FE) >= 0.9
    assert sae.explained > 0.9
    codes = sae.code(states)
    assert int((codes > 0).sum(-1).max()) <= 3
    assert sae.num_dead == int((codes.amax(0) <= 0).sum())
    other = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    assert mean_max_cosine(features, other) < 0.6


def test_it_is_kept_in_the_format_of_saelens_and_codes_as_before(
    fitted: tuple[SparseAutoencoder, torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    sae, states, _ = fitted
    sae.save(tmp_path)
    settings = json.loads((tmp_path / "cfg.json").read_text())
    arrays = load_file(tmp_path / "sae_weights.safetensors")
    assert (settings["architecture"], settings["d_in"], settings["d_sae"]) == ("topk", 32, 64)
    assert settings["metadata"]["num_dead"] == sae.num_dead
    shapes = {name: list(each.shape) for name, each in arrays.items()}
    assert shapes == {"W_enc": [32, 64], "b_enc": [64], "W_dec": [64, 32], "b_dec": [32]}
    again = SparseAutoencoder.load(tmp_path, model="seedling")
    made = sae.decode(sae.code(states[:50]))
    torch.testing.assert_close(again.decode(again.code(states[:50])), made, rtol=1e-4, atol=1e-4)
    # SAELens's own arithmetic, from its documentation: TopK of relu(x - b_dec) @ W_enc + b_enc.
    x = states[:50] - arrays["b_dec"]
    top = torch.relu(x @ arrays["W_enc"] + arrays["b_enc"]).topk(3, dim=-1)
    codes = torch.zeros(50, 64).scatter(-1, top.indices, top.values)
    theirs = codes @ arrays["W_dec"] + arrays["b_dec"]
    torch.testing.assert_close(theirs, made, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="it is of model 'seedling', not of 'porter'"):
        SparseAutoencoder.load(tmp_path, model="porter")


def test_a_features_contexts_are_where_it_is_strongest(
    fitted: tuple[SparseAutoencoder, torch.Tensor, torch.Tensor],
) -> None:
    sae, states, _ = fitted
    rows = list(states[:300].split(10))
    feature = int(sae.code(states[:300]).sum(0).argmax())
    found = strongest_contexts(sae, rows, feature, 5)
    values = sae.code(states[:300])[:, feature].view(30, 10)
    assert found[0].activation == pytest.approx(float(values.max()))
    assert values[found[0].row, found[0].token] == values.max()
    assert len({each.row for each in found}) == len(found)


def test_dead_features_are_counted_where_there_is_little_to_say() -> None:
    states = torch.randn(64, 1) @ torch.randn(1, 8)
    assert fit_sae(states, 32, 1, num_steps=50).num_dead > 10


def test_what_cannot_be_fitted_or_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="k = 9: give 1 to num_features = 8"):
        fit_sae(torch.zeros(4, 3), 8, 9)
    with pytest.raises(DataError, match=r"states of shape \[0, 3\]"):
        fit_sae(torch.zeros(0, 3), 8, 2)
    with pytest.raises(DataError, match="holds no TopK autoencoder"):
        SparseAutoencoder.load(tmp_path)
    sae = fit_sae(torch.randn(40, 4), 8, 2, num_steps=5)
    sae.save(tmp_path)
    changed = json.loads((tmp_path / "cfg.json").read_text()) | {"architecture": "gated"}
    (tmp_path / "cfg.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match="architecture 'gated', and 'topk' is read"):
        SparseAutoencoder.load(tmp_path)
    with pytest.raises(ConfigError, match="feature 8 is none of 0 to 7"):
        strongest_contexts(sae, [torch.randn(3, 4)], 8)
