"""Options out of the range in which a loss is defined: refused by name, before and at a call."""

from __future__ import annotations

import math
import re
from typing import Annotated

import pytest
import torch
from pydantic import Field, TypeAdapter, ValidationError

from oversight.errors import ConfigError
from oversight.train import losses
from oversight.train.losses import kl, pairs, policy_batch
from oversight.train.losses.advantages import RunningScale, missing_eos
from oversight.train.losses.kl import AdaptiveKL, FixedKL
from oversight.train.losses.options import (
    NonNegative,
    Positive,
    Smoothing,
    range_of,
    range_text,
)
from oversight.train.losses.pairs import PairLogps, sft_term
from oversight.train.losses.policy import value_loss
from oversight.train.losses.policy_batch import Extras
from oversight.train.losses.reward import combine

FAMILIES = ("reward", "preference", "unpaired", "policy")
ANY_NUMBER = {("bco_pair", "shift")}
"""Options that a paper defines for every number."""
NUMBERS = [
    (family, name, option)
    for family in FAMILIES
    for name in losses.names(family)
    for option, default in losses.options(family, name).items()
    if (isinstance(default, float) or option.startswith(("clip", "dual")))
    and (name, option) not in ANY_NUMBER
]
BEYOND = [
    ("preference", "sigmoid", "beta", -1, "above 0"),
    ("preference", "sigmoid", "beta", 0.0, "above 0"),
    ("preference", "sigmoid", "label_smoothing", 0.5, "in [0, 0.5)"),
    ("preference", "robust", "label_smoothing", -0.1, "in [0, 0.5)"),
    ("preference", "exo_pair", "label_smoothing", 0.0, "in (0, 0.5)"),
    ("preference", "discopop", "tau", 2.0, "in (0, 1]"),
    ("preference", "orpo", "beta", -0.1, "of at least 0"),
    ("preference", "simpo", "gamma", -0.1, "of at least 0"),
    ("preference", "rao_kupper", "tie_strength", 1.0, "above 1"),
    ("preference", "davidson", "tie_strength", 0.0, "above 0"),
    ("unpaired", "kto", "beta", 0, "above 0"),
    ("unpaired", "kto", "desirable_weight", -1.0, "of at least 0"),
    ("unpaired", "apo_zero_unpaired", "undesirable_weight", -1.0, "of at least 0"),
    ("reward", "bradley_terry", "centring", -0.01, "of at least 0"),
    ("reward", "rao_kupper", "tie_strength", 1, "above 1"),
    ("reward", "davidson", "tie_strength", -1.0, "above 0"),
    ("reward", "plackett_luce", "centring", -0.01, "of at least 0"),
    ("policy", "ppo", "clip_low", 1.1, "in [0, 1]"),
    ("policy", "grpo", "clip_high", -0.1, "of at least 0"),
    ("policy", "dapo", "dual_clip", 1.28, "above 1 + clip_high = 1.28"),
    ("policy", "gspo", "dual_clip", 1.0, "above 1 + clip_high = 1.0004"),
    ("policy", "cispo", "clip_low", -0.1, "in [0, 1]"),
]


@pytest.mark.parametrize(("family", "name", "option", "given", "accepted"), BEYOND)
def test_an_option_out_of_range_is_refused_when_it_is_bound(family, name, option, given, accepted):
    told = re.escape(f"options.{option} = {given!r}: give a number {accepted}")
    with pytest.raises(ConfigError, match=f"^{told}( or |$)"):
        losses.bind(family, name, {option: given}, where="options")


@pytest.mark.parametrize(
    ("family", "name", "option"),
    NUMBERS,
)
def test_every_number_of_a_loss_has_its_range(family, name, option):
    assert range_of(losses.load(family, name).loss, option) is not None


@pytest.mark.parametrize(("family", "name", "option"), NUMBERS)
@pytest.mark.parametrize("given", [math.nan, math.inf, -1e9, "0.1", True, [0.1]])
def test_what_is_no_number_in_reach_is_no_option(family, name, option, given):
    with pytest.raises(
        ConfigError, match=f"'?{option}'? = {re.escape(repr(given))}: give a number"
    ):
        losses.bind(family, name, {option: given})


@pytest.mark.parametrize("family", FAMILIES)
def test_defaults_are_in_their_ranges(family):
    for name in losses.names(family):
        losses.bind(family, name, losses.options(family, name))


def test_a_bound_that_another_option_makes_is_checked_from_either_side():
    losses.bind("policy", "ppo", {"dual_clip": 1.5, "clip_high": 0.4})
    with pytest.raises(ConfigError, match=r"dual_clip = 1\.5: .* 1 \+ clip_high = 1\.6 or None"):
        losses.bind("policy", "ppo", {"dual_clip": 1.5, "clip_high": 0.6})
    with pytest.raises(ConfigError, match=r"clip_high = 'wide'"):
        losses.bind("policy", "ppo", {"dual_clip": 1.5, "clip_high": "wide"})


