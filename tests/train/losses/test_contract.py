"""Every registered loss, by family: what a caller may rely on without reading the file."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oversight.train import losses
from oversight.train.losses.pairs import PairLogps
from oversight.train.losses.policy_batch import Extras, PolicyBatch
from oversight.train.losses.responses import UnpairedLogps

QUANTILES = {"aot", "aot_unpaired"}  # look at a batch as a whole, and take no labels
NO_REFERENCE = {"simpo", "orpo"}
PREFERENCE = losses.names("preference")
POLICY = losses.names("policy")
REWARD_PAIRS = [n for n in losses.names("reward") if n != "plackett_luce"]
UNPAIRED = losses.names("unpaired")
# Found by search, DiscoPOP rises with the margin where it starts; past that bump it falls.
LEAD = {"discopop": 20.0}


def pairs(num=6, seed=0, reference=True, spread=3.0, **extra):
    generator = torch.Generator().manual_seed(seed)

    def draw(centre):
        noise = torch.randn(num, generator=generator, dtype=torch.float64)
        return centre + spread * noise

    return PairLogps(
        chosen_B=draw(-30.0).requires_grad_(),
        rejected_B=draw(-33.0).requires_grad_(),
        ref_chosen_B=draw(-30.0) if reference else None,
        ref_rejected_B=draw(-33.0) if reference else None,
        chosen_length_B=torch.arange(1, num + 1) * 3,
        rejected_length_B=torch.arange(num, 0, -1) * 4,
        **extra,
    )


def batch(num=4, length=5, seed=0, **extra):
    generator = torch.Generator().manual_seed(seed)

    def draw(scale):
        return scale * torch.randn(num, length, generator=generator, dtype=torch.float64)

    lengths = torch.randint(1, length + 1, (num,), generator=generator)
    return PolicyBatch(
        logps_BT=(-2 + draw(0.5)).requires_grad_(),
        old_logps_BT=-2 + draw(0.5),
        advantages_BT=draw(1.0),
        mask_BT=torch.arange(length) < lengths[:, None],
        ref_logps_BT=-2 + draw(0.5),
        sampler_logps_BT=-2 + draw(0.5),
        entropy_BT=1 + draw(0.1),
        importance_BT=1 + draw(0.1),
        **extra,
    )


EXTRAS = Extras(kl_coefficient=0.1, kl_estimator="k3_ratio", entropy_coefficient=0.01)


def take(values, index):
    """A batch of any family with the rows at `index`."""
    fields = {f.name: getattr(values, f.name) for f in dataclasses.fields(values)}
    return type(values)(**{k: None if v is None else v[index] for k, v in fields.items()})


# --- preference ---------------------------------------------------------------------------


@pytest.mark.parametrize("reference", [True, False], ids=["reference", "no_reference"])
@pytest.mark.parametrize("name", PREFERENCE)
def test_preference_loss_and_gradient_are_finite(name, reference):
    given_ = pairs(reference=reference)
    loss, metrics = losses.load("preference", name).loss(given_, normalizer=6)
    loss.backward()
    assert loss.dim() == 0
    assert torch.isfinite(loss)
    assert torch.isfinite(given_.chosen_B.grad).all()
    assert all(math.isfinite(m.value()) for m in metrics.values())


@pytest.mark.parametrize("name", PREFERENCE)
def test_preference_loss_falls_as_chosen_rises_and_rejected_falls(name):
    lead = LEAD.get(name, 0.0)
    here = PairLogps(
        chosen_B=torch.tensor([-20.0 + lead], dtype=torch.float64, requires_grad=True),
        rejected_B=torch.tensor([-20.0], dtype=torch.float64, requires_grad=True),
        ref_chosen_B=torch.tensor([-20.0], dtype=torch.float64),
        ref_rejected_B=torch.tensor([-20.0], dtype=torch.float64),
        chosen_length_B=torch.tensor([10]),
        rejected_length_B=torch.tensor([10]),
    )
    loss, _ = losses.load("preference", name).loss(here, normalizer=1)
    loss.backward()
    assert here.chosen_B.grad <= 0
    assert here.rejected_B.grad > 0
    if name != "apo_down":  # at the start its two terms cancel for the chosen one
        assert here.chosen_B.grad < 0


@pytest.mark.parametrize("name", PREFERENCE)
def test_preference_loss_starts_at_its_start_value(name):
    module = losses.load("preference", name)
    expected = module.start_value()
    given_ = pairs()
    same = dataclasses.replace(
        given_, ref_chosen_B=given_.chosen_B.detach(), ref_rejected_B=given_.rejected_B.detach()
    )
    loss, _ = module.loss(same, normalizer=6)
    if expected is None:
        assert name in {*NO_REFERENCE, "length_regularised"}
    else:
        assert loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", PREFERENCE)
def test_preference_loss_is_linear_in_one_over_the_normalizer(name):
    module = losses.load("preference", name)
    one, _ = module.loss(pairs(), normalizer=1.0)
    many, _ = module.loss(pairs(), normalizer=torch.tensor(8.0))
    assert many.item() == pytest.approx(one.item() / 8, rel=1e-12)


@pytest.mark.parametrize("name", [n for n in PREFERENCE if n not in QUANTILES])
def test_preference_gradients_do_not_depend_on_the_split_into_micro_batches(name):
    module = losses.load("preference", name)
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0, 3.0])
    whole = pairs(weight_B=weight)
    module.loss(whole, normalizer=6)[0].backward()
    parts = pairs(weight_B=weight)
    for index in ([0, 1, 2, 3], [4], [5]):
        module.loss(take(parts, torch.tensor(index)), normalizer=6)[0].backward()
    torch.testing.assert_close(whole.chosen_B.grad, parts.chosen_B.grad, rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.rejected_B.grad, parts.rejected_B.grad, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", PREFERENCE)
def test_preference_loss_is_finite_at_extreme_values(name):
    given_ = PairLogps(
        chosen_B=torch.tensor([-1e4, -1e-7, -1e4, -0.0], requires_grad=True),
        rejected_B=torch.tensor([-1e-7, -1e4, -1e4, -0.0], requires_grad=True),
        ref_chosen_B=torch.tensor([-1.0, -1e4, -1e-7, -0.0]),
        ref_rejected_B=torch.tensor([-1e4, -1.0, -1e-7, -1e4]),
        chosen_length_B=torch.tensor([10, 10, 10, 0]),
        rejected_length_B=torch.tensor([10, 10, 10, 1]),
    )
    loss, _ = losses.load("preference", name).loss(given_, normalizer=4)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(given_.chosen_B.grad).all()
    assert torch.isfinite(given_.rejected_B.grad).all()


@pytest.mark.parametrize("name", PREFERENCE)
def test_a_pair_of_weight_zero_has_no_influence_whatever_it_holds(name):
    module = losses.load("preference", name)
    clean = pairs(num=3)
    loss, metrics = module.loss(clean, normalizer=3)
    loss.backward()
    dirty = pairs(num=3)
    fields = {f.name: getattr(dirty, f.name) for f in dataclasses.fields(dirty)}
    padded = {
        k: torch.cat([v, torch.full_like(v[:1], 7 if "length" in k else float("nan"))])
        for k, v in fields.items()
        if v is not None
    }
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0])
    again, metrics_again = module.loss(PairLogps(**padded, weight_B=weight), normalizer=3)
    again.backward()
    assert again.item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(dirty.chosen_B.grad, clean.chosen_B.grad)
    for key, metric in metrics.items():
        assert metrics_again[key].value() == pytest.approx(metric.value(), rel=1e-12), key


@pytest.mark.parametrize("name", PREFERENCE)
def test_preference_loss_of_nothing_is_zero_and_runs_backward(name):
    given_ = pairs(num=2, weight_B=torch.zeros(2))
    loss, _ = losses.load("preference", name).loss(given_, normalizer=0)
    loss.backward()
    assert loss.item() == 0
    assert (given_.chosen_B.grad == 0).all()


@pytest.mark.parametrize("name", [n for n in PREFERENCE if n not in QUANTILES])
def test_a_soft_label_of_zero_is_the_pair_the_other_way_round(name):
    module = losses.load("preference", name)
    there = pairs(num=4)
    back = dataclasses.replace(there.swapped(), soft_label_B=torch.zeros(4))
    one, metrics = module.loss(there, normalizer=4)
    other, swapped = module.loss(back, normalizer=4)
    assert other.item() == pytest.approx(one.item(), rel=1e-9)
    assert swapped["accuracy"].value() == metrics["accuracy"].value()


@pytest.mark.parametrize("name", [n for n in PREFERENCE if n not in QUANTILES])
def test_a_tie_does_not_say_which_response_is_better(name):
    module = losses.load("preference", name)
    there = pairs(num=4, tie_B=torch.ones(4, dtype=torch.bool))
    one, metrics = module.loss(there, normalizer=4)
    other, _ = module.loss(there.swapped(), normalizer=4)
    assert other.item() == pytest.approx(one.item(), rel=1e-9)
    assert metrics["accuracy"].count == 0


@pytest.mark.parametrize("name", sorted(QUANTILES))
def test_losses_of_quantiles_refuse_labels(name):
    module = losses.load("preference", name)
    with pytest.raises(ValueError, match="not defined"):
        module.loss(pairs(num=2, soft_label_B=torch.tensor([0.5, 1.0])), normalizer=2)
    with pytest.raises(ValueError, match="weights"):
        module.loss(pairs(num=2, weight_B=torch.tensor([0.5, 1.0])), normalizer=2)


@pytest.mark.parametrize("name", PREFERENCE)
def test_half_precision_is_added_up_in_float32(name):
    given_ = pairs()
    half = take(given_, torch.arange(6))
    half = dataclasses.replace(
        half,
        chosen_B=half.chosen_B.bfloat16(),
        rejected_B=half.rejected_B.bfloat16(),
        ref_chosen_B=half.ref_chosen_B.bfloat16(),
        ref_rejected_B=half.ref_rejected_B.bfloat16(),
    )
    loss, _ = losses.load("preference", name).loss(half, normalizer=6)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("name", PREFERENCE)
def test_no_gradient_reaches_the_reference(name):
    given_ = pairs()
    given_.ref_chosen_B.requires_grad_()
    losses.load("preference", name).loss(given_, normalizer=6)[0].backward()
    assert given_.ref_chosen_B.grad is None


# --- unpaired -----------------------------------------------------------------------------


def rows(**extra):
    return UnpairedLogps(
        logps_B=torch.tensor([-20.0, -25.0, -30.0], dtype=torch.float64, requires_grad=True),
        ref_logps_B=torch.tensor([-21.0, -24.0, -30.0], dtype=torch.float64),
        desirable_B=torch.tensor([True, False, True]),
        **extra,
    )


@pytest.mark.parametrize("name", UNPAIRED)
def test_unpaired_loss_falls_as_good_rises_and_bad_falls(name):
    given_ = rows()
    loss, _ = losses.load("unpaired", name).loss(given_, normalizer=3)
    loss.backward()
    assert (given_.logps_B.grad[given_.desirable_B] < 0).all()
    assert (given_.logps_B.grad[~given_.desirable_B] > 0).all()


@pytest.mark.parametrize("name", UNPAIRED)
def test_unpaired_loss_starts_at_its_start_value(name):
    module = losses.load("unpaired", name)
    same = dataclasses.replace(rows(), ref_logps_B=rows().logps_B.detach())
    assert module.loss(same, normalizer=3)[0].item() == pytest.approx(module.start_value())


@pytest.mark.parametrize("name", UNPAIRED)
def test_unpaired_row_of_weight_zero_has_no_influence(name):
    module = losses.load("unpaired", name)
    dirty = dataclasses.replace(
        rows(weight_B=torch.tensor([1.0, 1.0, 0.0])),
        ref_logps_B=torch.tensor([-21.0, -24.0, float("nan")], dtype=torch.float64),
    )
    loss, _ = module.loss(dirty, normalizer=2)
    loss.backward()
    expected, _ = module.loss(take(rows(), torch.tensor([0, 1])), normalizer=2)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert dirty.logps_B.grad[2] == 0


# --- reward -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REWARD_PAIRS)
def test_reward_loss_falls_as_the_better_response_gains(name):
    chosen = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    rejected = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    losses.load("reward", name).loss(chosen, rejected, normalizer=2)[0].backward()
    assert (chosen.grad < 0).all()
    assert (rejected.grad > 0).all()


@pytest.mark.parametrize("name", REWARD_PAIRS)
def test_reward_loss_is_finite_at_extreme_values_and_ignores_weight_zero(name):
    chosen = torch.tensor([1e4, -1e4, float("inf")], requires_grad=True)
    rejected = torch.tensor([-1e4, 1e4, float("nan")], requires_grad=True)
    loss, _ = losses.load("reward", name).loss(
        chosen,
        rejected,
        normalizer=2,
        weight_B=torch.tensor([1.0, 1.0, 0.0]),
        tie_B=torch.tensor([False, True, False]),
        centring=0.01,
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(chosen.grad).all()
    assert chosen.grad[2] == 0


@pytest.mark.parametrize("name", REWARD_PAIRS)
def test_reward_loss_depends_on_differences_only_without_centring(name):
    chosen, rejected = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    module = losses.load("reward", name)
    one, _ = module.loss(chosen, rejected, normalizer=4)
    other, _ = module.loss(chosen + 5, rejected + 5, normalizer=4)
    centred, _ = module.loss(chosen + 5, rejected + 5, normalizer=4, centring=0.1)
    assert other.item() == pytest.approx(one.item(), rel=1e-9)
    assert centred.item() > other.item() + 1


# --- policy -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POLICY)
def test_policy_gradient_raises_what_had_an_advantage(name):
    logps = torch.full((2, 3), -2.0, dtype=torch.float64, requires_grad=True)
    given_ = PolicyBatch(
        logps_BT=logps,
        old_logps_BT=logps.detach(),
        advantages_BT=torch.tensor([[1.0] * 3, [-1.0] * 3], dtype=torch.float64),
        mask_BT=torch.ones(2, 3, dtype=torch.bool),
    )
    loss, metrics = losses.load("policy", name).loss(given_, normalizer=2)
    loss.backward()
    assert (logps.grad[0] < 0).all()
    assert (logps.grad[1] > 0).all()
    assert metrics["ratio"].value() == 1.0
    assert metrics["ratio_max"].value() == 1.0
    assert metrics["approx_kl"].value() == 0.0


@pytest.mark.parametrize("name", POLICY)
def test_policy_loss_on_fresh_samples_has_the_gradient_of_reinforce(name):
    """Up to each row's factor: a sequence mean divides by its length."""
    fresh = batch(length=4)
    fresh = dataclasses.replace(
        fresh,
        old_logps_BT=fresh.logps_BT.detach(),
        advantages_BT=fresh.advantages_BT[:, :1].expand(-1, 4),
        importance_BT=None,
    )
    losses.load("policy", name).loss(fresh, normalizer=1)[0].backward()
    grad = fresh.logps_BT.grad
    expected = torch.where(fresh.mask_BT, -fresh.advantages_BT, 0.0)
    per_row = name in {"grpo", "gspo", "gspo_token"}
    factor = 1 / fresh.mask_BT.sum(1, keepdim=True) if per_row else 1.0
    torch.testing.assert_close(grad, expected * factor)


