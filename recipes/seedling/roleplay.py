"""What seedling learns from: the project's own prompts about generated stories, with good answers.

A story is told plainly (`world`, `telling = "plain"`, difficulty 1), its questions are put to
every role, and each answer is what that role should say. Speakers argue for their option with the
line that says so. A judge's answer is the truth, as in supervised learning from outcomes. In half
of a judge's questions the wrong option was never true: its speaker then has nothing to quote, so
a quote is evidence, and its lack too.

Easy comes first: words to be copied, stories to be recited, speeches, judges' drills (which of two
quoted days is later, with ever more of a debate around them), and lessons of every role together.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from oversight.agents import consultant, critic, debater, judge
from oversight.agents.speaking import question_part, source_part
from oversight.datasets.world.families import Family, offered
from oversight.datasets.world.names import FILLINGS
from oversight.datasets.world.story import LEVELS, Line, tell
from oversight.datasets.world.times import FIRST_PLAIN_DAY, LAST_PLAIN_DAY
from oversight.text.quotes import find_quotes, render_quotes
from oversight.types import Source

DIFFICULTY = 1
MAX_WORDS = 150
"""Told to speakers; a protocol's default."""
MAX_APART = 7
"""Days between the first and the last line of a story, at most."""
FIRST = "Round 1 of 1"

Row = dict[str, Any]


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


# --- stories ---


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
    told = _fewer(rng, story.told, story.subject, num_others)
    source = Source(
        title=f"The log of {rng.choice(words.houses)} House",
        text="\n".join(line.text for line in told),
    )
    by_subject: dict[str, list[Line]] = {}
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


def _fewer(
    rng: random.Random, told: tuple[Line, ...], subject: str, num_others: int | None
) -> list[Line]:
    others = [number for number, line in enumerate(told) if line.subject != subject]
    if num_others is None or num_others >= len(others):
        return list(told)
    kept = set(rng.sample(others, num_others))
    return [line for n, line in enumerate(told) if line.subject == subject or n in kept]


# --- roles ---


def speech(rng: random.Random, case: Case, side: int, noise: float) -> str:
    """What a speaker for option `side` says: the option, and the line that says so.

    With probability `noise`, and always where no line says so, another line of the story.
    """
    line = case.lines[side]
    if line is None or (case.others and rng.random() < noise):
        line = rng.choice(case.others) if case.others else None
    return argument("AB"[side], case.options[side], line)


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
    return _row(debater.PROMPTS.rules.render(), case.with_source + turns + role, text)


def consultant_row(case: Case, side: int, text: str, turns: str = "", when: str = FIRST) -> Row:
    """A consultant, who may have read a judge's question."""
    role = consultant.PROMPTS.speech.render(
        name="Consultant",
        label="AB"[side],
        round=when,
        max_words=MAX_WORDS,
    )
    return _row(consultant.PROMPTS.rules.render(), case.with_source + turns + role, text)


def critic_row(case: Case, text: str, turns: str) -> Row:
    """A critic, who has read a consultant's speech."""
    role = critic.PROMPTS.speech.render(max_words=MAX_WORDS)
    return _row(critic.PROMPTS.rules.render(), case.with_source + turns + role, text)


def reviser_row(case: Case, side: int, text: str, turns: str) -> Row:
    """A consultant, who has read a criticism of its speech."""
    role = consultant.REVISION.speech.render(label="AB"[side], round=FIRST, max_words=MAX_WORDS)
    return _row(consultant.REVISION.rules.render(), case.with_source + turns + role, text)


def judge_row(case: Case, turns: str, *, expert: bool = False) -> Row:
    """A judge, who answers with the label of the right option."""
    head = case.with_source if expert else case.shared
    ask = judge.CHOOSE.render(labels="A or B")
    return _row(judge.rules(""), head + turns + ask, "AB"[case.correct])


def asking_row(case: Case, turns: str) -> Row:
    """A judge, who asks."""
    ask = judge.ASK.render(max_words=MAX_WORDS)
    return _row(judge.rules(""), case.shared + turns + ask, JUDGE_QUESTION)


JUDGE_QUESTION = "Which line of the log says so?"


