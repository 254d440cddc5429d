"""Runs: which command made or found which records.

A run is a name. Each command that makes records writes a `RunStart` under its run's name, and a
member row for every record that it makes or finds, in the transaction that writes the record. The
members are debates, judgments by people, and ratings: all else belongs to one of these. A debate's
id is a hash of what determines it, so the same debate may be a member of several runs.

Runs and members stand in no chain and in no seal. They hold times, versions and a name that is
given for one's own use: two stores with the same evidence have the same chains, however often
their commands were interrupted.
"""

from __future__ import annotations

import json
import platform
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.sql.elements import ColumnElement

from oversight import __version__
from oversight.config import EngineSettings, RunLabels
from oversight.errors import StoreError
from oversight.files import git_revision
from oversight.ids import content_id
from oversight.redaction import command_line, redacted
from oversight.registry import nearest
from oversight.store.reading import chunks, completed_outcome, naming, read
from oversight.store.schema import (
    debates,
    encode,
    judgments,
    key_text,
    questions,
    ratings,
    run_members,
    runs,
    turns,
)
from oversight.types import RunStart, Transcript

MEMBER_TABLES: tuple[Table, ...] = (debates, judgments, ratings)
"""Tables whose rows can be members of a run."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as a store has it."""

    name: str
    starts: tuple[RunStart, ...]
    """In the order of writing; at least one."""
    num_debates: int = 0
    """Debates that the run made or found, complete or not."""
    num_complete: int = 0
    num_judgments: int = 0
    """Judgments that people gave in it."""
    num_ratings: int = 0

    @property
    def tags(self) -> dict[str, str]:
        """Tags of all its starts, which agree."""
        return {name: value for start in self.starts for name, value in start.tags.items()}

    @property
    def models(self) -> tuple[str, ...]:
        """Models of all its starts, each once."""
        return tuple(dict.fromkeys(model for start in self.starts for model in start.models))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of all its starts, each once."""
        return tuple(dict.fromkeys(seed for start in self.starts for seed in start.seeds))


class BegunRun:
    """The run that a store's records belong to, whose start is written just before the first."""

    def __init__(self, call: Callable[[Callable[[Connection], RunStart]], RunStart]) -> None:
        """`call` runs a function in a transaction of its own."""
        self._call = call
        self._waiting: RunStart | None = None
        self._lock = threading.Lock()
        self.written: RunStart | None = None
        """The start as it was written; None while the run has no record."""

    def begin(self, start: RunStart) -> RunStart:
        """The start as it is to be written. Raises as `begin`."""
        self.written, self._waiting = None, self._call(lambda c: checked(c, start))
        return self._waiting

    def name(self) -> str | None:
        """The run's name for a record, its start written; None if no run was begun."""
        with self._lock:
            if (start := self._waiting) is not None:
                self.written, self._waiting = self._call(lambda c: begin(c, start)), None
        return None if self.written is None else self.written.run


@dataclass(slots=True)
class RunTokens:
    """Tokens of the calls behind a run's records, and the seconds that the calls took."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    seconds: float = 0.0
    by_model: dict[str, RunTokens] = field(default_factory=dict)

    def add(self, sample: Mapping[str, Any]) -> None:
        """Count one call, as the JSON of a sample has it."""
        model = self.by_model.setdefault(str(sample["model"]), RunTokens())
        usage = sample.get("usage", {})
        for each in (self, model):
            each.calls += 1
            each.prompt += int(usage.get("prompt_tokens", 0))
            each.completion += int(usage.get("completion_tokens", 0))
            each.cached += int(usage.get("cached_tokens") or 0)
            each.seconds += float(sample.get("seconds", 0.0))


PACKAGES = ("torch", "transformers", "vllm", "langgraph")
"""Packages that a model's answers depend on, whose versions are kept where they are loaded."""


