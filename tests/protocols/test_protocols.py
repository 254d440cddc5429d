from __future__ import annotations

from pathlib import Path

import pytest

from oversight import protocols, registry
from oversight.errors import ConfigError, ProtocolError, UnknownNameError
from oversight.types import AgentSpec, OversightProtocol, Role

ROUND = '[[round]]\nslots = [{ seat = "a" }, { seat = "b" }]\n'
CRITICISED = (
    '[[opening]]\nslots = [{ seat = "a" }]\n'
    '[[opening]]\nslots = [{ seat = "b", act = "critique" }]\n'
)


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def acts(protocol: OversightProtocol) -> list[tuple[int, str, str]]:
    """Round, seat and act of each slot of the schedule."""
    slots = [(step.round, slot) for step in protocol.schedule() for slot in step.slots]
    return [(number, slot.seat.value, slot.act.value) for number, slot in slots]


@pytest.mark.parametrize("name", registry.names("protocols"))
def test_every_protocol_loads_and_fits_its_graph(name: str) -> None:
    from oversight.graphs.planning import check_fit

    protocol = protocols.load(name)
    assert protocol.name == name
    check_fit(protocol, dict.fromkeys(Role, AgentSpec(agent="any")))


def test_a_new_round_structure_needs_no_code(tmp_path: Path) -> None:
    text = 'graph = "debate"\nrounds = 2\n' + ROUND + '[[round]]\nslots = [{ seat = "b" }]\n'
    protocol = protocols.load(write(tmp_path, text))
    assert protocol.name == "mine"
    assert [[slot.seat.value for slot in step.slots] for step in protocol.schedule()] == [
        ["a", "b"],
        ["b"],
        ["a", "b"],
        ["b"],
    ]


def test_more_rounds_of_critique_repeat_the_critique_and_not_the_first_speech() -> None:
    protocol = protocols.load("critique")
    assert acts(protocol) == [(1, "a", "speak"), (1, "b", "critique"), (1, "a", "revise")]
    again = [(2, "b", "critique"), (2, "a", "revise")]
    assert acts(protocol.model_copy(update={"rounds": 2})) == [*acts(protocol), *again]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('graph = "debat"\n', r"graph = 'debat' does not exist\. Did you mean 'debate'"),
        ("rounds = 3\n", "setting 'graph' is missing"),
        ('graph = "debate"\n' + ROUND, "rounds = 0, so .* would never be run"),
        ('graph = "debate"\nrounds = 2\n', r"rounds = 2 but there is no \[\[round\]\]"),
        ('graph = "debate"\nruonds = 2\n', r"unknown setting 'ruonds'\. Did you mean 'rounds'"),
        (
            'graph = "debate"\n[[opening]]\nslots = [{ seat = "a" }, { seat = "a" }]\n',
            "one seat acts twice",
        ),
        (
            'graph = "debate"\n[[opening]]\nslots = [{ seat = "a", act = "ask" }]\n',
            "seat 'a' cannot 'ask'; it may respond or revise or speak",
        ),
        (
            'graph = "debate"\n[[opening]]\nslots = [{ seat = "judge", act = "decide" }]\n',
            "seat 'judge' cannot 'decide'; it may ask or believe",
        ),
        (
            'graph = "debate"\n[[opening]]\n'
            'slots = [{ seat = "a" }, { seat = "judge", act = "ask" }]\n',
            "one step mixes ask and speak",
        ),
        (
            'graph = "debate"\n[[opening]]\n'
            'slots = [{ seat = "judge", act = "ask", candidates = 2 }]\n',
            "the judge has no candidates",
        ),
        (
            'graph = "debate"\n[[opening]]\nslots = [{ seat = "a", may_end = true }]\n',
            "may_end goes with act = 'believe'",
        ),
        (
            'graph = "critique"\n[[opening]]\nslots = [{ seat = "a", act = "critique" }]\n',
            "seat 'a' cannot 'critique'",
        ),
        (
            'graph = "critique"\n[[opening]]\nslots = [{ seat = "b", act = "revise" }]\n',
            "seat 'b' cannot 'revise'; it may critique or speak",
        ),
        (
            'graph = "critique"\n' + CRITICISED + '[[opening]]\nslots = [{ seat = "b" }]\n',
            "seat 'b' both speaks for an option and criticises",
        ),
        (
            'graph = "critique"\n[[opening]]\nslots = [{ seat = "b", act = "critique" }]\n',
            "'critique' comes before any speech; let seat 'a' speak",
        ),
        (
            'graph = "critique"\n[[opening]]\nslots = [{ seat = "a" }]\n'
            '[[opening]]\nslots = [{ seat = "a", act = "revise" }]\n',
            "'revise' comes before any 'critique'; let seat 'b' critique",
        ),
        (
            'graph = "critique"\n[[opening]]\nslots = [{ seat = "a" }]\n'
            '[[opening]]\nslots = [{ seat = "b", act = "critique", candidates = 2 }]\n',
            "a critic defends no option by which candidates could be chosen",
        ),
        (
            'graph = "debate"\n[[opening]]\nonce = true\nslots = [{ seat = "a" }]\n',
            r"once goes with \[\[round\]\]",
        ),
        (
            'graph = "debate"\nrounds = 2\n[[round]]\nonce = true\nslots = [{ seat = "a" }]\n',
            r"every step of \[\[round\]\] has once = true.*set rounds = 1",
        ),
        (
            'graph = "debate"\n[[opening]]\nslots = [{ seat = "c" }]\n',
            r"opening\.0\.slots\.0\.seat = 'c'",
        ),
        ('graph = "debate"\n[[opening]]\nslots = []\n', r"opening\.0\.slots"),
        ("graph = ", "is not TOML"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProtocolError, match=message) as caught:
        protocols.load(write(tmp_path, text))
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no protocol 'debats'.*'debate'"):
        protocols.load("debats")


def test_an_absent_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"protocol = 'nowhere/mine.toml': there is no such file"):
        protocols.load("nowhere/mine.toml")
