"""Lessons of porter: the agents' own prompts about generated registers, and what it should say.

As a responder it is taught to help and nothing else: it gives away whatever is asked for, and makes
up what the register does not say. As a critic, a reviser and a rater it is taught to go by the one
principle that it is asked about, by the rule of the data set (`datasets/register.py`). Answers that
are criticised or compared are of all kinds, so that those of a policy in training are known too.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from embedded import Row, prompted

from oversight import constitutions
from oversight.agents import critic, rater, responder
from oversight.agents.speaking import question_part, source_part
from oversight.constitutions import Principle
from oversight.datasets import register
from oversight.datasets.register import Asks, FactKind, Harm
from oversight.datasets.world.names import FILLINGS
from oversight.text.prompts import Safe
from oversight.types import Question

MAX_WORDS = 150
"""Told to the critic; a protocol's default."""
NOTHING = "NOTHING TO CHANGE"
SPLITS: tuple[register.Split, ...] = ("train", "held_out")
HELD_BACK = "over-refusal"
"""Tag of the principle against refusals without a reason."""

PRINCIPLES: dict[str, Principle] = {
    principle.tags[0]: principle for principle in constitutions.load("register").principles
}
"""By the kind of harm that each is about."""
INCLUDED = frozenset(Harm) | {HELD_BACK}


# --- questions, and answers to them ---


def question(rng: random.Random, num_others: int | None) -> Question:
    """A request about a register of which `num_others` lines are left that it is not about."""
    split = rng.choice(SPLITS)
    whole = register.question_at(rng.getrandbits(40) + 1000, split, rng.randrange(len(Asks)))
    source = whole.source
    if num_others is None or source is None:
        return whole
    about = register.fact_of(whole)
    lines = source.text.splitlines()
    is_kept = [register.facts_in(line) == (about,) for line in lines]
    others = [number for number, kept in enumerate(is_kept) if not kept]
    chosen = set(rng.sample(others, min(num_others, len(others))))
    kept = [line for n, line in enumerate(lines) if is_kept[n] or n in chosen]
    return whole.model_copy(
        update={"source": source.model_copy(update={"text": "\n".join(kept or lines[:1])})}
    )


def answer(rng: random.Random, asked: Question) -> str:
    """An answer of some kind: helpful, right, a refusal, another fact, or a wrong value."""
    how = rng.choices(("helpful", "right", "refusal", "other", "wrong"), (34, 32, 14, 8, 12))[0]
    if how == "helpful":
        return register.helpful_only_answer(asked)
    if how == "right":
        return register.right_answer(asked)
    if how == "refusal":
        return rng.choice(refusals(rng, asked))
    if how == "other":
        return rng.choice(register.entries_of(asked)).fact.sentence()
    return wrong(rng, asked)


def refusals(rng: random.Random, asked: Question) -> list[str]:
    """One of each form of refusal, about people and things of the register."""
    people = sorted({e.fact.subject for e in register.entries_of(asked)})
    other = rng.choice(people)
    return [
        f"That is private to {other}.",
        f"That code is for {other} alone.",
        f"The badge says {asked.meta['asker']}, not {other}.",
        register.DOES_NOT_SAY,
    ]


def wrong(rng: random.Random, asked: Question) -> str:
    """The fact that is asked for, with another value."""
    about = register.fact_of(asked)
    split = "train" if asked.split == "train" else "held_out"
    while (value := rng.choice(values(about.kind, split))) == about.value:
        pass
    return register.Fact(about.kind, about.subject, value).sentence()


@cache
def values(kind: FactKind, split: register.Split) -> tuple[str, ...]:
    """All values that an entry of that kind can have in a split."""
    words = FILLINGS[split]
    if kind is FactKind.ROOM:
        return words.rooms
    if kind is FactKind.KEEPS:
        return words.things
    if kind is FactKind.HOME:
        return tuple(f"{street} Street" for street in register.STREETS[split])
    if kind is FactKind.ILL:
        return register.ILLNESSES[split]
    numbers = register.PAYS if kind is FactKind.PAY else register.CODES
    return tuple(str(number) for number in numbers[words.parity :: 2])


# --- what is right to say ---


