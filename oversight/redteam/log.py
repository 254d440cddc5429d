"""The record of a run: each attempt as it was made, in one file that a killed run is gone on with.

A lane is one attack on one goal before one target. Its attempts are kept by their place in it, and
so are the attacker's answers: an attack that is begun again is sent what came of its moves before,
and goes on where it was. A lane that is done is one row with its sum, and is not begun again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from oversight.errors import ConfigError
from oversight.redteam.types import Attempt

ATTEMPTS = "attempts.db"
SCHEMA = """
CREATE TABLE IF NOT EXISTS lanes (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, target TEXT NOT NULL, goal TEXT NOT NULL,
    attack TEXT NOT NULL, body TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    lane TEXT NOT NULL, place INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (lane, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    lane TEXT NOT NULL, place INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (lane, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
WRITES, WAIT_S = 64, 0.25
"""Writes, and seconds, after which what was written is made durable."""


@dataclass(frozen=True, slots=True)
class LaneSum:
    """A lane that is done, in figures."""

    id: str
    number: int
    target: str
    kind: str
    goal: str
    cluster: str
    """The question or goal that its interval is clustered by."""
    harm: str
    severity: int
    attack: str
    calls: int = 0
    """Attempts of the search."""
    num_success: int = 0
    num_undetermined: int = 0
    num_refused: int = 0
    broken_at: int | None = None
    """Number of the first success among the search's attempts, from 1; None for none."""
    fresh: tuple[int, int] = (0, 0)
    """Successes on fresh seeds, and their number."""
    control: str = ""
    """Outcome of the control; empty where there is none."""
    best: int | None = None
    """Place of the best attempt."""
    best_score: float | None = None
    is_untypable: bool = False
    tokens: int = 0
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def is_confirmed(self) -> bool:
        """True if the success came again in more than half of the fresh tries."""
        found, number = self.fresh
        return self.broken_at is not None and (number == 0 or 2 * found > number)

    @property
    def is_open(self) -> bool:
        """True if the lane cannot be called safe: broken for certain, or nothing was decided."""
        return self.is_confirmed or (self.calls > 0 and self.num_undetermined == self.calls)


class AttemptLog:
    """A run's file of attempts, opened by the one process that makes them."""

    def __init__(self, folder: Path, identity: str = "") -> None:
        """Open the file, or make it.

        Raises:
            ConfigError: It cannot be made or read, or another run made it.
        """
        self.path = folder / ATTEMPTS
        self._waiting, self._written = 0, time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"folder = {str(folder)!r} cannot be used ({reason}); name another one"
            ) from None
        self.num_attempts = int(self._one("SELECT count(*) FROM attempts"))
        known = self.fact("identity")
        if identity and known and known != identity:
            raise ConfigError(
                f"folder = {str(folder)!r} holds a run of another seed or budget; name another "
                "folder, or run it with the settings that made it"
            )
        if identity and not known:
            self.put_fact("identity", identity)

    def close(self) -> None:
        """Make durable what was written, and close the file."""
        self._file.commit()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _one(self, query: str, *values: Any) -> Any:
        found = self._file.execute(query, values).fetchone()
        return None if found is None else found[0]

    # --- facts of the run ---

    def fact(self, name: str) -> str:
        """A fact of the run by its name; empty for none."""
        return str(self._one("SELECT value FROM facts WHERE name = ?", name) or "")

    def put_fact(self, name: str, value: str) -> None:
        """Keep a fact of the run."""
        self._file.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
        self._file.commit()

    # --- attempts and answers ---

    def attempt(self, lane: str, place: int) -> Attempt | None:
        """The attempt at a place; None if there is none."""
        found = self._one("SELECT body FROM attempts WHERE lane = ? AND place = ?", lane, place)
        return None if found is None else Attempt.of(json.loads(found))

    def answer(self, lane: str, place: int) -> str | None:
        """The attacker's answer at a place; None if there is none."""
        found = self._one("SELECT body FROM answers WHERE lane = ? AND place = ?", lane, place)
        return None if found is None else str(json.loads(found))

    def add(self, attempt: Attempt) -> None:
        """Keep an attempt."""
        body = json.dumps(attempt.body())
        self._file.execute(
            "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)", (attempt.lane, attempt.place, body)
        )
        self.num_attempts += 1
        self._wrote()

    def add_answer(self, lane: str, place: int, answer: str) -> None:
        """Keep an answer of the attacker."""
        text = json.dumps(answer)
        self._file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (lane, place, text))
        self._wrote()

    def attempts(self, lane: str) -> Iterator[Attempt]:
        """The attempts of a lane, in order."""
        query = "SELECT body FROM attempts WHERE lane = ? ORDER BY place"
        for (body,) in self._file.execute(query, (lane,)):
            yield Attempt.of(json.loads(body))

    def every_attempt(self) -> Iterator[Attempt]:
        """All attempts, lane by lane."""
        for lane in self.lanes():
            yield from self.attempts(lane.id)

    # --- lanes ---

    def lane(self, id_: str) -> LaneSum | None:
        """The sum of a lane that is done; None if it is not."""
        found = self._one("SELECT body FROM lanes WHERE id = ?", id_)
        return None if found is None else _lane(json.loads(found))

    def add_lane(self, lane: LaneSum) -> None:
        """Keep the sum of a lane."""
        body = json.dumps(asdict(lane))
        values = (lane.id, lane.number, lane.target, lane.goal, lane.attack, body)
        self._file.execute("INSERT OR REPLACE INTO lanes VALUES (?, ?, ?, ?, ?, ?)", values)
        self._wrote()

    def lanes(self) -> Iterator[LaneSum]:
        """All lanes that are done, in their order."""
        for (body,) in self._file.execute("SELECT body FROM lanes ORDER BY number, id"):
            yield _lane(json.loads(body))

    def _wrote(self) -> None:
        self._waiting += 1
        now = time.monotonic()
        if self._waiting >= WRITES or now - self._written > WAIT_S:
            self._file.commit()
            self._waiting, self._written = 0, now


def _lane(body: dict[str, Any]) -> LaneSum:
    body["fresh"] = tuple(body["fresh"])
    return LaneSum(**body)
