"""The marks of thoughts in a text: all of them, and those that count.

Where a mark counts:

- An opening mark counts at the start of the answer or of a line, right behind another thought,
  and behind the end of a sentence. The thought lasts to the next closing mark, else to the end.
- Elsewhere, in the middle of a sentence, `<think>` and `[THINK]` are words about the mark and
  stay what they are, unless a pair closes tightly around words (`<think>so</think>`) or around
  more than a few of them, or the mark ends its line, or it is never closed and a sentence begins
  behind it, or words by which only a thought begins (`hmm`, `wait, `, `i should`), or the answer
  breaks off behind it in the middle of a sentence that says nothing of a mark.
- A closing mark without an opening one ends a thought that began with the answer (or with what
  follows the thought before), unless it stands in the middle of a sentence or in quotation marks.
- A mark inside `<quote>…</quote>`, in quotation marks or as code in a line is a word, too. In a
  fence it is what it would be outside: models put whole answers into such.
- Two marks that belong together are words where nothing but a comma, a stroke or the like stands
  between them, where they fill cells of a table in two rows, where both are the subject of a verb
  on marks (`<think> opens it. </think> closes it.`), or where both end a clause within a line.
- Marks that no prose holds (`<|…|>`, `◁think▷`) count everywhere.

Some thoughts cannot be told from words about marks, and stay in the speech:

- one behind a mark in code: `` `<think>` so ``;
- one that is never closed and begins in the middle of a sentence, in lower case and with none of
  those words, if it ends a sentence (`It is in <think> truth the attic.`), if it begins as a
  sentence about a mark goes on (`It is in <think> but really the attic`), or if it stands behind
  words that have a mark for their object (`It is in the <think> attic really`).

And some words about marks are taken for a thought: a mention of an opening mark alone goes with all
behind it where the answer breaks off in that sentence (`Models emit <think> far too ear`), unless
it goes on as most mentions do (`before`, `and`, `in` …), or where a capital stands behind the mark
(`We see <think> I wonder.`).
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator

from oversight.text.folding import INVISIBLE

NAME = (
    r"(?:\w{1,20}[:|_.-]|ant)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad"
    r"|analysis|cot|deliberation|monologue|rationale|plan(?:ning)?)(?:[:_.-]\w[\w:.-]{0,60})?"
)
_WORD = "THINK(?:ING)?|THOUGHTS?|REASONING"
_TOKEN = "(?:think(?:ing)?|thoughts?|reasoning|cot)"
_LESS, _GREATER = r"(?:\\?<|&lt;)", r"(?:\\?>|&gt;)"
OPENING = rf"""
    {_LESS}\s?(?P<angle>{NAME})(?:[\s{INVISIBLE}][^<>\n]{{0,80}}?)?(?P<empty>/)?{_GREATER}
  | \[(?P<square>{_WORD})\]
  | (?P<token>◁think▷
      | <\|(?:(?:start|begin)(?:[_▁]of)?[_▁])?{_TOKEN}(?:[_:▁](?:start|begin))?\|>
      | <\|open\|>think<\|sep\|>
      | <\|channel>thought\b)
"""
CLOSING = rf"""
    {_LESS}\s?/\s?(?P<unangle>{NAME})[\s{INVISIBLE}]?{_GREATER}
  | \[/(?P<unsquare>{_WORD})\]
  | (?P<untoken>◁/think▷
      | <\|(?:end(?:[_▁]of)?[_▁]{_TOKEN}|{_TOKEN}[_:▁]end|/{_TOKEN})\|>
      | (?:<\|end\|>\s*)?(?:<\|(?:begin|start)\|>)?(?:assistant\s*)?<\|content\|>
      | <\|close\|>think<\|sep\|>
      | <channel\|>)
"""
FLAGS = re.IGNORECASE | re.VERBOSE
MARK = re.compile(rf"(?P<dress>[`*_]{{1,3}})?(?:{OPENING}|{CLOSING})(?(dress)(?P=dress))", FLAGS)
_MARK_AHEAD = re.compile(r"[<\[◁\\&](?=[\w\s/|<])(?!/?quote>)")
"""The first two characters of every mark, dress apart: searched for far faster than `MARK`."""
_DRESS = frozenset("`*_")
SAME = str.maketrans("＜＞［］｜／＿：﹤﹥", "<>[]|/_:<>")
"""Full-width forms, as DeepSeek's tokens have them, each in the place of one character."""
_ANY_SAME = re.compile("[＜＞［］｜／＿：﹤﹥]")

