"""Early stop: when held-out results no longer get better; and which was the best."""

from __future__ import annotations

import math
from typing import Any


class EarlyStop:
    """Follows the held-out result.

    Args:
        patience: Evaluations without a better result after which it is enough; None: never.
        min_delta: By how much a result must be better to count.
        higher_is_better: Of results.
    """

    def __init__(
        self, patience: int | None = None, min_delta: float = 0.0, higher_is_better: bool = False
    ) -> None:
        self._patience = patience
        self._min_delta = min_delta
        self._sign = 1.0 if higher_is_better else -1.0
        self.best: float | None = None
        self.best_step: int | None = None
        self.num_worse = 0
        """Evaluations since the best one."""

    def better(self, step: int, result: float) -> bool:
        """Take in a result; whether it is the best so far. NaN never is."""
        gain = math.inf if self.best is None else self._sign * (result - self.best)
        if math.isnan(result) or not gain > self._min_delta:
            self.num_worse += 1
            return False
        self.best, self.best_step, self.num_worse = result, step, 0
        return True

    @property
    def is_due(self) -> bool:
        """Whether patience has run out."""
        return self._patience is not None and self.num_worse >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"best": self.best, "best_step": self.best_step, "num_worse": self.num_worse}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.best = state_dict["best"]
        self.best_step = state_dict["best_step"]
        self.num_worse = state_dict["num_worse"]
