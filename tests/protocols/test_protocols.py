from __future__ import annotations

from pathlib import Path

import pytest

from oversight import protocols, registry
from oversight.errors import ProtocolError, UnknownNameError
from oversight.types import AgentSpec, Role

ROUND = '[[round]]\nslots = [{ seat = "a" }, { seat = "b" }]\n'


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


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
            "seat 'a' cannot 'ask'; it may speak",
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
    with pytest.raises(ProtocolError, match="No such file"):
        protocols.load("nowhere/mine.toml")
