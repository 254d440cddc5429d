"""A job's folder: calls in request files, their answers, and the engine that asks by these files.

    JOB/requests/wave-001-shard-000-of-004.jsonl     calls (of several models: wave-001-MODEL-…)
    JOB/answers/…                                    answer files, whatever their names
    JOB/index.db                                     places of both by id; made anew if it is lost
    JOB/parquet/…                                    lines of answers that came as Parquet

Bodies stay in the files; the index has an id and a place a call, so a job of millions of calls
takes no memory. Everything about a call is known by its content: an answer that comes twice, in
another order or from another machine is the same answer, and one that no call asked for is counted.
Of the engine's calls those with an answer are completed, the others are written out.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from oversight.engines import open_engine
from oversight.errors import AnswerPending, ConfigError, DataError, EngineError
from oversight.files import Closing, rename, sync
from oversight.ids import text_id
from oversight.jobs.lines import (
    AnswerLine,
    BrokenLine,
    LineFormat,
    RequestLine,
    answer_of,
    lines_of,
    write_lines,
)
from oversight.models import content_name
from oversight.types import Capabilities, Chunk, Completion, Engine, EngineSpec, Request

REQUESTS, ANSWERS, INDEX, PARQUET = "requests", "answers", "index.db", "parquet"
SHARD_FILE = re.compile(r"wave-(\d+)-(?:.+-)?shard-\d+-of-\d+\.jsonl")
NUM_LISTED = 5
"""Number of lines that a message lists of each kind."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, wave INTEGER NOT NULL, file TEXT NOT NULL, failed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    id TEXT PRIMARY KEY, file TEXT NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL,
    error TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_by_file ON answers (file);
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS odd (file TEXT NOT NULL, kind TEXT NOT NULL, place TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS odd_by_file ON odd (file);
"""


@dataclass
class TakenIn:
    """Counts of answer files: what is new, and what is wrong for as long as it lies there."""

    num_new: int = 0
    num_failed: int = 0
    """Calls that were answered by an error, whose reason the answer holds."""
    num_doubled: int = 0
    """Answers of calls that had one."""
    unlike: list[str] = field(default_factory=list)
    """Ids of calls that two files answer otherwise; the first answer stands."""
    unknown: list[str] = field(default_factory=list)
    """Places of answers that no call of this job asked for."""
    broken: list[str] = field(default_factory=list)
    """Places of lines that cannot be read, and why."""

    def lines(self) -> Iterator[str]:
        """Sentences on what was out of the ordinary, each with the first few places."""
        for places, one, several in (
            (self.unknown, "answer is", "answers are of no call of this job"),
            (self.unlike, "call has", "calls have two answers that differ; the first stands"),
            (self.broken, "line", "lines cannot be read"),
        ):
            if places:
                number = len(places)
                what = several if number > 1 else several.replace("answers are", one)
                what = what.replace("calls have", one) if number == 1 else what
                what = what.replace("lines cannot", "line cannot") if number == 1 else what
                shown = ", ".join(places[:NUM_LISTED]) + (" …" if number > NUM_LISTED else "")
                yield f"{number:,} {what}: {shown}"


@dataclass(frozen=True, slots=True)
class ShardState:
    """A file of requests, and how many of them have an answer."""

    path: Path
    num_requests: int
    num_answered: int


class JobFolder(Closing):
    """A job's folder, opened by the one process that takes answers in and writes requests."""

    def __init__(self, path: Path) -> None:
        """Open the folder, or make it.

        Raises:
            ConfigError: It cannot be made or written, or its index is of something else.
        """
        self.path = path
        try:
            (path / REQUESTS).mkdir(parents=True, exist_ok=True)
            (path / ANSWERS).mkdir(exist_ok=True)
            self._index = sqlite3.connect(path / INDEX)
            self._index.execute("PRAGMA journal_mode = WAL")
            self._index.execute("PRAGMA synchronous = NORMAL")
            self._index.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"batch folder {str(path)!r} cannot be used ({reason}); name another one"
            ) from None
        self._read_requests()

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    # --- answers ---

    def take_in(self, more: Sequence[Path] = ()) -> TakenIn:
        """Look into every answer file that is new or has changed; may be repeated at will.

        Args:
            more: Answer files outside of the folder.

        Raises:
            DataError: A file cannot be read.
        """
        counts = TakenIn()
        with self._index:
            files = [*self._answer_files(), *more]
            lost = self._forget_gone(files)
            for file in files:
                lost += self._take_file(file, counts)
            if lost and self._lacks(lost):
                # Another file may hold a copy that was passed over, as the answer stood here.
                self._index.execute("DELETE FROM files")
                for file in files:
                    self._take_file(file, TakenIn())
            for kind, place in self._index.execute("SELECT kind, place FROM odd ORDER BY rowid"):
                getattr(counts, kind).append(place)
        return counts

    def _answer_files(self) -> Iterator[Path]:
        """Files of answer lines, those of Parquet files rewritten as such once."""
        folder = self.path / ANSWERS
        yield from sorted(folder.rglob("*.jsonl"))
        for file in sorted(folder.rglob("*.parquet")):
            inner = file.relative_to(folder)
            lines = self.path / PARQUET / inner.with_name(inner.name + ".jsonl")
            try:
                if not lines.exists() or lines.stat().st_mtime_ns < file.stat().st_mtime_ns:
                    lines.parent.mkdir(parents=True, exist_ok=True)
                    write_lines(file, lines)
            except OSError as error:
                raise DataError(
                    f"answer file {str(file)!r}: not readable ({error.strerror or error})"
                ) from None
            yield lines

    def _forget_gone(self, files: Sequence[Path]) -> list[str]:
        """Forget files that are no longer there; the ids of what stood in them."""
        there = {str(file.resolve()) for file in files}
        gone = [n for (n,) in self._index.execute("SELECT name FROM files") if n not in there]
        return [id_ for name in gone for id_ in self._forget_file(name)]

    def _forget_file(self, name: str) -> list[str]:
        """Forget the places of a file's answers; the ids of those answers."""
        rows = self._index.execute("DELETE FROM answers WHERE file = ? RETURNING id", (name,))
        ids = [id_ for (id_,) in rows]
        self._index.execute("DELETE FROM files WHERE name = ?", (name,))
        self._index.execute("DELETE FROM odd WHERE file = ?", (name,))
        return ids

    def _lacks(self, ids: Sequence[str]) -> bool:
        """True if some of these calls have no answer now."""
        return any(self._one("SELECT 1 FROM answers WHERE id = ?", id_) is None for id_ in ids)

    def _take_file(self, file: Path, counts: TakenIn) -> list[str]:
        """Take in what is new in a file; the ids of what stood in it before it changed."""
        try:
            found = file.stat()
            name = str(file.resolve())
            seen = (found.st_size, found.st_mtime_ns)
            known = self._one("SELECT size, changed FROM files WHERE name = ?", name)
            if known == seen:
                return []
            # What a changed file holds now counts: places in it are no longer what they were.
            before = self._forget_file(name)
            for line in lines_of(file):
                if isinstance(line, BrokenLine):
                    self._note(name, "broken", f"{file.name}:{line.number} ({line.reason})")
                    continue
                place = (name, line.start, line.size)
                self._take(answer_of(line.value), place, f"{file.name}:{line.number}", counts)
        except OSError as error:
            raise DataError(
                f"answer file {str(file)!r}: not readable ({error.strerror or error})"
            ) from None
        self._index.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (name, *seen))
        return before

    def _take(
        self, answer: AnswerLine, place: tuple[str, int, int], shown: str, counts: TakenIn
    ) -> None:
        id_ = answer.custom_id
        if self._one("SELECT 1 FROM requests WHERE id = ?", id_) is None:
            self._note(place[0], "unknown", f"{shown} ({id_[:40]!r})")
            return
        before = self._one("SELECT file, start, size, error FROM answers WHERE id = ?", id_)
        if before is not None and not before[3]:
            if answer.error or tuple(before[:3]) == place:
                return
            counts.num_doubled += 1
            first = _read(id_, before[0], before[1], before[2])
            if first is None or _words(first.body or {}) != _words(answer.body or {}):
                self._note(place[0], "unlike", id_)
            return
        counts.num_new += not answer.error
        counts.num_failed += bool(answer.error)
        self._index.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", (id_, *place, answer.error)
        )

    def _note(self, file: str, kind: str, place: str) -> None:
        """Keep what is wrong in a file, so that each wave tells of it while the file lies there."""
        self._index.execute("INSERT INTO odd VALUES (?, ?, ?)", (file, kind, place))

    def answer(self, custom_id: str) -> AnswerLine | None:
        """The answer of a call, or None if there is none yet.

        Raises:
            DataError: It was taken in, and its file is gone or has changed.
        """
        found = self._one("SELECT file, start, size, error FROM answers WHERE id = ?", custom_id)
        if found is None:
            return None
        answer = _read(custom_id, found[0], found[1], found[2])
        if found[3]:
            kind = answer.kind if answer is not None else EngineError
            return AnswerLine(custom_id, error=found[3], kind=kind)
        if answer is None or answer.body is None:
            raise DataError(
                f"answer file {found[0]!r} has changed or is gone since its answers were taken in; "
                "put it back, or remove the job's index.db to have all answers read anew"
            )
        return answer

    def forget_failure(self, custom_id: str) -> None:
        """Have a call that was answered by an error asked anew."""
        with self._index:
            self._index.execute("DELETE FROM answers WHERE id = ? AND error != ''", (custom_id,))
            self._index.execute("UPDATE requests SET failed = 1 WHERE id = ?", (custom_id,))

    # --- requests ---

    def is_asked(self, custom_id: str) -> bool:
        """True if the call stands in a request file already, and has not failed since."""
        query = "SELECT 1 FROM requests WHERE id = ? AND NOT failed"
        return self._one(query, custom_id) is not None

    @contextmanager
    def wave(self, num_shards: int) -> Iterator[WaveWriter]:
        """A new wave of request files, which are there once the block ends well, or not at all."""
        newest = self._one("SELECT max(wave) FROM requests")
        number = (newest[0] or 0) + 1 if newest else 1
        with ExitStack() as stack:
            writer = WaveWriter(self.path / REQUESTS, number, num_shards, stack)
            yield writer
        with self._index:
            for part, path, ids in writer.written():
                rename(part, path)
                self._index.executemany(
                    "INSERT OR REPLACE INTO requests VALUES (?, ?, ?, 0)",
                    ((id_, number, path.name) for id_ in ids),
                )

    def shards(self) -> list[ShardState]:
        """All files of requests with the number of their answers, in order."""
        rows = self._index.execute(
            "SELECT requests.file, count(*), count(answers.id) FROM requests "
            "LEFT JOIN answers ON answers.id = requests.id AND answers.error = '' "
            "WHERE NOT requests.failed GROUP BY requests.file ORDER BY requests.file"
        )
        return [ShardState(self.path / REQUESTS / name, n, done) for name, n, done in rows]

    def _read_requests(self) -> None:
        """Read request files that the index does not know, as after its loss."""
        known = {name for (name,) in self._index.execute("SELECT DISTINCT file FROM requests")}
        with self._index:
            for path in sorted((self.path / REQUESTS).glob("wave-*.jsonl")):
                match = SHARD_FILE.fullmatch(path.name)
                if match is None or path.name in known:
                    continue
                self._index.executemany(
                    "INSERT OR IGNORE INTO requests VALUES (?, ?, ?, 0)",
                    (
                        (str(line.value["custom_id"]), int(match[1]), path.name)
                        for line in lines_of(path)
                        if not isinstance(line, BrokenLine)
                    ),
                )

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._index.execute(query, values).fetchone()
        return found


