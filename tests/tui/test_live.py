"""The live view: what it shows, and that no foreign text reaches the terminal as it is."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from oversight.graphs.runtime import Judged, SpeechBegins, TurnRecorded, Words
from oversight.tui.live import DebateView, replay
from oversight.types import (
    Act,
    Belief,
    BeliefMethod,
    Debate,
    JudgeKind,
    Judgment,
    Option,
    Orders,
    OversightProtocol,
    Question,
    Quote,
    QuoteStatus,
    Role,
    Seat,
    Slot,
    Step,
    Transcript,
    Turn,
    Verdict,
)

HOSTILE = json.loads((Path(__file__).parent.parent / "text" / "hostile.json").read_text())
OURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Sequences of the terminal library itself: colours, cursor, clearing lines."""
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def question(text: str = "Where is it?", correct: int | None = 0) -> Question:
    options = (Option(text="here"), Option(text="there"))
    return Question(id="q", dataset="t", text=text, options=options, correct=correct)


def debate() -> Debate:
    slots = (Slot(seat=Seat.A), Slot(seat=Seat.B))
    return Debate(
        question_id="q",
        question_fingerprint="f",
        protocol=OversightProtocol(name="p", graph="debate", round=(Step(slots=slots),), rounds=1),
        agents={},
        orders=Orders(options=(1, 0), defends=(0, 1), shown=(Seat.A, Seat.B)),
        seed=0,
    )


def turn(text: str, **changes: object) -> Turn:
    fields: dict[str, object] = {
        "debate_id": "d", "step": 0, "round": 1, "seat": Seat.A, "role": Role.DEBATER,
        "act": Act.SPEAK, "text": text,
    }  # fmt: skip
    return Turn.model_validate(fields | changes)


def judgment(probs: tuple[float, float] | None, **changes: object) -> Judgment:
    verdict = Verdict.DECIDED if probs else Verdict.INVALID
    final = Belief(verdict=verdict, method=BeliefMethod.PARSED, probs=probs)
    fields: dict[str, object] = {
        "debate_id": "d", "judge": "j", "kind": JudgeKind.MODEL, "orders": debate().orders,
        "final": final,
    }  # fmt: skip
    return Judgment.model_validate(fields | changes)


def shown(*events: object, terminal: bool = False, asked: Question | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal)
    with DebateView(console, debate(), asked or question()) as live:
        for event in events:
            live(event)  # type: ignore[arg-type]
    return out.getvalue()


def test_options_are_listed_in_the_drawn_order_with_who_defends_them() -> None:
    text = shown()
    assert re.search(r"A  there +← Debater for A", text)
    assert re.search(r"B  here +← Debater for B", text)


def test_critic_and_reviser_are_told_apart() -> None:
    consultant = {"role": Role.CONSULTANT}
    found = shown(
        TurnRecorded(turn("first", **consultant)),
        SpeechBegins("d", Seat.B, Role.CRITIC, Act.CRITIQUE, 1),
        Words("d", Seat.B, "no"),
        TurnRecorded(turn("no", seat=Seat.B, role=Role.CRITIC, act=Act.CRITIQUE)),
        TurnRecorded(turn("second", act=Act.REVISE, **consultant)),
    )
    names = ["Consultant, round 1", "Critic, round 1", "Consultant revises, round 1"]
    assert [name for name in names if name in found] == names


def test_quotes_carry_a_sign_and_lose_their_tags() -> None:
    text = "See <quote>the first one</quote> and <quote>the second</quote>."
    quotes = (
        Quote(start=11, end=24, text="the first one", status=QuoteStatus.VERIFIED),
        Quote(start=44, end=54, text="the second", status=QuoteStatus.UNVERIFIED),
    )
    found = shown(TurnRecorded(turn(text, quotes=quotes)))
    assert "✓ “the first one” and ✗ “the second”." in found
    assert "<quote>" not in found


@pytest.mark.parametrize(
    ("probs", "correct", "words"),
    [
        ((0.8, 0.2), 0, "The judge is right"),
        ((0.8, 0.2), 1, "The judge is wrong; right is: there"),
        ((0.8, 0.2), None, "The right answer is not known"),
        (None, 0, "did not decide: invalid"),
    ],
)
def test_the_outcome_is_said_in_words(
    probs: tuple[float, float] | None, correct: int | None, words: str
) -> None:
    assert words in shown(Judged(judgment(probs)), asked=question(correct=correct))


def test_beliefs_are_bars_in_listing_order() -> None:
    belief = judgment((0.75, 0.25)).final
    found = shown(TurnRecorded(turn("", seat=Seat.JUDGE, act=Act.BELIEVE, belief=belief)))
    lines = [line for line in found.splitlines() if "%" in line]
    assert "25.0%  there" in lines[0]
    assert "75.0%  here" in lines[1]
    assert lines[1].count("█") == 18


def test_an_empty_turn_is_shown_as_nothing() -> None:
    assert "(nothing)" in shown(TurnRecorded(turn("")))


def test_a_recorded_debate_is_replayed_without_its_siblings() -> None:
    turns = (turn("spoken"), turn("not chosen", candidate=1, chosen=False))
    events: list[object] = []
    transcript = Transcript(debate(), question(), turns, (judgment((0.8, 0.2)),))
    replay(transcript, events.append)
    assert [type(event) for event in events] == [TurnRecorded, Judged]


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case["name"])
def test_no_foreign_text_reaches_the_terminal_as_it_is(case: dict[str, str]) -> None:
    text = case["text"]
    events = (
        SpeechBegins("d", Seat.A, Role.DEBATER, Act.SPEAK, 1),
        Words("d", Seat.A, text),
        TurnRecorded(turn(text)),
        Judged(judgment((0.8, 0.2), rationale=text)),
    )
    for terminal in (False, True):
        found = OURS.sub("", shown(*events, terminal=terminal))
        assert not FORBIDDEN.search(found.replace("\r", "")), ascii(found)


def test_hostile_model_output_does_nothing_to_a_real_terminal(tmp_path: Path) -> None:
    hostile = (
        "\x1b]52;c;aGFja2Vk\x07\x9b2J\x1b[31mred\u202egnp [bold]x[/bold] [/oops] \x1b]0;title\x1b\\"
    )
    (tmp_path / "run.toml").write_text(
        f"""
[dataset]
dataset = "world"
limit = 1
[agents.debater]
agent = "debater"
engine = "hostile"
[engines.hostile]
engine = "scripted"
settings = {{ fallback = {json.dumps(hostile)} }}
"""
    )
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "oversight.cli.main", "debate", "run.toml"]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=follower, stderr=follower, stdin=follower, env=environment
    )
    os.close(follower)
    written = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the terminal is gone with its last writer
            break
        if not piece:
            break
        written += piece
    os.close(leader)
    assert process.wait(timeout=60) == 0, written[-2000:]
    text = written.decode()
    assert "[bold]x[/bold]" in text
    assert "aGFja2Vk" in text, "shown, as text"
    assert "\x1b]" not in text
    assert "\x1b[31mred" not in text
    assert not FORBIDDEN.search(OURS.sub("", text).replace("\r", ""))
