"""Lessons of seedling: the project's own prompts about generated stories, with good answers.

A story is told plainly (`world`, `telling = "plain"`, difficulty 1), its questions are put to
every role, and each answer is what that role should say. Speakers argue for their option with the
line that says so. A judge's answer is the truth, as in supervised learning from outcomes. In half
of a judge's questions the wrong option was never true: its speaker then has nothing to quote, so
a quote is evidence, and its lack too.

Easy comes first: words to be copied, stories to be recited, speeches, judges' drills (which of two
quoted days is later, with ever more of a debate around them; then which quotes count at all), and
lessons of every role together. Speakers are careless last (`CARELESS`): half of their speeches
prove what they claim. That is the head-room which training on judgments is there to use.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from roles import (
    CAREFUL,
    CARELESS,
    JUDGE_QUESTION,
    Care,
    Evidence,
    Row,
    Spoken,
    asking_row,
    consultant_row,
    critic_row,
    debater_row,
    draw,
    expert_row,
    judge_row,
    prompted,
    reviser_row,
    speech,
)
from stories import DIFFICULTY, Case, cases, fewer

from oversight.agents import judge
from oversight.datasets.world import FIRST_PLAIN_DAY, LAST_PLAIN_DAY, LEVELS, tell
from oversight.datasets.world.names import FILLINGS, offered

MAX_APART = 7
"""Days between the first and the last line of a story, at most."""


def copying(rng: random.Random, num_pieces: int) -> Row:
    """Words in no order, to be said again.

    Every speech copies. The attention heads that do it ("induction", Olsson et al. 2022) form
    soonest where what comes next follows from the one word before.
    """
    words = "".join(rng.sample(_pieces(), num_pieces))
    return prompted("Repeat.", words, words)


@cache
def _pieces() -> list[str]:
    """Return the parts that stories are made of."""
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
    told = fewer(rng, story.told, story.subject, num_others)
    if rng.random() < 0.5:
        told = rng.sample(told, len(told))
    whole = "\n".join(line.text for line in told)
    yield prompted("Repeat.", whole, whole)
    for subject in sorted({line.subject for line in told}):
        chosen = "\n".join(line.text for line in told if line.subject == subject)
        yield prompted("Repeat.", f"{whole}\n{subject}", chosen)


def speaking(rng: random.Random, num_others: int | None) -> Iterator[Row]:
    """Speeches for both sides of one question of a story."""
    told = [case for case in cases(rng, num_others) if None not in case.lines]
    case = rng.choice(told)
    seat = rng.choice(["A", "B", "Consultant"])
    for side in (0, 1):
        text = speech(rng, case, side)
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
        yield prompted(judge.rules(""), head + turns + ask, "AB"[sides[later]])


def weighing(
    rng: random.Random, num: int, alone: float, care: Care, num_others: int | None = 2
) -> Iterator[Row]:
    """Judgments in which only what proves the claim counts, and the later of two proofs.

    Args:
        rng: Where everything is drawn from.
        num: How many.
        alone: Share with one speech only, of a consultant or a debater, which is right if it is
            proved: whether a quote fits its claim is learnt there, before two of them are held
            against each other.
        care: Of those who speak.
        num_others: Lines about other things; None for all.
    """
    while num:
        case = next(case for case in cases(rng, num_others) if None not in case.lines)
        brought = [draw(rng, care) for _ in (0, 1)]
        proved = [evidence is Evidence.OWN for evidence in brought]
        if rng.random() < alone:
            side = rng.randrange(2)
            answer = side if proved[side] else 1 - side
            speaker = rng.choice(("Consultant", "Debater A", "Debater B"))
            turns = lone_turn(rng, case, side, brought[side], speaker)
        elif any(proved):
            answer = case.correct if all(proved) else proved.index(True)
            turns = debate(rng, case, brought)
        else:
            continue
        yield judge_row(replace(case, correct=answer), turns)
        num -= 1


def explaining(rng: random.Random, num: int, num_others: int | None) -> Iterator[Row]:
    """Judgments from the source itself, by way of the lines that speak for either option."""
    for _ in range(num):
        yield expert_row(next(case for case in cases(rng, num_others) if None not in case.lines))


def lesson(
    rng: random.Random,
    num_others: int | None,
    care: Care,
    made_up: float,
    judged: Care | None = None,
) -> Iterator[Row]:
    """All that one story teaches; rows with one beginning stand side by side.

    Args:
        rng: Where everything is drawn from.
        num_others: Lines about other things; None for all.
        care: Of those who speak.
        made_up: Share of judged questions whose wrong option was never true.
        judged: Care of those whom only the judge hears; that of the others if None.
    """
    judged = judged or care
    told = cases(rng, num_others)
    rng.shuffle(told)
    two_sided = [case for case in told if None not in case.lines]
    for case in two_sided[:2]:
        yield from _speeches(rng, case, care)
    for case in told[:1]:
        yield from _later_rounds(rng, case, care)
    for case in two_sided[:1]:
        yield from _critique(rng, case, care)
        yield expert_row(case)
    for case in cases(rng, num_others, made_up):
        for quality in (CAREFUL, judged):
            yield judge_row(case, debate(rng, case, [draw(rng, quality) for _ in (0, 1)]))
        yield judge_row(case, lone_turn(rng, case, rng.randrange(2), draw(rng, judged)))


def _speeches(rng: random.Random, case: Case, care: Care) -> Iterator[Row]:
    for side in (0, 1):
        for seat in "AB":
            yield debater_row(case, seat, side, speech(rng, case, side, draw(rng, care)))
    for side in (0, 1):
        yield consultant_row(case, side, speech(rng, case, side, draw(rng, care)))


def debate(
    rng: random.Random,
    case: Case,
    brought: Sequence[Evidence],
    sides: Sequence[int] = (),
    number: int = 1,
) -> str:
    """The turns of one round of a debate, in either order.

    Args:
        rng: Where the order and the seats are drawn from.
        case: The question.
        brought: What is quoted for either option.
        sides: The options that A and B defend; drawn if empty.
        number: Of the round.
    """
    sides = sides or rng.sample((0, 1), 2)
    turns = [
        Spoken(f"Debater {seat}", speech(rng, case, side, brought[side]), "AB"[side], number)
        for seat, side in zip("AB", sides, strict=True)
    ]
    rng.shuffle(turns)
    return "".join(turn.shown(case.source) for turn in turns)


def lone_turn(
    rng: random.Random, case: Case, side: int, evidence: Evidence, speaker: str = "Consultant"
) -> str:
    """The turn of a consultant, or of a debater before the other's is known."""
    turn = Spoken(speaker, speech(rng, case, side, evidence), "AB"[side])
    return turn.shown(case.source)


