"""Thoughts in an answer: what a model wrote for itself, kept apart from what it says.

Models that reason write a thought before their answer, or between its parts, and mark it in one
of many ways: `<think>…</think>` and its kin (`<thinking>`, `<reasoning>`, `<seed:think>` …),
`[THINK]…[/THINK]`, `◁think▷…◁/think▷`, `<|START_THINKING|>…<|END_THINKING|>`, the channels of
gpt-oss (`<|channel|>analysis<|message|>…`), also without their special tokens
(`analysis…assistantfinal…`). A chat template may open the thought itself, so that the answer
holds its closing mark alone; and the answer may end within a thought.

Where a mark counts:

- An opening mark counts at the start of the answer or of a line, right behind another thought,
  and behind the end of a sentence. The thought lasts to the next closing mark, else to the end.
- Elsewhere, in the middle of a sentence, `<think>` and `[THINK]` are words about the mark and
  stay what they are, unless a pair closes tightly around words (`<think>so</think>`) or around
  more than a few of them, or the mark ends its line.
- A closing mark without an opening one ends a thought that began with the answer (or with what
  follows the thought before), unless it stands in the middle of a sentence or in quotation marks.
- A mark inside `<quote>…</quote>`, in quotation marks or as code in a line is a word, too.
- Marks that no prose holds (`<|…|>`, `◁think▷`) count everywhere.

In doubt more is a thought than less: a thought that passes for a speech is read by the other side
and by the judge, while a speech that lost a sentence to its author's notes is merely shorter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from oversight.text.characters import INVISIBLE

_NAME = (
    r"(?:\w{1,20}[:|_.-]|ant)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad"
    r"|analysis|cot|deliberation|monologue|rationale|plan(?:ning)?)(?:[:_.-]\w[\w:.-]{0,60})?"
)
_WORD = "THINK(?:ING)?|THOUGHTS?|REASONING"
_TOKEN = "(?:think(?:ing)?|thoughts?|reasoning|cot)"
_LESS, _GREATER = r"(?:\\?<|&lt;)", r"(?:\\?>|&gt;)"
_OPENING = rf"""
    {_LESS}\s?(?P<angle>{_NAME})(?:[\s{INVISIBLE}][^<>\n]{{0,80}}?)?(?P<empty>/)?{_GREATER}
  | \[(?P<square>{_WORD})\]
  | (?P<token>◁think▷
      | <\|(?:(?:start|begin)(?:[_▁]of)?[_▁])?{_TOKEN}(?:[_:▁](?:start|begin))?\|>
      | <\|open\|>think<\|sep\|>
      | <\|channel>thought\b)
"""
CLOSING = rf"""
    {_LESS}\s?/\s?(?P<unangle>{_NAME})[\s{INVISIBLE}]?{_GREATER}
  | \[/(?P<unsquare>{_WORD})\]
  | (?P<untoken>◁/think▷
      | <\|(?:end(?:[_▁]of)?[_▁]{_TOKEN}|{_TOKEN}[_:▁]end|/{_TOKEN})\|>
      | (?:<\|end\|>\s*)?(?:<\|(?:begin|start)\|>)?(?:assistant\s*)?<\|content\|>
      | <\|close\|>think<\|sep\|>
      | <channel\|>)
"""
FLAGS = re.IGNORECASE | re.VERBOSE
MARK = re.compile(rf"(?P<dress>[`*_]{{1,3}})?(?:{_OPENING}|{CLOSING})(?(dress)(?P=dress))", FLAGS)
_MARK_AHEAD = re.compile(r"[<\[◁\\&](?=[\w\s/|<])(?!/?quote>)")
"""The first two characters of every mark, dress apart: searched for far faster than `MARK`."""
_DRESS = frozenset("`*_")
_OPEN_END = re.compile(
    rf"(?:{_OPENING}|<\|channel\|>analysis<\|message\|>|Here\ are\ my\ reasoning\ steps:)\s*\Z",
    FLAGS,
)
SAME = str.maketrans("＜＞［］｜／＿：﹤﹥", "<>[]|/_:<>")
"""Full-width forms, as DeepSeek's tokens have them, each in the place of one character."""
_ANY_SAME = re.compile("[＜＞［］｜／＿：﹤﹥]")