_SENTENCE_END = re.compile(r"(?:[.!?…。！？]|</\w{1,20}>)[\"'”’»)\]*_]*\Z")
_QUOTED = re.compile(r"[\"'`“‘«„(]\Z")
_ENDS_QUOTE = re.compile(r"[\"'`”’»“‘)]")
_GOES_ON = re.compile(r"[.,;:)]\s")
"""The sentence before a mark, which goes on or ends behind it."""
_WORDS = re.compile(r"[^\W_]")
_ABOUT_MARKS = re.compile(
    r"\b(?:tags?|words?|marks?|marker|tokens?|strings?|called|named|reads?|says?|said|writes?|wrote"
    r"|and|or|an?|the|opens?|closes?|with|by|of|to|from|between|means?)\b[:,]?\s+\Z",
    re.IGNORECASE,
)
"""The end of words that go on with a mark as their object."""
_NAMES_MARK = re.compile(r"\b(?:tags?|marks?|marker|tokens?|strings?)\b:?\s+\Z", re.IGNORECASE)
"""The end of words that have the mark for a name; behind "the" or "and" may stand a thought."""
_DELIBERATES = re.compile(
    r"(?:hm+|uh+|alright|hold\ on|let\ me\ (?:see|check|think|look|re)|let[’']s\ (?:see|check))\b"
    r"|wait(?:[,.!…]|\ (?:no|so|but|i|my)\b)|ok(?:ay)?(?:\ (?:so|but|i|my)\b)",
    re.IGNORECASE,
)
"""Words by which a thought begins, and by which no sentence about a mark goes on."""
_THINKS = re.compile(
    r"(?:maybe\ |so\ |but\ |and\ )?i(?:[’'](?:m|ll|ve|d)|\ (?:should|must|need|have|will|can|could"
    r"|would|am|think|guess|know|wonder|want|lose))\b|so\ my\b"
)
"""The same, where the words before the mark do not go on with it: in lower case, as thoughts are;
behind a sentence's end or in upper case any word begins one."""
_GOES_ON_WITH = re.compile(
    r"(?:before|after|when|while|whenever|where|which|that|to|in|at|on|of|for|from|by|with|without"
    r"|and|or|but|as|instead|first|only|once|twice|often|always|never|then|so|is|are|was|has|opens?"
    r"|begins?|starts?|closes?|ends?|means|marks?|tags?|tokens?|blocks?|strings?|around|inside"
    r"|into|like|than|if|because|followed|unless|until|too|more|less|very|here|early|all|again"
    r"|rather|though|even|just|right|alone|itself|needs?)\b",
    re.IGNORECASE,
)
"""Words by which a sentence goes on behind a mark that it mentions."""
_BULLET = re.compile(r"\s*(?:[-+•]|\d{1,2}[.)])\s*")
_BETWEEN = frozenset([",", "/", ";", "|", "&", "+", "vs.", "vs"])
"""Words that may stand between two marks which are named together."""
_IS_SUBJECT = re.compile(
    r"\s?(?:[:=–—-]+ )?(?:is|opens|begins|starts|marks|means|closes|ends|stops|stands)\b"
)
"""Words behind a mark that they speak of."""
_QUOTE = re.compile(r"<quote>(?:(?!</?quote>).)*+</quote>", re.DOTALL)
SPACED_WORDS = 3
"""Words between two marks in a sentence up to which they are no thought behind words on marks."""
LONGEST_MARK = 160
SEEN = re.compile(rf"[^\s{INVISIBLE}]")


def is_blank(text: str) -> bool:
    """True if a reader would see nothing in it."""
    return SEEN.search(text) is None