@pytest.mark.parametrize("name", POLICY)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    padding=st.integers(1, 4),
    rubbish=st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e30]),
)
def test_policy_loss_ignores_what_is_masked_and_how_far_it_is_padded(name, seed, padding, rubbish):
    module = losses.load("policy", name)
    short = batch(seed=seed)
    loss, metrics = module.loss(short, normalizer=7, extras=EXTRAS)
    loss.backward()
    fields = {f.name: getattr(short, f.name) for f in dataclasses.fields(short)}
    wide = {}
    for key, value in fields.items():
        if key == "mask_BT":
            wide[key] = torch.nn.functional.pad(value, (0, padding))
            continue
        filled = value.detach().masked_fill(~short.mask_BT, rubbish)
        wide[key] = torch.nn.functional.pad(filled, (0, padding), value=rubbish)
    wide["logps_BT"].requires_grad_()
    again, metrics_again = module.loss(PolicyBatch(**wide), normalizer=7, extras=EXTRAS)
    again.backward()
    assert again.item() == pytest.approx(loss.item(), rel=1e-10, abs=1e-12)
    grad = wide["logps_BT"].grad
    torch.testing.assert_close(grad[:, :-padding], short.logps_BT.grad)
    assert (grad[~wide["mask_BT"]] == 0).all()
    for key, metric in metrics.items():
        assert metrics_again[key].value() == pytest.approx(metric.value(), rel=1e-10), key


