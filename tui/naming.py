"""What speakers are called before people who judge, rate or look on.

Letters are the options' alone: a debater is called by the option that they defend. Prompts give the
seats letters too ("Debater A" may defend option B); that is what models are told and were trained
on, and stays there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from oversight.agents.speaking import label_of, speaker_name
from oversight.text.terminal import visible
from oversight.types import Act, Debate, Role, Seat, Transcript

VERB_OF_ACT = {
    Act.ASK: "asks",
    Act.RESPOND: "responds",
    Act.CRITIQUE: "criticises",
    Act.REVISE: "revises",
}

_SEAT_NAME = re.compile(r"\bdebater\s+([ab])\b", re.IGNORECASE)
"""What prompts call the debaters: by their seats, with the letters that options have as well."""


def heading(transcript: Transcript, seat: Seat, role: Role, act: Act, round: int) -> str:
    """Who speaks, in which round, and for what. Which model it is stays hidden."""
    debate = transcript.debate
    parts = [called(debate, seat, role)]
    if act in VERB_OF_ACT:
        parts[0] += f" {VERB_OF_ACT[act]}"
    parts.append(f"round {round}" if round else "opening")
    if act.argues(role) and seat is not Seat.JUDGE:
        option = debate.orders.defended_by(seat)
        # A debater's own name has the letter already.
        letter = label_of(option, debate.orders.options)
        about = "" if role is Role.DEBATER else f"for {letter}: "
        words = visible(transcript.question.options[option].text, newlines=False)
        parts.append(about + " ".join(words.split()))
    return " · ".join(parts)


def called(debate: Debate, seat: Seat, role: Role) -> str:
    """What someone who speaks is called: a debater by the option that they defend."""
    if role is not Role.DEBATER:
        return speaker_name(seat, role)
    return f"Debater for {label_of(debate.orders.defended_by(seat), debate.orders.options)}"


def named_by_seat(debate: Debate, texts: Iterable[str]) -> str:
    """For texts that call a debater by the name that prompts give, who that is; else nothing.

    Words of models and of people stand as they were written; this is said beside them.
    """
    if debate.protocol.speaker_role is not Role.DEBATER:
        return ""
    found = {letter.lower() for text in texts for letter in _SEAT_NAME.findall(text)}
    names = [
        f"“{speaker_name(seat, Role.DEBATER)}” is the "
        f"{called(debate, seat, Role.DEBATER).replace('Debater', 'debater')}"
        for seat in debate.protocol.speakers
        if seat.value in found
    ]
    return f"In these words {', '.join(names)}." if names else ""
