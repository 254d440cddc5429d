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
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

SUM_TOLERANCE = 0.05
"""How far the stated probabilities may be from summing to 1 and still be normalised."""

MAX_TEXT = 200
"""Longest text of an option by which it is known; longer ones are known by their letters."""
MAX_LINE = 2000
"""Longest line that is searched for a statement."""
MAX_OBJECTS = 50
"""How many places in a text are tried as the beginning of a JSON object."""


class Number(NamedTuple):
    """A number as it was written."""

    value: float
    percent: bool
    """Whether it has a percent sign, or is out of 100."""
    point: bool
    """Whether it has a decimal point."""


@dataclass(slots=True)
class Reading:
    """What was found in an answer; positions are those of the listing."""

    found: list[tuple[int, Number]] = field(default_factory=list)
    explicit: bool = True
    """Whether each statement can be nothing else than a probability."""
    broken: bool = False
    """Whether a statement could not be read."""
    unread: bool = False
    """Whether a line that was passed over holds a percentage for an option."""
    verdicts: set[int] = field(default_factory=set)
    """Options that the answer names as right."""
    ends_in_number: bool = False
    """Whether the last line is a statement whose last digits may be missing."""

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
        scales = [_each_by_itself]
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


def read_statements(text: str, num_options: int, texts: Sequence[str] = ()) -> Reading:
    """All statements of probabilities in `text`.

    Args:
        text: What the judge wrote.
        num_options: How many options were listed.
        texts: The options' texts in the order of the listing, if they may be used as names.
    """
    names = _Names.of(num_options, texts)
    reading = Reading()
    text = fold(text)
    rest = _read_objects(text, names, reading)
    lines = names.joined([line for line in map(_plain, _lines(rest)) if line])
    lines = [line for line in lines if not names.is_listing(line)]
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
        follows_example = number > 0 and _EXAMPLE.search(lines[number - 1]) is not None
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


# --- characters and lines ---

_SIGNS = str.maketrans(
    {
        **dict.fromkeys("“”„«»", '"'),
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("∶꞉︓", ":"),
        **dict.fromkeys("∼≈≃≅", "~"),
        **dict.fromkeys("→⇒➔", "→"),
        **dict.fromkeys("│｜", "|"),
        "٪": "%",
        "٫": ".",
        "−": "-",
    }
)
_SAME_CHARACTER = ("<wide>", "<narrow>", "<small>", "<font>", "<noBreak>")


def fold(text: str) -> str:
    """`text` with full-width, bold and foreign forms of digits, letters and signs made plain.

    Superscripts stay what they are: `70²` is not 702.
    """
    return "".join(map(_folded, text)).translate(_SIGNS)


@lru_cache(maxsize=4096)
def _folded(char: str) -> str:
    if char.isascii():
        return char
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Cf":
        return ""
    if category == "Zs":
        return " "
    if unicodedata.decomposition(char).startswith(_SAME_CHARACTER):
        return unicodedata.normalize("NFKC", char)
    return char


