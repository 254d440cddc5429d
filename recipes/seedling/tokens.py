"""Seedling's tokenizer: byte-level BPE, with one token for each fixed stretch of a prompt.

A model this small cannot afford to read the same rules letter by letter in every prompt. The
stretches come from the agents' own templates; a prompt that has changed still reads, only longer.
"""

from __future__ import annotations

import re

from oversight.agents import consultant, critic, debater, judge
from oversight.datasets.world import FIRST_PLAIN_DAY, LAST_PLAIN_DAY
from oversight.datasets.world.names import FAMILIES

NUM_WORDS = 2048
"""Most tokens that are learnt from texts."""

_TAGS = (
    *('<source title="The log of ', ' House">\n', ".\n</source>\n<question>\n"),
    *("<question>\n", "\n</question>\n<options>\n", ": ", "\n</options>\n", ".\n"),
    *("<quote>", ". <quote>", "</quote>", '">\n', "\n</turn>\n", '" defends="', '" round="'),
    *(
        "<verified_quote>",
        ". <verified_quote>",
        "</verified_quote>",
        "</verified_quote>\n</turn>\n",
    ),
    *("<near_quote>", "</near_quote>", "<unverified_quote>", "</unverified_quote>"),
    *(f'<turn speaker="{name}" round="' for name in ("Debater A", "Debater B", "Consultant")),
    *(f'<turn speaker="{name}" round="1" defends="' for name in ("Debater A", "Debater B")),
    *('<turn speaker="Consultant" round="1" defends="'),
    '<turn speaker="Critic" round="1">\n',
    '<turn speaker="Judge" round="',
)
_HOLE = "@@"


def stretches() -> list[str]:
    """Every fixed stretch of the agents' prompts and of the plain stories, the longest first."""
    found = set(_TAGS)
    found |= {str(rules) for rules in (debater.PROMPTS.rules.render(), judge.rules(""))}
    found |= {str(kind.PROMPTS.rules.render()) for kind in (consultant, critic)}
    hole = {"label": _HOLE, "round": _HOLE, "max_words": 150}
    asked = [
        *(debater.PROMPTS.speech.render(name=f"Debater {seat}", **hole) for seat in "AB"),
        consultant.PROMPTS.speech.render(name="Consultant", **hole),
        consultant.REVISION.speech.render(**hole),
        critic.PROMPTS.speech.render(max_words=150),
        judge.CHOOSE.render(labels="A or B"),
        judge.ASK.render(max_words=150),
    ]
    for prompt in asked:
        found |= set(str(prompt).split(_HOLE))
    found |= {f". Round 1 of 1{end}" for end in (str(p).split(_HOLE)[-1] for p in asked[:4])}
    for family in FAMILIES:
        if not family.plain:
            continue
        plain = family.plain[0].upper() + family.plain[1:]
        for form in (plain, family.questions[0]):
            found |= set(re.split(r"\{\w+\}", form))
    # A day is one token, and stands right behind what held from then on: to look it up is to find
    # those words again and take what follows.
    found |= {f" on day {number}" for number in range(FIRST_PLAIN_DAY, LAST_PLAIN_DAY + 1)}
    return sorted((s for s in found if len(s) > 1), key=lambda s: (-len(s), s))
