"""Settings of the guards, which end a bad run early (`runs/guards.py`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from oversight.config import Settings

Action = Literal["stop", "warn", "off"]
"""Action of a guard: end the run, say it once and go on, or nothing."""


class StartLossSettings(Settings):
    """The first loss is that of a policy equal to its reference, on the labels, ties and weights of
    the batch (ln 2 for DPO's sigmoid loss)."""

    action: Action = "stop"
    tolerance: float = Field(default=0.01, gt=0.0)
    """Allowed difference: absolute, and of a loss above 1 a share."""


class FreshRatioSettings(Settings):
    """On rollouts that were just sampled, policy and sampler agree: their ratio is 1."""

    action: Action = "stop"
    tolerance: float = Field(default=0.02, gt=0.0)
    """Largest |ratio - 1|. Raise it for a sampler of lower precision than the trainer."""


class NotFiniteSettings(Settings):
    """No metric that training stands on is NaN or infinite."""

    action: Action = "stop"


class GradientSettings(Settings):
    """The gradient norm, before clipping, stays near what it has been."""

    action: Action = "stop"
    factor: float = Field(default=50.0, gt=1.0)
    """Times the median of the last `window` norms."""
    window: int = Field(default=50, ge=2)
    """Steps that the median is of; until half of them are seen, nothing is judged."""
    patience: int = Field(default=3, ge=1)
    """So many steps in a row; a single spike is what clipping is for."""
    floor: float = Field(default=0.1, ge=0.0)
    """A norm below it is never too large: the median falls to nothing where nothing is left to
    learn, and any one example then stands far above it."""


class KLGuardSettings(Settings):
    """The policy stays near its reference."""

    action: Action = "stop"
    bound: float = Field(default=50.0, gt=0.0)
    """Nats a response, summed over its tokens."""
    patience: int = Field(default=3, ge=1)
    """So many steps in a row."""


class EntropySettings(Settings):
    """The policy still chooses: its entropy stays above a share of where it began."""

    action: Action = "stop"
    share: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Of the entropy over the first `window` steps."""
    floor: float = Field(default=0.0, ge=0.0)
    """Nats a token, whatever the run began with."""
    window: int = Field(default=5, ge=1)
    patience: int = Field(default=5, ge=1)
    """So many steps in a row."""


class DisagreementSettings(Settings):
    """A rising reward is not one that the ensemble of reward models disagrees about more."""

    action: Action = "stop"
    factor: float = Field(default=2.0, gt=1.0)
    """Times the disagreement over the first `window` steps."""
    rise: float = Field(default=1.0, ge=0.0)
    """Least rise of the reward that counts, in standard deviations over its first steps."""
    window: int = Field(default=20, ge=2)
    """Steps that are averaged, at the start and now."""


class LengthSettings(Settings):
    """A rising reward is not one that is paid for length."""

    action: Action = "stop"
    factor: float = Field(default=3.0, gt=1.0)
    """Times the response length over the first `window` steps."""
    rise: float = Field(default=1.0, ge=0.0)
    """Least rise of the reward that counts, in standard deviations over its first steps."""
    window: int = Field(default=20, ge=2)
    """Steps that are averaged, at the start and now."""


class GuardSettings(Settings):
    """Guards that end a bad run early; each can warn instead or be off."""

    start_loss: StartLossSettings = StartLossSettings()
    fresh_ratio: FreshRatioSettings = FreshRatioSettings()
    not_finite: NotFiniteSettings = NotFiniteSettings()
    gradient: GradientSettings = GradientSettings()
    kl: KLGuardSettings = KLGuardSettings()
    entropy: EntropySettings = EntropySettings()
    disagreement: DisagreementSettings = DisagreementSettings()
    length: LengthSettings = LengthSettings()
