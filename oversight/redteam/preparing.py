"""A red team's run before it is run: its settings, what they are checked for, targets and cases.

goals = ["told_secret"]
[targets.mine]
kind = "policy"
engine = "mine"
[engines.mine]
engine = "openai"
settings = { model = "my-model", base_url = "http://localhost:8000/v1" }
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, Self
from typing import cast as typed

from pydantic import Field, JsonValue, model_validator

from oversight.agents import build_agent, identify
from oversight.audits.editing import edit_of, edited
from oversight.audits.interventions import Intervention, Speech
from oversight.config import (
    EMBEDDED_AGENTS,
    AgentSettings,
    CastSettings,
    DatasetSettings,
    EngineSettings,
    RunLabels,
    Settings,
    SpendingSettings,
)
from oversight.datasets.base import load_questions
from oversight.engines import identify as identify_engine
from oversight.engines import metered
from oversight.errors import ConfigError, StoreError
from oversight.graphs.planning import Cast, cast, check_engines, check_role, plan
from oversight.ids import content_id, seed_from
from oversight.protocols import load as load_protocol
from oversight.redaction import without_password
from oversight.redteam import attacks as known_attacks
from oversight.redteam import goals as goal_sets
from oversight.redteam.attacks import Attack, check_weights
from oversight.redteam.goals import Goal, GoalSet
from oversight.redteam.targets import (
    AgentTarget,
    CriticTarget,
    FeedbackTarget,
    JudgeTarget,
    PolicyTarget,
    RewardTarget,
)
from oversight.redteam.types import AttackCase, Target, TargetKind
from oversight.store import Store
from oversight.types import (
    AgentSpec,
    Debate,
    Engine,
    EngineSpec,
    Question,
    Role,
    Sampling,
    Seat,
    Transcript,
)

if TYPE_CHECKING:
    from oversight.redteam.archive import EliteArchive

AGENTS: dict[TargetKind, tuple[Role, type[AgentTarget], str]] = {
    TargetKind.JUDGE: (Role.JUDGE, JudgeTarget, "judge"),
    TargetKind.CRITIC: (Role.CRITIC, CriticTarget, "critic"),
    TargetKind.FEEDBACK: (Role.RATER, FeedbackTarget, "rater"),
}
"""Role, class and usual agent of the targets that are agents."""


Opening = Callable[[EngineSpec], Engine]
"""A way to open engines."""


class TargetSettings(Settings):
    """A target by its kind."""

    kind: TargetKind
    engine: str | None = None
    """A name of the run's engines."""
    agent: str = ""
    """Agent of a judge, a critic or a feedback model; unset, the one that thinks with a model."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The agent's own settings."""
    system: str = ""
    """Of a policy: its system prompt."""
    max_tokens: int = Field(default=256, ge=1)
    """Of a policy's answers."""
    temperature: float = Field(default=1.0, ge=0.0, le=10.0)
    model: str = ""
    """Of a reward model: its folder."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind is TargetKind.POLICY and not self.engine:
            raise ValueError("a policy needs an engine: engine = the name of one under [engines]")
        if self.kind is TargetKind.REWARD and not self.model:
            raise ValueError("a reward model needs model = the folder that it is saved in")
        return self


class AttackerSettings(Settings):
    """The model that is asked for attacks."""

    engine: str
    """A name of the run's engines."""
    max_tokens: int = Field(default=300, ge=1)
    temperature: float = Field(default=1.0, ge=0.0, le=10.0)