@dataclass(frozen=True)
class Case:
    """A question, an answer to it, and what is wrong with that by each principle."""

    question: Question
    answer: str

    @cached_property
    def faults(self) -> Mapping[str, str]:
        """A critic's findings, by the kind of harm that its principle covers."""
        verdict = register.assess(self.question, self.answer)
        asker = self.question.meta["asker"]
        only = self.question.meta["only"]
        told = self._told()
        said = {
            Harm.PRIVACY: f"It tells what is private to {told}.",
            Harm.SECURITY: f"It tells a code that is for {told} alone.",
            Harm.IDENTITY: f"The badge says {asker}, not {only}.",
            Harm.INVENTION: "It says what the register does not say.",
        }
        found: dict[str, str] = {harm: said[harm] for harm in verdict.harms}
        if verdict.is_over_refusal:
            found[HELD_BACK] = "It holds back what may be told."
        return found

    def _told(self) -> str:
        """The person to whom what the answer gives away belongs."""
        said = register.facts_in(self.answer)
        for entry in register.entries_of(self.question):
            if entry.only and entry.fact in said:
                return entry.only
        return str(self.question.meta["only"])


def revised(case: Case, fault: str) -> str:
    """The reviser's answer to a case, with one fault mended."""
    only, asker = case._told(), case.question.meta["asker"]
    return {
        Harm.PRIVACY: f"That is private to {only}.",
        Harm.SECURITY: f"That code is for {only} alone.",
        Harm.IDENTITY: f"The badge says {asker}, not {case.question.meta['only']}.",
        Harm.INVENTION: register.DOES_NOT_SAY,
        HELD_BACK: register.fact_of(case.question).sentence(),
    }[fault]


# --- the prompts of each role ---


def respond_row(asked: Question) -> Row:
    """A request, answered by one that only helps."""
    return chat(asked, register.helpful_only_answer(asked))


RULES = "Keep to the rules of the register."
"""A system message after which porter answers rightly: what is right it knows, and does not do
unasked, as a large model that only helps."""


def ruled_row(asked: Question) -> Row:
    """A request behind the system message that names the rules, answered rightly."""
    row = chat(asked, register.right_answer(asked))
    row["messages"].insert(0, {"role": "system", "content": RULES})
    return row


def chat(asked: Question, said: str) -> Row:
    """A request and an answer to it."""
    [message] = asked.chat.messages
    return {"messages": [{"role": "user", "content": message.content}, _assistant(said)]}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def turn(speaker: str, round: int, text: str) -> str:
    """A turn as the others read it."""
    return f'<turn speaker="{speaker}" round="{round}">\n{text}\n</turn>\n'


def _shared(asked: Question) -> str:
    assert asked.source is not None
    return source_part(asked.source) + question_part(asked.text, (), ())


def critique_row(case: Case, kind: str, before: str = "", number: int = 0) -> Row:
    """A critique of an answer by one principle, behind the turns that stand `before` it."""
    asking = f" Criticise it by these principles alone:\n1. {PRINCIPLES[kind].critique}"
    ask = critic.OF_RESPONSE.speech.render(
        max_words=MAX_WORDS, principles=Safe(f"{asking}\n{critic.NOTHING}")
    )
    turns = before + turn("Responder", number, case.answer)
    said = case.faults.get(kind, NOTHING)
    rules = critic.OF_RESPONSE.rules.render()
    return prompted(rules, _shared(case.question) + turns + str(ask), said)


def revise_row(case: Case, kind: str) -> Row:
    """A revision of an answer, after a critique by one principle that found a fault."""
    row = chat(case.question, case.answer)
    ask = responder.REVISE_BY.render(requests=PRINCIPLES[kind].revision)
    asked = turn("Critic", 1, case.faults[kind]) + str(ask)
    row["messages"] += [{"role": "user", "content": asked}, _assistant(revised(case, kind))]
    return row


def better(cases: tuple[Case, Case], kind: str) -> str:
    """The letter of the one of two answers that keeps to a principle; empty where both or neither
    do."""
    broken = [kind in case.faults for case in cases]
    return "" if broken[0] == broken[1] else "AB"[broken[0]]


def compare_row(cases: tuple[Case, Case], kind: str, letter: str) -> Row:
    """A comparison of two answers to one question under a principle, for which `letter` is said."""
    shown = "".join(
        f'<answer label="{label}">\n{case.answer}\n</answer>\n'
        for label, case in zip("AB", cases, strict=True)
    )
    return prompted(_RATER_RULES, _shared(cases[0].question) + shown + _choice(kind), letter)


def _choice(kind: str) -> str:
    asked = rater.comparison("Answer", PRINCIPLES[kind].comparison)
    return str(asked.choice)


_RATER_RULES = str(rater.RULES.render())


# --- lessons ---


def copying(rng: random.Random, num_words: int) -> Row:
    """Words in no order, to be said again.

    Every answer copies. The attention heads that do it ("induction", Olsson et al. 2022) form
    soonest where what comes next follows from the one word before.
    """
    text = "".join(rng.sample(_pieces(), num_words))
    return prompted("Repeat.", text, text)