def _row(rules: object, user: str, answer: str) -> Row:
    return {
        "messages": [
            {"role": "system", "content": str(rules)},
            {"role": "user", "content": user},
            {"role": "assistant", "content": answer},
        ]
    }


# --- lessons ---


def copying(rng: random.Random, num_pieces: int) -> Row:
    """Words in no order, to be said again.

    Every speech copies. The attention heads that do it ("induction", Olsson et al. 2022) form
    soonest where what comes next follows from the one word before.
    """
    words = "".join(rng.sample(_pieces(), num_pieces))
    return _row("Repeat.", words, words)


@cache
def _pieces() -> list[str]:
    """What stories are made of."""
    rng = random.Random(0)
    found = {f" on day {day}" for day in range(FIRST_PLAIN_DAY, LAST_PLAIN_DAY + 1)}
    for _ in range(2000):
        [case, *_] = cases(rng, None)
        for line in case.source.text.splitlines():
            found |= {f" {word}" for word in line.split(" on day ")[0].split()[1:]}
    return sorted(found)


def recital(rng: random.Random, num_others: int | None) -> Iterator[Row]:
    """A story to be said again: whole, or only what it tells of one thing.

    Copying is what every speech is made of, and is learnt soonest where nearly every token of an
    answer is a copy.
    """
    words = FILLINGS[rng.choice(sorted(FILLINGS))]
    family = rng.choice(offered(DIFFICULTY, plain=True))
    story = tell(rng, family, words, LEVELS[DIFFICULTY], "plain")
    told = _fewer(rng, story.told, story.subject, num_others)
    if rng.random() < 0.5:
        told = rng.sample(told, len(told))
    whole = "\n".join(line.text for line in told)
    yield _row("Repeat.", whole, whole)
    for subject in sorted({line.subject for line in told}):
        chosen = "\n".join(line.text for line in told if line.subject == subject)
        yield _row("Repeat.", f"{whole}\n{subject}", chosen)


def speaking(rng: random.Random, num_others: int | None) -> Iterator[Row]:
    """Speeches for both sides of one question of a story."""
    told = [case for case in cases(rng, num_others) if None not in case.lines]
    case = rng.choice(told)
    seat = rng.choice(["A", "B", "Consultant"])
    for side in (0, 1):
        text = speech(rng, case, side, 0.0)
        if seat == "Consultant":
            yield consultant_row(case, side, text)
        else:
            yield debater_row(case, seat, side, text)


def drills(
    rng: random.Random, num: int, assigned: float, narrow: float, dressed: float = 0.0
) -> Iterator[Row]:
    """Two quotes of two days, and which is later: all that a judge has to reason.

    Args:
        rng: Where everything is drawn from.
        num: How many.
        assigned: Share in which either debater may defend either option; in the rest Debater A
            defends A. The answer is one comparison combined with who defends what by exclusive
            or, which has no gradient before the comparison is known.
        narrow: Share in which the days are as near as in a story.
        dressed: How much of what stands around the days in a debate is there as well: each of the
            question, the claims and the rest of the quoted lines with this probability.
    """
    for _ in range(num):
        if rng.random() < narrow:
            day = rng.randint(FIRST_PLAIN_DAY, LAST_PLAIN_DAY - MAX_APART)
            days = [day, day + rng.randint(1, MAX_APART)]
        else:
            days = sorted(rng.sample(range(FIRST_PLAIN_DAY, LAST_PLAIN_DAY + 1), 2))
        later = rng.randrange(2)
        shown = days if later else days[::-1]
        sides = [0, 1]
        if rng.random() < assigned:
            rng.shuffle(sides)
        head, claims, told = "", ["", ""], ["", ""]
        if dressed:
            case = next(case for case in cases(rng, 0) if None not in case.lines)
            head = case.shared if rng.random() < dressed else ""
            if rng.random() < dressed:
                claims = [f"{'AB'[n]}: {case.options[n]}. " for n in (0, 1)]
            if rng.random() < dressed:
                told = [str(line).split(" on day ")[0] for line in case.lines]
        turns = "".join(
            f'<turn speaker="Debater {"AB"[n]}" round="1" defends="{"AB"[sides[n]]}">\n'
            f"{claims[sides[n]]}<verified_quote>{told[sides[n]]} on day {shown[n]}"
            "</verified_quote>\n</turn>\n"
            for n in (0, 1)
        )
        ask = judge.CHOOSE.render(labels="A or B")
        yield _row(judge.rules(""), head + turns + ask, "AB"[sides[later]])