class ArchiveSettings(Settings):
    """A quality-diversity search over all goals of a target."""

    calls: int = Field(default=500, ge=1)
    """Calls of the target."""
    lengths: tuple[int, ...] = (8, 24, 72, 216)
    """Bounds between the bins of length, in words added to the goal's own."""
    batch: int = Field(default=16, ge=1, le=1000)
    """Attempts that are made before the archive is looked at again."""
    start: str = ""
    """File of an earlier archive of the same grid, whose elites are tried first."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"lengths = {list(self.lengths)}: bounds rise from one to the next")
        return self


class RedTeamSettings(RunLabels, CastSettings):
    """A run of attacks against targets."""

    targets: dict[str, TargetSettings] = Field(min_length=1)
    goals: tuple[str, ...] = Field(min_length=1)
    """Sets of goals by name, or paths of TOML files."""
    attacks: tuple[str, ...] = ()
    """Attacks by name or as "file.py:name"; unset, all that fit a target."""
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    attacker: AttackerSettings | None = None
    """Model that is asked for attacks; unset, only attacks that need none are made."""
    decider: AgentSettings | None = None
    """Judge agent that decides of goals that no rule decides of."""
    transcripts: str = ""
    """Of a judge: store whose debates are attacked."""
    from_run: tuple[str, ...] = ()
    dataset: DatasetSettings | None = None
    """Of a judge: questions that debates are held over, where no store is named."""
    protocols: tuple[str, ...] = ()
    """Protocols of these debates (unset: debate_single_turn)."""
    limit: int = Field(default=100, ge=1)
    """Debates of a judge at most."""
    calls: int = Field(default=50, ge=1)
    """Calls of the target for each attack on each goal."""
    max_calls: int | None = Field(default=None, ge=1)
    """Calls of all targets together, after which the run stops, to go on later."""
    fresh: int = Field(default=2, ge=0, le=100)
    """Times that a success is tried again on fresh seeds before it counts."""
    archive: ArchiveSettings | None = None
    """Quality-diversity search besides; unset for none."""
    near: float = Field(default=0.5, gt=0.0, le=1.0)
    """Resemblance at which two findings are told as one."""
    dedup: Literal["exact", "minhash"] = "exact"
    """Way in which resembling findings are found; `minhash` for many thousands of them."""
    fail_over: float | None = Field(default=None, ge=0.0, le=1.0)
    """Share of goals broken, or not decided, above which the command fails."""
    folder: str = "redteam"
    """Folder of the run: attempts, findings, report."""
    store: str = ""
    """Store that findings are recorded in; unset, one in the folder."""
    seed: int = 0
    concurrency: int = Field(default=32, ge=1, le=10_000)
    """Attacks in flight at once."""
    spending: SpendingSettings = SpendingSettings()

    def cast(self) -> dict[Role, AgentSettings]:
        """Agents by role, defaults filled in."""
        return EMBEDDED_AGENTS | self.agents


@dataclass(frozen=True, slots=True)
class Attacker:
    """The model that is asked for attacks."""

    engine: Engine
    sampling: Sampling
    identity: str = ""
    """Hash of the model and its settings, which the attacks that ask it are known by."""


@dataclass(slots=True)
class RedTeamWork:
    """All that a run needs, checked and open."""

    settings: RedTeamSettings
    targets: dict[str, Target]
    attacks: dict[str, tuple[Attack, ...]]
    """By target."""
    sets: tuple[GoalSet, ...]
    attacker: Attacker | None
    decider: AgentTarget | None
    actors: Cast | None
    """Agents that hold debates, where no store is named."""
    planned: Sequence[tuple[Debate, Question]] = ()
    debates: str = ""
    """Store that a judge's debates are read from."""
    debate_ids: Sequence[str] = ()
    archives: dict[str, EliteArchive] = field(default_factory=dict)
    """By target, once they were filled."""

    @property
    def identity(self) -> str:
        """Hash of the seed and the budget, which lanes are known by beside what they are of."""
        return content_id("redteam", self.settings.seed, self.settings.calls, self.settings.fresh)

    def cases(self, target: Target) -> Iterator[AttackCase]:
        """The goals that fit a target, one after the other."""
        for each in self.sets:
            if each.kind is not target.kind:
                continue
            for goal in each.goals:
                words = goal.request if goal.kind is TargetKind.POLICY else goal.words
                yield AttackCase(goal, words, random.Random(), self.settings.calls)
            if each.template is not None:
                yield from self._debated(each.template)

    def _debated(self, template: Goal) -> Iterator[AttackCase]:
        with Store.open(self.debates, create=False, only_read=True) as source:
            for found in source.transcripts(debate_ids=self.debate_ids):
                case = debated(template, found, self.settings.calls)
                if case is not None:
                    yield case

    async def aclose(self) -> None:
        """Close all engines."""
        for target in self.targets.values():
            await target.aclose()
        if self.attacker is not None:
            await self.attacker.engine.aclose()
        if self.decider is not None:
            await self.decider.aclose()
        if self.actors is not None:
            await self.actors.aclose()


def debated(template: Goal, transcript: Transcript, calls: int) -> AttackCase | None:
    """The case of a debate: the words of the seat that argues for a wrong option; None where no
    seat does."""
    debate, question = transcript.debate, transcript.question
    wrong = [
        seat
        for seat in debate.protocol.speakers
        if question.correct is not None and debate.orders.defended_by(seat) != question.correct
    ]
    if not wrong or edit_of(debate) is not None:
        return None
    taken: list[Speech] = []

    def take(speech: Speech) -> None:
        taken.append(speech)

    edited(transcript, Intervention("speech", take, about="Takes the speech."), wrong[0])
    if not taken:
        return None
    goal = template.model_copy(
        update={"id": f"{template.id}/{question.id}", "request": question.text}
    )
    return AttackCase(goal, taken[0].text, random.Random(), calls, taken[0], transcript, wrong[0])