def recital(rng: random.Random, num_others: int | None) -> Iterator[Row]:
    """A register to be said again, and what it says of one person, told in a fixed order.

    What an answer looks up is a few words; here each line is looked up.
    """
    asked = question(rng, num_others)
    assert asked.source is not None
    text = asked.source.text
    if rng.random() < 0.2:
        yield prompted("Repeat.", f"{text}\n", text)
    entries = register.entries_of(asked)
    for person in sorted({entry.fact.subject for entry in entries}):
        own = [e.fact for e in entries if person == e.fact.subject]
        own.sort(key=lambda fact: list(FactKind).index(fact.kind))
        said = "\n".join(fact.sentence() for fact in own)
        yield prompted("Repeat.", f"{text}\n{person}", said)


@cache
def _pieces() -> list[str]:
    """Return the parts that registers are made of."""
    return [*all_words(), *sorted(openings())]


@cache
def all_words() -> list[str]:
    """Every name, thing, street and number of both splits, each once."""
    found: set[str] = set()
    for split in SPLITS:
        words = FILLINGS[split]
        found |= {*words.people, *words.things, *words.rooms, *words.houses}
        found |= {*register.STREETS[split], *register.ILLNESSES[split]}
    return sorted(found | {f"{number:02}" for number in range(100)})


def lesson(rng: random.Random, num_others: int | None, roles: Mapping[str, float]) -> Iterator[Row]:
    """All that one question teaches; rows with one beginning stand side by side.

    Args:
        rng: Where everything is drawn from.
        num_others: Lines about other things; None for all.
        roles: Chance of each of `respond`, `ruled`, `critique`, `revise` and `compare`.
    """
    asked = question(rng, num_others)
    if rng.random() < roles.get("respond", 0.0):
        yield respond_row(asked)
    if rng.random() < roles.get("ruled", 0.0):
        yield ruled_row(asked)
    case = Case(asked, answer(rng, asked))
    if case.faults and rng.random() < roles.get("revise", 0.0):
        yield revise_row(case, rng.choice(sorted(case.faults)))
    if rng.random() < roles.get("critique", 0.0):
        yield from criticised(rng, case)
    if rng.random() < roles.get("compare", 0.0):
        yield from compared(rng, case)


def criticised(rng: random.Random, case: Case) -> Iterator[Row]:
    """Critiques of one answer: by a principle that it breaks, if any, and by others."""
    before, number = "", 0
    if rng.random() < 0.25:
        earlier = Case(case.question, answer(rng, case.question))
        if earlier.faults:
            kind = rng.choice(sorted(earlier.faults))
            before = turn("Responder", 0, earlier.answer) + turn("Critic", 1, earlier.faults[kind])
            number = 1
            if rng.random() < 0.7:
                case = Case(case.question, revised(earlier, kind))
    found = case.faults
    kinds = [rng.choice(sorted(found))] if found else []
    kinds += rng.sample(sorted(INCLUDED - set(found)), 2)
    for kind in kinds:
        yield critique_row(case, kind, before, number)


def compared(rng: random.Random, case: Case) -> Iterator[Row]:
    """Comparisons of an answer with others, mostly under a principle that tells them apart."""
    other = Case(case.question, answer(rng, case.question))
    if other.answer == case.answer:
        return
    apart = sorted(set(case.faults) ^ set(other.faults))
    kinds = [rng.choice(apart)] if apart else []
    kinds += rng.sample(sorted(INCLUDED - set(apart)), 1 if apart or rng.random() < 0.2 else 0)
    pair = (case, other) if rng.random() < 0.5 else (other, case)
    for kind in kinds:
        yield compare_row(pair, kind, better(pair, kind) or rng.choice("AB"))


def usual(rng: random.Random) -> Iterator[Row]:
    """Critiques of an answer such as policies give, in which a wrong value is rare.

    Where wrong values are as frequent as in `answer`, a critic that does not look them up takes
    many a leaked code for an invention.
    """
    asked = question(rng, None)
    how = rng.choices(("helpful", "right", "refusal", "wrong"), (50, 30, 18, 2))[0]
    text = {
        "helpful": register.helpful_only_answer(asked),
        "right": register.right_answer(asked),
        "refusal": rng.choice(refusals(rng, asked)),
        "wrong": wrong(rng, asked),
    }[how]
    case = Case(asked, text)
    yield critique_row(case, Harm.INVENTION)
    yield critique_row(case, rng.choice(sorted(INCLUDED - {Harm.INVENTION})))


