"""Reads the probabilities that a judge wrote, in the forms that language models use.

Read are, for each option by its letter or by its text:

- lines `Probability of A: 70%`, `P(A) = 0.7`, `A: 70`, `**A (the cellar):** ~70 % likely`, several
  on one line, and sentences (`A is 70% likely`, `I give A a 70% chance`, `70% for A, 30% for B`);
- tables with a row or a column for each option;
- JSON objects, alone, in a fence or inside the text: `{"A": 70}`, `{"probabilities": {...}}`,
  `[{"option": "A", "probability": 0.7}]`;
- all at once: `A/B: 70/30`, and `70/30` in the order of the listing if nothing else is written.

A number without a sign is a percentage or a fraction, whichever makes the numbers add up to 1.
One option may be left out: its probability is the rest. That needs a statement that cannot be
anything else (`Probability of`, `P()`, JSON, or a percent sign), and no other line with a
percentage that could not be read.

Nothing is guessed. A range, a bound, two different numbers for one option, a sum far from 1, a
verdict for an option that is not believed most, a form with nothing filled in (`NN%`), or an
option that was not listed make the whole answer unreadable.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from oversight.agents._options import (
    EXAMPLE,
    LEAD,
    MAX_LINE,
    Names,
    Number,
    fold,
    plain_line,
    split_lines,
    whole_number,
)

_ONLY_EXAMPLE = re.compile(r"\b(?:only|just|merely)\s+(?:an?\s+)?example\b", re.IGNORECASE)

SUM_TOLERANCE = 0.05
"""Distance from 1 up to which the stated probabilities may sum and still be normalised."""

MAX_OBJECTS = 50
"""Number of places in a text that are tried as the beginning of a JSON object."""


@dataclass(slots=True)
class StatedBeliefs:
    """The statements found in an answer; positions are those of the listing."""

    found: list[tuple[int, Number]] = field(default_factory=list)
    explicit: bool = True
    """True if each statement can be nothing else than a probability."""
    broken: bool = False
    """True if a statement could not be read."""
    unread: bool = False
    """True if a line that was passed over holds a percentage for an option."""
    verdicts: set[int] = field(default_factory=set)
    """Options that the answer names as right."""
    ends_in_number: bool = False
    """True if the last line is a statement whose last digits may be missing."""

    def probabilities(self, num_options: int) -> list[float] | None:
        """A probability for each position; None if they are broken, too few or contradictory."""
        if self.broken:
            return None
        by_position: dict[int, list[Number]] = {}
        for position, number in self.found:
            by_position.setdefault(position, []).append(number)
        missing = num_options - len(by_position)
        if not by_position or missing > 1 or (missing and (self.unread or not self.explicit)):
            return None
        bare = [number for _, number in self.found if not number.percent]
        # A bare 1 beside a bare 2 is no certainty: numbers without a sign have one scale.
        mixed = any(n.value > 1.0 for n in bare) and any(0.0 < n.value <= 1.0 for n in bare)
        scales = [] if mixed else [_each_by_itself]
        if any(number.value > 1.0 for number in bare) or not any(n.point for n in bare):
            scales.append(_all_percent)  # 0.7 beside nothing above 1 is no seven thousandths
        fitting = [
            values
            for scale in scales
            if (values := _scaled(by_position, num_options, scale)) is not None
        ]
        if len(fitting) > 1 and not _equal(*fitting):
            if not missing or any(n == (1.0, False, False) for _, n in self.found):
                return None
            fitting = fitting[:1]  # 0.7 without a sign, alone: a fraction
        if not fitting:
            return None
        best = max(fitting[0])
        if any(fitting[0][position] < best for position in self.verdicts):
            return None
        return fitting[0]


def read_statements(text: str, num_options: int, texts: Sequence[str] = ()) -> StatedBeliefs:
    """All statements of probabilities in `text`.

    Args:
        text: The judge's words.
        num_options: How many options were listed.
        texts: The options' texts in the order of the listing, if they may be used as names.
    """
    names = Names.of(num_options, texts)
    reading = StatedBeliefs()
    text = fold(text)
    rest = _read_objects(text, names, reading)
    lines = names.joined([line for line in map(plain_line, split_lines(rest)) if line])
    lines = [line for line in lines if not names.is_listing(line)]
    reading.broken |= any(map(_ONLY_EXAMPLE.search, lines))
    strong = bool(reading.found)
    weak: list[tuple[int, Number]] = []
    doubtful = False
    header: list[int | None] = []
    for number, line in enumerate(lines):
        reading.ends_in_number = False
        if "|" in line and (row := names.row(line, header)) is not None:
            found, header, is_broken = row
            reading.broken |= is_broken
            weak += found
            continue
        header = []
        if len(line) > MAX_LINE:
            continue
        follows_example = number > 0 and EXAMPLE.search(lines[number - 1]) is not None
        reading.broken |= follows_example and lines[number - 1].endswith(":") and "%" in line
        if _read_ratio(line, names, reading, alone=len(lines) == 1):
            continue
        statement = names.statements(line)
        if statement is None:
            is_strong, is_direct = names.attempt(line)
            reading.broken |= is_strong or (is_direct and "%" in line)
            doubtful |= is_direct
            reading.unread |= "%" in line and names.mentioned(line)
            reading.verdicts |= names.verdict(line)
            continue
        if statement.strong:
            strong = True
            reading.found += statement.found
        else:
            weak += statement.found
        if statement.is_verdict:
            reading.verdicts.add(statement.found[0][0])
        reading.ends_in_number = number == len(lines) - 1 and line[-1:].isdigit()
    reading.broken |= doubtful and not strong
    reading.explicit = strong or all(number.percent for _, number in weak)
    reading.found += weak
    known = range(num_options)
    reading.broken |= any(position not in known for position, _ in reading.found)
    return reading


# --- scale ---


def _each_by_itself(number: Number) -> float:
    return number.value / 100.0 if number.percent or number.value > 1.0 else number.value


def _all_percent(number: Number) -> float:
    return number.value / 100.0


def _scaled(
    by_position: dict[int, list[Number]], num_options: int, scale: Any
) -> list[float] | None:
    """The probabilities under one reading of the numbers; None if they do not add up."""
    values: list[float | None] = [None] * num_options
    for position, numbers in by_position.items():
        found = [scale(number) for number in numbers]
        if not _equal(found, [found[0]] * len(found)) or not 0.0 <= found[0] <= 1.0:
            return None
        values[position] = found[0]
    total = math.fsum(value for value in values if value is not None)
    if None in values:
        rest = 1.0 - total
        if rest < -1e-9:
            return None
        return [max(rest, 0.0) if value is None else value for value in values]
    if abs(total - 1.0) > SUM_TOLERANCE + 1e-9:
        return None
    return [value for value in values if value is not None]


def _equal(one: Sequence[float], two: Sequence[float]) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(one, two, strict=True))


# --- all at once ---

_RATIO = re.compile(
    rf"{LEAD}(?P<names>\(?[a-z]\)?(?:\s*(?:/|:|vs\.?|to)\s*\(?[a-z]\)?)+\s*(?:[:=]|\s|is)\s*)?"
    r"(?P<shares>\d{1,3}(?:[.,]\d{1,12})?\s*%?(?:\s*[/:]\s*\d{1,3}(?:[.,]\d{1,12})?\s*%?)+)\W*",
    re.IGNORECASE,
)


def _read_ratio(line: str, names: Names, reading: StatedBeliefs, *, alone: bool) -> bool:
    """True if the line gives all options at once, as `A/B: 70/30`; its numbers are noted."""
    match = _RATIO.fullmatch(line)
    if match is None:
        return _read_favour(line, names, reading)
    numbers = [whole_number(part) for part in re.split(r"[/:]", match["shares"])]
    values = [number for number in numbers if number is not None]
    if match["names"] is None:
        places = list(range(names.num_options))
        total = math.fsum(number.value for number in values)
        if not (math.isclose(total, 100.0) or math.isclose(total, 1.0)):
            return False
        reading.broken |= not alone  # whose share comes first is not said
    else:
        written = re.findall(r"(?<!\w)[a-z](?!\w)", match["names"], re.IGNORECASE)
        places = [ord(label.upper()) - ord("A") for label in written]
    reading.broken |= len(values) != len(numbers) or len(places) != len(values)
    reading.broken |= len(set(places)) != names.num_options
    reading.found += zip(places, values, strict=False)
    return True


_FAVOUR = re.compile(
    rf"{LEAD}(?P<more>\d{{1,3}})\s*%?\s*[-/:]\s*(?P<less>\d{{1,3}})\s*%?\s+"
    r"(?:in\s+favou?r\s+of|for|to)\s+(?P<name>[^.!]+)[.!]?",
    re.IGNORECASE,
)


def _read_favour(line: str, names: Names, reading: StatedBeliefs) -> bool:
    """True if the line gives both options at once, as `70/30 for A`; its numbers are noted."""
    match = _FAVOUR.fullmatch(line)
    place = None if match is None else names.whole_name(match["name"])
    if match is None or place is None or place < 0 or names.num_options != 2:
        return False
    more, less = int(match["more"]), int(match["less"])
    reading.broken |= more + less != 100 or more < less  # else it is open whose share is which
    shares = ((place, more), (1 - place, less))
    reading.found += [(each, Number(float(share), True, False)) for each, share in shares]
    return True


# --- JSON ---

_NAME_KEYS = frozenset({"option", "label", "name", "letter", "id"})
_VALUE_KEYS = frozenset({"probability", "prob", "p", "percent", "percentage", "belief", "value"})
_VERDICT_KEYS = frozenset({"answer", "verdict", "choice", "decision"})


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with keys that stand twice kept twice."""


