"""Logs of Inspect (inspect-ai): debates of ours with all their records, and others' evaluations.

PATH is a log (`.eval`, `.json`) or a folder of logs. A sample that holds records of ours, be it of
an export or of `inspect eval oversight/debate`, comes back as the debate that it was. Any other
becomes a question with the model's answer to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from oversight.config import Settings
from oversight.datasets.base import BadRow, LeftOut
from oversight.errors import ConfigError, DataError
from oversight.ids import content_id
from oversight.interop.base import ImportedDebate, ImportItem, PromptOf
from oversight.interop.inspect_evals import Evaluated, NoQuestion
from oversight.interop.inspect_files import BadSample, InspectFile, inspect_writer
from oversight.interop.inspect_records import RECORDS, prompts_of, records_of
from oversight.interop.inspect_samples import (
    BELIEF,
    INVALID,
    VERDICT,
    sample_of,
    shown,
    summary_of,
    times_of,
)
from oversight.types import OutcomeStatus, Transcript

Json: TypeAlias = dict[str, Any]

EDITED = "an edited score of a question with choices, where what the model chose counts"
SUFFIXES = (".eval", ".json")
UNNAMEABLE = re.compile(r"[\x00-\x1f\x7f]")
"""Characters that a member's name is cut off at, or that no list should show."""
MAX_ID_CHARS = 200


class Config(Settings):
    """A log has no settings."""


def count(path: Path, config: Config) -> int:
    """The number of samples of the logs, as far as they say it themselves."""
    return sum(file.num_samples for file in map(_opened, _files(path)) if file is not None)


def read(path: Path, config: Config) -> Iterator[ImportItem]:
    """The debates of a log, or of every log of a folder, sample by sample."""
    for each in _files(path):
        file = _opened(each) if path.is_dir() else InspectFile(each)
        if file is None:
            yield LeftOut(f"a file that is no log of Inspect's: {each.name}")
        else:
            yield from _debates(file)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())


def _opened(path: Path) -> InspectFile | None:
    try:
        return InspectFile(path)
    except DataError:
        return None


def _debates(file: InspectFile) -> Iterator[ImportItem]:
    for sample in _samples(file):
        if isinstance(sample, BadSample):
            yield BadRow(sample.place, None, sample.reason)
            continue
        place = f"{file.path}: sample {str(sample.get('id'))!r}, epoch {sample.get('epoch')}"
        held = (sample.get("store") or {}).get(RECORDS)
        try:
            if isinstance(held, str):
                debate_id, records = records_of(held)
                yield ImportedDebate(place, debate_id, records)
                continue
            found = Evaluated(sample, file.header)
            yield ImportedDebate(place, found.debate.id, found.records())
            if found.num_edits and not found.question.is_open:
                yield LeftOut(EDITED)
        except NoQuestion as error:
            yield LeftOut(str(error))
        except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            yield BadRow(place, None, said)


def _samples(file: InspectFile) -> Iterator[Json | BadSample]:
    """The samples, and one that cannot be read in place of all behind a place that is broken."""
    try:
        yield from file.samples(RECORDS)
    except DataError as error:
        yield BadSample(str(file.path), str(error).removeprefix(f"{file.path}: "))


# --- writing ---


def write(
    transcripts: Iterable[Transcript],
    path: Path,
    config: Config,
    prompt_of: PromptOf | None = None,
) -> Iterator[LeftOut]:
    """Write debates as one log, each a sample; yields nothing, as a log holds all of them.

    Args:
        transcripts: Debates.
        path: The log, `NAME.eval`.
        config: No settings.
        prompt_of: The stored prompt of an id and a number of tokens; without it a log has none.

    Raises:
        ConfigError: The name does not end in .eval.
        FileError: It cannot be written.
    """
    if path.suffix != ".eval":
        raise ConfigError(f"{str(path)!r}: the name of a log of Inspect's ends in .eval")
    told = _Told()
    with inspect_writer(path) as writer:
        for transcript in transcripts:
            sample_id, epoch = told.place(transcript)
            prompts = prompts_of(transcript, prompt_of) if prompt_of else {}
            sample = sample_of(transcript, prompts, sample_id, epoch)
            writer.add(sample, summary_of(sample))
            told.add(transcript, sample)
        writer.end(told.header())
    yield from ()


