"""Options as judges name them, by letter or text, and numbers as judges write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple


class Number(NamedTuple):
    """A number as it was written."""

    value: float
    percent: bool
    """True with a percent sign, or out of 100."""
    point: bool
    """True with a decimal point, or for a fraction."""


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
        "、": ",",
        "。": ".",
    }
)
_SAME_CHARACTER = ("<wide>", "<narrow>", "<small>", "<font>", "<noBreak>")


def fold(text: str) -> str:
    """`text` with full-width, bold and foreign forms of digits, letters and signs made plain.

    Superscripts stay what they are: `70²` is not 702.
    """
    return _SPELT.sub(_in_digits, "".join(map(_folded, text)).translate(_SIGNS))


_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {word: value for value, word in enumerate(_SMALL)} | {
    word: 10 * place for place, word in enumerate(_TENS, start=2)
}
_SPELT = re.compile(
    rf"(?<![\w-])(?<!hundred )(?<!and )(?:(?P<tens>{'|'.join(_TENS)})"
    rf"(?:[-\s](?P<ones>{'|'.join(_SMALL[1:10])}))?"
    rf"|(?P<small>{'|'.join(_SMALL)})|(?:an?|one)\s+hundred)(?=\s*(?:%|per\s?cent\b))",
    re.IGNORECASE,
)
"""A whole number of per cent in words."""


def _in_digits(match: re.Match[str]) -> str:
    words = [word.lower() for word in match.groups() if word]
    return str(sum(map(_VALUES.__getitem__, words)) if words else 100)


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


_UNIT = (
    r"(?:%|percent\b|per\s+cent\b|pct\b|/\s*100\b(?!\s*%)|out\s+of\s+100\b"
    r"|(?:/|out\s+of)\s*(?P<parts>[2-9]|1\d|2[05])\b(?!\s*%|[.,/:]?\d))"
)
NUMBER = rf"(?P<number>\d{{1,3}}(?:[.,]\d{{1,12}})?|[.,]\d{{1,12}})(?!\d)\s*(?P<unit>{_UNIT})?"
ABOUT = (
    r"(?:(?:about|around|approximately|approx\.?|roughly|circa|ca\.|nearly|almost|exactly|only|just"
    r"|an?\s+estimated|probability\s*[:=]?|~|[\[(\"']|<(?=[~\d.,]+\s*%?\s*>))\s*)*"
)


def parse_number(match: re.Match[str]) -> Number | None:
    """The number that was matched; None if its comma may separate thousands, or past its parts."""
    written = match["number"]
    if re.fullmatch(r"[1-9]\d*,\d{3}", written):
        return None
    value = float(written.replace(",", "."))
    if parts := match["parts"]:
        return Number(value / int(parts), False, True) if value <= int(parts) else None
    return Number(value, bool(match["unit"]), "." in written or "," in written)


WORDS = (
    r"(?:\s*\b(?:likely|probable|probability|chances?|likelihood|confident|confidence|certain"
    r"|certainty|sure|belief|(?:of\s+being|to\s+be|likely\s+to\s+be|that\s+(?:it|this)\s+is)\s+"
    r"(?:right|correct|true)|right|correct)\b)*"
)
CLOSED = r"[\"')\]>]{0,4}"
_WHOLE_NUMBER = re.compile(rf"\s*{ABOUT}{NUMBER}{CLOSED}{WORDS}\s*\.?\s*", re.IGNORECASE)


def whole_number(text: str) -> Number | None:
    """The number that `text` is, if it is nothing else."""
    match = _WHOLE_NUMBER.fullmatch(text) if len(text) < 100 else None
    return None if match is None else parse_number(match)


MAX_LINE = 2000
"""Longest line that is searched for a statement."""
MAX_TEXT = 200
"""Longest text of an option by which it is known; longer ones are known by their letters."""

_NEXT_SENTENCE = re.compile(
    r"(?<=[.!?;])\s+(?=(?:(?:the|my|final)\s+)*(?:probability|likelihood|chance)\s+(?:of|that)\b"
    r"|p(?:r|rob)?\()",
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:[-+•·>#–—]+\s+|\d{1,2}[.)]\s+(?=\S*[a-z(]))*", re.IGNORECASE)
_DECORATION = str.maketrans({"*": "", "`": "", "$": "", "{": " ", "}": " ", "_": " ", "\\": " "})


_POSSESSIVE = re.compile(
    r"(?<!\w)([A-Z])'s\s+(?:probability|likelihood|chances?)(?=\s*[:=]|\s+(?:is|are)\s)"
)
_TAG = re.compile(r"</?[a-z]{2,20}>", re.IGNORECASE)
EXAMPLE = re.compile(r"\b(?:example|e\.g|for\s+instance|template)\b", re.IGNORECASE)


def split_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from _NEXT_SENTENCE.split(line) if len(line) <= MAX_LINE else [line]


def plain_line(line: str) -> str:
    """A line without mark-up, bullets and doubled spaces."""
    line = _POSSESSIVE.sub(r"Probability of \1", _TAG.sub(" ", line))
    line = " ".join(line.translate(_DECORATION).split())
    bullet = _BULLET.match(line)
    return line[bullet.end() :] if bullet else line


LEAD = (
    r"(?P<lead>(?:(?:so|thus|hence|therefore|overall|finally|in\s+conclusion|conclusion|final|my|the"
    r"|answer|verdict|choice|decision|beliefs?|estimates?|judge?ment|probabilit(?:y|ies)|i|i'd|i'm|am|would"
    r"|say|believe|think|estimate|judge|assign|put|give|that|is|are|there|as|follows|here|boxed)"
    r"\b[\s,:]*){0,10}?)"
)
_STRONG = (
    r"(?P<strong>(?:probability|likelihood|chances?)\s+(?:of|that|for)\s+"
    r"|(?:confidence|belief|credence)\s+(?:in|that)\s+|(?:p|pr|prob|probability)\s*(?=[(\[]))"
)
_RIGHT = (
    r"(?:\s*\b(?:being|is|to\s+be|as)\s+(?:the\s+)?(?:right|correct|true)"
    r"(?:\s+(?:one|answer|option))?|\s+probability(?=\s*[:=]))?"
)
_SEPARATOR = (
    r"(?P<separator>(?:\s+is)?\s*[:=]\s*|\s*(?:->|=>|→)\s*|\.\s+(?=[~\d])|\s+-\s+|\s*[–—]\s*|\s*\(\s*(?=[~\d])"
    r"|\s+(?:is|at|has|with|gets|equals)\s+(?:an?\s+)?|\s+(?:an?\s+)?)"
)
_CONNECTOR = re.compile(r"(?:\s|[,;/|&.]|\b(?:and|while|versus|vs)\b)*", re.IGNORECASE)


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
    """True if what stands behind a number leaves the number as it is."""
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


class Names:
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
            rf"{LEAD}(?:{_STRONG})?{name}{_RIGHT}{_SEPARATOR}{ABOUT}{NUMBER}{CLOSED}{WORDS}",
            flags,
        )
        self._reverse = re.compile(
            rf"{LEAD}(?:an?\s+)?(?:(?:probability|likelihood|chance)\s+of\s+)?"
            rf"{ABOUT}{NUMBER}{WORDS}\s+"
            rf"(?:(?:of|for|that(?:\s+it(?:'s|\s+is))?|to|on|in(?:\s+favou?r\s+of)?|it(?:'s|\s+is))\s+{name}|{_other(strict)}){_RIGHT}",
            flags,
        )
        self._attempt = re.compile(
            rf"{LEAD}(?:{_STRONG})?{name}{_RIGHT}{_SEPARATOR}(?P<rest>.*)", flags
        )
        self._verdict = re.compile(
            rf"(?:(?:my|the|final)\s+)*(?:answer|verdict|choice|decision|conclusion)\s*(?:is|:|=)+"
            rf"\s*{name}{_RIGHT}\W*",
            flags,
        )

    @classmethod
    def of(cls, num_options: int, texts: Sequence[str]) -> Names:
        """The names of a listing; texts that could be taken for something else are left out."""
        plain = [" ".join(plain_line(fold(text)).split()).rstrip(" .:") for text in texts]
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
        """True if the line repeats one of the options as it was listed."""
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
        """True if a letter before a number is a word: `A 70% chance that …`, `I'm 70% sure`."""
        if match["separator"].strip() or match["label"] is None:
            return False
        if self.position(match) == -1:
            return True
        said = line[match.end("number") : match.end()]
        return match["label"] in "Aa" and _ARTICLE_OF.search(said) is not None

    def attempt(self, line: str) -> tuple[bool, bool]:
        """For an unread line: True if it names a probability, and True if a number is expected."""
        match = self._attempt.match(line)
        if match is None:
            about = re.match(LEAD + _STRONG, line, re.IGNORECASE)
            return bool(about and re.search(r"[:=]\s*[~<>≤≥]*\s*[.,]?\d", line)), False
        rest, separator = match["rest"], match["separator"].strip().lower()
        direct = bool(re.match(rf"{ABOUT}[<>≤≥±+-]*\s*(?:[.,]?\d|nn\b|xx\b)", rest, re.IGNORECASE))
        if match["strong"]:
            said = separator not in ("", "a", "an") and re.search(r"\d", rest) is not None
            return ":" in separator or "=" in separator or said, False
        return False, direct and separator not in ("", "a", "an")

    def mentioned(self, line: str) -> bool:
        """True if the line names an option."""
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
def _names(num_options: int, texts: tuple[str, ...], listed: tuple[str, ...]) -> Names:
    return Names(num_options, texts, listed)


def _other(pattern: str) -> str:
    """The pattern with its groups renamed, for a second place in one expression."""
    return re.sub(r"\(\?P<(\w+)>", r"(?P<\1_>", pattern)
