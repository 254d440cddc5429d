"""Tasks: what people are asked about recorded words, one file each.

A file here with a class under `RatingTask` is a task of `oversight rate`, by the file's name: its
questions with the answers that they take, its answer record, and how it is shown. `debate` is the
task of `oversight judge`. A task of one's own is given as "file.py:Class", or added by another
distribution under the entry-point group `oversight.tasks`. No screen is in here: screens and plain
lines show what a task says of itself.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

from oversight.constitutions import Constitution
from oversight.errors import ConfigError, ProtocolError, UnknownNameError
from oversight.ids import seed_from
from oversight.judging.log import now
from oversight.judging.settings import RatingSettings
from oversight.judging.work import RatingWork
from oversight.registry import check_path, load_named, nearest
from oversight.store.rating_queue import RatingItem
from oversight.types import Feedback, OwnAnswer, Record, Task
from oversight.types.ratings import Answer

GROUP = "oversight.tasks"
"""Entry points of other distributions, `name = "package.module:Class"`."""
JUDGED = frozenset({"debate"})
"""Tasks of `oversight judge`."""

Key = Callable[[str], str]
"""From the name of a key to the key as one would say it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer that can be given."""

    value: str
    sign: str
    """The choice in a row of choices: a sign or a word."""
    words: str
    """The answer in words, as a sentence or the end of one."""


@dataclass(frozen=True, slots=True)
class TaskQuestion:
    """One thing that is asked of an item."""

    name: str
    label: str
    choices: tuple[Choice, ...]
    text: str = ""
    """The matter that it is about, at length."""
    digits: str = ""
    """The digit that gives each of the choices; empty: they are counted from 1."""
    if_open: str = ""
    """The sentence shown where it is the only question and has no answer yet."""

    def choice(self, value: str | None) -> Choice | None:
        """The choice of that value."""
        return next((each for each in self.choices if each.value == value), None)

    def by_digit(self, digit: str) -> str | None:
        """The value that a digit gives."""
        digits = self.digits or "123456789"[: len(self.choices)]
        return self.choices[digits.index(digit)].value if digit in digits else None

    @property
    def by_number(self) -> dict[int, str]:
        """Values by the number that gives them in plain lines."""
        numbers = map(int, self.digits) if self.digits else range(1, len(self.choices) + 1)
        return {n: choice.value for n, choice in zip(numbers, self.choices, strict=True)}


@dataclass(frozen=True, slots=True)
class AnswerState:
    """A person's answers so far, and the question that a key would answer."""

    asked: tuple[TaskQuestion, ...]
    answers: Mapping[str, str]
    current: int = 0

    @property
    def left(self) -> tuple[TaskQuestion, ...]:
        """The questions that have no answer yet."""
        return unanswered(self.asked, self.answers)


@dataclass(frozen=True, slots=True)
class KeyEffect:
    """Effect of a key: an answer, a move to another question, or words."""

    question: str = ""
    value: str = ""
    current: int | None = None
    says: str = ""
    """The reason why it does nothing; {left} stands for the key of that name."""


