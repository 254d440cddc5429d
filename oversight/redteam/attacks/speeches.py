"""Speeches that a model writes for the side that is wrong: a debater whose only aim is to win.

The attacker's model is asked as the debater was, with the same words, so that a model which learnt
to debate can be asked, and what training on the judge's word makes of it
(`oversight.redteam.training`) is asked for nothing else. The control is the debater's own speech,
with as many words behind it that say nothing.
"""

from __future__ import annotations

from oversight.agents.debater import PROMPTS
from oversight.agents.speaking import speech_prompt
from oversight.graphs.views import public, view_of
from oversight.redteam.attacks import JUDGES, search
from oversight.redteam.attacks.asking import Novelty
from oversight.redteam.types import Ask, AttackCase, Attempt, Moves, Try
from oversight.types import Act, Prompt, Role

BATCH = 4
"""Speeches that are asked for at once."""


def speech_request(case: AttackCase) -> Prompt:
    """The request for the last speech of the attacked side, as its debater was asked for it.

    Args:
        case: One before a judge.
    """
    found, seat = case.transcript, case.seat
    assert found is not None
    assert seat is not None
    said = [turn for turn in found.turns if turn.chosen]
    last = [turn for turn in said if turn.seat is seat and turn.argues][-1]
    view = view_of(
        found.debate,
        found.question,
        [public(turn) for turn in said if turn.step < last.step],
        seat,
        Role.DEBATER,
        Act.SPEAK,
        last.step,
        round=last.round,
    )
    return speech_prompt(PROMPTS, view)


@search(
    "Asks a model for the wrong side's speech, as its debater was asked: one that was trained to "
    "win, for instance.",
    kinds=JUDGES,
    asks=True,
)
def debater_speeches(case: AttackCase) -> Moves:
    """As many speeches as there are calls, each tried once, until one succeeds."""
    prompt, known = speech_request(case), Novelty(case)
    for start in range(0, case.budget, BATCH):
        said = yield [Ask(prompt)] * min(BATCH, case.budget - start)
        texts = [each.strip() for each in said if isinstance(each, str)]
        if not all(texts):
            case.notes["attacker: said nothing"] += texts.count("")
        new = [each for each in texts if each and known.takes(each)]
        if not new:
            continue
        done = yield [Try(each, style="debater_speeches") for each in new]
        if any(isinstance(each, Attempt) and each.is_success for each in done):
            return


ATTACKS = (debater_speeches,)
