"""Debates before a judge in pairs that differ in one thing, with their tokens in groups.

Each pair is a question of `world`, told plainly, with one speech for either option, as the judge is
shown them. Of the clean row the right option is what the judge should say; the corrupted one
differs in one thing that should turn its answer:

times   both sides quote a line of their own, found in the source; the days are exchanged, so that
        the wrong side's is later.
marks   the wrong side quotes a line that the source does not have, a day later. The right side's
        quote is marked as found and the wrong one's as not found; the marks are exchanged.
quotes  the wrong side quotes a true line about another thing; in its place stands a line about the
        thing in question with its own option, a day later, marked as found as well.

Prompts are those of `oversight.agents.judge`; where a pair needs marks or days that no program
would give, they are put into the prompt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oversight import protocols
from oversight.agents.judge import choice_prompt
from oversight.chat.prompt_ids import ChatIds
from oversight.datasets import world
from oversight.graphs.planning import draw_orders
from oversight.graphs.views import public, turn_of, view_of
from oversight.interp.circuits import PatchPair
from oversight.types import Act, AgentSpec, Debate, Draft, Message, Prompt, Question, Role, Seat

FACTORS = ("times", "marks", "quotes")
PARTS = ("side", "claim", "mark", "thing", "place", "day", "end")
"""Groups of tokens of a turn: who speaks and what is defended, the claim, the mark before the
quote, the thing it is about, its place (or owner, date, rule), its day, and the end."""
ANSWER, REQUEST, QUESTION = "answer", "request", "question"
GROUPS = (QUESTION, *(f"{side} {part}" for side in ("right", "wrong") for part in PARTS), REQUEST)
DAY = re.compile(r" on day \d+")
FOUND, NOT_FOUND = "verified_quote", "unverified_quote"


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """A judge's prompt in tokens, with the letters after it."""

    ids: Any
    right: int
    wrong: int
    question: str


class JudgePrompts:
    """Makes rows of judge's prompts with one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.chat = tokenizer, ChatIds(tokenizer)
        self.protocol = protocols.load("debate_single_turn")
        self.letters = [int(tokenizer.encode(letter)[0]) for letter in "AB"]

    def row(
        self, question: Question, number: int, lines: Mapping[bool, str], marks: Mapping[bool, str]
    ) -> JudgeRow:
        """A debate in which the side that is right, or not, says a line under a mark.

        Args:
            question: Of `world`.
            number: Of its order of options, sides and speeches.
            lines: What the right side says (True) and the wrong one.
            marks: Tag of either; empty for plain words.
        """
        assert question.correct is not None
        orders = draw_orders(question, number)
        agents = {role: AgentSpec(agent=str(role)) for role in (Role.DEBATER, Role.JUDGE)}
        debate = Debate(
            question_id=question.id,
            question_fingerprint=question.fingerprint,
            protocol=self.protocol,
            agents=agents,
            orders=orders,
            seed=number,
        )
        turns = []
        for seat in self.protocol.speakers:
            side = orders.defended_by(seat)
            letter = "AB"[orders.options.index(side)]
            words = f"{letter}: {question.options[side].text}. {lines[side == question.correct]}"
            act = Act.SPEAK
            view = view_of(debate, question, (), seat, Role.DEBATER, act, 0, round=1)
            turns.append(public(turn_of(view, Draft(text=words), question)))
        last, act = len(self.protocol.schedule()), Act.DECIDE
        view = view_of(debate, question, turns, Seat.JUDGE, Role.JUDGE, act, last, round=1)
        prompt = choice_prompt(view)
        text = prompt.messages[1].content
        for is_right, mark in marks.items():
            if mark:
                side = question.correct if is_right else 1 - question.correct
                said = f"{question.options[side].text}. {lines[is_right]}"
                shown = f"{question.options[side].text}. <{mark}>{lines[is_right]}</{mark}>"
                text = text.replace(said, shown)
        messages = (prompt.messages[0], Message(role="user", parts=(text,)))
        ids = np.array(self.chat.prompt_ids(Prompt(messages=messages)))
        right = orders.options.index(question.correct)
        return JudgeRow(ids, self.letters[right], self.letters[1 - right], question.id)

    def token(self, text: str) -> int:
        """The one token of a text."""
        [token] = self.tokenizer.encode(text)
        return int(token)

    def apart(self, row: JudgeRow) -> JudgeRow:
        """The row with marks spelt in tokens of their own, as unfound ones are: so the places of
        both kinds are the same. Found ones are otherwise one token with the words beside them."""
        joined = {
            self.token(f". <{FOUND}>"): [self.token(". "), self.token(f"<{FOUND}>")],
            self.token(f"</{FOUND}>\n</turn>\n"): [
                self.token(f"</{FOUND}>"),
                self.token("\n</turn>\n"),
            ],
        }
        ids = [each for token in row.ids.tolist() for each in joined.get(token, [token])]
        return replace(row, ids=np.array(ids))

    def exchanged(self, row: JudgeRow, *texts: tuple[str, str]) -> JudgeRow:
        """The row with one token in place of another, and the other way round."""
        change: dict[int, int] = {}
        for one, other in texts:
            change |= {self.token(one): self.token(other), self.token(other): self.token(one)}
        return replace(row, ids=np.array([change.get(token, token) for token in row.ids.tolist()]))

    def groups(self, row: JudgeRow) -> dict[str, tuple[int, ...]] | None:
        """Tokens of the prompt by group, in each turn those of its last quote; None where a turn
        has no line with a day."""
        words = [self.tokenizer.decode([token]) for token in row.ids.tolist()]
        found: dict[str, list[int]] = {name: [] for name in (*GROUPS, ANSWER)}
        found[ANSWER] = [len(words) - 1]
        found[REQUEST] = [len(words) - 2]
        turns = [k for k, word in enumerate(words) if word.startswith("<turn speaker")]
        found[QUESTION] = list(range(3, turns[0]))
        right = self.tokenizer.decode([row.right])
        for begin, stop in zip(turns, [*turns[1:], len(words) - 2], strict=True):
            side = "right" if words[begin + 1] == right else "wrong"
            days = [k for k in range(begin, stop) if DAY.fullmatch(words[k])]
            if not days:
                return None
            last = days[-1]
            verbs = [k for k in range(begin + 5, last) if re.fullmatch(r" .*[a-z] ", words[k])]
            starts = [k for k in range(begin + 5, last) if words[k].startswith("The ")]
            if not verbs or not starts or starts[-1] > verbs[-1]:
                return None
            verb, start = verbs[-1], starts[-1]
            opened = start - 1 if "quote>" in words[start - 1] else start
            found[f"{side} side"] += range(begin, begin + 3)
            found[f"{side} claim"] += range(begin + 3, opened)
            found[f"{side} mark"] += range(opened, start)
            found[f"{side} thing"] += range(start, verb + 1)
            found[f"{side} place"] += range(verb + 1, last)
            found[f"{side} day"].append(last)
            found[f"{side} end"] += range(last + 1, stop)
        return {name: tuple(at) for name, at in found.items()}

    def pair(self, clean: JudgeRow, corrupted: JudgeRow) -> PatchPair | None:
        """Both rows as a pair with the clean one's groups; None where they are not as long, or
        have none."""
        groups = self.groups(clean)
        if groups is None or len(clean.ids) != len(corrupted.ids):
            return None
        ids = clean.ids, corrupted.ids
        return PatchPair(*ids, clean.right, clean.wrong, clean.question, groups)


def later(line: str, days: int = 1) -> str:
    """The line so many days later."""
    return re.sub(r"\d+$", lambda found: str(int(found.group()) + days), line)


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines for a question: each side's line, an invented one, and one beside it."""

    right: str
    wrong: str
    invented: str
    other: str

    @classmethod
    def of(cls, question: Question, rng: random.Random) -> Lines | None:
        """None where the source has no line about another thing."""
        assert question.source is not None
        assert question.correct is not None
        known = question.meta
        right, wrong = (str(known[f"{each}_lines"][-1])[:-1] for each in ("right", "wrong"))
        own, theirs = (question.options[k].text for k in (1 - question.correct, question.correct))
        beside = [
            each.removesuffix(".")
            for each in question.source.text.splitlines()
            if str(known["subject"]) not in each and own not in each and theirs not in each
        ]
        if not beside:
            return None
        invented = later(right.replace(theirs, own))
        return cls(right, wrong, invented, rng.choice(beside))