@dataclass(frozen=True, slots=True)
class WaveFile:
    """A request file as it is written: calls of one model, of one shard."""

    model: str
    shard: int
    part: Path
    file: TextIO
    ids: list[str] = field(default_factory=list)


class WaveWriter:
    """Writes the request files of one wave, each call once; a file asks for one model alone, as
    whatever answers it serves one."""

    def __init__(self, folder: Path, number: int, num_shards: int, stack: ExitStack) -> None:
        self._folder, self._number, self._num_shards = folder, number, num_shards
        self._stack = stack
        self._files: dict[tuple[str, int], WaveFile] = {}
        self._seen: set[str] = set()

    @property
    def num_requests(self) -> int:
        """Number of calls written."""
        return len(self._seen)

    def add(self, line: RequestLine, route: str) -> None:
        """Write a call; those of one route stand in one file, where their prefixes are shared."""
        if line.custom_id in self._seen:
            return
        self._seen.add(line.custom_id)
        model = str(line.body.get("model", ""))
        shard = int(text_id(route)[:8], 16) % self._num_shards
        if (model, shard) not in self._files:
            part = self._folder / f"wave-{self._number:03d}-{len(self._files):03d}.part"
            file = self._stack.enter_context(part.open("w", encoding="utf-8", newline="\n"))
            self._files[model, shard] = WaveFile(model, shard, part, file)
        held = self._files[model, shard]
        held.file.write(line.text())
        held.ids.append(line.custom_id)

    def written(self) -> Iterator[tuple[Path, Path, list[str]]]:
        """The files, closed and on the disk: as they lie there, as they are to be named, and the
        ids in each."""
        names = _file_names({each.model for each in self._files.values()})
        for _, each in sorted(self._files.items()):
            sync(each.part)
            of = f"shard-{each.shard:03d}-of-{self._num_shards:03d}"
            path = self._folder / f"wave-{self._number:03d}-{names[each.model]}{of}.jsonl"
            yield each.part, path, each.ids