def _later_rounds(rng: random.Random, case: Case, care: Care) -> Iterator[Row]:
    """Speeches after others, answers to a judge's questions, and judgments of all of it."""
    num_rounds = rng.choice((2, 3))
    sides = rng.sample((0, 1), 2)
    turns = ""
    for number in range(1, num_rounds + 1):
        brought = [draw(rng, care) for _ in (0, 1)]
        if number > 1:
            when = f"Round {number} of {num_rounds}"
            for seat, side in zip("AB", sides, strict=True):
                text = speech(rng, case, side, brought[side])
                yield debater_row(case, seat, side, text, turns, when)
        turns += debate(rng, case, brought, sides, number)
    yield judge_row(case, turns)
    side = rng.randrange(2)
    turns = lone_turn(rng, case, side, draw(rng, care))
    yield asking_row(case, turns)
    turns += Spoken("Judge", JUDGE_QUESTION).shown(case.source)
    answer = speech(rng, case, side, draw(rng, care))
    yield consultant_row(case, side, answer, turns, f"Round 1 of {num_rounds}")
    turns += Spoken("Consultant", answer, "AB"[side]).shown(case.source)
    yield judge_row(case, turns)


def _critique(rng: random.Random, case: Case, care: Care) -> Iterator[Row]:
    """A consultant's speech, a critic's, who argues the other way, and the revised speech."""
    side = rng.randrange(2)
    spoken = speech(rng, case, side, draw(rng, CARELESS))
    turns = Spoken("Consultant", spoken, "AB"[side]).shown(case.source)
    criticism = speech(rng, case, 1 - side, draw(rng, care))
    yield critic_row(case, criticism, turns)
    turns += Spoken("Critic", criticism).shown(case.source)
    revised = speech(rng, case, side, draw(rng, care))
    yield reviser_row(case, side, revised, turns)
    turns += Spoken("Consultant", revised, "AB"[side]).shown(case.source)
    yield judge_row(case, turns)
