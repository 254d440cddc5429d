"""The suite as jobs: one a part, each with its folder and record, so that a killed run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from oversight.config import DatasetSettings
from oversight.datasets.base import load_questions
from oversight.evals.intervals import Estimate
from oversight.experiments import workers
from oversight.experiments.measured.settings import PARTS, MeasureSettings
from oversight.experiments.trainer_runs import check_model
from oversight.experiments.workers import JobDone, JobFact, Report, folder_of, read_done
from oversight.ids import content_id
from oversight.text.numbers import Table
from oversight.types import Question

SHARED = frozenset({"model", "judge", "seeds"})
"""Settings that every part reads, besides the table of its own name."""
WEIGHTS = {"overoptimisation": 120, "shift": 90, "control": 60}


class PartTable(JobFact):
    """A table of a page."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def shown(self) -> Table:
        """The table as reports print it."""
        return Table(self.title, self.note, self.columns, self.rows)


class PartFigure(JobFact):
    """A number of a part with the ends of its interval, as far as there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> PartFigure:
        """The figure of an estimate."""
        return cls(value=estimate.value, low=estimate.low, high=estimate.high)


class PartDone(JobDone):
    """Findings of a part: all that its page shows."""

    title: str
    headlines: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """Input that says nothing, named: it is in no average."""
    tables: tuple[PartTable, ...]
    not_shown: str
    """The sentence that says which conclusion the numbers do not carry."""
    figures: dict[str, PartFigure]
    """The part's numbers by name, for tests and other programs."""
    series: dict[str, JsonValue]
    """What the picture draws."""
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartJob:
    """One part of the suite."""

    name: str
    needs: tuple[str, ...] = ()

    @property
    def weight(self) -> int:
        """Seconds that it takes, roughly."""
        return WEIGHTS[self.name]


@dataclass(frozen=True)
class Suite:
    """The suite as jobs."""

    settings: MeasureSettings
    noun: str = "suite"
    record: str = "measured.json"

    @property
    def out(self) -> Path:
        """Folder of everything."""
        return self.settings.out

    @property
    def num_processes(self) -> int:
        """Processes, of one thread each."""
        return self.settings.jobs

    def plan(self) -> Sequence[PartJob]:
        """The parts that were asked for."""
        return [PartJob(name) for name in PARTS if name in self.settings.parts]

    def check(self) -> None:
        """Try the models that the parts begin with.

        Raises:
            ConfigError: One cannot be used.
        """
        check_model("model", self.settings.model, {})
        check_model("judge", self.settings.judge, {})

    def questions_id(self) -> str:
        """A hash of the first questions of the world that the parts ask."""
        asked = world_questions("held_out", 20)
        return f"questions:{content_id([each.fingerprint for each in asked])}"

    def reads(self, job: str) -> frozenset[str]:
        """Settings that the part of that name reads."""
        return SHARED | {job}

    def run(self, job: PartJob) -> JobDone:
        """Measure the part, and give its findings."""
        folder = folder_of(self.out, job.name)
        folder.mkdir(parents=True, exist_ok=True)
        part = import_module(f"oversight.experiments.measured.{job.name}")
        done: PartDone = part.measure(self.settings, folder)
        return done


def run(settings: MeasureSettings, report: Report = lambda _: None) -> dict[str, PartDone]:
    """Measure the parts that are not done yet; those of the folder by name, in the report's order.

    Raises:
        AnotherRunError: The folder holds a suite with other settings or models.
        ConfigError: Another process runs in the folder, or a model cannot be used.
        JobError: A part failed; says which, and why.
    """
    workers.run(Suite(settings), report)
    found = {name: read_done(folder_of(settings.out, name)) for name in PARTS}
    return {name: PartDone.model_validate(each) for name, each in found.items() if each}


def world_questions(split: str, number: int, **changes: Any) -> tuple[Question, ...]:
    """Questions of the generated world, plainly told and of difficulty 1 unless it is changed."""
    settings = {"difficulty": 1, "telling": "plain"} | changes
    asked = {"dataset": "world", "settings": settings, "split": split, "limit": number}
    return load_questions(DatasetSettings.parse(asked)).questions
