"""Questions about newly told stories, with what speaks for either option."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from oversight.agents.speaking import question_part, source_part
from oversight.datasets.world import LEVELS, StoryLine, tell
from oversight.datasets.world.names import FILLINGS, Family, offered
from oversight.types import Source

DIFFICULTY = 1


@dataclass(frozen=True)
class Case:
    """One question about one story, with what speaks for either option."""

    source: Source
    family: Family
    question: str
    options: tuple[str, str]
    """As they are listed."""
    correct: int
    lines: tuple[str | None, str | None]
    """For each option the latest line that says so, without its full stop; None: never told."""
    others: tuple[str, ...]
    """Lines of the story that tell of something else."""

    @cached_property
    def shared(self) -> str:
        """Question and options."""
        return question_part(self.question, self.options, (0, 1))

    @cached_property
    def with_source(self) -> str:
        """The same after the source, as speakers read it."""
        return source_part(self.source) + self.shared


def cases(rng: random.Random, num_others: int | None, made_up: float = 0.0) -> list[Case]:
    """The questions that one new story answers.

    Args:
        rng: Where everything is drawn from.
        num_others: How many lines of other things the story keeps; None for all.
        made_up: How many of the wrong options were never true, as a share.
    """
    words = FILLINGS[rng.choice(sorted(FILLINGS))]
    family = rng.choice(offered(DIFFICULTY, plain=True))
    story = tell(rng, family, words, LEVELS[DIFFICULTY], "plain")
    told = fewer(rng, story.told, story.subject, num_others)
    source = Source(
        title=f"The log of {rng.choice(words.houses)} House",
        text="\n".join(line.text for line in told),
    )
    by_subject: dict[str, list[StoryLine]] = {}
    for line in told:
        by_subject.setdefault(line.subject, []).append(line)
    found = []
    for subject, lines in by_subject.items():
        right = lines[-1].value
        earlier = sorted({line.value for line in lines} - {right})
        spare = sorted({line.value for line in told} - {line.value for line in lines})
        if rng.random() < made_up or not earlier:
            if not spare:
                spare = [v for v in family.values(rng, words, 2) if v != right]
            wrong = rng.choice(spare)
        else:
            wrong = rng.choice(earlier)
        correct = rng.randrange(2)
        options = (right, wrong) if correct == 0 else (wrong, right)
        last = {line.value: line.text.removesuffix(".") for line in lines}
        rest = [x.text.removesuffix(".") for x in told if x.subject != subject]
        rest += [x.text.removesuffix(".") for x in lines if x.value not in options]
        question = family.questions[0].format(subject=subject)
        pair = (last.get(options[0]), last.get(options[1]))
        found.append(Case(source, family, question, options, correct, pair, tuple(rest)))
    return found


def fewer(
    rng: random.Random, told: tuple[StoryLine, ...], subject: str, num_others: int | None
) -> list[StoryLine]:
    others = [number for number, line in enumerate(told) if line.subject != subject]
    if num_others is None or num_others >= len(others):
        return list(told)
    kept = set(rng.sample(others, num_others))
    return [line for n, line in enumerate(told) if line.subject == subject or n in kept]
