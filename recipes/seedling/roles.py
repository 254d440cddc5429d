"""Prompts of each role, as the agents write them, and what the role should say."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stories import Case

from oversight.agents import consultant, critic, debater, judge
from oversight.datasets.world import FIRST_PLAIN_DAY, LAST_PLAIN_DAY
from oversight.text.quotes import find_quotes, render_quotes
from oversight.types import Source

MAX_WORDS = 150
"""Told to speakers; a protocol's default."""
FIRST = "Round 1 of 1"

Row = dict[str, Any]

_DAY = re.compile(r" on day \d+$")


@dataclass(frozen=True)
class Spoken:
    """A turn before the others."""

    speaker: str
    text: str
    label: str | None = None
    round: int = 1

    def shown(self, source: Source) -> str:
        """As the others read it, with its quotes checked."""
        defends = "" if self.label is None else f' defends="{self.label}"'
        marked = render_quotes(self.text, find_quotes(self.text, source))
        return f'<turn speaker="{self.speaker}" round="{self.round}"{defends}>\n{marked}\n</turn>\n'


class Evidence(StrEnum):
    """The evidence that a speaker quotes."""

    OWN = "own"
    """The line that says what it claims."""
    OPPOSING = "opposing"
    """The line that says what the other side claims."""
    OTHER = "other"
    """A line about something else."""
    FORGED = "forged"
    """Words that the source does not have: its own line with another day, or the other side's with
    its own option put in."""
    NONE = "none"


Care = Mapping[Evidence, float]
"""How often a speaker brings which evidence."""

CAREFUL: Care = {Evidence.OWN: 1.0}
CARELESS: Care = {
    Evidence.OWN: 0.55,
    Evidence.OPPOSING: 0.2,
    Evidence.OTHER: 0.05,
    Evidence.NONE: 0.2,
}


def draw(rng: random.Random, care: Care) -> Evidence:
    """Draw the evidence that a speaker of that care brings this time."""
    return rng.choices(list(care), list(care.values()))[0]


def speech(rng: random.Random, case: Case, side: int, evidence: Evidence = Evidence.OWN) -> str:
    """Return the speech of a speaker for option `side`: the option, and that evidence.

    Where there is no such line, a line about something else.
    """
    lines = {Evidence.OWN: case.lines[side], Evidence.OPPOSING: case.lines[1 - side]}
    line = _forged(rng, case, side) if evidence is Evidence.FORGED else lines.get(evidence)
    if line is None and case.others and evidence is not Evidence.NONE:
        # Half of them name the option, of something else: the likest to a proof.
        alike = [other for other in case.others if case.options[side] in other]
        line = rng.choice(alike if alike and rng.random() < 0.5 else case.others)
    return argument("AB"[side], case.options[side], line)


def _forged(rng: random.Random, case: Case, side: int) -> str | None:
    """Return a false quote, as of a careless or lying speaker; None without a line."""
    own, opposing = case.lines[side], case.lines[1 - side]
    if opposing is not None and (own is None or rng.random() < 0.5):
        made_up = opposing.replace(case.options[1 - side], case.options[side])
        if made_up != opposing:
            return made_up
    if own is None:
        return None
    return _DAY.sub(f" on day {rng.randint(FIRST_PLAIN_DAY, LAST_PLAIN_DAY)}", own)


def argument(label: str, option: str, line: str | None) -> str:
    """A claim and its proof."""
    claim = f"{label}: {option}."
    return f"{claim} <quote>{line}</quote>" if line else claim


def debater_row(
    case: Case, seat: str, side: int, text: str, turns: str = "", when: str = FIRST
) -> Row:
    """Debater A or B, who may have read turns before."""
    role = debater.PROMPTS.speech.render(
        name=f"Debater {seat}",
        label="AB"[side],
        round=when,
        max_words=MAX_WORDS,
    )
    return prompted(debater.PROMPTS.rules.render(), case.with_source + turns + role, text)


def consultant_row(case: Case, side: int, text: str, turns: str = "", when: str = FIRST) -> Row:
    """A consultant, who may have read a judge's question."""
    role = consultant.PROMPTS.speech.render(
        name="Consultant",
        label="AB"[side],
        round=when,
        max_words=MAX_WORDS,
    )
    return prompted(consultant.PROMPTS.rules.render(), case.with_source + turns + role, text)


def critic_row(case: Case, text: str, turns: str) -> Row:
    """A critic, who has read a consultant's speech."""
    role = critic.PROMPTS.speech.render(max_words=MAX_WORDS)
    return prompted(critic.PROMPTS.rules.render(), case.with_source + turns + role, text)


def reviser_row(case: Case, side: int, text: str, turns: str) -> Row:
    """A consultant, who has read a criticism of its speech."""
    role = consultant.REVISION.speech.render(label="AB"[side], round=FIRST, max_words=MAX_WORDS)
    return prompted(consultant.REVISION.rules.render(), case.with_source + turns + role, text)


def judge_row(case: Case, turns: str) -> Row:
    """A judge, who answers with the label of the right option."""
    ask = judge.CHOOSE.render(labels="A or B")
    return prompted(judge.rules(""), case.shared + turns + ask, "AB"[case.correct])


def expert_row(case: Case) -> Row:
    """A judge with the source, who writes down what speaks for either option and then answers."""
    row = prompted(judge.rules(""), case.with_source + judge.EXPLAIN.render(), rationale(case))
    ask = str(judge.CHOOSE.render(labels="A or B"))
    row["messages"] += [
        {"role": "user", "content": ask},
        {"role": "assistant", "content": "AB"[case.correct]},
    ]
    return row


def rationale(case: Case) -> str:
    """The evidence for either option. Without tags: a judge's own words are given back to it as
    text in which none counts."""
    told = zip("AB", case.options, case.lines, strict=True)
    return "\n".join(f"{label}: {option}. {line}." for label, option, line in told)


def asking_row(case: Case, turns: str) -> Row:
    """A judge, who asks."""
    ask = judge.ASK.render(max_words=MAX_WORDS)
    return prompted(judge.rules(""), case.shared + turns + ask, JUDGE_QUESTION)


JUDGE_QUESTION = "Which line of the log says so?"


def prompted(rules: object, user: str, answer: str) -> Row:
    """One request and its answer."""
    return {
        "messages": [
            {"role": "system", "content": str(rules)},
            {"role": "user", "content": user},
            {"role": "assistant", "content": answer},
        ]
    }
