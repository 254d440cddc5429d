"""The spending limit of an engine: how many requests and tokens it may use."""

from __future__ import annotations

from oversight.errors import BudgetExceededError
from oversight.types import Usage


class Budget:
    """Counts what an engine sends and refuses what would go beyond the bounds.

    Requests in flight count against `max_requests` at once. Their tokens are
    known only when they end: a bound on tokens stops what comes after it has been
    reached, not what is under way then.
    """

    def __init__(self, max_requests: int | None, max_total_tokens: int | None) -> None:
        self._max_requests = max_requests
        self._max_total_tokens = max_total_tokens
        self.num_requests = 0
        self.num_tokens = 0

    def take(self, name: str) -> None:
        """Count one request.

        Raises:
            BudgetExceededError: It would be one too many, or the tokens are used up.
        """
        if self._max_requests is not None and self.num_requests >= self._max_requests:
            self._refuse(name, "max_requests", self.num_requests, self._max_requests)
        if self._max_total_tokens is not None and self.num_tokens >= self._max_total_tokens:
            self._refuse(name, "max_total_tokens", self.num_tokens, self._max_total_tokens)
        self.num_requests += 1

    def spend(self, usage: Usage) -> None:
        """Count the tokens of a request."""
        self.num_tokens += usage.prompt_tokens + usage.completion_tokens

    def _refuse(self, name: str, setting: str, used: int, bound: int) -> None:
        raise BudgetExceededError(
            f"{name}: not sent, as the budget is used up: {used} of {setting} = {bound!r}; "
            f"raise {setting} to go on"
        )
