"""Our losses against the code of TRL's trainers, on equal log-probabilities.

TRL's losses are inside methods of its trainers. Here those very methods run on a trainer
object without its `__init__`, with a stand-in for the model that hands out fixed
per-token log-probabilities, so that loss and gradient can be compared number by number.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from oversight.train import losses
from oversight.train.losses import policy_batch, responses
from oversight.train.losses.advantages import group, rloo
from oversight.train.losses.pairs import PairLogps, sft_term
from oversight.train.losses.policy_batch import Extras, PolicyBatch
from oversight.train.losses.responses import UnpairedLogps, baseline, shifted_kl
from oversight.train.losses.reward import bradley_terry

pytestmark = pytest.mark.slow  # importing TRL alone takes seconds

NUM, PROMPT, LENGTH = 6, 3, 7
RTOL = 1e-4


def trainer_of(module, name):
    pytest.importorskip("trl")
    cls = getattr(pytest.importorskip(module), name)
    trainer = object.__new__(cls)
    trainer.model = SimpleNamespace(training=True)
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        num_processes=1,
        gather=lambda x: x,
        gather_for_metrics=lambda x: x,
        reduce=lambda x, reduction: x,
        sync_gradients=True,
    )
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer._total_train_tokens = 0
    trainer._tp_size = 1
    trainer.aux_loss_enabled = False
    return trainer


def draw(seed, rows=NUM, scale=0.5, centre=-1.5):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, LENGTH, generator=generator)
    return (centre + scale * noise).clamp(max=-0.01)


def response_mask(seed=3, rows=NUM):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, LENGTH + 1, (rows,), generator=generator)
    return torch.arange(LENGTH) < lengths[:, None]


# --- DPO ----------------------------------------------------------------------------------

MASK = response_mask(rows=2 * NUM)
REF = draw(1, rows=2 * NUM)
LOG_SUM_SQ = draw(2, rows=2 * NUM, scale=0.2, centre=-1.0)


def trl_dpo(loss_type, **options):
    """TRL's loss and its gradient at the response's tokens, chosen rows first."""
    trainer = trainer_of("trl.trainer.dpo_trainer", "DPOTrainer")
    trainer.beta = options.get("beta", 0.3)
    trainer.label_smoothing = options.get("label_smoothing", 0.0)
    trainer.ld_alpha = options.get("ld_alpha")
    trainer.use_weighting = options.get("use_weighting", False)
    trainer.args = SimpleNamespace(discopop_tau=0.05)
    trainer.precompute_ref_logps = True
    trainer.f_divergence_type = "reverse_kl"
    trainer.loss_types, trainer.loss_weights = [loss_type], [1.0]
    logps = draw(0, rows=2 * NUM).requires_grad_()
    # TRL's model gives 0 outside of the response, and one place fewer than there are ids.
    shifted = torch.cat([torch.zeros(2 * NUM, PROMPT - 1), torch.where(MASK, logps, 0.0)], dim=1)
    zeros = torch.zeros_like(shifted)
    outputs = SimpleNamespace(
        log_probs=shifted,
        log_sum_sq_probs=torch.cat([torch.zeros(2 * NUM, PROMPT - 1), LOG_SUM_SQ], 1),
        entropy=zeros,
        mean_logits=zeros,
        is_top1=zeros.bool(),
    )
    completion = torch.cat([torch.zeros(2 * NUM, PROMPT), MASK.float()], dim=1).long()
    weighted = ld_sum if trainer.ld_alpha is not None else responses.sequence_sum
    ref_sums = weighted(REF, MASK)
    inputs = {
        "input_ids": torch.ones_like(completion),
        "attention_mask": torch.ones_like(completion),
        "completion_mask": completion,
        "ref_chosen_logps": ref_sums[:NUM],
        "ref_rejected_logps": ref_sums[NUM:],
    }
    loss = trainer._compute_loss(lambda **_: outputs, inputs, return_outputs=False)
    (gradient,) = torch.autograd.grad(loss, logps)
    return loss.item(), gradient


def ld_sum(logps_BT, mask_BT):
    lengths = mask_BT.sum(1)
    other = torch.cat([lengths[NUM:], lengths[:NUM]])
    return responses.length_desensitized_sum(logps_BT, mask_BT, other, alpha=0.4)


def our_pairs(logps, reduce=responses.sequence_sum, **extra):
    sums, ref, lengths = reduce(logps, MASK), reduce(REF, MASK), responses.lengths(MASK)
    return PairLogps(
        chosen_B=sums[:NUM],
        rejected_B=sums[NUM:],
        ref_chosen_B=ref[:NUM],
        ref_rejected_B=ref[NUM:],
        chosen_length_B=lengths[:NUM],
        rejected_length_B=lengths[NUM:],
        **extra,
    )


def assert_equal(ours, logps, trl):
    (gradient,) = torch.autograd.grad(ours, logps)
    expected, trl_gradient = trl
    assert ours.item() == pytest.approx(expected, rel=RTOL)
    assert trl_gradient.norm() > 0
    assert gradient.norm().item() == pytest.approx(trl_gradient.norm().item(), rel=RTOL)
    torch.testing.assert_close(gradient, trl_gradient, rtol=RTOL, atol=1e-7)


@pytest.mark.parametrize(
    ("trl_name", "name", "options"),
    [
        ("sigmoid", "sigmoid", {}),
        ("hinge", "hinge", {}),
        ("ipo", "ipo", {"trl_mean": True}),
        ("exo_pair", "exo_pair", {"label_smoothing": 0.01}),
        ("nca_pair", "nca_pair", {}),
        ("robust", "robust", {"label_smoothing": 0.1}),
        ("bco_pair", "bco_pair", {}),
        ("sppo_hard", "sppo_hard", {}),
        ("aot", "aot", {"label_smoothing": 0.1}),
        ("aot_unpaired", "aot_unpaired", {"label_smoothing": 0.1}),
        ("apo_zero", "apo_zero", {}),
        ("apo_down", "apo_down", {}),
        ("discopop", "discopop", {}),
        ("sigmoid_norm", "length_normalised", {}),
    ],
)
def test_dpo_losses_and_gradients_are_trls(trl_name, name, options):
    trl = trl_dpo(trl_name, **options)
    logps = draw(0, rows=2 * NUM).requires_grad_()
    module = losses.load("preference", name)
    ours, _ = module.loss(our_pairs(logps), normalizer=NUM, beta=0.3, **options)
    assert_equal(ours, logps, trl)


def test_the_sft_term_per_token_is_trls_sft_loss():
    trl = trl_dpo("sft")
    logps = draw(0, rows=2 * NUM).requires_grad_()
    ours, _ = sft_term(our_pairs(logps), normalizer=MASK[:NUM].sum(), alpha=1.0, per_token=True)
    assert_equal(ours, logps, trl)


def test_length_desensitized_dpo_is_trls():
    trl = trl_dpo("sigmoid", ld_alpha=0.4)
    logps = draw(0, rows=2 * NUM).requires_grad_()
    module = losses.load("preference", "sigmoid")
    ours, _ = module.loss(our_pairs(logps, reduce=ld_sum), normalizer=NUM, beta=0.3)
    assert_equal(ours, logps, trl)


def test_weighted_dpo_is_trls():
    trl = trl_dpo("sigmoid", use_weighting=True)
    logps = draw(0, rows=2 * NUM).requires_grad_()
    weight = responses.wpo_weight(logps, MASK, LOG_SUM_SQ)
    pairs = our_pairs(logps, weight_B=weight[:NUM] * weight[NUM:])
    ours, _ = losses.load("preference", "sigmoid").loss(pairs, normalizer=NUM, beta=0.3)
    assert_equal(ours, logps, trl)


def test_ipo_of_the_paper_is_not_trls():
    expected, _ = trl_dpo("ipo")
    logps = draw(0, rows=2 * NUM)
    ours, _ = losses.load("preference", "ipo").loss(our_pairs(logps), normalizer=NUM, beta=0.3)
    assert ours.item() != pytest.approx(expected, rel=0.1)


# --- CPO, SimPO, ORPO ---------------------------------------------------------------------


def means():
    mean = responses.sequence_mean(draw(0, rows=2 * NUM), MASK)
    return mean[:NUM].requires_grad_(), mean[NUM:].requires_grad_()


def sums_with_lengths(chosen, rejected):
    lengths = responses.lengths(MASK)
    return PairLogps(
        chosen_B=chosen * lengths[:NUM],
        rejected_B=rejected * lengths[NUM:],
        chosen_length_B=lengths[:NUM],
        rejected_length_B=lengths[NUM:],
    )


def assert_pair_equal(ours, trl, chosen, rejected):
    ours_grad = torch.autograd.grad(ours, (chosen, rejected))
    trl_grad = torch.autograd.grad(trl, (chosen, rejected))
    assert ours.item() == pytest.approx(trl.item(), rel=RTOL)
    for one, other in zip(ours_grad, trl_grad, strict=True):
        torch.testing.assert_close(one, other, rtol=RTOL, atol=1e-7)


@pytest.mark.filterwarnings("ignore")  # TRL warns that CPO and ORPO are experimental
def test_simpo_and_cpo_are_trls():
    trainer = trainer_of("trl.experimental.cpo.cpo_trainer", "CPOTrainer")
    trainer.alpha, trainer.beta, trainer.simpo_gamma, trainer.label_smoothing = 0.0, 2.0, 0.7, 0.0
    chosen, rejected = means()
    trainer.loss_type = "simpo"
    trl = trainer.cpo_loss(chosen, rejected)[0].mean()
    ours, _ = losses.load("preference", "simpo").loss(
        sums_with_lengths(chosen, rejected), normalizer=NUM, beta=2.0, gamma=0.7
    )
    assert_pair_equal(ours, trl, chosen, rejected)
    trainer.loss_type, trainer.label_smoothing = "sigmoid", 0.1
    trl = trainer.cpo_loss(chosen, rejected)[0].mean()
    ours, _ = losses.load("preference", "sigmoid").loss(
        PairLogps(chosen, rejected), normalizer=NUM, beta=2.0, label_smoothing=0.1
    )
    assert_pair_equal(ours, trl, chosen, rejected)


@pytest.mark.filterwarnings("ignore")
def test_orpos_odds_term_is_trls():
    trainer = trainer_of("trl.experimental.orpo.orpo_trainer", "ORPOTrainer")
    trainer.beta = 0.2
    chosen, rejected = means()
    trl = -trainer.odds_ratio_loss(chosen, rejected)[0].mean()
    ours, _ = losses.load("preference", "orpo").loss(
        sums_with_lengths(chosen, rejected), normalizer=NUM, beta=0.2, sft_weight=0.0
    )
    assert_pair_equal(ours, trl, chosen, rejected)


# --- KTO and rewards ----------------------------------------------------------------------


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
def test_unpaired_losses_are_trls(loss_type):
    mask, ref = response_mask(), draw(1)
    desirable = torch.tensor([True, False, True, True, False, False])
    shifted, ref_shifted = draw(5).sum(1), draw(6).sum(1) - 1.0
    trainer = trainer_of("trl.trainer.kto_trainer", "KTOTrainer")
    trainer.loss_type, trainer.beta = loss_type, 0.3
    trainer.desirable_weight, trainer.undesirable_weight = 1.3, 0.7
    trainer.precompute_ref_logps = True
    trainer.calculate_KL = loss_type == "kto"
    trainer._compute_kl_logps = lambda model, batch: shifted
    logps = draw(0).requires_grad_()
    kept = torch.where(mask, logps, 0.0)
    zeros = torch.zeros_like(kept)
    outputs = SimpleNamespace(log_probs=kept, entropy=zeros, mean_logits=zeros)
    completion = torch.cat([torch.zeros(NUM, 1), mask.float()], 1).long()
    inputs = {
        "input_ids": torch.ones_like(completion),
        "attention_mask": torch.ones_like(completion),
        "completion_mask": completion,
        "label": desirable,
        "ref_logps": responses.sequence_sum(ref, mask),
        "ref_KL_logps": ref_shifted,
    }
    trl = trainer._compute_loss(lambda **_: outputs, inputs, return_outputs=False)
    (trl_gradient,) = torch.autograd.grad(trl, logps)
    options = {"kl": baseline(shifted_kl(shifted, ref_shifted))}
    assert options["kl"] > 0.1
    ours, _ = losses.load("unpaired", loss_type).loss(
        UnpairedLogps(
            logps_B=responses.sequence_sum(logps, mask),
            ref_logps_B=responses.sequence_sum(ref, mask),
            desirable_B=desirable,
        ),
        normalizer=NUM,
        beta=0.3,
        desirable_weight=1.3,
        undesirable_weight=0.7,
        **(options if loss_type == "kto" else {}),
    )
    assert_equal(ours, logps, (trl.item(), trl_gradient))


@pytest.mark.parametrize("margin", [None, torch.tensor([0.5, 1.0, 0.0])])
@pytest.mark.parametrize("centring", [None, 0.01])
def test_the_reward_loss_is_trls(margin, centring):
    trainer = trainer_of("trl.trainer.reward_trainer", "RewardTrainer")
    trainer.args = SimpleNamespace(center_rewards_coefficient=centring)
    rewards = torch.tensor([1.0, -0.5, 2.0, 0.5, 0.7, 1.0], requires_grad=True)
    inputs = {"attention_mask": torch.ones(6, 2)} | ({} if margin is None else {"margin": margin})
    trl = trainer.compute_loss(lambda **_: SimpleNamespace(logits=rewards[:, None]), inputs)
    ours, _ = bradley_terry.loss(
        rewards[:3], rewards[3:], normalizer=3, margin_B=margin, centring=centring or 0.0
    )
    (trl_gradient,) = torch.autograd.grad(trl, rewards)
    assert_equal(ours, rewards, (trl.item(), trl_gradient))


# --- GRPO ---------------------------------------------------------------------------------


def trl_grpo(loss_type, level="token", weights=None, beta=0.0, corrected=False, **options):
    mask = response_mask()
    trainer = trainer_of("trl.trainer.grpo_trainer", "GRPOTrainer")
    trainer.loss_type, trainer.importance_sampling_level = loss_type, level
    trainer.epsilon_low, trainer.epsilon_high = 0.2, options.get("epsilon_high", 0.28)
    trainer.top_entropy_quantile, trainer.off_policy_mask_threshold = 1.0, None
    trainer.beta, trainer.max_completion_length = beta, 10
    trainer.args = SimpleNamespace(
        delta=options.get("delta"), use_bias_correction_kl=corrected, steps_per_generation=1
    )
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = weights is not None
    trainer.current_gradient_accumulation_steps = 1
    trainer._entropy_bonus_enabled = options.get("entropy", 0.0) > 0
    trainer.use_adaptive_entropy, trainer.entropy_coef = False, options.get("entropy", 0.0)
    logps, entropy = draw(0).requires_grad_(), draw(8, centre=2.0).detach().abs()
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logps, entropy, None)
    inputs = {
        "prompt_ids": torch.ones(NUM, 2).long(),
        "prompt_mask": torch.ones(NUM, 2).long(),
        "completion_ids": torch.ones(NUM, LENGTH).long(),
        "completion_mask": mask.long(),
        "advantages": advantages(),
        "old_per_token_logps": draw(0) + 0.3 * draw(7, centre=0.0, scale=1.0),
        "ref_per_token_logps": draw(1),
        "num_items_in_batch": mask.sum(),
    }
    if weights is not None:
        inputs["importance_sampling_ratio"] = weights
    loss = trainer._compute_loss(None, inputs)
    (gradient,) = torch.autograd.grad(loss, logps)
    return loss.item(), torch.where(mask, gradient, 0.0)


def advantages():
    return torch.tensor([1.0, -0.5, 0.3, -1.2, 0.8, -0.1])


def our_batch(logps, weights=None):
    return PolicyBatch(
        logps_BT=logps,
        old_logps_BT=draw(0) + 0.3 * draw(7, centre=0.0, scale=1.0),
        advantages_BT=advantages()[:, None].expand(NUM, LENGTH),
        mask_BT=response_mask(),
        ref_logps_BT=draw(1),
        entropy_BT=draw(8, centre=2.0).abs(),
        importance_BT=weights,
    )


BOTH = {"clip_low": 0.2, "clip_high": 0.28}


POLICIES = [
    ({"loss_type": "grpo"}, "grpo", "sequences", BOTH),
    ({"loss_type": "grpo", "delta": 1.4}, "grpo", "sequences", BOTH | {"dual_clip": 1.4}),
    ({"loss_type": "dr_grpo"}, "dr_grpo", "longest", BOTH),
    ({"loss_type": "dapo"}, "dapo", "tokens", BOTH),
    ({"loss_type": "bnpo"}, "ppo", "tokens", BOTH),
    ({"loss_type": "grpo", "level": "sequence"}, "gspo", "sequences", BOTH),
    ({"loss_type": "grpo", "level": "sequence"}, "gspo_token", "sequences", BOTH),
    ({"loss_type": "cispo", "epsilon_high": 1.3}, "cispo", "tokens", {"clip_high": 0.3}),
]


def settings_both_have():
    """Every policy with every extra, but for what TRL does otherwise.

    TRL corrects the KL term by a sequence's ratio where that is the level, and never for the
    sampler. Its one sequence level is GSPO; GSPO-token is the same until tokens are weighted.
    """
    for policy in POLICIES:
        for kl in (None, "k3", "k3_ratio"):
            for weighted in (False, True):
                of_sequences = policy[0].get("level") == "sequence"
                if kl == "k3_ratio" and (weighted or of_sequences):
                    continue
                if policy[1] == "gspo_token" and weighted:
                    continue
                yield pytest.param(*policy, kl, weighted, id=f"{policy[0]}-{kl}-{weighted}")


@pytest.mark.parametrize(
    ("trl", "name", "count", "options", "kl", "weighted"), list(settings_both_have())
)
def test_policy_losses_and_gradients_are_trls(trl, name, count, options, kl, weighted):
    weights = (0.5 + draw(9).abs()) if weighted else None
    mask = response_mask()
    normalizer = {"sequences": NUM, "longest": NUM * 10, "tokens": mask.sum()}[count]
    expected = trl_grpo(weights=weights, beta=0.2 if kl else 0.0, corrected=kl == "k3_ratio", **trl)
    logps = draw(0).requires_grad_()
    extras = Extras(kl_coefficient=0.2, kl_estimator=kl) if kl else Extras()
    ours, _ = losses.load("policy", name).loss(
        our_batch(logps, weights), normalizer=normalizer, extras=extras, **options
    )
    assert_equal(ours, logps, expected)


def test_the_entropy_bonus_over_tokens_is_trls():
    expected = trl_grpo("dapo", entropy=0.05)
    logps = draw(0).requires_grad_()
    ours, _ = losses.load("policy", "dapo").loss(
        our_batch(logps),
        normalizer=response_mask().sum(),
        extras=Extras(entropy_coefficient=0.05),
        **BOTH,
    )
    assert_equal(ours, logps, expected)


def test_rloo_is_trls():
    mask = response_mask()
    trainer = trainer_of("trl.trainer.rloo_trainer", "RLOOTrainer")
    trainer.epsilon_low = trainer.epsilon_high = 0.2
    logps = draw(0).requires_grad_()
    old = draw(0) + 0.05 * draw(7, centre=0.0, scale=1.0)
    entropy = torch.zeros_like(old)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logps, entropy, None)
    inputs = {
        "prompt_ids": torch.ones(NUM, 2).long(),
        "prompt_mask": torch.ones(NUM, 2).long(),
        "completion_ids": torch.ones(NUM, LENGTH).long(),
        "completion_mask": mask.long(),
        "advantages": advantages(),
        "old_logps": responses.sequence_sum(old, mask),
    }
    trl = trainer._compute_loss(None, inputs)
    (gradient,) = torch.autograd.grad(trl, logps)
    batch = PolicyBatch(logps, old, advantages()[:, None].expand(NUM, LENGTH), mask)
    ours, _ = losses.load("policy", "rloo_trl").loss(batch, normalizer=NUM)
    assert_equal(ours, logps, (trl.item(), gradient))


# --- what TRL writes inline in long methods: its lines, on its own functions ---------------


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_group_advantages_with_its_constant_are_trls(scale):
    nanstd = pytest.importorskip("trl.trainer.utils").nanstd
    rewards = torch.tensor([1.0, 0.0, 0.5, 3.0, 1.0, -2.0])
    grouped = rewards.view(2, 3)
    deviation = rewards - grouped.mean(1).repeat_interleave(3)
    std = nanstd(grouped, dim=1).repeat_interleave(3) if scale == "group" else nanstd(rewards)
    expected = deviation if scale == "none" else deviation / (std + 1e-4)
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    ours, _ = group(rewards, groups, scale=scale, eps=1e-4)
    torch.testing.assert_close(ours, expected, rtol=RTOL, atol=1e-7)
    others = (grouped.sum(1, keepdim=True) - grouped) / 2
    leave_one_out, _ = rloo(rewards, groups)
    torch.testing.assert_close(leave_one_out, rewards - others.flatten(), rtol=RTOL, atol=1e-6)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_importance_weights_are_trls_formula(level, mode):
    mask = response_mask()
    old, sampler = draw(0), draw(4)
    difference = (old - sampler) * mask
    if level == "sequence":
        difference = difference.sum(-1, keepdim=True)
    ratio = difference.exp()
    bounded = ratio.clamp(max=1.5) if mode == "truncate" else ratio.masked_fill(ratio > 1.5, 0.0)
    ours, _ = policy_batch.importance_weights(old, sampler, mask, level=level, mode=mode, high=1.5)
    torch.testing.assert_close(ours, bounded.expand(NUM, LENGTH) * mask, rtol=RTOL, atol=1e-7)