_NEXT_SENTENCE = re.compile(
    r"(?<=[.!?;])\s+(?=(?:(?:the|my|final)\s+)*(?:probability|likelihood|chance)\s+(?:of|that)\b"
    r"|p(?:r|rob)?\()",
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:[-+•·>#–—]+\s+|\d{1,2}[.)]\s+(?=\S*[a-z(]))*", re.IGNORECASE)
_DECORATION = str.maketrans({"*": "", "`": "", "$": "", "{": " ", "}": " ", "_": " ", "\\": " "})


_TAG = re.compile(r"</?[a-z]{2,20}>", re.IGNORECASE)
_EXAMPLE = re.compile(r"\b(?:example|e\.g|for\s+instance|template)\b", re.IGNORECASE)


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from _NEXT_SENTENCE.split(line) if len(line) <= MAX_LINE else [line]


def _plain(line: str) -> str:
    """A line without mark-up, bullets and doubled spaces."""
    line = " ".join(_TAG.sub(" ", line).translate(_DECORATION).split())
    bullet = _BULLET.match(line)
    return line[bullet.end() :] if bullet else line


# --- the grammar of a line ---

_UNIT = r"(?:%|percent\b|per\s+cent\b|pct\b|/\s*100\b(?!\s*%)|out\s+of\s+100\b)"
_NUMBER = rf"(?P<number>\d{{1,3}}(?:[.,]\d{{1,12}})?|[.,]\d{{1,12}})(?!\d)\s*(?P<unit>{_UNIT})?"
_ABOUT = (
    r"(?:(?:about|around|approximately|approx\.?|roughly|circa|ca\.|nearly|almost|exactly|only|just"
    r"|an?\s+estimated|probability\s*[:=]?|~|[\[(\"']|<(?=[~\d.,]+\s*%?\s*>))\s*)*"
)
_LEAD = (
    r"(?P<lead>(?:(?:so|thus|hence|therefore|overall|finally|in\s+conclusion|conclusion|final|my|the"
    r"|answer|verdict|choice|decision|beliefs?|estimates?|judge?ment|probabilit(?:y|ies)|i|i'd|i'm|am|would"
    r"|say|believe|think|estimate|judge|assign|put|give|that|is|are|there|as|follows|here|boxed)"
    r"\b[\s,:]*){0,10}?)"
)
_STRONG = (
    r"(?P<strong>(?:probability|likelihood|chances?)\s+(?:of|that|for)\s+"
    r"|(?:confidence|belief|credence)\s+(?:in|that)\s+|(?:p|pr|prob|probability)\s*(?=\())"
)
_RIGHT = (
    r"(?:\s*\b(?:being|is|to\s+be|as)\s+(?:the\s+)?(?:right|correct|true)"
    r"(?:\s+(?:one|answer|option))?|\s+probability(?=\s*[:=]))?"
)
_SEPARATOR = (
    r"(?P<separator>(?:\s+is)?\s*[:=]\s*|\s*(?:->|=>|→)\s*|\.\s+(?=[~\d])|\s+-\s+|\s*[–—]\s*|\s*\(\s*(?=[~\d])"
    r"|\s+(?:is|at|has|with|gets|equals)\s+(?:an?\s+)?|\s+(?:an?\s+)?)"
)
_WORDS = (
    r"(?:\s*\b(?:likely|probable|probability|chances?|likelihood|confident|confidence|certain"
    r"|certainty|sure|belief|(?:of\s+being|to\s+be|likely\s+to\s+be|that\s+(?:it|this)\s+is)\s+"
    r"(?:right|correct|true)|right|correct)\b)*"
)
_CLOSED = r"[\"')\]>]{0,4}"
_CONNECTOR = re.compile(r"(?:\s|[,;/|&.]|\b(?:and|while|versus|vs)\b)*", re.IGNORECASE)


def parse_number(match: re.Match[str]) -> Number | None:
    """The number that was matched; None if its comma may separate thousands."""
    written = match["number"]
    if re.fullmatch(r"[1-9]\d*,\d{3}", written):
        return None
    value = float(written.replace(",", "."))
    return Number(value, bool(match["unit"]), "." in written or "," in written)


_WHOLE_NUMBER = re.compile(rf"\s*{_ABOUT}{_NUMBER}{_CLOSED}{_WORDS}\s*\.?\s*", re.IGNORECASE)


def whole_number(text: str) -> Number | None:
    """The number that `text` is, if it is nothing else."""
    match = _WHOLE_NUMBER.fullmatch(text) if len(text) < 100 else None
    return None if match is None else parse_number(match)


_REMARK = re.compile(r"\s*(?:\((?P<inside>[^()]*)\)|[,;.(–—-]\s*(?P<after>.*)|(?P<since>.*))\W*")
_SINCE = re.compile(r"\s*(?:because|since|given|due\s+to|based\s+on)\b", re.IGNORECASE)
_REVISED = re.compile(
    r"%|percent|\b(?:but|however|although|though|actually|rather|instead|wait|correction|unless|if"
    r"|maybe|perhaps|probability|likelihood)\b"
    r"|(?:\b(?:or|to|and|between|from|now|then)\b|[±+\-–—~/<>])\s*[.,]?\d",
    re.IGNORECASE,
)
_CONTRARY = re.compile(
    r"\b(?:wrong|false|incorrect|unlikely|improbable|not|never|against)\b", re.IGNORECASE
)
SHORT_REMARK = 4
"""Words up to which a remark that denies something is taken to deny the number."""


def _harmless(tail: str) -> bool:
    """Whether what stands behind a number leaves the number as it is."""
    if not re.search(r"[\w%±<>~+]", tail):
        return True
    match = _REMARK.fullmatch(tail)
    if match is None or _REVISED.search(tail):
        return False
    if match["since"] is not None:
        return _SINCE.match(match["since"]) is not None
    remark = match["inside"] if match["inside"] is not None else match["after"]
    if re.match(r"\W*\d", remark):
        return False
    return _CONTRARY.search(remark) is None or len(remark.split()) > SHORT_REMARK


_ARTICLE_OF = re.compile(r"chance|probability|likelihood|certain|belief|conf", re.IGNORECASE)


class Statement(NamedTuple):
    """The statements of one line."""

    found: list[tuple[int, Number]]
    strong: bool
    is_verdict: bool


class _Names:
    """The options of one listing, and the patterns that know them by letter or text."""

    def __init__(self, num_options: int, texts: tuple[str, ...], listed: tuple[str, ...]) -> None:
        self.num_options = num_options
        self.texts = texts
        self.listed = listed
        any_text = "|".join(sorted(map(re.escape, filter(None, texts)), key=len, reverse=True))
        text = rf"(?P<text>{any_text})(?!\w)" if any_text else r"(?P<text>(?!))"
        own = (
            rf"|\s*[:.),–—-]?\s*[\"']?(?P<own>{any_text})(?!\w)[\"']?"
            if any_text
            else "|(?P<own>(?!))"
        )
        name = (
            r"[\"'(\[<]{0,2}(?:the\s+)?(?:(?:option|answer|choice|candidate)\s+)?[\"'(\[]{0,2}(?:"
            rf"(?P<label>[a-z])(?!\w|'\w)|{text})[\"')\]>]{{0,3}}"
            rf"(?:\s*\((?!\s*[~\d.,]+\s*%?\s*\))(?P<paren>[^()%]*)\){own})?"
        )
        strict = name.replace("[a-z]", "(?-i:[A-Z])")
        flags = re.IGNORECASE
        self._name = re.compile(rf"(?:{_STRONG})?{name}", flags)
        self._forward = re.compile(
            rf"{_LEAD}(?:{_STRONG})?{name}{_RIGHT}{_SEPARATOR}{_ABOUT}{_NUMBER}{_CLOSED}{_WORDS}",
            flags,
        )
        self._reverse = re.compile(
            rf"{_LEAD}(?:an?\s+)?(?:(?:probability|likelihood|chance)\s+of\s+)?"
            rf"{_ABOUT}{_NUMBER}{_WORDS}\s+"
            rf"(?:(?:of|for|that|to|on|in\s+favou?r\s+of)\s+{name}|{_other(strict)}){_RIGHT}",
            flags,
        )
        self._attempt = re.compile(
            rf"{_LEAD}(?:{_STRONG})?{name}{_RIGHT}{_SEPARATOR}(?P<rest>.*)", flags
        )
        self._verdict = re.compile(
            rf"(?:(?:my|the|final)\s+)*(?:answer|verdict|choice|decision|conclusion)\s*(?:is|:|=)+"
            rf"\s*{name}{_RIGHT}\W*",
            flags,
        )

    @classmethod
    def of(cls, num_options: int, texts: Sequence[str]) -> _Names:
        """The names of a listing; texts that could be taken for something else are left out."""
        plain = [" ".join(_plain(fold(text)).split()).rstrip(" .:") for text in texts]
        known = len({text.casefold() for text in plain}) == len(plain) == num_options
        usable = known and all(
            1 < len(text) <= MAX_TEXT and whole_number(text) is None for text in plain
        )
        return _names(num_options, tuple(plain) if usable else (), tuple(plain))

    def position(self, match: re.Match[str], suffix: str = "") -> int | None:
        """The option that was named; -1 is one that was not listed, None a contradiction."""
        groups = match.groupdict()
        label, text = groups.get("label" + suffix), groups.get("text" + suffix)
        place = ord(label.upper()) - ord("A") if label else self._with_text(text or "")
        place = place if 0 <= place < self.num_options else -1
        for named in (groups.get("paren" + suffix), groups.get("own" + suffix)):
            other = self._with_text((named or "").strip(" \"'."))
            if other >= 0 and other != place:
                return None
        return place

    def _with_text(self, text: str) -> int:
        folded = text.casefold()
        return next((n for n, each in enumerate(self.texts) if each.casefold() == folded), -1)

    def is_listing(self, line: str) -> bool:
        """Whether the line repeats one of the options as it was listed."""
        match = re.match(r"\(?([a-z])[:.)]+\s*(.*)", line, re.IGNORECASE)
        place = ord(match[1].upper()) - ord("A") if match else -1
        if match is None or not 0 <= place < len(self.listed):
            return False
        return match[2].rstrip(" .:").casefold() == self.listed[place].casefold()

    def joined(self, lines: list[str]) -> list[str]:
        """Lines in which a number that stands below its option is put behind it."""
        found: list[str] = []
        for line in lines:
            heading = found[-1].rstrip(" :") if found else ""
            if heading and whole_number(line) is not None and self.whole_name(heading) is not None:
                found[-1] = f"{heading}: {line}"
            else:
                found.append(line)
        return found

    def statements(self, line: str) -> Statement | None:
        """The statements that make up the line; None if it is anything else."""
        found: list[tuple[int, Number]] = []
        strong = is_verdict = False
        at, spaced = 0, False
        while True:
            match = self._forward.match(line, at)
            if match is not None and self._is_no_name(match, line):
                match = None
            suffix = ""
            if match is None:
                match = self._reverse.match(line, at)
                if match is not None and not match["unit"]:
                    match = None
                if match is not None and match["label"] is None and match["text"] is None:
                    suffix = "_"
            if match is None:
                break
            position, number = self.position(match, suffix), parse_number(match)
            if position is None or number is None:
                return None
            strong |= bool(match.groupdict().get("strong"))
            verdict = re.search(r"\b(?:answer|verdict|choice|decision)\b", match["lead"], re.I)
            is_verdict |= not found and verdict is not None
            found.append((position, number))
            spaced = (match.groupdict().get("separator") or ":").strip().lower() in ("", "a", "an")
            at = match.end()
            connector = _CONNECTOR.match(line, at)
            following = connector.end() if connector else at
            if self._forward.match(line, following) or self._reverse.match(line, following):
                at = following
                continue
            break
        if not found:
            return None
        tail = line[at:]
        if re.match(r"\s*[.,]\d", tail) or (spaced and re.search(r"[\w%]", tail)):
            return None
        return Statement(found, strong, is_verdict) if _harmless(tail) else None

    def _is_no_name(self, match: re.Match[str], line: str) -> bool:
        """Whether a letter before a number is a word: `A 70% chance that …`, `I'm 70% sure`."""
        if match["separator"].strip() or match["label"] is None:
            return False
        if self.position(match) == -1:
            return True
        said = line[match.end("number") : match.end()]
        return match["label"] in "Aa" and _ARTICLE_OF.search(said) is not None

    def attempt(self, line: str) -> tuple[bool, bool]:
        """Of an unread line: whether it names a probability, and whether a number is expected."""
        match = self._attempt.match(line)
        if match is None:
            about = re.match(_LEAD + _STRONG, line, re.IGNORECASE)
            return bool(about and re.search(r"[:=]\s*[~<>≤≥]*\s*[.,]?\d", line)), False
        rest, separator = match["rest"], match["separator"].strip().lower()
        direct = bool(re.match(rf"{_ABOUT}[<>≤≥±+-]*\s*(?:[.,]?\d|nn\b|xx\b)", rest, re.IGNORECASE))
        if match["strong"]:
            said = separator not in ("", "a", "an") and re.search(r"\d", rest) is not None
            return ":" in separator or "=" in separator or said, False
        return False, direct and separator not in ("", "a", "an")

    def mentioned(self, line: str) -> bool:
        """Whether the line names an option."""
        letters = "".join(chr(ord("A") + n) for n in range(self.num_options))
        return bool(re.search(rf"(?<!\w)[{letters}](?!\w|'\w)", line)) or any(
            text and text.casefold() in line.casefold() for text in self.texts
        )

    def verdict(self, line: str) -> set[int]:
        """The option that the line names as the answer, if it is such a line."""
        match = self._verdict.fullmatch(line)
        position = None if match is None else self.position(match)
        return set() if position is None or position < 0 else {position}

    def whole_name(self, text: str) -> int | None:
        """The option that `text` names, if it is nothing else."""
        match = self._name.fullmatch(" ".join(text.replace("_", " ").split()))
        return None if match is None else self.position(match)

    def row(
        self, line: str, header: list[int | None]
    ) -> tuple[list[tuple[int, Number]], list[int | None], bool] | None:
        """Statements, columns and brokenness of a table's row; None if it is no such row."""
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            return [], header, False
        names = [self.whole_name(cell) for cell in cells]
        numbers = [whole_number(cell) for cell in cells]
        if header and any(number is not None for number in numbers):
            pairs = zip(header, numbers, strict=False)
            found = [(n, v) for n, v in pairs if n is not None and v is not None]
            complete = len(found) == sum(n is not None for n in header)
            return found, [], not complete or len(cells) != len(header)
        if sum(name is not None for name in names) > 1 and not any(numbers):
            return [], names, False
        first = names[0]
        if first is None:
            return ([], [], False) if line.startswith("|") else None
        given = [number for number in numbers[1:] if number is not None]
        others = {self._with_text(cell.strip(" \"'.")) for cell in cells[1:]} - {-1, first}
        broken = bool(others) or len(given) > 1 or (not given and "%" in line)
        return [(first, number) for number in given[:1]], [], broken


@lru_cache(maxsize=256)
def _names(num_options: int, texts: tuple[str, ...], listed: tuple[str, ...]) -> _Names:
    return _Names(num_options, texts, listed)


def _other(pattern: str) -> str:
    """The pattern with its groups renamed, for a second place in one expression."""
    return re.sub(r"\(\?P<(\w+)>", r"(?P<\1_>", pattern)


# --- all at once ---

_RATIO = re.compile(
    rf"{_LEAD}(?P<names>\(?[a-z]\)?(?:\s*(?:/|:|vs\.?|to)\s*\(?[a-z]\)?)+\s*(?:[:=]|\s|is)\s*)?"
    r"(?P<shares>\d{1,3}(?:[.,]\d{1,12})?\s*%?(?:\s*[/:]\s*\d{1,3}(?:[.,]\d{1,12})?\s*%?)+)\W*",
    re.IGNORECASE,
)


def _read_ratio(line: str, names: _Names, reading: Reading, *, alone: bool) -> bool:
    """Whether the line gives all options at once, as `A/B: 70/30`; its numbers are noted."""
    match = _RATIO.fullmatch(line)
    if match is None:
        return False
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


# --- JSON ---

_NAME_KEYS = frozenset({"option", "label", "name", "letter", "id"})
_VALUE_KEYS = frozenset({"probability", "prob", "p", "percent", "percentage", "belief", "value"})
_VERDICT_KEYS = frozenset({"answer", "verdict", "choice", "decision"})


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with keys that stand twice kept twice."""


def _read_objects(text: str, names: _Names, reading: Reading) -> str:
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


def _note_object(value: Any, names: _Names, reading: Reading) -> None:
    """Note the statements of a decoded value and of all that it holds."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Pairs):
            waiting += _note_pairs(value, names, reading)
        elif isinstance(value, list):
            waiting += value


def _note_pairs(pairs: _Pairs, names: _Names, reading: Reading) -> list[Any]:
    """Note what one object states; what is left to look into."""
    deeper: list[Any] = []
    keys = {key.strip().lower(): value for key, value in pairs}
    named = [names.whole_name(keys[key]) for key in _NAME_KEYS & keys.keys() if _is_text(keys[key])]
    values = [keys[key] for key in _VALUE_KEYS & keys.keys()]
    if len(named) == len(values) == 1 and named[0] is not None:
        _note_value(named[0], values[0], reading)
        return []
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


def _note_value(position: int, value: Any, reading: Reading) -> None:
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
