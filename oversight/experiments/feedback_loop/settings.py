"""Settings of a feedback loop: the model that is served, rounds, users, controls, the trainer.

out = "runs/feedback_loop"
model = "porter"
rounds = 2
prompts = 400                 # of users in each round
arms = ["users", "shuffled", "still"]
seeds = [0, 1, 2]

[users]
num = 40
error_rate = 0.1

[sft]                         # settings of the trainer, over the experiment's own
steps = 100
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from oversight.config import ExperimentSettings, Settings
from oversight.experiments.trainer_runs import check_given

LoopArm = Literal["users", "shuffled", "still"]
START: LoopArm = "still"
"""The arm that is never retrained, whose first measure is what all begin from."""


class SimulatedUserSettings(Settings):
    """Users, and what they say of answers."""

    num: int = Field(default=40, ge=1)
    error_rate: float = Field(default=0.1, ge=0.0, le=1.0)
    """Probability that a user takes a bad answer for a good one, or a good one for a bad one."""
    corrects: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability that a user who thinks an answer bad writes a better one; of a user who errs it
    is a wrong one."""


class FeedbackLoopSettings(ExperimentSettings):
    """A feedback loop, from the first call to the report."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"out", "jobs", "quick", "arms", "seeds", "run", "tags"}
    )
    by_content: ClassVar[Mapping[str, str]] = {"model": "model"}

    out: Path = Path("runs/feedback_loop")
    model: str = "porter"
    """Model that is served at first, and that each round trains anew on all words so far."""
    policy: str = "basic"
    """Policy of the guard in front of it."""
    rounds: int = Field(default=2, ge=1, le=20)
    prompts: int = Field(default=400, ge=16, le=2000)
    """Requests of users in a round, each answered once and spoken of by one user."""
    held_out_prompts: int = Field(default=320, ge=8)
    """Requests that bad answers are counted on, after each round."""
    people: int = Field(default=2, ge=2, le=4)
    """People in each register that requests are about."""
    arms: tuple[LoopArm, ...] = ("users", "shuffled", "still")
    """`users` learns from what users say; `shuffled` from the same words dealt out to other
    answers; `still` is served just as long and not retrained."""
    users: SimulatedUserSettings = SimulatedUserSettings()
    rows: dict[str, JsonValue] = Field(default_factory=dict)
    """Limits of what counts as rows are made, as `oversight guard export --set` takes them."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    temperature: float = Field(default=0.5, ge=0.0, le=2.0)
    max_tokens: int = Field(default=32, ge=4)
    """Longest answer."""
    sft: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("arms", "seeds"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name} = {list(given)} names one twice")
        if START not in self.arms:
            raise ValueError(
                f"arms = {list(self.arms)}: {START!r} is what the others are held against"
            )
        check_given("sft", self.sft)
        return self
