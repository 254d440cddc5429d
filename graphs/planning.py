"""From settings and questions to debates and their agents: orders drawn, agents cast, ids fixed.

Engines are opened once and shared by the roles that name them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from oversight import registry
from oversight.agents import build_agent, identify, roles
from oversight.config import AgentSettings, EngineSettings, SidesDesign
from oversight.engines import check_engine, open_engine
from oversight.engines import identify as identify_engine
from oversight.errors import ConfigError, ProtocolError
from oversight.ids import seed_from
from oversight.types import (
    Agent,
    AgentSpec,
    Debate,
    Engine,
    EngineSpec,
    Orders,
    OversightProtocol,
    Question,
    Role,
    Seat,
)


def draw_orders(question: Question, seed: int) -> Orders:
    """The three orders of a question's debates, each drawn for itself.

    They depend on the question and the seed alone, so that all protocols of a
    run meet a question in the same way: comparisons between them are paired.
    With more than two options the seats defend the right one and a wrong one; of an
    open prompt there is nothing to list or to defend.
    """
    rng = random.Random(seed_from("orders", question.fingerprint, seed))
    listed = list(range(len(question.options)))
    rng.shuffle(listed)
    if question.is_open:
        defends = []
    elif question.correct is None:
        defends = rng.sample(range(len(question.options)), 2)
    else:
        wrong = [i for i in range(len(question.options)) if i != question.correct]
        defends = [question.correct, rng.choice(wrong)]
        rng.shuffle(defends)
    shown = [Seat.A, Seat.B]
    rng.shuffle(shown)
    return Orders(options=tuple(listed), defends=tuple(defends), shown=tuple(shown))


def plan(
    questions: Iterable[Question],
    protocols: Sequence[OversightProtocol],
    specs: Mapping[Role, AgentSpec],
    *,
    seed: int = 0,
    sides: SidesDesign = "drawn",
) -> Iterator[tuple[Debate, Question]]:
    """Every debate of the run, question by question.

    Args:
        sides: "drawn": seats defend what the draw says. "both": each assignment is
            run once, so that a consultant argues for either option of each question.
            Where nobody speaks, each listing of the options is run once, so that a
            judge who only likes what is listed first is right in half; a protocol
            whose judge reads both listings anyhow (`swap`) is run once, and so is an
            open prompt, of which there is one assignment.

    Raises:
        ProtocolError: A protocol does not fit its graph or a question, or lacks an agent.
    """
    for protocol in protocols:
        check_fit(protocol, specs)
    for question in questions:
        drawn = draw_orders(question, seed)
        for protocol in protocols:
            check_question(protocol, question)
            for orders in _both(protocol, drawn) if sides == "both" else (drawn,):
                yield plan_one(question, protocol, specs, orders, seed), question


def _both(protocol: OversightProtocol, drawn: Orders) -> tuple[Orders, ...]:
    """The drawn orders, and those that take away what the draw decided."""
    if protocol.speakers:
        return drawn, drawn.model_copy(update={"defends": drawn.defends[::-1]})
    if protocol.swap or protocol.is_open:
        return (drawn,)
    return drawn, drawn.model_copy(update={"options": drawn.options[::-1]})


def plan_one(
    question: Question,
    protocol: OversightProtocol,
    specs: Mapping[Role, AgentSpec],
    orders: Orders,
    seed: int,
) -> Debate:
    """One debate, with those of `specs` that take part in it."""
    roles = roles_of(protocol)
    return Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocol,
        agents={role: specs[role] for role in roles},
        orders=orders,
        seed=seed,
    )


def roles_of(protocol: OversightProtocol) -> list[Role]:
    """The roles that take part, the judge first if there is one."""
    roles = [Role.RESPONDER] if protocol.is_open else [Role.JUDGE]
    if protocol.speakers:
        roles.append(protocol.speaker_role)
    if protocol.critics:
        roles.append(Role.CRITIC)
    if has_candidates(protocol) and protocol.choose_by not in roles:
        roles.append(protocol.choose_by)
    return roles


def check_question(protocol: OversightProtocol, question: Question) -> None:
    """Refuse a question that the protocol cannot be run on.

    That is an open prompt where options are argued for or judged, a question with options where
    an open prompt is answered, and a missing source that the judge is to read: it would be a
    naive judge.

    Raises:
        ProtocolError: One line that names the question.
    """
    if question.is_open and not protocol.is_open:
        raise ProtocolError(
            f"protocol {protocol.name!r} needs options to argue for and to judge, and question "
            f"{question.id!r} of data set {question.dataset!r} is an open prompt, without any: "
            "take a protocol whose speakers respond (protocols = ['self_critique']), or give the "
            "question options"
        )
    if protocol.is_open and not question.is_open:
        raise ProtocolError(
            f"protocol {protocol.name!r} answers open prompts, and question {question.id!r} of "
            f"data set {question.dataset!r} has {len(question.options)} options, which would not "
            "be shown: take a protocol that judges options (protocols = ['debate']), or a data set "
            "of open prompts (data set 'jsonl' reads them under the key 'prompt')"
        )
    if protocol.judge_sees_source and question.source is None:
        raise ProtocolError(
            f"protocol {protocol.name!r} lets the judge read the source, and question "
            f"{question.id!r} has none: leave the protocol out for this data set"
        )


def _check_seats(
    protocol: OversightProtocol,
    noun: str,
    seats: tuple[Seat, ...],
    wanted: int | tuple[int, ...],
    hint: str = "",
) -> None:
    numbers = (wanted,) if isinstance(wanted, int) else wanted
    if len(seats) not in numbers:
        found = ", ".join(seats) or "none"
        takes = " or ".join(map(str, numbers))
        raise ProtocolError(
            f"protocol {protocol.name!r}: graph {protocol.graph!r} takes {takes} {noun}, "
            f"found {len(seats)} ({found}){hint}"
        )


def has_candidates(protocol: OversightProtocol) -> bool:
    """True if any speech is the best of several."""
    steps = protocol.opening + protocol.round
    return any(slot.candidates > 1 for step in steps for slot in step.slots)


def check_fit(protocol: OversightProtocol, specs: Mapping[Role, AgentSpec]) -> None:
    """Refuse a protocol that its graph cannot run or that misses an agent.

    Raises:
        ProtocolError: One line that says what does not fit.
    """
    graph = registry.load("graphs", protocol.graph)
    num_critics: int | tuple[int, ...] = getattr(graph, "NUM_CRITICS", 0)
    num_responders: int = getattr(graph, "NUM_RESPONDERS", 0)
    hint = "" if num_critics else "; graph = 'critique' takes one"
    _check_seats(protocol, "critic seats", protocol.critics, num_critics, hint)
    _check_seats(protocol, "speaking seats", protocol.speakers, graph.NUM_SPEAKERS)
    hint = "" if num_responders else "; graph = 'self_critique' takes one"
    _check_seats(protocol, "responding seats", protocol.responders, num_responders, hint)
    if protocol.swap and protocol.is_open:
        raise ProtocolError(
            f"protocol {protocol.name!r} answers open prompts, and nothing is judged that could be "
            "judged a second time: leave swap (--swap) out"
        )
    if protocol.choose_by not in (Role.JUDGE, Role.SCORER):
        raise ProtocolError(
            f"protocol {protocol.name!r}: choose_by = {protocol.choose_by.value!r}; "
            "the judge or a scorer chooses"
        )
    by_person = protocol.choose_by in specs and specs[protocol.choose_by].agent == "human"
    if has_candidates(protocol) and by_person:
        raise ProtocolError(
            f"protocol {protocol.name!r} has the {protocol.choose_by.value} choose among "
            "candidates, which a person cannot do in a graph: set choose_by = 'scorer' or take a "
            "protocol without best_of_n"
        )
    for role in roles_of(protocol):
        if role not in specs:
            raise ProtocolError(
                f"protocol {protocol.name!r} needs a {role.value}: set agents.{role.value}.agent"
            )


THINK_WITH_MODEL = frozenset({"debater", "consultant", "critic", "responder", "judge"})
"""Agents that --model is for."""


@dataclass(frozen=True)
class Cast:
    """The agents of a run, what identifies them, and the engines that they think with."""

    agents: Mapping[Role, Agent]
    specs: Mapping[Role, AgentSpec]
    """As they go into a debate's id: defaults filled in, addresses and time-outs left out."""
    engines: Mapping[str, Engine]
    by_path: Mapping[Role, AgentSpec] = field(default_factory=dict)
    """`specs` as oversight identified them before: a model in a folder by the folder's path."""

    def earlier(self, debate: Debate) -> Debate:
        """The same debate as oversight identified it when models were known by their path."""
        agents = {role: self.by_path.get(role, spec) for role, spec in debate.agents.items()}
        return debate.model_copy(update={"agents": agents})

    async def aclose(self) -> None:
        """Close all engines."""
        await asyncio.gather(*(engine.aclose() for engine in self.engines.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def cast(
    agents: Mapping[Role, AgentSettings],
    engines: Mapping[str, EngineSettings],
    open_: Callable[[EngineSpec], Engine] = open_engine,
) -> Cast:
    """Build every agent of `agents`, and every engine that one of them names.

    Args:
        agents: By role.
        engines: By the name that agents give.
        open_: Opens an engine; a batch job has others stand for them.

    Raises:
        ConfigError: An agent cannot play its role, or names an engine that is not described, or a
            setting is wrong: also of an engine that nobody names.
        UnknownNameError: There is no agent or engine of a name.
    """
    for name, described in engines.items():
        config = registry.load("engines", described.engine).Config
        config.parse(described.settings, where=f"engines.{name}.settings")
    specs: dict[Role, AgentSpec] = {}
    opened: dict[str, Engine] = {}
    built: dict[Role, Agent] = {}
    by_path: dict[Role, AgentSpec] = {}
    for role, settings in agents.items():
        spec = _spec(role, settings, engines)
        if settings.engine and settings.engine not in opened and spec.engine:
            opened[settings.engine] = open_(spec.engine)
        engine = opened[settings.engine] if settings.engine else None
        where = f"agents.{role.value}"
        built[role] = build_agent(spec, engine, where)
        specs[role] = identify(spec, where)
        if specs[role].engine and spec.engine:
            earlier = identify_engine(spec.engine, by_path=True)
            if earlier != specs[role].engine:
                by_path[role] = specs[role].model_copy(update={"engine": earlier})
    return Cast(built, specs, opened, by_path)


def check_engines(
    agents: Mapping[Role, AgentSettings], engines: Mapping[str, EngineSettings]
) -> None:
    """Refuse engines of `agents` that could answer no request, before the first debate begins.

    Raises:
        ConfigError: One names a model that is nowhere.
        MissingDependencyError: The program that one runs is not there.
    """
    for name in dict.fromkeys(each.engine for each in agents.values() if each.engine):
        described = engines[name]
        check_engine(EngineSpec(engine=described.engine, settings=described.settings))


def check_role(role: Role, agent: str) -> None:
    """Refuse an agent that cannot play a role.

    Raises:
        ConfigError: It cannot.
        UnknownNameError: There is no agent of that name.
    """
    able = roles(agent)
    if role not in able:
        raise ConfigError(
            f"agents.{role.value}.agent = {agent!r} cannot be a {role.value}; "
            f"it can be a {' or '.join(sorted(able))}"
        )


def _spec(role: Role, settings: AgentSettings, engines: Mapping[str, EngineSettings]) -> AgentSpec:
    check_role(role, settings.agent)
    engine = None
    if settings.engine is not None:
        if settings.engine not in engines:
            known = ", ".join(sorted(engines)) or "none"
            raise ConfigError(
                f"agents.{role.value}.engine = {settings.engine!r} is not described under "
                f"[engines]; described are: {known}"
            )
        described = engines[settings.engine]
        engine = EngineSpec(engine=described.engine, settings=described.settings)
    return AgentSpec(agent=settings.agent, settings=settings.settings, engine=engine)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Short options that say which models speak and judge, and where they are."""

    model: str | None = None
    engine: str | None = None
    debater_model: str | None = None
    judge_model: str | None = None
    debater_engine: str | None = None
    judge_engine: str | None = None
    base_url: str | tuple[str, ...] | None = None
    """Address of the models' server, or of several."""

    def of(self, role: str) -> tuple[str, dict[str, Any]] | None:
        """The name of the engine of the debater or the judge, and its settings; None if no model is
        named for it.

        Raises:
            ConfigError: An engine or an address is named without a model.
        """
        own = {"debater": self.debater_model, "judge": self.judge_model}[role]
        own_engine = {"debater": self.debater_engine, "judge": self.judge_engine}[role]
        if own_engine is not None and own is None:
            raise ConfigError(f"--{role}-engine {own_engine!r} needs --{role}-model")
        model = self.model if own is None else own
        if model is None:
            for option in ("engine", "base_url"):
                if getattr(self, option) and not (self.debater_model or self.judge_model):
                    raise ConfigError(
                        f"--{option.replace('_', '-')} {getattr(self, option)!r} needs --model; or "
                        "describe it in a recipe"
                    )
            return None
        name = "model" if own is None else role
        engine = own_engine or self.engine or ("openai" if self.base_url else "transformers")
        described: dict[str, Any] = {
            f"engines.{name}.engine": engine,
            f"engines.{name}.settings.model": model,
        }
        if self.base_url is not None and engine == "openai":
            described[f"engines.{name}.settings.base_url"] = self.base_url
        elif self.base_url is not None and self.engine is not None and own_engine is None:
            raise ConfigError(f"--base-url is for the engine openai, and --engine is {engine!r}")
        return name, described

    def refuse_contradictions(self, changes: dict[str, Any], by_hand: dict[str, Any]) -> None:
        """Refuse a `--set` that gives a role or a model another value than the short options.

        Raises:
            ConfigError: Names the setting.
        """
        if self == ModelOptions():
            return
        for name, value in by_hand.items():
            if name.startswith(("engines.", "agents.")) and changes.get(name, value) != value:
                raise ConfigError(
                    f"--set {name}={value}: --model and its like say {changes[name]!r}; leave one "
                    "out"
                )


def casting(
    *,
    debater: str | None = None,
    judge: str | None = None,
    engine: str | None = None,
    model: str | None = None,
    models: ModelOptions | None = None,
) -> dict[str, Any]:
    """The settings of a run, by dotted name, that a few words about its agents stand for.

    Args:
        debater: The agent that debates, consults, responds and criticises, as far as it can.
        judge: The agent that judges.
        engine: The engine that runs `model`; unset, `transformers`.
        model: Of debaters and judge alike, where they think with a model: a folder or a hub name.
        models: In place of these two: a model, an engine and an address for each role.

    Raises:
        ConfigError: There is an engine without a model.
    """
    models = models or ModelOptions(engine=engine, model=model)
    speaking, judging = models.of("debater"), models.of("judge")
    changes: dict[str, Any] = {}
    for named in (speaking, judging):
        changes |= named[1] if named else {}
    debater = debater or ("debater" if speaking else None)
    judge = judge or ("judge" if judging else None)
    for role, agent in {**_speakers(debater), "judge": judge}.items():
        if agent == "human":
            # Nothing of the program that a recipe seats there is a person's.
            changes[f"agents.{role}"] = {"agent": agent}
        elif agent is not None:
            changes[f"agents.{role}.agent"] = agent
        thinks = agent is not None and (agent in THINK_WITH_MODEL or registry.is_own(agent))
        named = judging if role == "judge" else speaking
        if named and thinks:
            changes[f"agents.{role}.engine"] = named[0]
    return changes


def _speakers(debater: str | None) -> dict[str, str | None]:
    """Agents of the roles that --debater stands for.

    A critic or responder is one only if it can, a user's own agent any of them only if it can: it
    may be there for debates or for consultancies alone.
    """
    if debater == "debater":
        others = ("consultant", "critic", "responder")
        return {"debater": debater, **{role: role for role in others}}
    able = frozenset[Role]() if debater is None else roles(debater)
    if debater is not None and not registry.is_own(debater):
        able |= {Role.DEBATER, Role.CONSULTANT}  # refused as it is cast, where it cannot
    stands_for = (Role.DEBATER, Role.CONSULTANT, Role.CRITIC, Role.RESPONDER)
    return {role.value: debater if role in able else None for role in stands_for}