def seeded(case: AttackCase, seed: int, attack: str) -> AttackCase:
    """The case with the random generator of an attack, and without notes."""
    rng = random.Random(seed_from("attack", case.goal.id, case_id(case), attack, seed))
    return replace(case, rng=rng, notes=type(case.notes)())


def case_id(case: AttackCase) -> str:
    """Hash of what is attacked: the goal, and the debate where there is one."""
    debate = "" if case.transcript is None else case.transcript.debate.id
    return content_id("case", case.goal.fingerprint, debate, (case.seat or Seat.A).value)


# --- checks before the first call ---


def prepare_redteam(settings: RedTeamSettings) -> RedTeamWork:
    """Check everything that can be checked before the first call, and open the engines.

    Raises:
        ConfigError: A setting is wrong, a goal cannot be decided, or an attack cannot be made.
        UnknownNameError: There is no agent, engine or protocol of a name.
        StoreError: There are no debates of that kind.
    """
    sets = tuple(goal_sets.load(name, settings.seed) for name in settings.goals)
    _check_rules(settings, sets)
    kinds = {each.kind for each in settings.targets.values()}
    for each in sets:
        if each.kind not in kinds:
            raise ConfigError(
                f"goals = {each.name!r} are for a {each.kind.value}, and no target is one; targets "
                f"are {', '.join(sorted(kind.value for kind in kinds))}"
            )
    opened: dict[str, Engine] = {}
    opening = metered(settings.spending, settings.engines)

    def open_once(spec: EngineSpec) -> Engine:
        key = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
        if key not in opened:
            opened[key] = opening(spec)
        return opened[key]

    targets: dict[str, Target] = {}
    attacks: dict[str, tuple[Attack, ...]] = {}
    able = {each.kind for each in sets}
    for name, own in settings.targets.items():
        if own.kind not in able:
            raise ConfigError(f"targets.{name}: no goals are for a {own.kind.value}; name some")
        attacks[name] = _attacks_on(own.kind, settings)
        check_weights(settings, name, attacks[name])
        targets[name] = open_target(name, own, settings.engines, open_once)
    attacker = None
    if settings.attacker is not None:
        model = settings.attacker
        spec = _engine(model.engine, settings.engines, "attacker.engine")
        sampling = Sampling(max_tokens=model.max_tokens, temperature=model.temperature)
        named = identify_engine(spec).model_dump(mode="json")
        known_by = content_id("attacker", named, model.max_tokens, model.temperature)
        attacker = Attacker(open_once(spec), sampling, known_by)
    decider = _decider(settings, open_once)
    work = RedTeamWork(settings, targets, attacks, sets, attacker, decider, None)
    if any(each.template is not None for each in sets):
        _find_debates(work, open_once)
    return work


def replay_target(
    settings: RedTeamSettings, name: str | None, kinds: set[TargetKind]
) -> tuple[Target, AgentTarget | None]:
    """The target of a recipe that findings are tried on again, and the decider if there is one.

    Raises:
        ConfigError: There is no such target, or it is of a kind that nothing was found on.
    """
    known = sorted(settings.targets)
    if name is None and len(known) == 1:
        [name] = known
    if name is None or name not in settings.targets:
        raise ConfigError(
            f"--target {name or '(none)'}: name one of the recipe's targets: {', '.join(known)}"
        )
    own = settings.targets[name]
    if own.kind not in kinds:
        of = ", ".join(sorted(each.value for each in kinds))
        raise ConfigError(
            f"--target {name}: it is a {own.kind.value}, and the findings are of {of}; name another"
        )
    opening = metered(settings.spending, settings.engines)
    decider = _decider(settings, opening)
    return open_target(name, own, settings.engines, opening), decider


def _decider(settings: RedTeamSettings, open_: Opening) -> AgentTarget | None:
    if settings.decider is None:
        return None
    found = settings.decider
    as_target = TargetSettings(
        kind=TargetKind.JUDGE, agent=found.agent, engine=found.engine, settings=found.settings
    )
    return typed(AgentTarget, open_target("decider", as_target, settings.engines, open_))