def marks(text: str) -> Iterator[re.Match[str]]:
    """All marks of a text in their order, whether or not they count."""
    if not text.isascii() and _ANY_SAME.search(text):
        text = text.translate(SAME)
    if "<|content|>" in text.lower():  # such a mark may begin with a word
        yield from MARK.finditer(text)
        return
    begin = 0
    while ahead := _MARK_AHEAD.search(text, begin):
        start = ahead.start()
        while start > max(begin, ahead.start() - 3) and text[start - 1] in _DRESS:
            start -= 1
        found = (MARK.match(text, at) for at in range(start, ahead.start() + 1))
        mark = next(filter(None, found), None)
        begin = mark.end() if mark else ahead.end()
        if mark:
            yield mark


def closes(mark: re.Match[str]) -> bool:
    """True of a mark that ends a thought."""
    return bool(mark["unangle"] or mark["unsquare"] or mark["untoken"])


def kind_of(mark: re.Match[str]) -> str:
    """The way in which a mark is written; a closing one ends a thought that began in the same."""
    return next(name for name in ("angle", "square", "token") if mark[name] or mark[f"un{name}"])


class Marks:
    """The marks of a text in their order, and which of them are words about marks."""

    def __init__(self, text: str) -> None:
        self.found = list(marks(text))
        self._text = text
        self._is_ended = _SENTENCE_END.search(text.rstrip()[-LONGEST_MARK:]) is not None
        """The text does not break off in the middle of a sentence."""
        self._mentioned: dict[str, int] = {}
        """Of an opening mark that is a word: its kind, and where its line begins."""
        self._closing: dict[int, re.Match[str]] = {}
        """The next closing mark behind a place where an opening one ends."""
        self._spoken: set[int] = set()
        """Starts of closing marks that are words together with the opening ones before them."""
        self._quotes = [found.span() for found in _QUOTE.finditer(text)] if self.found else []
        following: re.Match[str] | None = None
        for mark in reversed(self.found):
            if closes(mark):
                following = mark
            elif following is not None:
                self._closing[mark.end()] = following

    def counts(self, mark: re.Match[str], begin: int) -> bool:
        """True unless a mark is a word about marks; asked in their order from `begin` on."""
        if kind_of(mark) == "token":
            return True
        if mark.start() in self._spoken or self._is_quoted(mark):
            return False
        line_begin = max(begin, self._text.rfind("\n", begin, mark.start()) + 1)
        line = self._text[max(line_begin, mark.start() - LONGEST_MARK) : mark.start()]
        after = self._text[mark.end() : mark.end() + LONGEST_MARK]
        if (mark["dress"] or "").startswith("`"):
            counts = is_blank(line) and is_blank(after.partition("\n")[0])
        elif closes(mark):
            return self._closing_counts(mark, line, line_begin, after)
        else:
            counts = self._opening_counts(mark, line, after)
        if not counts and not closes(mark):
            self._mentioned[kind_of(mark)] = line_begin
        return counts

    def _opening_counts(self, mark: re.Match[str], line: str, after: str) -> bool:
        closing = self._closing.get(mark.end())
        if closing is not None and self._are_mentioned(mark, closing, line):
            self._spoken.add(closing.start())
            return False
        if _borders(line) or self._is_pair(mark, line):
            return True
        if self._is_cited(mark, closing, line):
            return False
        if closing is None and after[:1].isalnum() and (mark["square"] or "A").isupper():
            return True
        is_named = _NAMES_MARK.search(line) or _BULLET.fullmatch(line)
        if closing is None and not is_named and _DELIBERATES.match(after.lstrip()):
            return True
        if _ABOUT_MARKS.search(line) or _BULLET.fullmatch(line):
            return False
        if closing is None and _THINKS.match(after.lstrip()):
            return True
        ends_line = not after.partition("\n")[0].strip() and not is_blank(after)
        if ends_line or closing is not None or after[:1] != " ":
            return ends_line
        return after[1:2].isupper() or self._breaks_off(after)

    def _breaks_off(self, after: str) -> bool:
        """True if an answer ends in the middle of a sentence behind a mark, as a thought does that
        the limit of tokens cut off; unless what is `after` goes on with a mention of the mark."""
        if self._is_ended or _GOES_ON_WITH.match(after.lstrip()):
            return False
        return "|" not in after.partition("\n")[0] and len(after.split()) > SPACED_WORDS

    def _closing_counts(self, mark: re.Match[str], line: str, line_begin: int, after: str) -> bool:
        opened_at = self._mentioned.pop(kind_of(mark), None)
        if opened_at is not None and (
            opened_at == line_begin
            or _ENDS_QUOTE.match(after)
            or _ABOUT_MARKS.search(line)
            or _BULLET.fullmatch(line)
        ):
            return False
        after = after.partition("\n")[0]
        if _borders(line) or is_blank(after):
            return True
        if _QUOTED.search(line):
            return False
        return after.lstrip()[:1].isupper() or (opened_at is None and line[-1:].isalnum())

    def _is_quoted(self, mark: re.Match[str]) -> bool:
        """True if a mark stands inside a quote, and so does the mark that it goes with."""
        around = _around(self._quotes, mark)
        if around is None:
            return False
        closing = None if closes(mark) else self._closing.get(mark.end())
        return closing is None or closing.start() < around[1]

    def _is_cited(self, mark: re.Match[str], closing: re.Match[str] | None, line: str) -> bool:
        """True of an opening mark in quotation marks, with or without its closing one."""
        if not _QUOTED.search(line):
            return False
        if _ENDS_QUOTE.match(self._text, mark.end()):
            return True
        end = mark.end() if closing is None else closing.end()
        if _ENDS_QUOTE.match(self._text, end):
            return True
        # An answer that stands in quotation marks as a whole cites nothing.
        rest = self._text[end : end + LONGEST_MARK].partition("\n")[0]
        return not is_blank(line.rstrip()[:-1]) and _ENDS_QUOTE.search(rest) is not None

    def _is_pair(self, mark: re.Match[str], line: str) -> bool:
        """True if an opening mark in a sentence and its closing one stand around a thought."""
        closing = self._closing.get(mark.end())
        if closing is None or kind_of(closing) != kind_of(mark):
            return False
        if self._is_cited(mark, closing, line):
            return False
        inner = self._text[mark.end() : closing.start()]
        if not _WORDS.search(inner) or _QUOTED.search(inner):
            return False
        goes_on = _GOES_ON.match(inner) is not None
        if inner[:1].isalnum() or not (goes_on or inner[:1].isspace() or inner[-1:].isspace()):
            return True
        is_short = len(inner.split()) <= SPACED_WORDS
        named = (_ABOUT_MARKS if is_short else _NAMES_MARK).search(line)
        return (
            not named
            and not (is_short and goes_on)
            and not _ABOUT_MARKS.search(inner[-LONGEST_MARK:])
        )

    def _are_mentioned(self, mark: re.Match[str], closing: re.Match[str], line: str) -> bool:
        """True of an opening mark and of the closing one behind it if both are words."""
        if kind_of(closing) != kind_of(mark):
            return False
        inner = self._text[mark.end() : closing.start()]
        after = self._text[closing.end() : closing.end() + LONGEST_MARK]
        if len(inner) > LONGEST_MARK or inner.count("\n") > 1:
            return False
        if _IS_SUBJECT.match(inner) and _IS_SUBJECT.match(after):
            return True
        if "\n" in inner:
            return _fills_cell(line, inner) and _fills_cell(inner, after)
        if inner.strip() in _BETWEEN:
            return True
        if not _borders(line) and re.match(r"[.;)]\s", inner) and re.match(r"[.,;:)]\s|$", after):
            return True
        is_between = inner[:1] == inner[-1:] == " " and _ABOUT_MARKS.search(inner) is not None
        return is_between and after[:1] == " " and after[1:2].islower()


Span = tuple[int, int]


def _around(spans: list[Span], mark: re.Match[str]) -> Span | None:
    """The span in which a mark stands, of spans that do not overlap."""
    index = bisect(spans, (mark.start(), 0)) - 1
    return spans[index] if index >= 0 and mark.start() < spans[index][1] else None


def _fills_cell(before: str, after: str) -> bool:
    """True of a mark between two borders of a table."""
    line = before.rpartition("\n")[2].rstrip()
    return line.endswith("|") and after.lstrip(" \t").startswith("|")


def _borders(line: str) -> bool:
    """True if a thought may begin or end behind the beginning of a line: a sentence ends there."""
    return is_blank(line) or _SENTENCE_END.search(line.rstrip()) is not None