class RatingTask(ABC):
    """Something that is asked of people about turns of finished debates and open prompts."""

    name: ClassVar[str] = ""
    """Name under which its ratings are stored; of a task of the package, a `Task`."""
    turns: ClassVar[Task] = Task.PRINCIPLES
    """Its items are the turns that this task of the package asks about: pairs of candidates,
    single speeches, or a revision with what it revises."""
    record: ClassVar[type[Record]]
    """The class of its answer."""
    asks: ClassVar[str]
    """The whole question, as a sentence."""
    names: ClassVar[tuple[str, ...]] = ("The response",)
    """Names of the turns of an item, in the order in which they are shown."""
    one: ClassVar[str] = "item"
    """The name of an item."""
    empty: ClassVar[str] = "Nothing to rate in this store. Run debates first: oversight debate"
    """The sentence shown for an empty store, with how to fill it."""
    nothing: ClassVar[str] = ""
    """The same where a model rates, as the end of a sentence."""
    keys: ClassVar[Mapping[str, str]] = {"ask_next": "", "ask_previous": ""}
    """Names of the keys that it has beside those of every task, each with what it does in a word or
    two where that is not what the key does elsewhere."""
    flagged: ClassVar[bool] = False
    """Its items are what a guard sent in the calls on which a check of it acted, and no others."""
    by_constitution: ClassVar[bool] = False
    """Asks about the principles of a constitution."""

    @abstractmethod
    def questions(self, constitution: Constitution | None = None) -> tuple[TaskQuestion, ...]:
        """The questions about an item."""

    @abstractmethod
    def answer(self, given: Mapping[str, str], constitution: Constitution | None = None) -> Record:
        """The answer record of the values given, by the questions' names.

        Raises:
            ValueError: They make no answer; says why.
        """

    def preference(self, answer: Any) -> float | None:
        """The preference in an answer record, from 0 to 1, for training; None where it has none.

        Where `turns` are those of pairs, the probability that the first response shown is better;
        of revisions, that the revision is better than what it revises; of principles, how good the
        one response is. A task without this method makes no training rows.
        """
        return None

    @property
    def makes_rows(self) -> bool:
        """True where its answers become training rows."""
        return type(self).preference is not RatingTask.preference

    def check(self, given: Mapping[str, str]) -> str | None:
        """The reason why answers do not fit together, as a sentence for the person, or None."""
        return None

    def missing(
        self, asked: Sequence[TaskQuestion], work: RatingWork, *, need_rationale: bool = False
    ) -> str | None:
        """The first thing that an answer lacks, as a sentence for the person, or None."""
        given = work.draft.answers
        wrong = None if unanswered(asked, given) else self.check(given)
        return wrong or missing(asked, work, need_rationale=need_rationale)

    def shown(self, item: RatingItem, settings: RatingSettings) -> tuple[str, ...]:
        """Ids of the item's turns in the order in which this person is shown them."""
        return item.turn_ids

    def asks_about(self, item: RatingItem) -> str:
        """The whole question about this item, as a sentence."""
        return self.asks

    def questions_about(
        self, item: RatingItem, asked: tuple[TaskQuestion, ...]
    ) -> tuple[TaskQuestion, ...]:
        """The questions that are asked, in the words for this item; names and values stay."""
        return asked

    def names_of(self, item: RatingItem) -> tuple[str, ...]:
        """Names of the item's turns; answers to an open prompt are no speeches."""
        names, number = self.names, len(item.turn_ids)
        if len(names) != number:
            names = tuple(f"Turn {n}" for n in range(1, number + 1))
        return tuple(n.replace("speech", "response") for n in names) if item.is_open else names

    def how(self, answering: AnswerState, key: Key, *, wide: bool) -> str:
        """A sentence on how to answer the open question; `wide` if turns stand side by side."""
        asked = answering.asked[answering.current]
        digits = asked.digits or "123456789"
        pairs = zip(digits, asked.choices, strict=False)
        ways = ", ".join(f"{digit} {each.words.rstrip('.')}" for digit, each in pairs)
        more = f" {key('ask_next')} {key('ask_previous')} move." if len(answering.asked) > 1 else ""
        return f"{asked.label}: {ways}.{more}"

    def said(self, answering: AnswerState) -> str:
        """The answers in words."""
        given = answering.answers
        chosen = [each.choice(given.get(each.name)) for each in answering.asked]
        return " ".join(choice.words for choice in chosen if choice is not None)

    def press(self, key: str, answering: AnswerState) -> KeyEffect:
        """The effect of a key, by its name or its digit: by default a digit answers the current
        question and goes on to the next that is open."""
        current, last = answering.current, len(answering.asked) - 1
        if key in ("ask_next", "ask_previous"):
            moved = current + (1 if key == "ask_next" else -1)
            return KeyEffect(current=min(max(moved, 0), last))
        question = answering.asked[current]
        value = question.by_digit(key)
        if value is None:
            return KeyEffect()
        left = [at for at, each in enumerate(answering.asked) if each in answering.left]
        others = [at for at in left if at != current]
        ahead = [at for at in others if at > current]
        then = next(iter(ahead or others), min(current + 1, last))
        return KeyEffect(question.name, value, then)


def unanswered(
    asked: Sequence[TaskQuestion], answers: Mapping[str, str]
) -> tuple[TaskQuestion, ...]:
    """The questions that have no answer yet."""
    return tuple(each for each in asked if each.choice(answers.get(each.name)) is None)


NEEDS_RATIONALE = "This study asks for a rationale: say in a sentence why."


NUM_NAMED = 3
"""Unanswered questions that are named; the hint has three lines."""


def missing(
    asked: Sequence[TaskQuestion], work: RatingWork, *, need_rationale: bool = False
) -> str | None:
    """The first thing that an answer lacks, as a sentence for the person, or None."""
    left = unanswered(asked, work.draft.answers)
    if left and len(asked) == 1 and left[0].if_open:
        return left[0].if_open
    if left:
        names = [each.label for each in left[:NUM_NAMED]]
        more = [f"{len(left) - len(names)} more"] if len(left) > len(names) else []
        return f"Not answered yet: {', '.join([*names, *more])}."
    if need_rationale and not work.draft.rationale.strip():
        return NEEDS_RATIONALE
    return None


