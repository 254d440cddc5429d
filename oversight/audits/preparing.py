"""An audit before it is run: its settings, what they are checked for, and the state of its work."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from pydantic import Field

from oversight.audits.editing import edit_of
from oversight.audits.interventions import Intervention, chosen
from oversight.config import (
    EMBEDDED_AGENTS,
    AgentSettings,
    CastSettings,
    DatasetSettings,
    EngineSettings,
    RunLabels,
    SpendingSettings,
    TransactionSettings,
)
from oversight.datasets.base import load_questions
from oversight.engines import metered
from oversight.errors import ConfigError, StoreError
from oversight.evals.observations import cluster_of
from oversight.graphs.planning import Cast, cast, check_engines, plan
from oversight.graphs.rejudging import name_of
from oversight.graphs.running import DebateProgress, Failure
from oversight.ids import content_id
from oversight.protocols import load as load_protocol
from oversight.redaction import without_password
from oversight.store import Store
from oversight.types import (
    AgentSpec,
    Debate,
    Engine,
    EngineSpec,
    JudgeKind,
    Question,
    Role,
    Transcript,
)

MIN_QUESTIONS = 2
"""With fewer there is no interval."""


class JudgeAuditSettings(RunLabels, CastSettings):
    """An audit of a judge."""

    transcripts: str = ""
    """Store whose debates are audited; unset, debates are held over `dataset`."""
    from_run: tuple[str, ...] = ()
    """Of that store only debates of these runs."""
    dataset: DatasetSettings | None = None
    """Questions that debates are held over; with `transcripts`, only debates of this data set."""
    protocols: tuple[str, ...] = ()
    """Protocols by which debates are held (unset: debate); with `transcripts`, only debates of
    these."""
    limit: int = Field(default=100, ge=2)
    """At most so many transcripts, a seeded sample of those there are."""
    interventions: tuple[str, ...] = ()
    """Interventions by name or as "file.py:name", each with its control; unset, all there are."""
    expert: AgentSettings | None = None
    """Agent that is asked for the answers themselves in place of those who speak."""
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    store: str = "judge_audit.db"
    """Store of the audit: transcripts, changed ones, and judgments."""
    transactions: TransactionSettings = TransactionSettings()
    seed: int = 0
    concurrency: int = Field(default=32, ge=1, le=10_000)
    """Number of judgments in flight at once."""
    spending: SpendingSettings = SpendingSettings()

    def cast(self) -> dict[Role, AgentSettings]:
        """Agents by role, defaults filled in."""
        return EMBEDDED_AGENTS | self.agents


@dataclass(slots=True)
class AuditWork:
    """State of an audit while it is run."""

    settings: JudgeAuditSettings
    interventions: tuple[Intervention, ...]
    cast: Cast
    expert: Cast | None
    name: str
    """The judge's in the records."""
    taken: Sequence[Transcript] = ()
    """Transcripts of the store that is audited."""
    planned: Sequence[tuple[Debate, Question]] = ()
    """Debates to be held, where none is."""
    originals: list[str] = field(default_factory=list)
    with_orders: set[str] = field(default_factory=set)
    """Of these, debates in which either side may be shown first."""
    edits: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By id of an edited debate: the intervention, and the debate that was edited."""
    without: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)
    alone: list[str] = field(default_factory=list)
    """Debates in which the judge was asked alone."""
    asked: list[str] = field(default_factory=list)
    """Those in which whoever speaks was asked."""
    expert_reads_source: bool = False
    failures: list[Failure] = field(default_factory=list)
    num_done: int = 0
    num_found: int = 0

    @property
    def spec(self) -> AgentSpec:
        """The judge, as records identify it."""
        return self.cast.specs[Role.JUDGE]

    def count(self, progress: DebateProgress) -> None:
        """Count what a part of the work came to."""
        self.failures += progress.failures
        self.num_done += progress.done
        self.num_found += progress.found


def prepare_audit(settings: JudgeAuditSettings) -> AuditWork:
    """Check everything that can be checked before the first call.

    Raises:
        ConfigError: A setting is wrong, or neither transcripts nor a data set are named.
        UnknownNameError: There is no agent, engine or protocol of a name.
        DataError: Questions of the data set cannot be used.
        StoreError: There are no transcripts of that kind, or too few for an interval.
    """
    if not settings.transcripts and settings.dataset is None:
        raise ConfigError(
            "an audit needs transcripts: name a store of debates (--store debates.db), or a data "
            "set to hold debates over (--dataset world)"
        )
    if settings.from_run and not settings.transcripts:
        raise ConfigError(
            f"from_run = {settings.from_run[0]!r}: it chooses among the debates of a store; name "
            "that store (--store)"
        )
    agents = settings.cast()
    if agents[Role.JUDGE].agent == JudgeKind.HUMAN.value:
        raise ConfigError(
            "agents.judge.agent = 'human': a person would see each transcript a dozen times; an "
            "audit is of a judge that is a program"
        )
    found = chosen(settings.interventions)
    taken = _taken(settings) if settings.transcripts else []
    if settings.transcripts:
        agents = {Role.JUDGE: agents[Role.JUDGE]}
    opened: dict[str, Engine] = {}
    opening = metered(settings.spending, settings.engines)

    def open_once(spec: EngineSpec) -> Engine:
        key = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
        if key not in opened:
            opened[key] = opening(spec)
        return opened[key]

    check_engines(agents, settings.engines)
    actors = cast(agents, settings.engines, open_once)
    expert = None
    if settings.expert is not None:
        check_engines({Role.JUDGE: settings.expert}, settings.engines)
        expert = cast({Role.JUDGE: settings.expert}, settings.engines, open_once)
    planned = [] if settings.transcripts else _planned(settings, actors)
    _check_number(settings, [*(each.question for each in taken), *(q for _, q in planned)])
    name = name_of(actors.specs[Role.JUDGE])
    return AuditWork(settings, found, actors, expert, name, taken, planned)


def _taken(settings: JudgeAuditSettings) -> list[Transcript]:
    """A sample of the transcripts of a store that somebody argues in and that no audit made."""
    with Store.open(settings.transcripts, create=False, only_read=True) as source:
        for run in settings.from_run:
            source.require_run(run)
        dataset = None if settings.dataset is None else settings.dataset.dataset
        for protocol in settings.protocols or (None,):
            source.require_debates(protocol=protocol, dataset=dataset)
        ids = [
            id_
            for protocol in settings.protocols or (None,)
            for id_ in source.debate_ids(
                protocol=protocol, dataset=dataset, complete=True, runs=settings.from_run
            )
        ]
        ids.sort(key=lambda id_: content_id("audit", settings.seed, id_))
        fitting = (each for each in source.transcripts(debate_ids=ids) if _fits(each.debate))
        found = list(islice(fitting, settings.limit))
    if not found:
        raise StoreError(
            f"{without_password(settings.transcripts)}: no complete debate in which somebody "
            "argues for an option, of those that were asked for; an audit changes what speakers say"
        )
    return found


def _fits(debate: Debate) -> bool:
    is_argued = not debate.protocol.is_open and bool(debate.protocol.speakers)
    return is_argued and edit_of(debate) is None


def _planned(settings: JudgeAuditSettings, actors: Cast) -> list[tuple[Debate, Question]]:
    """Debates before the judge over a data set."""
    assert settings.dataset is not None
    limited = settings.dataset
    if limited.limit is None:
        limited = limited.model_copy(update={"limit": settings.limit})
    loaded = load_questions(limited, seed=settings.seed)
    protocols = [load_protocol(name) for name in settings.protocols or ("debate",)]
    for protocol in protocols:
        if not protocol.speakers:
            raise ConfigError(
                f"protocol {protocol.name!r}: nobody argues in it for an option, and an audit "
                "changes what speakers say; take one of debates or consultancies"
            )
    planned = plan(loaded.questions, protocols, actors.specs, seed=settings.seed)
    return list(islice(planned, settings.limit))


def _check_number(settings: JudgeAuditSettings, questions: Iterable[Question]) -> None:
    """Refuse so few questions that there is no interval.

    Raises:
        StoreError: All debates are on one.
    """
    if len({cluster_of(each) for each in questions}) < MIN_QUESTIONS:
        raise StoreError(
            f"{without_password(settings.transcripts) or 'dataset'}: debates on one question "
            f"alone, and intervals are clustered by question: at least {MIN_QUESTIONS} are needed"
        )