def _file_names(models: Iterable[str]) -> dict[str, str]:
    """The part of a file's name that says which model it asks for; nothing where there is one."""
    several = sorted(models)
    if len(several) < 2:
        return dict.fromkeys(several, "")
    names: dict[str, str] = {}
    for model in several:
        name = re.sub(r"[^A-Za-z0-9._]+", "-", model.rstrip("/")).strip("-.")[-40:] or "model"
        while f"{name}-" in names.values():
            name += "+"
        names[model] = f"{name}-"
    return names


def _read(custom_id: str, file: str, start: int, size: int) -> AnswerLine | None:
    """A call's answer at a place in a file; None if it is no longer there."""
    try:
        with open(file, "rb") as opened:
            opened.seek(start)
            answer = answer_of(json.loads(opened.read(size)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return answer if answer.custom_id == custom_id else None


def _words(body: Mapping[str, Any]) -> list[Any]:
    """The part of an answer that two answers to one call have to agree on."""
    choices = body.get("choices") or ()
    return [
        (each.get("message") or {}).get("content", each.get("text"))
        for each in choices
        if isinstance(each, Mapping)
    ]


class FileEngine:
    """Stands for another engine in a batch job, whose name and model its completions bear."""

    def __init__(self, spec: EngineSpec, folder: JobFolder, wave: WaveWriter) -> None:
        """The engine for one wave.

        Raises:
            ConfigError: A setting of the other engine is wrong, or it names no model.
        """
        self._format = LineFormat(spec)
        self._folder, self._wave = folder, wave
        self.name = spec.engine
        self.model = (
            self._format.model if spec.engine == "openai" else content_name(self._format.model)
        )
        self.capabilities = _capabilities(spec)
        self.num_answers = 0
        """Calls that were completed from answers."""
        self.num_tokens = 0
        """Tokens of their prompts and answers, as they were counted."""
        self.num_waiting = 0
        """Calls that wait for an answer."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions of calls that are answered.

        Raises:
            AnswerPending: Some have no answer yet; they stand in the wave's files.
            EngineError: One was answered by an error: that of a live server which says the same.
                Asked again, it is written out anew.
        """
        done = [self._answered(request) for request in requests]
        completions = [each for each in done if each is not None]
        if len(completions) < len(done):
            self.num_waiting += len(done) - len(completions)
            raise AnswerPending(f"{len(done) - len(completions)} calls wait for an answer")
        return completions

    def _answered(self, request: Request) -> Completion | None:
        lines = self._format.lines(request)
        answers = [self._folder.answer(line.custom_id) for line in lines]
        failed = [answer for answer in answers if answer is not None and answer.error]
        if failed:
            for answer in failed:
                self._folder.forget_failure(answer.custom_id)
            first = failed[0]
            raise first.kind(f"{self.model}: {first.custom_id}: {first.error}")
        bodies = tuple(each.body for each in answers if each is not None and each.body is not None)
        if len(bodies) < len(lines):
            for line, known in zip(lines, answers, strict=True):
                if known is None and not self._folder.is_asked(line.custom_id):
                    self._wave.add(line, request.route)
            return None
        found = self._format.completion(request, bodies, engine=self.name, model=self.model)
        self.num_answers += len(bodies)
        self.num_tokens += found.usage.prompt_tokens + found.usage.completion_tokens
        return found

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion in one piece. Raises as `generate`."""
        [found] = await self.generate([request])
        yield Chunk(found.text, found)

    async def cancel(self, request_id: str) -> None:
        """Nothing is in flight."""

    async def aclose(self) -> None:
        """Nothing is held."""


def file_engines(folder: JobFolder, wave: WaveWriter) -> Callable[[EngineSpec], Engine]:
    """A function that opens engines for a wave, in place of `open_engine`."""
    return lambda spec: FileEngine(spec, folder, wave)


def _capabilities(spec: EngineSpec) -> Capabilities:
    """Of the engine itself; opened, it may have loaded nothing yet."""
    return open_engine(spec).capabilities
