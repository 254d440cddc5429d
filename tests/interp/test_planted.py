"""On models made by hand every method finds what is there, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError
from oversight.interp.contrasts import contrast_set
from oversight.interp.evaluation import study
from oversight.interp.patching import (
    PatchPlace,
    activation_patching,
    attribution_patching,
    causal_check,
    direct_logit_attribution,
    every_head,
    fit_tuned_lens,
    logit_lens,
)
from oversight.interp.planted import (
    copying_model,
    direction_examples,
    direction_model,
    random_model,
)
from oversight.interp.probes import fit
from oversight.interp.reading import SiteReader
from oversight.modeling.scoring.sites import Site, add
from tests.modeling.conftest import make_lm


@pytest.mark.parametrize("name", ["mean_difference", "logistic", "leace"])
def test_a_probe_finds_a_known_direction(name: str) -> None:
    model, direction = direction_model()
    examples = direction_examples(150)
    found = contrast_set(SiteReader(model), examples, [Site("residual", 1)])
    fitted = fit(name, found.data("residual.1"))
    line = fitted.direction_E if fitted.eraser_KE is None else fitted.eraser_KE[0]
    assert abs(line @ direction) / np.linalg.norm(line) >= 0.95


def test_a_study_of_the_known_direction_claims_it_where_it_is() -> None:
    model, _ = direction_model()
    reader = SiteReader(model)
    sites = [Site("residual", 0), Site("residual", 1)]
    report = study(contrast_set(reader, direction_examples(60), sites, base=None), num_shuffles=8)
    assert report.site == "residual.1"
    assert report.claims
    assert report.cross_validated["residual.0"] < 0.6


def test_patching_finds_the_head_that_copies_and_attribution_points_at_it() -> None:
    known = copying_model(layer=1, head=2)
    reader = SiteReader(known.model)
    clean, corrupted = known.row(3), known.row(7)
    places = every_head(reader, position=len(clean) - 1)
    found = activation_patching(reader, clean, corrupted, 3, 7, places)
    assert found.clean > 1.0 > -1.0 > found.corrupted
    place, effect = found.strongest()[0]
    assert (place.site, place.head) == (Site("heads", 1), 2)
    assert effect > 0.9
    assert all(abs(value) < 0.1 for other, value in found.effects.items() if other != place)
    estimated = attribution_patching(reader, clean, corrupted, 3, 7, places)
    assert estimated.strongest()[0][0] == place
    shares = direct_logit_attribution(reader, clean, 3, 7)
    assert max(shares, key=lambda name: shares[name]) == "heads.1.2"
    assert sum(shares.values()) == pytest.approx(found.clean, abs=1e-3)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2", "cohere"])
def test_shares_sum_up_to_the_difference_of_logits(architecture: str) -> None:
    reader = SiteReader(make_lm(architecture))
    ids = np.random.default_rng(0).integers(2, 97, 12)
    shares = direct_logit_attribution(reader, ids, 5, 9)
    logits = reader.model(torch.from_numpy(ids)[None]).logits[0, -1]
    assert sum(shares.values()) == pytest.approx(float(logits[5] - logits[9]), abs=1e-3)
    # What biases add is alike whatever was read, and nothing where there are none.
    assert abs(shares["rest"]) < (1e-3 if architecture in ("llama", "qwen3") else 5.0)


def test_a_stream_that_is_no_sum_is_refused() -> None:
    scaled = make_lm("granite", residual_multiplier=0.5)
    for model, word in ((make_lm("gemma3_text"), "squashes its logits"), (scaled, "not the sum")):
        with pytest.raises(ConfigError, match=word):
            direct_logit_attribution(SiteReader(model), np.arange(5, 15), 5, 9)


def test_the_estimate_is_the_limit_of_small_patches() -> None:
    """A hundredth of the way from the corrupted state to the clean one moves the answer so."""
    reader = SiteReader(make_lm().double())
    assert reader.policy is not None
    clean = np.random.default_rng(0).integers(2, 97, 10)
    corrupted = clean.copy()
    corrupted[4] = 50
    places = [
        PatchPlace(Site("mlp", 1), None),
        PatchPlace(Site("residual", 1), (4, 5, 9)),
        PatchPlace(Site("heads", 1), 9, 2),
    ]
    whole = PatchPlace(Site("residual", 2), 9)
    real = activation_patching(reader, clean, corrupted, 5, 9, [*places, whole])
    assert real.effects[whole] == pytest.approx(1.0, abs=1e-6)
    estimated = attribution_patching(reader, clean, corrupted, 5, 9, places)
    small = 1e-2
    for place in places:
        one, other = reader.policy.read_sites([clean, corrupted], [place.site])
        at = list(range(10)) if place.positions is None else place.positions
        step = small * (one[place.site] - other[place.site])[at]
        step = step if place.head is None else step[:, place.head]
        heads = None if place.head is None else [place.head]
        gaps = []
        for sign in (1.0, -1.0):
            edit = add(place.site, sign * step, at, heads)
            final = reader.read([corrupted], [Site("final")], None, [[edit]])[0][Site("final")]
            logits = reader.head_of(final[-1:])[0]
            gaps.append(float(logits[5] - logits[9]))
        slope = (gaps[0] - gaps[1]) / (2 * small)
        whole_gap = estimated.clean - estimated.corrupted
        assert estimated.effects[place] == pytest.approx(slope / whole_gap, rel=1e-2)


def test_rows_that_cannot_be_patched_are_refused() -> None:
    reader = SiteReader(random_model())
    with pytest.raises(ConfigError, match="the clean row has 5 tokens and the corrupted one 6"):
        activation_patching(reader, np.arange(5), np.arange(6), 1, 2, every_head(reader))
    with pytest.raises(ConfigError, match="there is nothing to patch"):
        activation_patching(reader, np.arange(5), np.arange(5), 1, 2, every_head(reader))


def test_the_copying_heads_direction_stands_out_from_random_ones() -> None:
    known = copying_model()
    reader = SiteReader(known.model)
    written = torch.zeros(64)
    written[12 + 3], written[12 + 7] = 1.0, -1.0
    rows = [known.row(3, seed) for seed in range(4)]
    others = [np.arange(5, 12), np.arange(2, 9)]
    tokens = [(3, 7)] * 4
    found = causal_check(reader, Site("residual", 2), written, rows, tokens, others)
    assert found.stands_out
    assert found.effect < -1.0
    assert found.side_effect < 0.1
    nothing = torch.zeros(64)
    nothing[40] = 1.0
    assert not causal_check(reader, Site("residual", 2), nothing, rows, tokens, others).stands_out
    with pytest.raises(ConfigError, match=r"causal check at residual\.2: the direction is 0"):
        causal_check(reader, Site("residual", 2), 0 * nothing, rows, tokens, others)


def test_lenses_end_in_the_models_own_answer_and_a_tuned_one_is_nearer() -> None:
    reader = SiteReader(make_lm("llama"))
    rng = np.random.default_rng(0)
    rows = [rng.integers(2, 97, 20) for _ in range(12)]
    model = reader.model
    with torch.no_grad():
        output = model(torch.from_numpy(rows[0])[None], output_hidden_states=True)
        own = output.logits[0]
        plain = [model.lm_head(model.model.norm(h[0])) for h in output.hidden_states[:-1]]
    lens = logit_lens(reader, rows[0])
    torch.testing.assert_close(lens[-1], own, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lens[:-1], torch.stack(plain), rtol=1e-4, atol=1e-4)
    unfitted = fit_tuned_lens(reader, rows, num_steps=0)
    torch.testing.assert_close(unfitted.logits(reader, rows[0]), lens)
    fitted = fit_tuned_lens(reader, rows, num_steps=80)
    tuned = fitted.logits(reader, rows[0])
    states = [h[0] for h in output.hidden_states[:-1]]
    for layer, state in enumerate(states):
        mapped = state + state @ fitted.maps_LEE[layer].T + fitted.biases_LE[layer]
        wanted = model.lm_head(model.model.norm(mapped))
        torch.testing.assert_close(tuned[layer], wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tuned[-1], own, rtol=1e-4, atol=1e-4)

    def divergence(logits: torch.Tensor) -> float:
        target = own.log_softmax(-1)
        return float((target.exp() * (target - logits.log_softmax(-1))).sum(-1).mean())

    assert divergence(tuned[1]) < divergence(lens[1])
    assert len(fitted.losses) == reader.modules.num_layers
    with pytest.raises(ConfigError, match="a tuned lens is fitted to rows, and there are none"):
        fit_tuned_lens(reader, [])
