"""Answers a request file: by an engine in this process, or by workers elsewhere.

What is answered stands in the output file line by line as it comes, so a run that is killed has
lost the calls in flight and nothing else: the same command goes on behind them. Who answers is a
`Runner`: `EngineRunner` here, `jobs/ray_data.py` for workers of a Ray cluster.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from oversight.engines.openai.failures import KINDS
from oversight.errors import (
    BudgetExceededError,
    DataError,
    EngineError,
    FileError,
    OversightError,
    lack,
)
from oversight.graphs.running import work_through
from oversight.jobs.lines import (
    AnswerLine,
    BrokenLine,
    PlacedLine,
    answer_line,
    answer_of,
    lines_of,
    request_of,
)
from oversight.redaction import redacted
from oversight.types import Engine

NUM_REASONS = 5
BLOCK = 65_536
ALL = (0, 1)
"""The part of a file that is the whole of it."""


@dataclass
class Answering:
    """Progress of a request file."""

    total: int = 0
    done: int = 0
    """Answered in this run."""
    found: int = 0
    """Answered before it began."""
    num_failed: int = 0
    num_tokens: int = 0
    """Tokens of prompts and answers of this run."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Of failed calls, the first few, by id."""
    model: str = ""
    """The model that the file asks for, where it names one."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a call, and the tokens that it took."""

    line: AnswerLine
    num_tokens: int = 0


class Runner(Protocol):
    """Answers calls of a request file, here or elsewhere."""

    async def run(
        self, requests: Path, waiting: Iterator[PlacedLine], take: Callable[[Answered], None]
    ) -> None:
        """Give `take` an answer to each line of `waiting`, in any order, from this thread.

        A call that fails is an answer with its reason; what is raised ends the run.
        """
        ...


class EngineRunner:
    """Answers with an engine of this process, so many calls at a time."""

    def __init__(self, engine: Engine, concurrency: int) -> None:
        self._engine, self._concurrency = engine, concurrency

    async def run(
        self, requests: Path, waiting: Iterator[PlacedLine], take: Callable[[Answered], None]
    ) -> None:
        """Ask the engine. Raises as `answered` does."""

        async def ask(line: PlacedLine) -> None:
            take(await answered(self._engine, line))

        await work_through((each for each in waiting), ask, self._concurrency)


async def answered(engine: Engine, line: PlacedLine) -> Answered:
    """The engine's answer to a request line; an error of this call alone is one as well.

    Raises:
        BudgetExceededError: The engine's budget is used up.
        Exception: What the machine has run out of, which the next call would lack as well.
    """
    id_ = str(line.value["custom_id"])
    try:
        [found] = await engine.generate([request_of(line.value)])
    except BudgetExceededError:
        raise
    except (OversightError, ValueError) as error:
        kind = KINDS.get(getattr(error, "cause", ""), EngineError)
        return Answered(AnswerLine(id_, error=redacted(str(error)), kind=kind))
    except Exception as error:
        if lack(error) is not None:
            raise
        reason = redacted(f"unexpected {type(error).__name__}: {error}")
        return Answered(AnswerLine(id_, error=reason))
    usage = found.usage
    return Answered(answer_line(id_, found), usage.prompt_tokens + usage.completion_tokens)