def test_words_and_truth_values_are_checked_too():
    with pytest.raises(ConfigError, match=r"ties = 'none': give apart, breslow or refuse"):
        losses.bind("reward", "plackett_luce", {"ties": "none"})
    with pytest.raises(ConfigError, match=r"trl_mean = 1: give true or false"):
        losses.bind("preference", "ipo", {"trl_mean": 1})
    with pytest.raises(ConfigError, match=r"'weight_B' = 3: give a Tensor or None"):
        losses.load("reward", "bradley_terry")(ONE, ONE, normalizer=1, weight_B=3)


@pytest.mark.parametrize(
    ("family", "name", "given"),
    [
        (family, name, given)
        for family in FAMILIES
        for name in losses.names(family)
        for given in losses.load(family, name).given
    ],
)
def test_what_a_trainer_gives_is_no_setting(family, name, given):
    assert given not in losses.options(family, name)
    with pytest.raises(ConfigError, match=rf"^options\.{given}: the trainer gives .* leave it out"):
        losses.bind(family, name, {given: None}, where="options")


def test_a_misspelt_option_is_answered_with_settings_alone():
    known = r"Known: centring, label_smoothing, tie_strength\.$"
    with pytest.raises(ConfigError, match=known):
        losses.bind("reward", "davidson", {"weight": 1.0}, where="options")


def test_a_learnable_tie_strength_is_not_held_to_numbers():
    raw = torch.zeros((), requires_grad=True)
    module = losses.load("reward", "davidson")
    loss, _ = module.loss(
        torch.ones(1), torch.zeros(1), normalizer=1, tie_strength=pairs.davidson_from_raw(raw)
    )
    loss.backward()
    assert raw.grad != 0


ONE = torch.ones(1)
LINE, MASK = torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)
PAIR = PairLogps(ONE, ONE, chosen_length_B=ONE, rejected_length_B=ONE)
CALLS = {
    "beta": lambda: losses.load("preference", "sigmoid").loss(PAIR, normalizer=1, beta=-1),
    "alpha": lambda: sft_term(PAIR, normalizer=1, alpha=-1.0),
    "clip": lambda: value_loss(LINE, LINE, LINE, MASK, normalizer=1, clip=0.0),
    "coefficient": lambda: kl.kl_in_reward(LINE, LINE, MASK, coefficient=-0.1),
    "how": lambda: combine(LINE, how="median"),
    "estimator": lambda: kl.estimate(LINE, LINE, estimator="k4"),
    "high": lambda: policy_batch.importance_weights(LINE, LINE, MASK, high=0.0),
    "low": lambda: policy_batch.importance_weights(LINE, LINE, MASK, low=-0.1),
    "label_smoothing": lambda: pairs.target_B(ONE, label_smoothing=0.5),
    "penalty": lambda: missing_eos(ONE, MASK[0, :1], penalty=-1.0),
    "value": lambda: FixedKL(-0.1),
    "horizon": lambda: AdaptiveKL(0.1, 1.0, horizon=0.0),
    "kl_coefficient": lambda: Extras(kl_coefficient=-0.1),
    "entropy_coefficient": lambda: Extras(entropy_coefficient=math.nan),
    "tie_strength": lambda: pairs.rao_kupper_log_probabilities(ONE, 1.0),
}


@pytest.mark.parametrize("option", CALLS)
def test_an_option_out_of_range_is_refused_at_a_call(option):
    with pytest.raises(ConfigError, match=f"^loss option '{option}' = .*: give "):
        CALLS[option]()


def test_running_scale_is_clipped_at_a_number_above_0():
    with pytest.raises(ConfigError, match="'clip' = 0: give a number above 0 or None"):
        RunningScale(clip=0)


@pytest.mark.parametrize(
    ("found", "inside", "outside", "text"),
    [
        (Positive, [1e-9, 1e9], [0, -1], "above 0"),
        (NonNegative, [0, 2], [-1e-9], "of at least 0"),
        (Smoothing, [0, 0.49], [-0.1, 0.5], "in [0, 0.5)"),
        (Annotated[float, Field(gt=0, le=1)], [0.1, 1], [0, 1.1], "in (0, 1]"),
    ],
)
def test_a_range_holds_what_it_says(found, inside, outside, text):
    def holds(number):
        try:
            TypeAdapter(found).validate_python(number)
        except ValidationError:
            return False
        return True

    assert all(holds(number) for number in inside)
    assert not any(holds(number) for number in outside)
    assert range_text(found) == text
