"""Answers a request file with an engine: in this process, on a Slurm node, or in a Ray worker.

What is answered stands in the output file line by line as it comes, so a run that is killed has
lost the calls in flight and nothing else: the same command goes on behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from oversight.errors import BudgetExceededError, DataError, FileError, OversightError, lack
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
    reasons: dict[str, str] = None  # type: ignore[assignment]  # set below
    """Of failed calls, the first few, by id."""

    def __post_init__(self) -> None:
        self.reasons = {}


NUM_REASONS = 5


async def answer_file(
    requests: Path,
    out: Path,
    engine: Engine,
    *,
    concurrency: int = 64,
    on_progress: Callable[[Answering], None] | None = None,
) -> Answering:
    """Answer the calls of a request file that the output file holds no answer to.

    A failed call is a line with its reason, and is asked again by the next run.

    Raises:
        DataError: A file cannot be read, or holds a line that is no request.
        FileError: The output cannot be written.
        BudgetExceededError: The engine's budget is used up; what was answered stands.
    """
    known = _answered(out)
    progress = Answering()
    for _ in _requests(requests):
        progress.total += 1
    with _appending(out) as file:

        def write(answer: AnswerLine) -> None:
            try:
                file.write(answer.text())
                file.flush()
            except OSError as error:
                raise FileError.of("out", out, error) from error

        async def ask(line: PlacedLine) -> None:
            id_ = str(line.value["custom_id"])
            try:
                request = request_of(line.value)
                [found] = await engine.generate([request])
            except BudgetExceededError:
                raise
            except (OversightError, ValueError) as error:
                progress.num_failed += 1
                reason = redacted(str(error))
                if len(progress.reasons) < NUM_REASONS:
                    progress.reasons[id_] = reason
                write(AnswerLine(id_, error=reason))
            except Exception as error:
                if lack(error) is not None:
                    raise
                progress.num_failed += 1
                write(
                    AnswerLine(id_, error=redacted(f"unexpected {type(error).__name__}: {error}"))
                )
            else:
                progress.done += 1
                progress.num_tokens += found.usage.prompt_tokens + found.usage.completion_tokens
                write(answer_line(id_, found))
            if on_progress:
                on_progress(progress)

        def waiting() -> Iterator[PlacedLine]:
            for line in _requests(requests):
                if line.value["custom_id"] in known:
                    progress.found += 1
                else:
                    yield line

        await work_through((each for each in waiting()), ask, concurrency)
    return progress


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


def _answered(out: Path) -> set[str]:
    """Ids of calls that the output answers; a last line that was cut short is removed."""
    known: set[str] = set()
    end = 0
    with suppress(FileNotFoundError):
        for line in lines_of(out):
            if isinstance(line, BrokenLine):
                continue
            end = line.start + line.size
            answer = answer_of(line.value)
            if not answer.error:
                known.add(answer.custom_id)
        data = out.read_bytes()[end:]
        if data.strip() and not data.endswith(b"\n"):
            with out.open("r+b") as file:
                file.truncate(end)
    return known


def _appending(out: Path) -> TextIO:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return out.open("a", encoding="utf-8", newline="\n")
    except OSError as error:
        raise FileError.of("out", out, error) from error