@pytest.mark.parametrize("name", POLICY)
def test_policy_gradients_do_not_depend_on_the_split_into_micro_batches(name):
    module = losses.load("policy", name)
    whole, parts = batch(), batch()
    module.loss(whole, normalizer=9, extras=EXTRAS)[0].backward()
    for index in ([0], [1, 2], [3]):
        module.loss(take(parts, index), normalizer=9, extras=EXTRAS)[0].backward()
    torch.testing.assert_close(whole.logps_BT.grad, parts.logps_BT.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", POLICY)
def test_a_fully_masked_micro_batch_runs_backward_with_zero_gradient(name):
    given_ = dataclasses.replace(batch(), mask_BT=torch.zeros(4, 5, dtype=torch.bool))
    loss, _ = losses.load("policy", name).loss(given_, normalizer=0, extras=EXTRAS)
    loss.backward()
    assert loss.item() == 0
    assert (given_.logps_BT.grad == 0).all()


@pytest.mark.parametrize("name", POLICY)
def test_policy_loss_is_finite_at_extreme_ratios(name):
    given_ = dataclasses.replace(
        batch(num=2, length=2),
        logps_BT=torch.tensor([[-1e4, -1e-3], [-1e3, 0.0]], requires_grad=True),
        old_logps_BT=torch.tensor([[-1e-3, -1e4], [0.0, -1e3]]),
        advantages_BT=torch.tensor([[-1.0, -1.0], [1.0, 1.0]]),
        ref_logps_BT=torch.tensor([[0.0, -1e4], [-1e4, 0.0]]),
        mask_BT=torch.ones(2, 2, dtype=torch.bool),
        importance_BT=None,
    )
    loss, _ = losses.load("policy", name).loss(given_, normalizer=4, extras=EXTRAS)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(given_.logps_BT.grad).all()


@pytest.mark.parametrize("name", POLICY)
def test_importance_weights_multiply_each_tokens_gradient(name):
    module = losses.load("policy", name)
    plain = dataclasses.replace(batch(), importance_BT=None)
    module.loss(plain, normalizer=1)[0].backward()
    doubled = dataclasses.replace(batch(), importance_BT=torch.full((4, 5), 2.0))
    module.loss(doubled, normalizer=1)[0].backward()
    torch.testing.assert_close(doubled.logps_BT.grad, 2 * plain.logps_BT.grad)
