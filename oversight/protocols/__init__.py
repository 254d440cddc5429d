"""Protocols as data: one protocol a file (.toml). This module loads and checks them.

    graph = "debate"            # the state machine that runs it: a file of graphs/
    rounds = 3                  # how often [[round]] is repeated
    [[round]]                   # a step: these act at once and cannot see one another
    slots = [{ seat = "a" }, { seat = "b" }]
    [[round]]
    slots = [{ seat = "judge", act = "believe", may_end = true }]

A protocol whose seat A does `act = "respond"` answers open prompts: nobody defends anything, and
nothing is judged at its end (self_critique.toml).

A step with `once = true` belongs to the first round alone: a speech that later rounds
criticise and revise (critique.toml).
Keys and their meaning: `OversightProtocol`, `Step` and `Slot` in `oversight.types`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oversight import registry
from oversight.config import describe
from oversight.errors import ConfigError, ProtocolError
from oversight.types import Act, OversightProtocol, Seat, Step

ACTS_OF_SEAT: dict[Seat, frozenset[Act]] = {
    Seat.A: frozenset({Act.SPEAK, Act.RESPOND, Act.REVISE}),
    Seat.B: frozenset({Act.SPEAK, Act.CRITIQUE}),
    Seat.JUDGE: frozenset({Act.ASK, Act.BELIEVE}),
}
"""Acts that a slot may ask of a seat. DECIDE is nobody's slot: it follows the last step."""