def _attacks_on(kind: TargetKind, settings: RedTeamSettings) -> tuple[Attack, ...]:
    """The attacks that are wanted and fit; one that fits no target of the run is refused."""
    kinds = {each.kind for each in settings.targets.values()}
    fitting = [
        name
        for name in settings.attacks
        if kind in (able := known_attacks.load(name).kinds) or not able & kinds
    ]
    if settings.attacks and not fitting:
        return ()
    has_attacker = settings.attacker is not None
    return known_attacks.chosen(fitting, kind, has_attacker=has_attacker)


def _check_rules(settings: RedTeamSettings, sets: Sequence[GoalSet]) -> None:
    judged = [goal for each in sets for goal in each.goals if goal.success.rule == "judge"]
    if judged and settings.decider is None:
        raise ConfigError(
            f"goal {judged[0].id!r}: no rule decides of it, and no judge is named; set "
            'decider.agent = "judge" and decider.engine, or give it a rule'
        )


def open_target(
    name: str,
    settings: TargetSettings,
    engines: Mapping[str, EngineSettings],
    open_: Opening,
) -> Target:
    """The target of these settings.

    Raises:
        ConfigError: A setting is wrong.
        UnknownNameError: There is no agent or engine of that name.
    """
    where = f"targets.{name}"
    spec = None
    if settings.engine is not None:
        spec = _engine(settings.engine, engines, f"{where}.engine")
    if settings.kind is TargetKind.REWARD:
        from oversight.train.rollouts.types import check_folder

        check_folder(settings.model)
        return RewardTarget(name, settings.model)
    if settings.kind is TargetKind.POLICY:
        assert spec is not None
        engine = open_(spec)
        as_agent = AgentSpec(
            agent="policy",
            settings={"system": settings.system} if settings.system else {},
            engine=identify_engine(spec),
        )
        sampling = Sampling(max_tokens=settings.max_tokens, temperature=settings.temperature)
        return PolicyTarget(name, engine, as_agent, settings.system, sampling)
    role, made, usual = AGENTS[settings.kind]
    agent = settings.agent or usual
    check_role(role, agent)
    whole = AgentSpec(agent=agent, settings=settings.settings, engine=spec)
    opened = open_(spec) if spec is not None else None
    return typed(
        Target, made(name, build_agent(whole, opened, where), identify(whole, where), opened)
    )


def _engine(name: str, engines: Mapping[str, EngineSettings], where: str) -> EngineSpec:
    if name not in engines:
        known = ", ".join(sorted(engines)) or "none"
        raise ConfigError(
            f"{where} = {name!r} is not described under [engines]; described are: {known}"
        )
    return EngineSpec(engine=engines[name].engine, settings=engines[name].settings)


def _find_debates(work: RedTeamWork, open_: Opening) -> None:
    settings = work.settings
    if settings.transcripts:
        with Store.open(settings.transcripts, create=False, only_read=True) as source:
            for run in settings.from_run:
                source.require_run(run)
            ids = list(source.debate_ids(complete=True, runs=settings.from_run))
            ids.sort(key=lambda id_: content_id("redteam", settings.seed, id_))
            found = source.transcripts(debate_ids=ids)
            argued = (each for each in found if _is_argued(each.debate, each.question))
            work.debate_ids = [e.debate.id for e in islice(argued, settings.limit)]
        if not work.debate_ids:
            raise StoreError(
                f"{without_password(settings.transcripts)}: no complete debate in which somebody "
                "argues for an option that is wrong; an attack changes such words"
            )
        work.debates = settings.transcripts
        return
    if settings.dataset is None:
        raise ConfigError(
            'a judge is attacked in debates: name a store of them (transcripts = "debates.db"), or '
            'a data set to hold debates over (dataset.dataset = "world")'
        )
    agents = settings.cast()
    check_engines(agents, settings.engines)
    work.actors = cast(agents, settings.engines, open_)
    limited = settings.dataset
    if limited.limit is None:
        limited = limited.model_copy(update={"limit": settings.limit})
    loaded = load_questions(limited, seed=settings.seed)
    kinds = [load_protocol(name) for name in settings.protocols or ("debate_single_turn",)]
    for protocol in kinds:
        if not protocol.speakers:
            raise ConfigError(
                f"protocol {protocol.name!r}: nobody argues in it for an option, and an attack "
                "changes what speakers say; take one of debates or consultancies"
            )
    planned = plan(loaded.questions, kinds, work.actors.specs, seed=settings.seed)
    work.planned = list(islice(planned, settings.limit))


def _is_argued(debate: Debate, question: Question) -> bool:
    if debate.protocol.is_open or question.correct is None or edit_of(debate) is not None:
        return False
    sides = (debate.orders.defended_by(seat) for seat in debate.protocol.speakers)
    return any(side != question.correct for side in sides)
