"""Learning-rate schedules as pure functions of the step: what the rate is multiplied by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Schedule = Literal["constant", "linear", "cosine", "wsd"]

WSD_DECAY = 0.2
"""Share of all steps in which `wsd` (warm-up, stable, decay) goes down, at the end.

Hu et al., "MiniCPM", 2024; the decay is 1 - sqrt(t), as Hägele et al., 2024, found best.
"""


def multiplier(
    schedule: Schedule, step: int, total: int, warmup: float = 0.0, min_ratio: float = 0.0
) -> float:
    """What the rate of step `step`, of 0 to `total` - 1, is multiplied by.

    It rises in a line over the warm-up, is 1 after it, and would reach
    `min_ratio` at step `total`. Later steps keep `min_ratio`.

    Args:
        schedule: How it goes down after the warm-up.
        step: Steps that have been done.
        total: Steps of the whole run.
        warmup: Steps of the warm-up; below 1, a share of `total`.
        min_ratio: What is left at the end.
    """
    rising = warmup_steps(warmup, total)
    if step < rising:
        # The first step already moves: a rate of 0 would waste it.
        return (step + 1) / (rising + 1)
    falling = max(total - rising, 1)
    progress = min((step - rising) / falling, 1.0)
    return min_ratio + (1.0 - min_ratio) * _SHAPES[schedule](progress, total / falling)


def warmup_steps(warmup: float, total: int) -> int:
    """Steps of a warm-up that is given as a number, or below 1 as a share."""
    return math.ceil(warmup * total) if warmup < 1 else min(round(warmup), total)


def _wsd(progress: float, total: float) -> float:
    decay = min(WSD_DECAY * total, 1.0)
    into = (progress - (1.0 - decay)) / decay
    return 1.0 - math.sqrt(into) if into > 0.0 else 1.0


_SHAPES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda progress, total: 1.0,
    "linear": lambda progress, total: 1.0 - progress,
    "cosine": lambda progress, total: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "wsd": _wsd,
}
"""1 at progress 0, 0 at progress 1 (but `constant`); `total` is all steps by those after the
warm-up."""