_CHANNEL = re.compile(
    r"(?:<\|start\|>[^<]{0,40})?(?:<\|channel\|>\s*(?P<channel>\w+)|to=(?P<to>[^\s<]++))"
    r"[^<]*+(?:<\|constrain\|>[^<]*+)?<\|message\|>"
)
"""The head of a message of gpt-oss, whose channel says for whom it is."""
_CHANNEL_ENDS = re.compile(r"<\|(?:end|return|call|eom|eot)\|>")
_PUBLIC_CHANNELS = frozenset({"final", "user"})
_BARE_CHANNEL = re.compile(
    r"\s*(?:assistant)?(?:analysis|commentary)(?:(?=[^\W_]|[\"'“‘(*\[])|[ \t]*\n)"
)
SPACED_CHANNEL = re.compile(r"\s*(?:assistant )?(?:analysis|commentary) +")
_BARE_FINAL = re.compile(r"\s*(?:assistant)?final(?=[A-Z\"“*<])")
BARE_BORDER = re.compile(r"\bassistant\s*final\b|assistantfinal")
_SURE_BORDER = re.compile(r"assistantfinal(?=[A-Z\"“*<])")
"""The heads of gpt-oss where the server has taken the special tokens out, or put white space in
their place; the last one needs no head before it."""

_PHRASES = (
    (
        re.compile(r"\s*Here(?: is|['’]s) my thought process:", re.IGNORECASE),
        re.compile(r"Here(?: is|['’]s) my response:", re.IGNORECASE),
    ),
    (
        re.compile(r"\s*Here are my reasoning steps:", re.IGNORECASE),
        re.compile(r"\[BEGIN FINAL RESPONSE\]"),
    ),
)
"""The words by which Granite and Apriel begin a thought, and those that end it."""
_BEGINS_RESPONSE = re.compile(r"^[ \t]*\[BEGIN FINAL RESPONSE\]", re.MULTILINE)
_ENDS_RESPONSE = re.compile(r"\[END FINAL RESPONSE\](?:\s*<\|[^|<>]{1,30}\|>)*\s*\Z")

_BLOCK = re.compile(
    rf"""^[ \t]*(?:(?P<fence>`{{3,}}|~{{3,}})[ \t]*{_NAME}[ \t]*\n(?P<fenced>.*?)
           (?:^[ \t]*(?P=fence)[`~]*[ \t]*(?:\n|\Z)|(?P<endless>\Z))
       | <details\b[^<>]*\breasoning\b[^<>]*>(?P<folded>.*?)(?:</details>|(?P<unclosed>\Z)))""",
    FLAGS | re.MULTILINE | re.DOTALL,
)
"""A block of code whose language is "thinking", and the foldable box of web interfaces."""