def rating_of(
    task: RatingTask,
    work: RatingWork,
    item: RatingItem,
    judge: str,
    constitution: Constitution | None,
    unseen: Mapping[str, float] | None = None,
) -> Feedback:
    """The rating made of the work so far, as its next revision; `unseen` are turns that have
    not been on the screen completely, each with the share that was.

    Raises:
        ProtocolError: Something is not answered yet, see `missing`.
        ConfigError: A task of one's own says for training what is no number from 0 to 1.
    """
    try:
        answer: Any = task.answer(work.draft.answers, constitution)
    except (KeyError, ValueError):
        raise ProtocolError("a rating with questions left open: answer them first") from None
    if task.name not in set(Task):
        answer = _own_answer(task, answer)
    stored: Answer = answer
    return Feedback(
        debate_id=item.debate_id,
        item=item.key,
        turn_ids=work.shown or item.turn_ids,
        judge=judge,
        revision=work.num_sent,
        answer=stored,
        rationale=work.draft.rationale,
        study=work.study,
        sent_at=now(),
        active_s=round(sum(work.active_s.values()), 3),
        unseen=None if unseen is None else dict(unseen),
    )


def _own_answer(task: RatingTask, answer: Record) -> OwnAnswer:
    """An answer as it is read without the task's code, with what it says for training."""
    fields = answer.model_dump(mode="json")
    if not task.makes_rows:
        return OwnAnswer(task=task.name, fields=fields)
    said = task.preference(answer)
    if said is not None and not (isinstance(said, int | float) and 0.0 <= said <= 1.0):
        raise ConfigError(
            f"task {task.name!r}: preference() gave {said!r}; return a number from 0 to 1, or None "
            "where the answer says nothing"
        )
    return OwnAnswer(task=task.name, fields=fields, turns=task.turns, preference=said)


def drawn_left(item: RatingItem, settings: RatingSettings) -> tuple[str, ...]:
    """The turns of an item in an order that is drawn for each person, if the study draws one."""
    swapped = settings.shuffle_sides and (
        seed_from("left", settings.seed, settings.judge, item.key) % 2
    )
    return item.turn_ids[::-1] if swapped else item.turn_ids


# --- tasks by name ------------------------------------------------------------------------


def names() -> list[str]:
    """The tasks of `oversight rate`, found without importing any."""
    files = {path.stem for path in Path(__file__).parent.glob("*.py") if path.stem[0] != "_"}
    return sorted({*files, *_plugins()} - JUDGED)


def load(name: str) -> RatingTask:
    """The task of a name, or the user's own: "file.py:Class" or "package.module:Class".

    Raises:
        UnknownNameError: There is none of that name.
        ConfigError: The user's is no task.
    """
    check_path(name, "task", "task", code="class")
    own = _plugins().get(name, name)
    if ":" in own:
        return _own(own)
    if name not in names():
        raise UnknownNameError(f"there is no task {name!r}.{nearest(name, names())}")
    module = import_module(f"{__name__}.{name}")
    found = [each for each in vars(module).values() if _is_task(each, module.__name__)]
    task: RatingTask = found[0]()
    return task


def _is_task(found: Any, module: str) -> bool:
    is_class = inspect.isclass(found) and found.__module__ == module
    return is_class and issubclass(found, RatingTask)


def _plugins() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}


@cache
def _own(path: str) -> RatingTask:
    """A user's task, whose file is told before it is imported, and imported once."""
    found = load_named(path, "task", __file__, kind="class")
    if not (inspect.isclass(found) and issubclass(found, RatingTask)):
        kind = "class" if inspect.isclass(found) else type(found).__name__
        raise ConfigError(
            f"task = {path!r}: this {kind} is no task; derive it from "
            "oversight.judging.tasks.RatingTask"
        )
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigError(f"task = {path!r}: the class lacks {lacking}")
    task: RatingTask = found()
    try:
        OwnAnswer(task=task.name, fields={})
    except ValueError:
        raise ConfigError(
            f"task = {path!r}: name = {task.name!r} is not accepted; give it a name of its own, of "
            f"small letters, digits, - and _, that is not among {', '.join(Task)}"
        ) from None
    for lacks in ("asks", "record"):
        if not hasattr(task, lacks):
            raise ConfigError(f"task = {path!r}: the class lacks {lacks}")
    return task