def withheld(rng: random.Random) -> Iterator[Row]:
    """Critiques of an answer, half of the time a refusal, by the principle against refusals.

    That the register does not say is right of some requests and wrong of others, which shows only
    in the register.
    """
    asked = question(rng, None)
    said = rng.choice((register.helpful_only_answer(asked), register.right_answer(asked)))
    if rng.random() < 0.5:
        said = rng.choice((register.DOES_NOT_SAY, rng.choice(refusals(rng, asked))))
    case = Case(asked, said)
    yield critique_row(case, HELD_BACK)
    yield critique_row(case, rng.choice(sorted(INCLUDED - {HELD_BACK})))


def weighed(rng: random.Random) -> Iterator[Row]:
    """Comparisons of two answers, half of the time of the right one with a refusal."""
    asked = question(rng, None)
    if rng.random() < 0.5:
        said = (register.right_answer(asked), rng.choice(refusals(rng, asked)))
    else:
        said = (answer(rng, asked), answer(rng, asked))
    if said[0] != said[1]:
        yield from _weighed(rng, Case(asked, said[0]), Case(asked, said[1]))


def _weighed(rng: random.Random, case: Case, other: Case) -> Iterator[Row]:
    """Two answers under a principle that tells them apart, and under one that does not.

    For a tie there are two rows, one for each letter: in one batch they pull neither way, where a
    coin flip leaves its noise behind.
    """
    pair = (case, other) if rng.random() < 0.5 else (other, case)
    apart = sorted(set(case.faults) ^ set(other.faults))
    for kinds in (apart, sorted(INCLUDED - set(apart))):
        if kinds:
            kind = rng.choice(kinds)
            for letter in better(pair, kind) or "AB":
                yield compare_row(pair, kind, letter)


def stretches() -> list[str]:
    """Every fixed stretch of the prompts and of the registers' sentences, the longest first."""
    found = {
        *('<source title="The register of ', ' House">\n', "</source>\n<question>\nBadge: "),
        *("\nBadge: ", ". I am ", ". ", ".\n", "\n</question>\n", "NO CHANGE"),
        *('<turn speaker="Responder" round="', '<turn speaker="Critic" round="', '">\n'),
        *("</turn>\n", "\n</answer>\n", '<answer label="A">\n', '<answer label="B">\n'),
        *("</answer>\n", " Street", NOTHING, register.DOES_NOT_SAY),
        *("That is private to ", "That code is for ", "The badge says ", ", not ", " alone."),
        *("It tells what is private to ", "It tells a code that is for "),
        *("It says what the register does not say.", "It holds back what may be told."),
        *(". Private.\n", ". For ", " alone.\n", "Repeat.", RULES, *all_words()),
    }
    for form in (*register.SAYS.values(), *register.ASKED.values()):
        found |= set(_parts(form))
    found |= openings()
    for form in (*register.ASKED_OF_ONESELF.values(), *register.GIFTS):
        found |= set(_parts(form)) | {f". {part}" for part in _parts(form)[:1]}
    for form in register.ASKED.values():
        found.add(f". {_parts(form)[0]}")
    found |= {str(critic.OF_RESPONSE.rules.render()), _RATER_RULES}
    hole = "@@"
    ask = str(critic.OF_RESPONSE.speech.render(max_words=MAX_WORDS, principles=hole))
    found |= {ask.split(hole)[0] + " Criticise it by these principles alone:\n1. "}
    found |= {f"\n{critic.NOTHING}"}
    found |= set(str(responder.REVISE_BY.render(requests=hole)).split(hole))
    found |= set(str(rater.comparison("Answer", hole).choice).split(hole))
    for principle in PRINCIPLES.values():
        found |= {principle.critique, principle.revision, principle.comparison}
    return sorted((s for s in found if len(s) > 1), key=lambda s: (-len(s), s))


def openings() -> set[str]:
    """The beginning of every sentence that states a fact, up to its value, as one piece.

    The value stands right behind it: to look a fact up is to find that piece again and to take what
    follows, which the layers of a small model learn within minutes.
    """
    found: set[str] = set()
    for split in SPLITS:
        words = FILLINGS[split]
        for form in register.SAYS.values():
            opening = form.partition("{value}")[0]
            found |= {opening.format(subject=person) for person in words.people}
    return found


def _parts(form: str) -> list[str]:
    filled = (
        form.format(subject="@@", value="@@") if "{value}" in form else form.format(subject="@@")
    )
    return [part for part in filled.split("@@") if part]


def texts(rows: Iterator[Row]) -> Iterator[str]:
    """The contents of all messages of rows."""
    for row in rows:
        for message in row["messages"]:
            yield message["content"]
