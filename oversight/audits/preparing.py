"""An audit before it is run: its settings, what they are checked for, and the state of its work."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from pydantic import Field

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
from oversight.engines import metered
from oversight.errors import ConfigError
from oversight.graphs.planning import Cast, cast, check_engines
from oversight.graphs.rejudging import name_of
from oversight.graphs.running import DebateProgress, Failure
from oversight.protocols import load as load_protocol
from oversight.types import AgentSpec, Engine, EngineSpec, JudgeKind, Role


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
    if settings.transcripts:
        agents = {Role.JUDGE: agents[Role.JUDGE]}
    else:
        for name in settings.protocols:
            load_protocol(name)
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
    return AuditWork(settings, found, actors, expert, name_of(actors.specs[Role.JUDGE]))