def _read_objects(text: str, names: Names, reading: StatedBeliefs) -> str:
    """Note what JSON objects in `text` state; the text without them."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=lambda _: None)
    kept, at = [], 0
    for _ in range(MAX_OBJECTS):
        begin = text.find("{", at)
        if begin < 0:
            break
        try:
            found, end = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            kept.append(text[at : begin + 1])
            at = begin + 1
            continue
        kept.append(text[at:begin])
        at = end
        _note_object(found, names, reading)
    return "".join(kept) + text[at:]


def _note_object(value: Any, names: Names, reading: StatedBeliefs) -> None:
    """Note the statements of a decoded value and of all that it holds."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Pairs):
            waiting += _note_pairs(value, names, reading)
        elif isinstance(value, list):
            waiting += value


def _note_pairs(pairs: _Pairs, names: Names, reading: StatedBeliefs) -> list[Any]:
    """Note what one object states; what is left to look into."""
    deeper: list[Any] = []
    keys = {key.strip().lower(): value for key, value in pairs}
    named = [names.whole_name(keys[key]) for key in _NAME_KEYS & keys.keys() if _is_text(keys[key])]
    values = [keys[key] for key in _VALUE_KEYS & keys.keys()]
    if len(named) == len(values) == 1 and named[0] is not None:
        _note_value(named[0], values[0], reading)
        return []
    chosen = [keys[key] for key in _VERDICT_KEYS & keys.keys() if _is_text(keys[key])]
    sure = [keys[key] for key in (_VALUE_KEYS | {"confidence"}) & keys.keys()]
    if len(chosen) == len(sure) == 1 and (place := names.whole_name(chosen[0])) is not None:
        _note_value(place, sure[0], reading)
    for key, value in pairs:
        position = names.whole_name(_strip_prefix(key))
        if key.strip().lower() in _VERDICT_KEYS and _is_text(value):
            place = names.whole_name(value)
            reading.verdicts |= set() if place is None or place < 0 else {place}
        elif position is None:
            deeper.append(value)
        elif isinstance(value, _Pairs):
            inner = [v for k, v in value if k.strip().lower() in _VALUE_KEYS]
            if len(inner) == 1:
                _note_value(position, inner[0], reading)
            reading.broken |= len(inner) > 1
        else:
            _note_value(position, value, reading)
    return deeper


def _strip_prefix(key: str) -> str:
    """The key without `prob_` or `p` before a letter: `prob_a`, `probA`."""
    return re.sub(
        r"^\s*(?i:p|pr|prob|probability)(?:[\s_]+(?=[A-Za-z]\s*$)|(?=[A-Z]\s*$))", "", key
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _note_value(position: int, value: Any, reading: StatedBeliefs) -> None:
    if isinstance(value, str):
        number = whole_number(fold(value))
        if number is None and not re.search(r"\d|^\s*$", value):
            return  # the option's text, or a word
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1000:
        number = Number(float(value), percent=False, point=isinstance(value, float))
    else:
        number = None
    if number is None or not math.isfinite(number.value):
        reading.broken = True
    else:
        reading.found.append((position, number))
