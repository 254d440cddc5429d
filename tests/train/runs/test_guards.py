from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from typing import Any

import pytest

from oversight.errors import ConfigError, TrainingStopped
from oversight.train.guard_settings import GuardSettings
from oversight.train.runs.guards import READ, Guards


def stopped(series: Iterable[dict[str, float]], **settings: Any) -> TrainingStopped | None:
    """The error that ends a run of these metrics, if one does; resumed after every step."""
    parsed = GuardSettings.parse(settings)
    state = None
    for step, values in enumerate(series, 1):
        guards = Guards(parsed)
        if state is not None:
            guards.load_state_dict(json.loads(state))
        try:
            guards.check(step, values)
        except TrainingStopped as error:
            return error
        state = json.dumps(guards.state_dict())
    return None


def noisy(mean: float, num: int, spread: float = 0.1, seed: int = 0) -> list[float]:
    draws = random.Random(seed)
    return [mean + draws.gauss(0, spread) for _ in range(num)]


@pytest.mark.parametrize(
    ("losses", "stops"),
    [([math.log(2), 5.0], False), ([0.6935, 0.5], False), ([0.75], True), ([math.nan], True)],
)
def test_the_first_dpo_loss_is_ln_2(losses: list[float], stops: bool) -> None:
    error = stopped([{"loss": loss, "start_loss": math.log(2)} for loss in losses])
    assert (error is not None) == stops


def test_the_message_names_guard_value_bound_step_and_what_to_try() -> None:
    error = stopped([{"loss": 0.75, "start_loss": math.log(2)}])
    assert error is not None
    assert (error.guard, error.value, error.step, error.exit_code) == ("start_loss", 0.75, 1, 1)
    assert "0.75 and must be 0.693147 within 0.01" in str(error)
    assert "reference of other weights" in str(error)
    assert "guards.start_loss.action = 'warn'" in str(error)


@pytest.mark.parametrize(("errors", "stops"), [([0.0, 0.01], False), ([0.001, 0.3], True)])
def test_the_ratio_is_1_on_fresh_rollouts(errors: list[float], stops: bool) -> None:
    error = stopped([{"ratio_error": e} for e in errors] + [{"ratio": 9.0}])
    assert (error is not None) == stops


@pytest.mark.parametrize("name", ["loss", "grad_norm", "reward", "kl", "entropy"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stops(name: str, value: float) -> None:
    error = stopped([{name: 1.0}, {name: value}])
    assert error is not None
    assert error.guard == "not_finite"
    assert f"{name} is" in str(error)


def test_one_spike_of_the_gradient_is_left_to_clipping() -> None:
    norms = [*noisy(1.0, 40), 900.0, 800.0, *noisy(1.0, 5), 900.0, *noisy(1.0, 5)]
    assert stopped([{"grad_norm": norm} for norm in norms]) is None


def test_a_gradient_that_stays_large_stops() -> None:
    norms = [*noisy(1.0, 40), 90.0, 80.0, 100.0]
    error = stopped([{"grad_norm": norm} for norm in norms])
    assert error is not None
    assert (error.guard, error.step, error.value) == ("gradient", 43, 100.0)


def test_large_gradients_at_the_start_are_no_explosion() -> None:
    norms = [500.0, 400.0, 300.0, *noisy(1.0, 60)]
    assert stopped([{"grad_norm": norm} for norm in norms]) is None


def test_gradients_that_begin_at_zero_do_not_stop() -> None:
    assert stopped([{"grad_norm": norm} for norm in [*[0.0] * 40, *noisy(1.0, 9)]]) is None


@pytest.mark.parametrize(("floor", "stops"), [(0.1, False), (0.001, True)])
def test_gradients_below_the_floor_are_none_too_large(floor: float, stops: bool) -> None:
    """A policy that has nothing left to learn, and three batches that it learns a little from."""
    norms = [*noisy(3e-5, 40, spread=1e-6), 0.01, 0.02, 0.01]
    error = stopped([{"grad_norm": norm} for norm in norms], gradient={"floor": floor})
    assert (error is not None) == stops


@pytest.mark.parametrize(
    ("kls", "stops"), [([1, 60, 60, 1, 60, 60, 1], False), ([1, 60, 61, 62], True)]
)
def test_kl_past_its_bound_stops_if_it_stays(kls: list[float], stops: bool) -> None:
    error = stopped([{"kl": kl} for kl in kls])
    assert (error is not None) == stops
    assert stopped([{"kl": kl} for kl in kls], kl={"bound": 100}) is None


def test_entropy_that_collapses_stops() -> None:
    falling = [*noisy(2.0, 5), *[2.0 * 0.8**i for i in range(25)]]
    error = stopped([{"entropy": e} for e in falling])
    assert error is not None
    assert error.guard == "entropy"
    assert error.value < error.bound < 0.11


def test_entropy_that_falls_as_it_does_in_training_goes_on() -> None:
    falling = [2.0 - 1.7 * i / 200 for i in range(200)]
    assert stopped([{"entropy": e} for e in falling]) is None
    assert stopped([{"entropy": e} for e in falling], entropy={"floor": 0.5}) is not None


def paid(name: str, rewards: list[float], others: list[float]) -> list[dict[str, float]]:
    return [{"reward": r, name: o} for r, o in zip(rewards, others, strict=True)]


RISING = [*noisy(0.0, 20), *noisy(2.0, 40, seed=1)]
FLAT = noisy(0.0, 60)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("disagreement", 2.5), ("response_length", 3.5)],
    ids=["ensemble", "length"],
)
def test_a_reward_that_rises_together_with_what_it_must_not_pay_for_stops(
    name: str, factor: float
) -> None:
    grown = [*noisy(10.0, 20, 0.5), *noisy(10.0 * factor, 40, 0.5)]
    level = noisy(10.0, 60, 0.5)
    error = stopped(paid(name, RISING, grown))
    assert error is not None
    assert name in str(error)
    # Both windows have to be full: 20 steps at the start and 20 now.
    assert error.step == 40
    assert stopped(paid(name, RISING, level)) is None
    assert stopped(paid(name, FLAT, grown)) is None
    assert stopped(paid(name, [-r for r in RISING], grown)) is None


def test_off_is_off_and_a_warning_comes_once_in_a_while() -> None:
    assert stopped([{"loss": math.nan}], not_finite={"action": "off"}) is None
    guards = Guards(GuardSettings.parse({"kl": {"action": "warn", "patience": 1}}))
    said = []
    for step in range(1, 202):
        # As trainers do: the metrics of a step in two parts.
        said += [(step, text) for text in guards.check(step, {"loss": 1.0, "grad_norm": 1.0})]
        said += [(step, text) for text in guards.check(step, {"kl": 99.0})]
    assert [step for step, _ in said] == [1, 101, 201]
    assert "guard 'kl' warns at step 1" in said[0][1]


def test_a_guard_that_was_off_begins_at_the_resume() -> None:
    off = Guards(GuardSettings.parse({"entropy": {"action": "off"}}))
    on = Guards(GuardSettings())
    on.load_state_dict(off.state_dict())
    assert on.check(1, {"entropy": 1.0}) == []


def test_metrics_that_no_guard_knows_change_nothing() -> None:
    assert stopped([{"margin": math.nan}] * 3) is None
    assert "loss" in READ


def test_a_wrong_bound_is_named() -> None:
    with pytest.raises(ConfigError, match=r"guards\.kl\.bound = -1"):
        GuardSettings.parse({"kl": {"bound": -1}}, "guards")
