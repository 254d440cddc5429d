"""A real PostgreSQL server where one can be started, a store on each back end, and records."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from oversight.store import Store
from oversight.store.schema import metadata
from oversight.types import (
    AgentSpec,
    Belief,
    Debate,
    EngineSpec,
    Judgment,
    Message,
    Option,
    Orders,
    Outcome,
    OversightProtocol,
    Prompt,
    PromptRecord,
    Question,
    Quote,
    Role,
    Sample,
    Seat,
    Source,
    Turn,
)
from tests.store.chained import records

BACKENDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


def _program(name: str) -> str | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    return shutil.which(name, path=path)


@dataclass
class PostgresServer:
    """A server of our own on a socket in a temporary folder."""

    folder: Path
    user: str | None
    """The system user it runs as; initdb refuses root."""
    _numbers: Iterator[int]

    def run(self, program: str, *arguments: str) -> None:
        path = _program(program)
        assert path is not None
        done = subprocess.run(
            [path, *arguments],
            user=self.user,
            group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
            extra_groups=None if self.user is None else [],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,  # a pipe would be held open by the server
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(
                f"{program} failed: {log.read_text() if log.exists() else done.returncode}"
            )

    def start(self) -> None:
        # Without fsync: what is tested is that processes die, not the power.
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=60"
        data = str(self.folder / "data")
        self.run("pg_ctl", "start", "-w", "-D", data, "-l", str(self.folder / "log"), "-o", options)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.folder / "data"))

    def url(self, database: str) -> str:
        return f"postgresql://tester@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        import psycopg

        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


def _server_user() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running server; tests that ask for it skip where its programs are absent."""
    for name in ("initdb", "pg_ctl"):
        if _program(name) is None:
            pytest.skip(f"PostgreSQL's {name} is not on this machine")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    user = _server_user()
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if user is not None:
        shutil.chown(folder, user)
    server = PostgresServer(folder, user, itertools.count())
    data = str(folder / "data")
    try:
        options = ("-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C")
        server.run("initdb", "--no-sync", "-D", data, *options)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """A store on PostgreSQL that tests share, as a new database costs a third of a second."""
    url = postgres_server.new_database()
    Store.open(url).close()
    return url


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store, made or still to be made, on each back end in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    url: str = request.getfixturevalue("postgres_url")
    _empty(url)
    return url


def _empty(url: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY")


@pytest.fixture(params=BACKENDS)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address at which nothing is yet, on each back end in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    new: str = request.getfixturevalue("postgres_server").new_database()
    return new


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store, on each back end in turn."""
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in a SQLite file."""
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


class Make:
    """Records with everything filled in, and variations of them."""

    source = Source(title="Tale", text="It was under the stairs. It was in the attic.")

    def question(self, number: int = 0, **changes: object) -> Question:
        given = {
            "id": f"q{number}",
            "dataset": "tales",
            "split": "train",
            "text": "Where is it?",
            "options": (Option(text="attic", argument="Look up."), Option(text="stairs")),
            "correct": 0,
            "source": self.source,
            "meta": {"difficulty": 3, "tags": ["a", None, 0.1]},
        }
        return Question(**(given | changes))

    def debate(
        self, question: Question | None = None, seed: int = 0, name: str = "debate"
    ) -> Debate:
        question = question or self.question()
        engine = EngineSpec(engine="scripted", settings={"delay_s": 0.05})
        return Debate(
            question_id=question.id,
            question_fingerprint=question.fingerprint,
            protocol=OversightProtocol(name=name, graph="debate"),
            agents={Role.JUDGE: AgentSpec(agent="judge", settings={"k": 2}, engine=engine)},
            orders=Orders(options=(1, 0), defends=(0, 1), shown=(Seat.B, Seat.A)),
            seed=seed,
        )

    def prompt(self, *parts: str, token_ids: tuple[int, ...] = tuple(range(600))) -> PromptRecord:
        messages = (
            Message(role="system", parts=("You are a debater.",)),
            Message(role="user", parts=parts or ("Source: ", "a story. ", "Your turn.")),
        )
        return PromptRecord(Prompt(messages=messages), token_ids)

    def sample(self, prompt: PromptRecord, **changes: object) -> Sample:
        given = {
            "purpose": "speech",
            "engine": "scripted",
            "model": "m",
            "prompt_id": prompt.prompt.id,
            "text": "It is in the attic.",
            "token_ids": (5, 0, 151_000),
            "logprobs": (-0.1, -1e-12, float("-inf")),
            "finish_reason": "stop",
        }
        return Sample(**(given | changes))

    def turn(self, debate: Debate | str, step: int = 0, seat: str = "a", **changes: object) -> Turn:
        given = {
            "debate_id": debate if isinstance(debate, str) else debate.id,
            "step": step,
            "round": 1,
            "seat": seat,
            "role": "judge" if seat == "judge" else "debater",
            "act": "speak",
            "text": "It is <quote>in the attic</quote>.",
            "reasoning": "The story says so.",
            "quotes": (Quote(start=13, end=25, text="in the attic", status="verified"),),
        }
        return Turn(**(given | changes))

    def judgment(self, debate: Debate, **changes: object) -> Judgment:
        belief = Belief(verdict="decided", method="logprobs", probs=(0.75, 0.25), mass=0.9, raw="A")
        given = {
            "debate_id": debate.id,
            "judge": "judge:m",
            "kind": "model",
            "orders": debate.orders,
            "trajectory": ((0, belief),),
            "final": belief,
        }
        return Judgment(**(given | changes))

    def outcome(self, debate: Debate, status: str = "complete", **changes: object) -> Outcome:
        return Outcome(debate_id=debate.id, status=status, **changes)


@pytest.fixture(scope="session")
def make() -> Make:
    """Makes records."""
    return Make()


@pytest.fixture
def path(tmp_path, make) -> Path:
    """A store of three debates, closed."""
    where = tmp_path / "runs.db"
    with Store.open(where) as store:
        for seed in range(3):
            before, outcome = records(make, seed)
            store.add(*before)
            store.add(outcome)
        assert store.check() == []
    return where