def load(name_or_path: str) -> OversightProtocol:
    """The protocol of that name, or the one in that file: "file.toml", or "file.py:function".

    A function gives, without arguments, what such a file holds, or an `OversightProtocol`. Its
    module is imported, which runs the code in it; its file is said on stderr first.

    Raises:
        UnknownNameError: There is no protocol of that name.
        ConfigError: There is no such file or function.
        ProtocolError: The file cannot be read, or what it says cannot be run.
    """
    registry.check_path(name_or_path, "protocol", "protocol", code="function", files=(".toml",))
    if registry.is_own(name_or_path):
        return _of_function(name_or_path, Path.cwd())
    is_file = name_or_path.endswith(".toml")
    path = Path(name_or_path).expanduser() if is_file else registry.path("protocols", name_or_path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProtocolError(f"protocol file {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also numbers too long, lists too deep
        raise ProtocolError(f"protocol file {str(path)!r} is not TOML: {error}") from None
    return parse(data, name=path.stem, where=str(path))


@cache
def _of_function(name: str, folder: Path) -> OversightProtocol:
    """The protocol that a user's function gives; it is called once in a folder."""
    function = registry.load_named(name, "protocol", __file__)
    try:
        given = function()
    except Exception as error:  # its code may raise whatever there is
        said = registry.shown_error(error, __file__)
        raise ConfigError(f"protocol = {name!r}: the function failed ({said})") from error
    if isinstance(given, OversightProtocol):
        given = given.model_dump(mode="json")
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"protocol = {name!r}: the function gives a {type(given).__name__}; let it return an "
            "OversightProtocol, or a dict as the TOML file of a protocol would hold it"
        )
    return parse(given, name=name.rpartition(":")[2], where=f"protocol {name!r}")


def parse(data: Mapping[str, Any], name: str, where: str) -> OversightProtocol:
    """Check a protocol given as plain data; `where` begins the message of an error.

    Raises:
        ProtocolError: One line that names the key, its value and what is accepted.
    """
    try:
        protocol = OversightProtocol.model_validate({"name": name, **data})
    except ValidationError as error:
        said = describe(error, OversightProtocol, noun="protocol")
        raise ProtocolError(f"{where}: {said}") from None
    _check(protocol, where)
    return protocol


def _check(protocol: OversightProtocol, where: str) -> None:
    graphs = registry.names("graphs")
    if protocol.graph not in graphs:
        hint = registry.nearest(protocol.graph, graphs)
        raise ProtocolError(f"{where}: graph = {protocol.graph!r} does not exist.{hint}")
    if protocol.round and not protocol.rounds:
        raise ProtocolError(f"{where}: rounds = 0, so [[round]] would never be run; set rounds")
    if protocol.rounds and not protocol.round:
        raise ProtocolError(f"{where}: rounds = {protocol.rounds} but there is no [[round]]")
    if protocol.rounds > 1 and all(step.once for step in protocol.round):
        raise ProtocolError(
            f"{where}: every step of [[round]] has once = true, so only the first of "
            f"rounds = {protocol.rounds} would be run; set rounds = 1"
        )
    if any(step.once for step in protocol.opening):
        raise ProtocolError(
            f"{where}: once goes with [[round]]; an [[opening]] is run once anyway, leave it out"
        )
    for step in (*protocol.opening, *protocol.round):
        _check_step(step, where)
    _check_criticism(protocol, where)
    if protocol.is_open:
        _check_open(protocol, where)


def _check_step(step: Step, where: str) -> None:
    acts = sorted({slot.act.value for slot in step.slots})
    if len(acts) > 1:
        raise ProtocolError(
            f"{where}: one step mixes {' and '.join(acts)}; give each a step of its own"
        )
    if len({slot.seat for slot in step.slots}) < len(step.slots):
        raise ProtocolError(f"{where}: one seat acts twice in one step")
    for slot in step.slots:
        allowed = ACTS_OF_SEAT[slot.seat]
        if slot.act not in allowed:
            raise ProtocolError(
                f"{where}: seat {slot.seat.value!r} cannot {slot.act.value!r}; "
                f"it may {' or '.join(sorted(allowed))}"
            )
        if slot.seat is Seat.JUDGE and slot.candidates > 1:
            raise ProtocolError(f"{where}: the judge has no candidates; leave them out")
        if slot.act is Act.CRITIQUE and slot.candidates > 1:
            raise ProtocolError(
                f"{where}: a critic defends no option by which candidates could be chosen; "
                "leave them out"
            )
        if slot.may_end and slot.act not in (Act.BELIEVE, Act.CRITIQUE):
            raise ProtocolError(f"{where}: may_end goes with act = 'believe' or 'critique'")
        if slot.free_stance and slot.act is not Act.CRITIQUE:
            raise ProtocolError(f"{where}: free_stance goes with act = 'critique'; leave it out")


def _check_criticism(protocol: OversightProtocol, where: str) -> None:
    both = [seat.value for seat in protocol.critics if seat in protocol.speakers]
    if both:
        raise ProtocolError(
            f"{where}: seat {both[0]!r} both speaks for an option and criticises; "
            "a critic defends nothing: let it only 'critique'"
        )
    slots = [slot for step in protocol.opening + protocol.round for slot in step.slots]
    if not protocol.is_open and any(s.may_end and s.act is Act.CRITIQUE for s in slots):
        raise ProtocolError(
            f"{where}: a critic may end a chain of revisions of an open prompt only; a judge ends "
            "a debate (may_end with act = 'believe')"
        )
    done: set[Act] = set()
    for step in protocol.schedule():
        act = step.slots[0].act
        if act is Act.CRITIQUE and not done & {Act.SPEAK, Act.RESPOND}:
            raise ProtocolError(
                f"{where}: 'critique' comes before any speech; let seat 'a' speak (or respond to "
                "an open prompt) in a step before"
            )
        if act is Act.REVISE and Act.CRITIQUE not in done:
            raise ProtocolError(
                f"{where}: 'revise' comes before any 'critique'; "
                "let seat 'b' critique in a step before"
            )
        done.add(act)


def _check_open(protocol: OversightProtocol, where: str) -> None:
    """Refuse speeches and judges in a protocol of open prompts, which have no options."""
    schedule = protocol.schedule()
    if any(slot.free_stance for step in schedule for slot in step.slots):
        raise ProtocolError(
            f"{where}: free_stance is of critics of speeches; a critic of a response to an open "
            "prompt may find no fault anyway: leave it out (may_end lets it end the revisions)"
        )
    for slot in (slot for step in schedule for slot in step.slots):
        if slot.act is Act.SPEAK or slot.seat is Seat.JUDGE:
            raise ProtocolError(
                f"{where}: seat 'a' answers an open prompt ('respond'), so there is no option that "
                f"seat {slot.seat.value!r} could {slot.act.value!r} about; leave that step out"
            )
    responses = [step.index for step in schedule if step.slots[0].act is Act.RESPOND]
    if responses != [0]:
        raise ProtocolError(
            f"{where}: 'respond' is the first step and comes once; let later steps 'critique' and "
            "'revise' (in a [[round]] of several, give the step once = true)"
        )
    if protocol.judge_sees_source or protocol.beliefs_public:
        raise ProtocolError(
            f"{where}: judge_sees_source and beliefs_public are of protocols with a judge; an open "
            "prompt has none: leave them out"
        )