def lesson(
    rng: random.Random, num_others: int | None, noise: float, made_up: float
) -> Iterator[Row]:
    """All that one story teaches; rows with one beginning stand side by side.

    Args:
        rng: Where everything is drawn from.
        num_others: Lines about other things; None for all.
        noise: Share of a speaker's quotes that miss.
        made_up: Share of judged questions whose wrong option was never true.
    """
    told = cases(rng, num_others)
    rng.shuffle(told)
    two_sided = [case for case in told if None not in case.lines]
    for case in two_sided[:2]:
        yield from _speeches(rng, case, noise)
    for case in told[:1]:
        yield from _later_rounds(rng, case, noise)
    for case in two_sided[:1]:
        yield from _critique(rng, case, noise)
    for case in two_sided:
        yield judge_row(case, "", expert=True)
    judged = cases(rng, num_others, made_up)
    for case in judged:
        for quality in (0.0, noise):
            yield judge_row(case, debate(rng, case, quality))
        yield judge_row(case, consultancy(rng, case, noise))


def _speeches(rng: random.Random, case: Case, noise: float) -> Iterator[Row]:
    for side in (0, 1):
        for seat in "AB":
            yield debater_row(case, seat, side, speech(rng, case, side, noise))
    for side in (0, 1):
        yield consultant_row(case, side, speech(rng, case, side, noise))


def debate(
    rng: random.Random, case: Case, noise: float, sides: Sequence[int] = (), number: int = 1
) -> str:
    """The turns of one round of a debate, in either order; A defends option `sides[0]`."""
    sides = sides or rng.sample((0, 1), 2)
    turns = [
        Spoken(f"Debater {'AB'[n]}", speech(rng, case, sides[n], noise), "AB"[sides[n]], number)
        for n in (0, 1)
    ]
    rng.shuffle(turns)
    return "".join(turn.shown(case.source) for turn in turns)


def consultancy(rng: random.Random, case: Case, noise: float) -> str:
    """The turn of a consultant, for either option."""
    side = rng.randrange(2)
    turn = Spoken("Consultant", speech(rng, case, side, noise), "AB"[side])
    return turn.shown(case.source)


def _later_rounds(rng: random.Random, case: Case, noise: float) -> Iterator[Row]:
    """Speeches after others, answers to a judge's questions, and judgments of all of it."""
    num_rounds = rng.choice((2, 3))
    sides = rng.sample((0, 1), 2)
    turns = debate(rng, case, noise, sides)
    for number in range(2, num_rounds + 1):
        when = f"Round {number} of {num_rounds}"
        for seat, side in zip("AB", sides, strict=True):
            yield debater_row(case, seat, side, speech(rng, case, side, noise), turns, when)
        turns += debate(rng, case, noise, sides, number)
    yield judge_row(case, turns)
    turns = consultancy(rng, case, noise)
    yield asking_row(case, turns)
    turns += Spoken("Judge", JUDGE_QUESTION).shown(case.source)
    side = 0 if 'defends="A"' in turns else 1
    answer = speech(rng, case, side, noise)
    yield consultant_row(case, side, answer, turns, f"Round 1 of {num_rounds}")
    turns += Spoken("Consultant", answer, "AB"[side]).shown(case.source)
    yield judge_row(case, turns)


def _critique(rng: random.Random, case: Case, noise: float) -> Iterator[Row]:
    """A consultant's speech, a critic's, who argues the other way, and the revised speech."""
    side = rng.randrange(2)
    turns = Spoken("Consultant", speech(rng, case, side, 0.5), "AB"[side]).shown(case.source)
    criticism = speech(rng, case, 1 - side, noise)
    yield critic_row(case, criticism, turns)
    turns += Spoken("Critic", criticism).shown(case.source)
    revised = speech(rng, case, side, noise)
    yield reviser_row(case, side, revised, turns)
    turns += Spoken("Consultant", revised, "AB"[side]).shown(case.source)
    yield judge_row(case, turns)