_WRAPPED = re.compile(
    r"\s*(?:<(?:answer|response|output|final|final_answer)>"
    r"|<\|(?:start_(?:response|text)|begin_of_solution|content)\|>"
    r"|<\|open\|>response<\|sep\|>)(.*?)"
    r"(?:</(?:answer|response|output|final|final_answer)>"
    r"|<\|(?:end_(?:response|text)|end_of_solution)\|>"
    r"|<\|close\|>response<\|sep\|>.*|\Z)(?:\s*(?:<\|[^|<>]{1,30}\|>|</s>))*\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
"""An answer that is marked as one behind a thought."""

_SENTENCE_END = re.compile(r"(?:[.!?…。！？]|</\w{1,20}>)[\"'”’»)\]*_]*\Z")
_QUOTED = re.compile(r"[\"'`“‘«„(]\Z")
_ENDS_QUOTE = re.compile(r"[\"'`”’»“]")
_ABOUT_MARKS = re.compile(
    r"\b(?:tags?|words?|marks?|marker|tokens?|strings?|called|named|reads?|says?|said|writes?|wrote"
    r"|and|or|an?|the|opens?|closes?|with|by|of|to|from|between|means?)\b[\s:,]*\Z",
    re.IGNORECASE,
)
"""The end of words that go on with a mark as their object."""
_BULLET = re.compile(r"\s*(?:[-+•]|\d{1,2}[.)])\s*")
_QUOTE = re.compile(r"<quote>(?:(?!</?quote>).)*+</quote>", re.DOTALL)
SPACED_WORDS = 3
"""Words between two marks in the middle of a sentence up to which they are about the marks."""
LONGEST_MARK = 160
_NO_WORDS = re.compile(
    r"</?quote\s*/?>|<\|[^|<>\s]{1,40}\|>|</?(?:s|pad|eos|bos|unk|end_of_turn|start_of_turn)>"
    r"|^[ \t]*(?:`{3,}|~{3,})[ \t]*\w*[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
"""Marks that stand in an answer and are no words of it."""
_SEEN = re.compile(rf"[^\s{INVISIBLE}]")

MARK_TOKENS = re.compile(
    rf"(?:{_OPENING}|{CLOSING}|<\|(?:channel|message|constrain|start)\|>|<\|open\|>|<\|close\|>"
    r"|<\|sep\|>|<\|channel>|<channel\|>|<\|(?:start|end)_response\|>"
    r"|<\|(?:begin|end)_of_solution\|>)\Z",
    FLAGS,
)
"""Special tokens that mark thoughts: decoded without them, thought and answer run together."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, divided."""

    text: str
    """The public words; unchanged where the answer holds no thought."""
    thoughts: str = ""
    """The private words, several thoughts divided by blank lines."""
    cut: bool = False
    """The answer ends within a thought."""


def divide(text: str, opened: bool = False) -> Said:
    """Divide an answer into what it says and the thoughts that stand in it.

    Dividing what is said once more changes nothing.

    Args:
        text: The answer as it was written.
        opened: The prompt ends within a thought, which the answer goes on with.
    """
    thoughts: list[str] = []
    cut = False
    while True:
        found = _divided(text, opened)
        if found is None:
            return Said(text, "\n\n".join(filter(None, map(str.strip, thoughts))), cut)
        text, more, ends_inside = found
        thoughts += more
        cut = cut or ends_inside
        opened = False


def opens_thought(prompt_end: str) -> bool:
    """True if a prompt that ends so has opened a thought, for the answer to go on with."""
    return _OPEN_END.search(prompt_end[-LONGEST_MARK:]) is not None


def closes_unopened(text: str) -> bool:
    """True if an answer ends a thought that it did not open: its prompt must have done so."""
    if "<|message|>" in text and (head := _CHANNEL.search(text)):
        return _CHANNEL_ENDS.search(text, 0, head.start()) is not None
    marks = _Marks(text)
    first = next((mark for mark in marks.found if marks.counts(mark, 0)), None)
    return first is not None and closes(first)


def is_blank(text: str) -> bool:
    """True if a reader would see nothing in it."""
    return _SEEN.search(text) is None


def is_wordless(text: str) -> bool:
    """True if it says nothing: it holds only marks of quotes, tokens of templates, empty fences."""
    seen = _SEEN.search(text)
    if seen is not None and seen.group() not in "<`~":
        return False  # no such mark begins so
    return is_blank(_NO_WORDS.sub(" ", text))


Found = tuple[str, list[str], bool]
"""The public words, the thoughts, and True if the last one was cut off."""


def _divided(text: str, opened: bool) -> Found | None:
    """One division, or None if there is no thought in the text."""
    if "<|message|>" in text and (found := _by_channel(text, opened)):
        return found
    if found := _by_words(text, opened):
        return found
    if not opened and (found := _by_blocks(text)):
        return found
    return _by_marks(text, opened)


def _by_channel(text: str, opened: bool) -> Found | None:
    heads = list(_CHANNEL.finditer(text))
    if not heads and not opened:
        return None
    said: list[str] = []
    thoughts: list[str] = []
    before = text[: heads[0].start()] if heads else text
    # A message that has an end and no head: the prompt holds its head.
    opened = opened or bool(heads and _CHANNEL_ENDS.search(before))
    if before.strip() != "assistant":
        (thoughts if opened else said).append(_CHANNEL_ENDS.sub("", before))
    cut = opened and not heads and not _CHANNEL_ENDS.search(text)
    for index, head in enumerate(heads):
        end = heads[index + 1].start() if index + 1 < len(heads) else len(text)
        body = text[head.end() : end]
        public = (head["channel"] or head["to"]).lower() in _PUBLIC_CHANNELS
        (said if public else thoughts).append(_CHANNEL_ENDS.sub("", body))
        cut = not public and not _CHANNEL_ENDS.search(body) and end == len(text)
    return "\n\n".join(filter(None, map(str.strip, said))), thoughts, cut


def _by_words(text: str, opened: bool) -> Found | None:
    """Divided by words that stand for marks: bare heads of gpt-oss, phrases of some models."""
    if border := _BEGINS_RESPONSE.search(text):
        thought = text[: border.start()]
        for begins, _ in _PHRASES:
            thought = begins.sub("", thought, count=1)
        return _ENDS_RESPONSE.sub("", text[border.end() :]).strip(), [thought], False
    if border := _SURE_BORDER.search(text, 1):
        if head := _BARE_CHANNEL.match(text):
            return _behind_border(text, head.end())
        return text[border.end() :], [text[: border.start()]], False
    if opened:
        return None
    if head := SPACED_CHANNEL.match(text):
        return _behind_border(text, head.end()) if BARE_BORDER.search(text, head.end()) else None
    if head := _BARE_CHANNEL.match(text):
        return _behind_border(text, head.end())
    if head := _BARE_FINAL.match(text):
        return text[head.end() :], [], False
    for begins, ends in _PHRASES:
        if head := begins.match(text):
            response = ends.search(text, head.end())
            if response is None:
                return "", [text[head.end() :]], True
            return text[response.end() :].strip(), [text[head.end() : response.start()]], False
    if text.strip() and len(text) < LONGEST_MARK and _is_cut_mark(text.strip()):
        return "", [text], True
    return None


def _behind_border(text: str, begin: int) -> Found:
    """Divided at the last bare head of the public channel behind `begin`."""
    borders = list(BARE_BORDER.finditer(text, begin))
    if not borders:
        return "", [text[begin:]], True
    return text[borders[-1].end() :].strip(), [text[begin : borders[-1].start()]], False


def _by_blocks(text: str) -> Found | None:
    """Divided by blocks that are marked as a whole: fences and foldable boxes."""
    blocks = (
        list(_BLOCK.finditer(text)) if "```" in text or "~~~" in text or "<details" in text else []
    )
    if not blocks:
        return None
    said = _BLOCK.sub("\n", text)
    thoughts = [block["fenced"] or block["folded"] or "" for block in blocks]
    cut = blocks[-1]["endless"] is not None or blocks[-1]["unclosed"] is not None
    return said.strip(), thoughts, cut


def _is_cut_mark(text: str) -> bool:
    """True if the whole text is the beginning of an opening mark."""
    if text[0] not in "<[◁" or text[-1] in ">]▷":
        return False
    return len(text) > 3 and any(
        whole.startswith(text.lower())
        for whole in ("<think>", "<thinking>", "<reasoning>", "[think]", "◁think▷", "<seed:think>",
                      "<|start_thinking|>", "<|channel|>analysis<|message|>")
    )  # fmt: skip


def _by_marks(text: str, opened: bool) -> Found | None:
    said: list[str] = []
    thoughts: list[str] = []
    begin, inside, kind, changed = 0, opened, "", opened
    marks = _Marks(text)
    for mark in marks.found:
        if inside:
            if closes(mark) and kind in ("", _kind(mark)):
                thoughts.append(text[begin : mark.start()])
                begin, inside = mark.end(), False
        elif not marks.counts(mark, begin):
            continue
        elif closes(mark):
            stray = bool(thoughts) and is_blank(text[mark.end() :])
            (said if stray else thoughts).append(text[begin : mark.start()])
            begin, changed = mark.end(), True
        else:
            said.append(text[begin : mark.start()])
            begin, inside, kind, changed = mark.end(), not mark["empty"], _kind(mark), True
    if not changed:
        return None
    (thoughts if inside else said).append(text[begin:])
    return _joined(said), thoughts, inside


def marks(text: str) -> Iterator[re.Match[str]]:
    """All marks of a text in their order, whether or not they count."""
    if _ANY_SAME.search(text):
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


def _kind(mark: re.Match[str]) -> str:
    return next(name for name in ("angle", "square", "token") if mark[name] or mark[f"un{name}"])


class _Marks:
    """The marks of a text in their order, and which of them are words about marks."""

    def __init__(self, text: str) -> None:
        self.found = list(marks(text))
        self._text = text
        self._mentioned: dict[str, int] = {}
        """Of an opening mark that is a word: its kind, and where its line begins."""
        self._closing: dict[int, re.Match[str]] = {}
        """The next closing mark behind a place where an opening one ends."""
        self._quotes = [found.span() for found in _QUOTE.finditer(text)] if self.found else []
        following: re.Match[str] | None = None
        for mark in reversed(self.found):
            if closes(mark):
                following = mark
            elif following is not None:
                self._closing[mark.end()] = following

    def counts(self, mark: re.Match[str], begin: int) -> bool:
        """True unless a mark is a word about marks; asked in their order from `begin` on."""
        if _kind(mark) == "token":
            return True
        if self._is_quoted(mark):
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
            self._mentioned[_kind(mark)] = line_begin
        return counts

    def _opening_counts(self, mark: re.Match[str], line: str, after: str) -> bool:
        if self._is_mentioned_with_its_end(mark):
            return False
        if _borders(line) or self._is_pair(mark, line):
            return True
        ends_line = not after.partition("\n")[0].strip() and not is_blank(after)
        about = _QUOTED.search(line) or _ABOUT_MARKS.search(line) or _BULLET.fullmatch(line)
        return ends_line and not about

    def _closing_counts(self, mark: re.Match[str], line: str, line_begin: int, after: str) -> bool:
        opened_at = self._mentioned.pop(_kind(mark), None)
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
        return not _QUOTED.search(line) and after.lstrip()[:1].isupper()

    def _is_quoted(self, mark: re.Match[str]) -> bool:
        """True if a mark stands inside a quote, and so does the mark that it goes with."""
        around = next((span for span in self._quotes if span[0] < mark.start() < span[1]), None)
        if around is None:
            return False
        closing = None if closes(mark) else self._closing.get(mark.end())
        return closing is None or closing.start() < around[1]

    def _is_pair(self, mark: re.Match[str], line: str) -> bool:
        """True if an opening mark in a sentence and its closing one stand around a thought."""
        closing = self._closing.get(mark.end())
        if closing is None or _kind(closing) != _kind(mark) or _QUOTED.search(line):
            return False
        inner = self._text[mark.end() : closing.start()]
        if inner[:1].isalnum() and not inner[-1:].isspace():
            return True
        about = _ABOUT_MARKS.search(line) or _ABOUT_MARKS.search(inner[-LONGEST_MARK:])
        return not about and len(inner.split()) > SPACED_WORDS and not _QUOTED.search(inner)

    def _is_mentioned_with_its_end(self, mark: re.Match[str]) -> bool:
        """True of `<think>` in a sentence on it and on `</think>`, which goes on behind both."""
        closing = self._closing.get(mark.end())
        if closing is None or _kind(closing) != _kind(mark):
            return False
        inner, after = self._text[mark.end() : closing.start()], self._text[closing.end() :][:2]
        return (
            "\n" not in inner
            and inner[:1] == inner[-1:] == " "
            and _ABOUT_MARKS.search(inner) is not None
            and after[:1] == " "
            and after[1:].islower()
        )


def _borders(line: str) -> bool:
    """True if a thought may begin or end behind the beginning of a line: a sentence ends there."""
    return is_blank(line) or _SENTENCE_END.search(line.rstrip()) is not None


def _joined(pieces: list[str]) -> str:
    """Join what was said between thoughts; an answer that is marked as such loses the marks."""
    pieces = [piece for piece in pieces if not is_blank(piece)]
    if len(pieces) == 1:
        return _unwrapped(pieces[0]).strip()
    text = ""
    for piece in pieces:
        if text:
            text += "\n\n" if "\n" in piece[: len(piece) - len(piece.lstrip())] else " "
        text += piece.strip()
    return text


def _unwrapped(piece: str) -> str:
    found = _WRAPPED.match(piece)
    return found[1] if found else piece