class _Told:
    """Facts of the samples of a log that its header gives."""

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self._scores: dict[str, list[float]] = {VERDICT: [], BELIEF: [], INVALID: []}
        self._usage: dict[str, Json] = {}
        self._protocols: set[str] = set()
        self._datasets: set[str] = set()
        self._times: list[str] = []
        self._ids: list[str] = []
        self._num_complete = self._num_judged = 0

    def place(self, transcript: Transcript) -> tuple[str, int]:
        """The sample's id, and its epoch: a question's further debates by one protocol."""
        debate = transcript.debate
        name = UNNAMEABLE.sub("\ufffd", shown(f"{debate.protocol.name}:{debate.question_id}"))
        sample_id = name[:MAX_ID_CHARS]
        self._epochs[sample_id] = self._epochs.get(sample_id, 0) + 1
        return sample_id, self._epochs[sample_id]

    def add(self, transcript: Transcript, sample: Json) -> None:
        """Count a sample."""
        self._protocols.add(shown(transcript.debate.protocol.name))
        self._datasets.add(shown(transcript.question.dataset))
        self._times += [each.isoformat() for each in times_of(transcript)]
        self._times = [min(self._times), max(self._times)]
        self._ids.append(transcript.debate.id)
        outcome = transcript.outcome
        self._num_complete += outcome is not None and outcome.status is OutcomeStatus.COMPLETE
        for model, usage in sample["model_usage"].items():
            total = self._usage.setdefault(model, {})
            for key, number in usage.items():
                total[key] = total.get(key, 0) + number
        scores = sample.get("scores", {})
        self._num_judged += bool(scores)
        for name, score in scores.items():
            value = score["value"]
            number = {"C": 1.0, "P": 0.5, "I": 0.0}.get(value, value)
            if not math.isnan(number):
                self._scores[name].append(number)

    def header(self) -> Json:
        """The header of the log."""
        begin, end = self._times or ["1970-01-01T00:00:00+00:00"] * 2
        identity, run = (content_id(each, *self._ids)[:22] for each in ("inspect log", "run"))
        name = next(iter(self._protocols)) if len(self._protocols) == 1 else "debates"
        scorers = [{"name": each} for each in self._scores]
        return {
            "version": 2,
            "status": "success",
            "eval": {
                "eval_id": identity,
                "run_id": run,
                "task_id": identity,
                "created": begin,
                "task": f"oversight/{name}",
                "task_version": 0,
                "dataset": {
                    "name": ", ".join(sorted(self._datasets)),
                    "samples": len(self._epochs),
                },
                "model": ", ".join(sorted(self._usage)) or "none/none",
                "config": {"epochs": max(self._epochs.values(), default=1)},
                "metadata": {"written_by": "oversight export"},
                "scorers": scorers,
            },
            "plan": {
                "name": "plan",
                "steps": [{"solver": f"oversight/{name}", "params": {}}],
                "config": {},
            },
            "results": {
                "total_samples": len(self._ids),
                "completed_samples": self._num_complete,
                "scores": [self._score(each) for each in self._scores],
            },
            "stats": {"started_at": begin, "completed_at": end, "model_usage": self._usage},
        }

    def _score(self, name: str) -> Json:
        values = self._scores[name]
        mean = "accuracy" if name == VERDICT else "mean"
        found: Json = {}
        if values:
            found[mean] = {"name": mean, "value": math.fsum(values) / len(values)}
        return {
            "name": name,
            "scorer": name,
            "scored_samples": len(values),
            "unscored_samples": self._num_judged - len(values),
            "metrics": found,
        }


__all__ = ["Config", "count", "read", "write"]
