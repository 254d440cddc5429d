"""Arithmetic that a text states, checked: which line of a worked solution is the first false one.

Two forms are read: the annotations of GSM8K, `<<16-3=13>>` (Cobbe et al. 2021, arXiv:2110.14168),
and plain equations, `16 - 3 = $13`. Whether a step is the right one to take is another question, on
which arithmetic has nothing to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

ANNOTATION = re.compile(r"<<([^<>]*)>>")
_NUMBER = r"(?:\d[\d,]*\.?\d*|\.\d+)"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|([-+*/()%×÷−–]|[xX](?=\s*[\d.($])))")
_MONEY = str.maketrans("", "", "$£€")
_SIDE = re.compile(r"[-+*/()%×÷−–xX\d.,\s$£€]*")
_OPERATORS = {"×": "*", "x": "*", "X": "*", "÷": "/", "−": "-", "–": "-"}
_NO_START = frozenset("*/+-%")
FLOAT_DIGITS = 10
"""Decimals from which on a number is taken for a calculator's."""
_LONG_DECIMALS = re.compile(rf"\.\d{{{FLOAT_DIGITS}}}")
MAX_DIGITS = 40
"""Longer numbers are taken for no arithmetic."""


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation that a line states."""

    text: str
    line: int
    """0-based line of the text."""
    actual: Fraction
    """Value of what stands before the `=`."""
    claimed: str
    """Number that is said to be its value."""
    holds: bool

    def __str__(self) -> str:
        return self.text


def equations(text: str) -> Iterator[Equation]:
    """The equations of a text that can be evaluated, in their order.

    A number with decimals may be rounded to the digits that it has; a whole number must be exact.
    What words stand in (`3 eggs + 4 = 7`) is passed over, and so is a division by zero.
    """
    for number, line in enumerate(text.split("\n")):
        for found in ANNOTATION.finditer(line):
            yield from _read(found.group(1), number)
        yield from _read(ANNOTATION.sub("", line), number)


def first_wrong_line(text: str) -> Equation | None:
    """The first equation of a solution that does not hold; None if all that are stated do.

    None does not say that a solution is right: its arithmetic may serve a wrong idea.
    """
    return next((each for each in equations(text) if not each.holds), None)


def evaluate(expression: str) -> Fraction | None:
    """Value of an expression of numbers, + - * / ( ) and %; None where it is none."""
    try:
        return _Parser(expression).value()
    except (ValueError, ZeroDivisionError):
        return None


def _read(line: str, number: int) -> Iterator[Equation]:
    """The equations of a line; of `a = b = c` there are two."""
    sides = line.split("=")
    for index, (left, right) in enumerate(pairwise(sides)):
        said = _said_before(left, is_middle=index > 0)
        claimed = _number_after(right, is_last=index == len(sides) - 2)
        actual = evaluate(said) if said and claimed else None
        if actual is None or claimed is None or not _is_worked(said):
            continue
        if _LONG_DECIMALS.search(said):
            actual = round(actual, FLOAT_DIGITS - 1)  # what a calculator gave is calculated with
        holds = agrees(actual, claimed)
        yield Equation(f"{said.strip()} = {claimed}", number, actual, claimed, holds)


def _said_before(left: str, *, is_middle: bool) -> str:
    """The expression that ends where the `=` stands; empty where words run into it."""
    tail = _last_run(left)
    before = left[: len(left) - len(tail)].rstrip()
    told = tail.translate(_MONEY).strip()
    # In "5 boxes * 3 = 15" and in "the 3 boxes of 4 = 12" what is calculated is told in words.
    if not told or (told[0] in _NO_START and (before or is_middle)):
        return ""
    return re.sub(r"^[,.\s]*(?=\s|$)|^,", "", told).strip()


def _last_run(left: str) -> str:
    start = len(left)
    while start and _SIDE.fullmatch(left[start - 1]):
        start -= 1
    # The end of a word is no multiplication sign.
    while start < len(left) and left[start] in "xX" and start and left[start - 1].isalpha():
        start += 1
    return left[start:]


def _number_after(right: str, *, is_last: bool) -> str | None:
    """The number that an `=` gives; of a chain `a = b = c` the value of b is compared as well."""
    run = re.match(rf"[\s$£€]*(-?\s*[$£€]?\s*{_NUMBER}(?:\s+\d+/\d+(?!\d))?)\s*(%?)", right)
    if run is None:
        return None
    rest = right[run.end() :]
    if re.match(r"\s*(?:[*/×÷]|[-+−]\s*[\d$(.]|[xX]\s*\d)", rest) or rest.startswith("^"):
        return None  # a calculation, whose own value the next `=` gives
    if not is_last and rest.strip() and not re.match(r"\s*[a-zA-Z,;.]", rest):
        return None
    whole, *part = re.sub(r"[,$£€]", "", run.group(1)).replace("- ", "-").split()
    told = " ".join((whole.rstrip("."), *part))
    return told + run.group(2) if whole.strip("-.") else None


def _is_worked(said: str) -> bool:
    """True if an expression calculates something: `x = 3` states no arithmetic."""
    return bool(re.search(r"[\d.)%]\s*[-+*/×÷−–xX(]", said) or "%" in said)


def agrees(actual: Fraction, claimed: str) -> bool:
    """True if a number as it is written stands for a value, up to rounding of its last decimal.

    `16%` stands for 16 and for 0.16, as people write both; `3 1/2` is read as one number.
    """
    bare = claimed.rstrip("%")
    whole, _, part = bare.partition(" ")
    value, rest = evaluate(whole), evaluate(part) if part else Fraction(0)
    if value is None or rest is None:
        return False
    value += -rest if whole.startswith("-") else rest
    digits = whole.partition(".")[2]
    unit = Fraction(1, 10 ** len(digits)) if digits else Fraction(0)
    if len(digits) >= FLOAT_DIGITS:  # a calculator's, which rounds on its way
        unit = max(abs(value), Fraction(1)) / 10**FLOAT_DIGITS
    readings = [(value, unit)]
    if bare != claimed:
        readings.append((value / 100, unit / 100))
    return any(abs(actual - each) <= room for each, room in readings)


class _Parser:
    """Evaluates an expression by descent."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text.translate(_MONEY)))
        self.place = 0

    def value(self) -> Fraction:
        """Value of the whole text.

        Raises:
            ValueError: It is no expression.
            ZeroDivisionError: It divides by zero.
        """
        found = self._sum()
        if self.place < len(self.tokens):
            raise ValueError("more than an expression")
        return found

    def _next(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self.place += 1
        return token

    def _sum(self) -> Fraction:
        found = self._product()
        while self._next() in ("+", "-"):
            found = found + self._product() if self._take() == "+" else found - self._product()
        return found

    def _product(self) -> Fraction:
        found = self._factor()
        while (token := self._next()) in ("*", "/", "("):
            if token != "(":
                self._take()
            found = found / self._factor() if token == "/" else found * self._factor()
        return found

    def _factor(self) -> Fraction:
        token = self._take()
        if token == "-":
            return -self._factor()
        if token == "(":
            found = self._sum()
            if self._take() != ")":
                raise ValueError("a bracket is not closed")
        elif token[:1].isdigit() or token[:1] == ".":
            found = Fraction(token)
        else:
            raise ValueError(f"{token!r} is no number")
        while self._next() == "%":
            self._take()
            found /= 100
        return found


def _tokens(text: str) -> Iterator[str]:
    place, text = 0, text.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(f"{text[place:][:20]!r} is no part of an expression")
        place = found.end()
        if number := found.group(1):
            plain = number.replace(",", "").rstrip(".")
            if len(plain) > MAX_DIGITS:
                raise ValueError("a number is too long")
            yield plain
        else:
            yield _OPERATORS.get(found.group(2), found.group(2))