def start_of(settings: RunLabels, action: str, recipe: Path | None = None) -> RunStart:
    """This process's start of the run that its settings name, or of one named by time and command.

    Args:
        settings: All settings of the command.
        action: The subcommand.
        recipe: The file that they were read from.
    """
    now = datetime.now(UTC)
    given = settings.model_dump(mode="json", exclude={"run", "tags"})
    engines: Mapping[str, EngineSettings] = getattr(settings, "engines", {})
    models = [str(each.settings.get("model") or each.engine) for each in engines.values()]
    models += [given[name] for name in ("model", "judge") if type(settings).by_content.get(name)]
    seeds = given.get("seeds", [given["seed"]] if "seed" in given else [])
    return RunStart(
        run=settings.run or f"{now:%Y-%m-%d-%H%M%S}-{action}",
        named=settings.run is not None,
        tags=settings.tags,
        at=now.isoformat(timespec="seconds"),
        action=action,
        command=command_line(["oversight", *sys.argv[1:]]),
        recipe=None if recipe is None else redacted(str(recipe)),
        settings_id=content_id(given),
        models=tuple(dict.fromkeys(redacted(each) for each in models)),
        seeds=tuple(dict.fromkeys(seeds)),
        git=git_revision(Path.cwd()),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {"oversight": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        if package in sys.modules:
            with suppress(metadata.PackageNotFoundError):
                found[package] = metadata.version(package)
    return found


def checked(connection: Connection, start: RunStart) -> RunStart:
    """A start as it can be written now.

    A name that was made of time and command gets a number where another run has it.

    Raises:
        StoreError: The run has another value for one of the tags.
    """
    if not start.named:
        name, number = start.run, 2
        while _starts(connection, start.run):
            start = start.model_copy(update={"run": f"{name}-{number}"})
            number += 1
    for before in _starts(connection, start.run):
        for tag, value in start.tags.items():
            if before.tags.get(tag, value) != value:
                raise StoreError(
                    f"--tag {tag}={value}: run {start.run!r} was begun with {tag}="
                    f"{before.tags[tag]}; leave the tag out, or name another run"
                )
    return start


def begin(connection: Connection, start: RunStart) -> RunStart:
    """Write a start of a run inside the running transaction; the start as it was written.

    Raises:
        StoreError: As `checked`.
    """
    start = checked(connection, start)
    known = select(runs.c.id).where(runs.c.id == start.id)
    if connection.scalar(known) is None:
        row = {"id": start.id, "run": key_text(start.run), "body": encode(start)}
        connection.execute(insert(runs).values(row))
    return start


def _starts(connection: Connection, name: str | None = None) -> list[RunStart]:
    query = select(runs.c.id, runs.c.body).order_by(runs.c.seq)
    if name is not None:
        query = query.where(runs.c.run == key_text(name))
    return [read(RunStart, "runs", id_, body) for id_, body in connection.execute(query)]


def read_tags(connection: Connection, since: int) -> tuple[list[tuple[str, str]], int]:
    """Pairs of a run's key and a tag, NAME=VALUE, of starts with a row number above `since`, and
    the highest number now."""
    query = select(runs.c.id, runs.c.seq, runs.c.body).where(runs.c.seq > since)
    found, last = [], since
    for id_, seq, body in connection.execute(query.order_by(runs.c.seq)):
        start = read(RunStart, "runs", id_, body)
        found += [(key_text(start.run), f"{name}={value}") for name, value in start.tags.items()]
        last = seq
    return found, last


def read_runs(connection: Connection, *, counted: bool = True) -> list[StoredRun]:
    """All runs in the order of their first starts, with the numbers of what belongs to them."""
    by_name: dict[str, list[RunStart]] = defaultdict(list)
    for start in _starts(connection):
        by_name[start.run].append(start)
    if not counted:
        return [StoredRun(name, tuple(starts)) for name, starts in by_name.items()]
    numbers = {table.name: _numbers(connection, table) for table in MEMBER_TABLES}
    done = _numbers(connection, debates, only_complete=True)
    return [
        StoredRun(
            name=name,
            starts=tuple(starts),
            num_debates=numbers["debates"].get(key_text(name), 0),
            num_complete=done.get(key_text(name), 0),
            num_judgments=numbers["judgments"].get(key_text(name), 0),
            num_ratings=numbers["ratings"].get(key_text(name), 0),
        )
        for name, starts in by_name.items()
    ]


def _numbers(
    connection: Connection, table: Table, *, only_complete: bool = False
) -> dict[str, int]:
    """Number of members in `table`, by the name of the run."""
    query = (
        select(run_members.c.run, func.count())
        .join(table, table.c.id == run_members.c.id)
        .group_by(run_members.c.run)
    )
    if only_complete:
        query = query.where(completed_outcome())
    return {row[0]: row[1] for row in connection.execute(query)}


def read_tokens(connection: Connection, name: str) -> RunTokens:
    """Tokens behind the members of a run, those that it found complete included.

    Of a debate all its turns and judgments count; of a rating, and a judgment whose debate is no
    member, that alone.
    """
    found = RunTokens()
    own = select(run_members.c.id).where(run_members.c.run == key_text(name))
    of_member: dict[Table, ColumnElement[bool]] = {
        turns: turns.c.debate_id.in_(own),
        judgments: judgments.c.debate_id.in_(own) | judgments.c.id.in_(own),
        ratings: ratings.c.id.in_(own),
    }
    for table, condition in of_member.items():
        for id_, body in connection.execute(select(table.c.id, table.c.body).where(condition)):
            with naming(table.name, id_):
                for sample in json.loads(body).get("samples", ()):
                    found.add(sample)
    return found


def require(connection: Connection, store: str, name: str) -> None:
    """Refuse a run that the store does not have.

    Raises:
        StoreError: Names the nearest one.
    """
    wanted = select(runs.c.id).where(runs.c.run == key_text(name)).limit(1)
    if connection.scalar(wanted) is None:
        known = list(connection.scalars(select(runs.c.run).distinct()))
        hint = nearest(name, known) or (
            "" if known else " No command that made records in it has named one."
        )
        raise StoreError(f"{store} has no run {name!r}.{hint} `oversight runs` lists them")


def require_debates(
    connection: Connection, store: str, protocol: str | None, dataset: str | None
) -> None:
    """Refuse a protocol or a data set that no debate of the store is of; an empty store has none
    to refuse by.

    Raises:
        StoreError: Names the nearest one.
    """
    for what, name, column in (
        ("protocol", protocol, debates.c.protocol),
        ("data set", dataset, questions.c.dataset),
    ):
        query = select(column).distinct()
        if column is questions.c.dataset:
            query = query.join(debates, questions.c.id == debates.c.question_id)
        if name is None or key_text(name) in (known := set(connection.scalars(query))):
            continue
        if known:
            raise StoreError(f"{store} has no debate of {what} {name!r}.{nearest(name, known)}")


def only_of_runs(
    connection: Connection, transcripts: Sequence[Transcript], names: Sequence[str]
) -> list[Transcript]:
    """Transcripts as runs have them: a debate that is a member with everything that was said about
    it since, of another one only the judgments and ratings that are members."""
    members: set[str] = set()
    for some in chunks(each.debate.id for each in transcripts):
        query = select(run_members.c.id).where(
            run_members.c.run.in_(map(key_text, names)), run_members.c.debate_id.in_(some)
        )
        members.update(connection.scalars(query))
    return [
        each if each.debate.id in members else _with_members(each, members) for each in transcripts
    ]


def _with_members(transcript: Transcript, members: set[str]) -> Transcript:
    return replace(
        transcript,
        judgments=tuple(each for each in transcript.judgments if each.id in members),
        ratings=tuple(each for each in transcript.ratings if each.id in members),
    )


def runs_of_debates(connection: Connection, debate_ids: Iterable[str]) -> dict[str, list[str]]:
    """Names of the runs that each debate is a member of, in the order of writing."""
    found: dict[str, list[str]] = defaultdict(list)
    for some in chunks(debate_ids):
        query = select(run_members.c.id, run_members.c.run).order_by(run_members.c.seq)
        for id_, name in connection.execute(query.where(run_members.c.id.in_(some))):
            found[id_].append(name)
    return found