async def answer_file(
    requests: Path,
    out: Path,
    runner: Runner,
    *,
    part: tuple[int, int] = ALL,
    beside: Sequence[Path] = (),
    on_progress: Callable[[Answering], None] | None = None,
) -> Answering:
    """Answer the calls of a request file that no output file holds an answer to.

    A failed call is a line with its reason, and is asked again by the next run.

    Args:
        requests: The request file.
        out: The answer file, which is gone on with.
        runner: Answers the calls.
        part: Index and number of parts of the file, each a stretch of lines.
        beside: Other answer files, whose calls are not asked again.
        on_progress: Is told of every answer.

    Raises:
        DataError: A file cannot be read, or holds a line that is no request, or asks for several
            models.
        FileError: The output cannot be written.
        BudgetExceededError: The engine's budget is used up; what was answered stands.
    """
    known = _mended(out)
    for other in beside:
        known |= _ids(other)
    index, number = part
    num_lines, model = _extent(requests)
    first, end = (num_lines * index // number, num_lines * (index + 1) // number)
    progress = Answering(total=end - first, model=model)

    def waiting() -> Iterator[PlacedLine]:
        for place, line in enumerate(_requests(requests)):
            if not first <= place < end:
                continue
            if line.value["custom_id"] in known:
                progress.found += 1
            else:
                yield line

    with _appending(out) as file:

        def take(each: Answered) -> None:
            answer = each.line
            if answer.custom_id in known:
                return  # a worker that was taken for dead may answer after another did
            try:
                file.write(answer.text())
                file.flush()
            except OSError as error:
                raise FileError.of("out", out, error) from error
            progress.num_tokens += each.num_tokens
            if answer.error:
                progress.num_failed += 1
                if len(progress.reasons) < NUM_REASONS:
                    progress.reasons[answer.custom_id] = answer.error
            else:
                known.add(answer.custom_id)
                progress.done += 1
            if on_progress:
                on_progress(progress)

        await runner.run(requests, waiting(), take)
    return progress


def answer_files(
    requests: Path, out: Path | None, part: tuple[int, int]
) -> tuple[Path, list[Path]]:
    """The file that answers are written to, and those beside it that may hold some already."""
    if out is not None:
        return out, []
    folder, name = requests.parent.parent / "answers", requests.name
    if part != ALL:
        name = f"{requests.stem}.part-{part[0] + 1}-of-{part[1]}.jsonl"
    target = folder / name
    parts = folder.glob(f"{glob.escape(requests.stem)}.part-*.jsonl")
    files = sorted({folder / requests.name, *parts} - {target})
    return target, [each for each in files if each.is_file()]


def _requests(path: Path) -> Iterator[PlacedLine]:
    try:
        for line in lines_of(path):
            if isinstance(line, BrokenLine):
                raise DataError(f"request file {str(path)!r}, line {line.number}: {line.reason}")
            yield line
    except OSError as error:
        raise DataError(
            f"request file {str(path)!r}: not readable ({error.strerror or error})"
        ) from None


def _extent(path: Path) -> tuple[int, str]:
    """Number of calls of a request file, and the model that they ask for; "" if they name none.

    Raises:
        DataError: The file cannot be read, or they ask for several models.
    """
    number, first = 0, ""
    for line in _requests(path):
        number += 1
        body = line.value.get("body")
        model = str(body.get("model") or "") if isinstance(body, Mapping) else ""
        if first and model and model != first:
            raise DataError(
                f"request file {str(path)!r}, line {line.number}: it asks for the model {model!r}, "
                f"and lines before it for {first!r}; one engine answers one model: divide the file "
                "by model"
            )
        first = first or model
    return number, first


def _ids(path: Path) -> set[str]:
    """Ids of calls that a file answers."""
    found: set[str] = set()
    try:
        for line in lines_of(path):
            if isinstance(line, PlacedLine) and not (answer := answer_of(line.value)).error:
                found.add(answer.custom_id)
    except OSError as error:
        raise DataError(
            f"answer file {str(path)!r}: not readable ({error.strerror or error})"
        ) from None
    return found


def _mended(out: Path) -> set[str]:
    """Ids of calls that the output answers; a last line that was cut short is removed from it."""
    if not out.is_file():
        return set()
    known = _ids(out)
    with suppress(OSError), out.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if size and file.read(1) != b"\n":
            *_, last = lines_of(out)
            if isinstance(last, PlacedLine):
                file.write(b"\n")  # of that line only its end is missing
            else:
                file.truncate(_start_of_last_line(file, size))
    return known


def _start_of_last_line(file: BinaryIO, size: int) -> int:
    """Place behind the last line end of a file that ends without one."""
    at = size
    while at:
        begin = max(0, at - BLOCK)
        file.seek(begin)
        if (found := file.read(at - begin).rfind(b"\n")) >= 0:
            return begin + found + 1
        at = begin
    return 0


def _appending(out: Path) -> TextIO:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return out.open("a", encoding="utf-8", newline="\n")
    except OSError as error:
        raise FileError.of("out", out, error) from error
