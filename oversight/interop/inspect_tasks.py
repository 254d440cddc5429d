"""Debates, consultancies, critiques and judges as tasks of Inspect.

`inspect eval oversight/debate --model openai/gpt-4o --model-role judge=…` finds them by the entry
point `inspect_ai` of this distribution. Debaters, consultants and critics ask the model role
`debater`, judges the role `judge`, and both the evaluated model where no role is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.solver import Solver

from oversight.config import DatasetSettings
from oversight.datasets.base import load_questions
from oversight.errors import DataError
from oversight.interop.inspect_samples import about, asked, shown, target_of
from oversight.interop.inspect_solvers import (
    QUESTION,
    belief,
    debate_solver,
    invalid,
    judge_solver,
    verdict,
)
from oversight.protocols import load as load_protocol
from oversight.store import Store
from oversight.types import Question


def _sample(question: Question) -> Sample:
    return Sample(
        id=shown(question.id),
        input=asked(question) if question.is_open else shown(question.text),
        choices=[shown(each.text) for each in question.options] or None,
        target=target_of(question),
        metadata={QUESTION: question.model_dump(mode="json")},
    )


def _task(
    dataset: str,
    limit: int | None,
    dataset_settings: Mapping[str, Any] | None,
    seed: int,
    solved: Solver,
    *,
    decides: bool = True,
) -> Task:
    spec = DatasetSettings.parse(
        {"dataset": dataset, "settings": dict(dataset_settings or {})}, where="dataset"
    )
    loaded = load_questions(spec, limit=limit, seed=seed)
    return Task(
        dataset=MemoryDataset([_sample(each) for each in loaded.questions], name=loaded.dataset),
        solver=solved,
        scorer=[verdict(), belief(), invalid()] if decides else None,
    )


@task
def debate(
    dataset: str = "world",
    protocol: str = "debate",
    debater: str = "debater",
    judge: str = "judge",
    limit: int | None = None,
    seed: int = 0,
    store: str | None = None,
    swap: bool = False,
    dataset_settings: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> Task:
    """Debates on a data set, decided by a judge.

    Args:
        dataset: Name of a data set (`oversight datasets`), or the path of a .jsonl file.
        protocol: Name or path of a protocol.
        debater: The agent that debates.
        judge: The agent that judges.
        limit: At most so many questions.
        seed: Of every random draw; a later epoch has another.
        store: Store that the debates are kept in as well.
        swap: Judge each debate with the sides swapped as well.
        dataset_settings: The data set's own settings.
        settings: Further ones by dotted name, as `oversight debate --set` takes them.
    """
    solved = debate_solver(protocol, debater, judge, seed, store, swap, settings)
    decides = not load_protocol(protocol).is_open
    return _task(dataset, limit, dataset_settings, seed, solved, decides=decides)


@task
def consultancy(
    dataset: str = "world",
    protocol: str = "consultancy",
    debater: str = "debater",
    judge: str = "judge",
    limit: int | None = None,
    seed: int = 0,
    store: str | None = None,
    swap: bool = False,
    dataset_settings: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> Task:
    """Consultancies on a data set: one side is argued. Arguments as of `debate`."""
    solved = debate_solver(protocol, debater, judge, seed, store, swap, settings)
    return _task(dataset, limit, dataset_settings, seed, solved)


@task
def critique(
    dataset: str = "world",
    protocol: str = "critique",
    debater: str = "debater",
    judge: str = "judge",
    limit: int | None = None,
    seed: int = 0,
    store: str | None = None,
    swap: bool = False,
    dataset_settings: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> Task:
    """Consultancies that a critic answers and the consultant revises. Arguments as of `debate`.

    The protocol `self_critique` takes open prompts, of which nothing is scored.
    """
    solved = debate_solver(protocol, debater, judge, seed, store, swap, settings)
    decides = not load_protocol(protocol).is_open
    return _task(dataset, limit, dataset_settings, seed, solved, decides=decides)


@task
def direct(
    dataset: str = "world",
    protocol: str = "naive",
    judge: str = "judge",
    limit: int | None = None,
    seed: int = 0,
    store: str | None = None,
    swap: bool = False,
    dataset_settings: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> Task:
    """Questions judged without a debate: `naive`, or `expert` with the source."""
    solved = debate_solver(protocol, None, judge, seed, store, swap, settings)
    return _task(dataset, limit, dataset_settings, seed, solved)


@task
def judge(
    store: str,
    judge: str = "judge",
    protocol: str | None = None,
    limit: int | None = None,
    swap: bool = False,
    settings: dict[str, Any] | None = None,
) -> Task:
    """Recorded debates of a store, judged by one more judge.

    Args:
        store: Path of the store, or a postgresql:// URL.
        judge: The agent that judges.
        protocol: Only debates of this protocol.
        limit: At most so many debates.
        swap: Judge each debate with the sides swapped as well.
        settings: Further ones by dotted name, as `oversight judge --set` takes them.
    """
    samples: list[Sample] = []
    with Store.open(store, create=False, only_read=True) as opened:
        for each in opened.transcripts(protocol=protocol):
            if limit is not None and len(samples) >= limit:
                break
            if not each.question.is_open:
                made = _sample(each.question)
                made.id, made.metadata = each.debate.id, about(each)
                samples.append(made)
    if not samples:
        raise DataError(f"store = {store!r}: there is no complete debate to judge")
    return Task(
        dataset=MemoryDataset(samples, name=Path(store).name),
        solver=judge_solver(store, judge, swap, settings),
        scorer=[verdict(), belief(), invalid()],
    )