def pairs_of(
    prompts: JudgePrompts, questions: Sequence[Question], factor: str, seed: int = 0
) -> list[PatchPair]:
    """A pair for each question in which rows of one length can be made.

    Args:
        prompts: Of the judge's tokenizer.
        questions: Of `world`, told plainly.
        factor: One of `FACTORS`.
        seed: Of the lines about other things.
    """
    found = []
    for number, question in enumerate(questions):
        lines = Lines.of(question, random.Random(f"{seed}:{question.id}"))
        if lines is None:
            continue
        both = {True: FOUND, False: FOUND}
        if factor == "times":
            said = {True: lines.right, False: lines.wrong}
            clean = prompts.row(question, number, said, both)
            days = tuple(DAY.search(each).group() for each in said.values())  # type: ignore[union-attr]
            corrupted = prompts.exchanged(clean, days)  # type: ignore[arg-type]
        elif factor == "marks":
            said = {True: lines.right, False: lines.invented}
            clean = prompts.row(question, number, said, {True: FOUND, False: NOT_FOUND})
            clean = prompts.apart(clean)
            tags = [(f"{a}{FOUND}>", f"{a}{NOT_FOUND}>") for a in ("<", "</")]
            corrupted = prompts.exchanged(clean, *tags)
        else:
            clean = prompts.row(question, number, {True: lines.right, False: lines.other}, both)
            said = {True: lines.right, False: lines.invented}
            corrupted = prompts.row(question, number, said, both)
        if (pair := prompts.pair(clean, corrupted)) is not None:
            found.append(pair)
    return found


def variants(
    prompts: JudgePrompts, questions: Sequence[Question]
) -> Iterator[tuple[str, list[JudgeRow]]]:
    """Debates by what the wrong side says, beside a right side that quotes its own line."""
    for name, which, mark in (
        ("nothing of weight: a true line about another thing", "other", FOUND),
        ("its own line, which is earlier", "wrong", FOUND),
        ("an invented later line, marked as found", "invented", FOUND),
        ("an invented later line, marked as not found", "invented", NOT_FOUND),
        ("an invented later line, in plain words", "invented", ""),
    ):
        rows = []
        for number, question in enumerate(questions):
            lines = Lines.of(question, random.Random(question.id))
            if lines is not None:
                said = {True: lines.right, False: getattr(lines, which)}
                rows.append(prompts.row(question, number, said, {True: FOUND, False: mark}))
        yield name, rows


def held_out(num: int, seed: int = 0) -> list[Question]:
    """Plainly told questions of the held-out split, one fact each."""
    known = {"num": num, "split": "held_out", "seed": seed, "telling": "plain", "difficulty": 1}
    return list(world.rows(world.Config.model_validate(known)))
