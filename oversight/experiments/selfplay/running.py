"""A circle before it is run: all that its jobs begin with is parsed and tried; then its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from oversight import protocols
from oversight.errors import DataError, OversightError
from oversight.experiments import workers
from oversight.experiments.selfplay import methods
from oversight.experiments.selfplay.games import BEST_OF_N, PROTOCOLS, questions, speaking
from oversight.experiments.selfplay.jobs import CircleJob, plan_jobs, run_job
from oversight.experiments.selfplay.settings import CircleSettings
from oversight.experiments.trainer_runs import LATER, check_model, check_run
from oversight.experiments.workers import JobDone, Report
from oversight.ids import content_id
from oversight.train import dpo, grpo, ppo, reward, sft


def check(circle: CircleSettings) -> None:
    """Parse and try all that the circle's jobs begin with.

    Raises:
        ConfigError: A setting cannot be used; names it, as `ppo.steps`.
        DataError: There are fewer questions than the circle asks for.
    """
    for name, trainer, config in _runs(circle):
        check_run(name, trainer, config, getattr(circle, name))
    check_model("model", circle.model, circle.template_args)
    check_model("judge", circle.judge, circle.judge_template_args)
    for arena in circle.arenas:
        for protocol in (PROTOCOLS[arena], BEST_OF_N[arena]):
            protocols.load(protocol)
    speaking(circle, circle.model)
    asked = {
        "train_questions": ("train", circle.train_questions),
        "held_out_questions": ("held_out", circle.held_out_questions),
        "crossplay_questions": ("held_out", circle.crossplay_questions),
    }
    for name, (split, number) in asked.items():
        _check_questions(circle, name, split, number)


def _runs(circle: CircleSettings) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Each kind of training run of the circle: its table, its trainer and its settings."""
    policy, arena, seed = circle.model, circle.arenas[0], circle.seeds[0]
    compared = (circle, policy, LATER, arena, LATER, seed)
    if "expert_iteration" in circle.methods:
        yield "sft", sft, methods.sft_config(*compared)
    if "dpo" in circle.methods:
        yield "dpo", dpo, methods.dpo_config(*compared)
    if "ppo" in circle.methods:
        yield "reward", reward, methods.reward_config(circle, policy, LATER, seed)
        yield "ppo", ppo, methods.ppo_config(circle, policy, LATER, LATER, seed)
    if "grpo" in circle.methods:
        yield "grpo", grpo, methods.grpo_config(circle, policy, LATER, seed)
    if circle.train_judge:
        yield "sft_judge", sft, methods.judge_config(circle, LATER, seed)


def _check_questions(circle: CircleSettings, name: str, split: str, number: int) -> None:
    """Refuse a data set that has fewer questions than are asked for."""
    try:
        found = len(questions(circle, split, number))
    except OversightError as error:
        raise type(error)(f"dataset: {error}") from None
    if found < number:
        raise DataError(
            f"{name} = {number:,}: the data set {circle.dataset.dataset!r} has only {found:,} "
            f"questions in its part {split!r}; ask for fewer, or let it make more"
        )


@dataclass(frozen=True)
class Circle:
    """A circle as jobs."""

    settings: CircleSettings
    noun: str = "circle"
    record: str = "circle.json"

    def plan(self) -> list[CircleJob]:
        """All jobs, each after those it needs."""
        return plan_jobs(self.settings)

    def check(self) -> None:
        """Parse and try all that the jobs begin with; raises what cannot be used."""
        check(self.settings)

    def questions_id(self) -> str:
        """A hash of all questions that are asked, in their order."""
        asked = {
            split: [question.fingerprint for question in questions(self.settings, split, number)]
            for split, number in self.settings.num_questions().items()
        }
        return f"questions:{content_id(asked)}"

    def reads(self, job: str) -> frozenset[str]:
        """All settings: a circle is measured as a whole."""
        return frozenset(CircleSettings.model_fields) - CircleSettings.incidental

    def run(self, job: CircleJob) -> JobDone:
        """Do the job, or what is left of it, and give its record."""
        return run_job(self.settings, job)


def run(circle: CircleSettings, report: Report = lambda _: None) -> dict[str, dict[str, Any]]:
    """Do all of a circle that is not done yet; every job's record by its name.

    Raises:
        CheckpointError: The folder holds a circle with other settings, models or questions.
        ConfigError: Another process runs a circle in the folder, or a job could not begin.
        DataError: There are fewer questions than the circle asks for.
        JobError: A job failed; says which, and why.
    """
    return workers.run(Circle(circle), report)
