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
  stay what they are, unless a pair closes tightly around words (`<think>so</think>`).
- A closing mark without an opening one ends a thought that began with the answer (or with what
  follows the thought before), unless it stands in the middle of a sentence or in quotation marks.
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
    r"(?:\w{1,20}[:|])?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis"
    r"|(?:internal|inner)_(?:monologue|thoughts?))(?:[:_.-]\w[\w:.-]{0,60})?"
)
_OPENING = rf"""
    <(?P<angle>{_NAME})(?:\s[^<>\n]{{0,80}})?>
  | \[(?P<square>THINK(?:ING)?|THOUGHTS?|REASONING)\]
  | (?P<token>◁think▷
      | <\|(?:start_think(?:ing)?|begin_of_thought|begin_of_think(?:ing)?|think(?:ing)?_start
        |think(?:ing)?|thought)\|>
      | <\|open\|>think<\|sep\|>
      | <\|channel>thought\b)
"""
_CLOSING = rf"""
    </(?P<unangle>{_NAME})\s?>
  | \[/(?P<unsquare>THINK(?:ING)?|THOUGHTS?|REASONING)\]
  | (?P<untoken>◁/think▷
      | <\|(?:end_think(?:ing)?|end_of_thought|end_of_think(?:ing)?|think(?:ing)?_end
        |/think(?:ing)?|/thought)\|>
      | <\|close\|>think<\|sep\|>
      | <channel\|>)
"""
_FLAGS = re.IGNORECASE | re.VERBOSE
_MARK = re.compile(f"{_OPENING}|{_CLOSING}", _FLAGS)
_MARK_AHEAD = re.compile(r"[<\[◁](?=[\w/|])")
"""The first two characters of every mark: searched for far faster than `_MARK` itself."""
_OPEN_END = re.compile(rf"(?:{_OPENING}|<\|channel\|>analysis<\|message\|>)\s*\Z", _FLAGS)

_CHANNEL = re.compile(
    r"(?:<\|start\|>[^<]{0,40})?(?:<\|channel\|>\s*(?P<channel>\w+)|to=(?P<to>[^\s<]++))"
    r"[^<]*+(?:<\|constrain\|>[^<]*+)?<\|message\|>"
)
"""The head of a message of gpt-oss, whose channel says for whom it is."""
_CHANNEL_ENDS = re.compile(r"<\|(?:end|return|call|eom|eot)\|>")
_PUBLIC_CHANNELS = frozenset({"final", "user"})
_BARE_CHANNEL = re.compile(r"\s*(?:assistant)?(?:analysis|commentary)(?=[^\W_]|[\"'“‘(*\[])")
_BARE_FINAL = re.compile(r"\s*(?:assistant)?final(?=[A-Z\"“*<])")
_BARE_BORDER = "assistantfinal"
"""The heads of gpt-oss where the server has taken the special tokens out."""

_PROCESS = re.compile(r"\s*Here(?: is|['’]s) my thought process:", re.IGNORECASE)
_RESPONSE = re.compile(r"Here(?: is|['’]s) my response:", re.IGNORECASE)

_WRAPPED = re.compile(
    r"\s*(?:<(answer|response)>|<\|(?:start_response|begin_of_solution)\|>"
    r"|<\|open\|>response<\|sep\|>)(.*?)"
    r"(?:</(?:answer|response)>|<\|(?:end_response|end_of_solution)\|>"
    r"|<\|close\|>response<\|sep\|>.*|\Z)\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
"""An answer that is marked as one behind a thought."""

_SENTENCE_END = re.compile(r"(?:[.!?…。！？]|</\w{1,20}>)[\"'”’»)\]*_]*\Z")
_QUOTED = re.compile(r"[\"'`“‘«„(]\Z")
_MARK_START = re.compile(r"[<\[◁]")
_LONGEST_MARK = 160
_UNFINISHED = re.compile(
    r"(?:<\|(?:channel|start|open)\|>(?:(?!<\|(?:message|sep)\|>).)*|<\|channel>\w*"
    r"|[<\[◁][^>\]▷]*)\Z",
    re.DOTALL,
)
"""The end of a text that may become a mark."""
_BEGINNINGS = (
    *("assistantanalysis", "assistantcommentary", "assistantfinal", "analysis", "commentary"),
    *("final", "here is my thought process:", "here's my thought process:"),
)
_SEEN = re.compile(rf"[^\s{INVISIBLE}]")

MARK_TOKENS = re.compile(
    rf"(?:{_OPENING}|{_CLOSING}|<\|(?:channel|message|constrain|start)\|>|<\|open\|>|<\|close\|>"
    r"|<\|sep\|>|<\|channel>|<channel\|>|<\|(?:start|end)_response\|>"
    r"|<\|(?:begin|end)_of_solution\|>)\Z",
    _FLAGS,
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
    return _OPEN_END.search(prompt_end[-_LONGEST_MARK:]) is not None


def closes_unopened(text: str) -> bool:
    """True if an answer ends a thought that it did not open: its prompt must have done so."""
    marks = _Marks(text)
    first = next((mark for mark in marks.found if marks.counts(mark, 0)), None)
    return first is not None and _closes(first)


def is_blank(text: str) -> bool:
    """True if a reader would see nothing in it."""
    return _SEEN.search(text) is None


Found = tuple[str, list[str], bool]
"""The public words, the thoughts, and True if the last one was cut off."""


def _divided(text: str, opened: bool) -> Found | None:
    """One division, or None if there is no thought in the text."""
    if "<|message|>" in text and (found := _by_channel(text, opened)):
        return found
    if not opened and (found := _by_words(text)):
        return found
    return _by_marks(text, opened)


def _by_channel(text: str, opened: bool) -> Found | None:
    heads = list(_CHANNEL.finditer(text))
    if not heads and not opened:
        return None
    said: list[str] = []
    thoughts: list[str] = []
    before = text[: heads[0].start()] if heads else text
    (thoughts if opened else said).append(_CHANNEL_ENDS.sub("", before))
    cut = opened and not heads and not _CHANNEL_ENDS.search(text)
    for index, head in enumerate(heads):
        end = heads[index + 1].start() if index + 1 < len(heads) else len(text)
        body = text[head.end() : end]
        public = (head["channel"] or head["to"]).lower() in _PUBLIC_CHANNELS
        (said if public else thoughts).append(_CHANNEL_ENDS.sub("", body))
        cut = not public and not _CHANNEL_ENDS.search(body) and end == len(text)
    return "\n\n".join(filter(None, map(str.strip, said))), thoughts, cut


def _by_words(text: str) -> Found | None:
    """Divided by words that stand for marks: bare heads of gpt-oss, Granite's phrases."""
    if head := _BARE_CHANNEL.match(text):
        thought, border, said = text[head.end() :].rpartition(_BARE_BORDER)
        return (said.strip(), [thought], False) if border else ("", [said], True)
    if head := _BARE_FINAL.match(text):
        return text[head.end() :], [], False
    if head := _PROCESS.match(text):
        response = _RESPONSE.search(text, head.end())
        if response is None:
            return "", [text[head.end() :]], True
        return text[response.end() :].strip(), [text[head.end() : response.start()]], False
    if text.strip() and len(text) < _LONGEST_MARK and _is_cut_mark(text.strip()):
        return "", [text], True
    return None


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
            if _closes(mark) and kind in ("", _kind(mark)):
                thoughts.append(text[begin : mark.start()])
                begin, inside = mark.end(), False
        elif not marks.counts(mark, begin):
            continue
        elif _closes(mark):
            stray = bool(thoughts) and is_blank(text[mark.end() :])
            (said if stray else thoughts).append(text[begin : mark.start()])
            begin, changed = mark.end(), True
        else:
            said.append(text[begin : mark.start()])
            begin, inside, kind, changed = mark.end(), True, _kind(mark), True
    if not changed:
        return None
    (thoughts if inside else said).append(text[begin:])
    return _joined(said), thoughts, inside


def _marks(text: str, begin: int = 0) -> Iterator[re.Match[str]]:
    """All marks from `begin` on, in their order, whether or not they count."""
    while ahead := _MARK_AHEAD.search(text, begin):
        mark = _MARK.match(text, ahead.start())
        begin = mark.end() if mark else ahead.end()
        if mark:
            yield mark


def _closes(mark: re.Match[str]) -> bool:
    return bool(mark["unangle"] or mark["unsquare"] or mark["untoken"])


def _kind(mark: re.Match[str]) -> str:
    return (mark.lastgroup or "").removeprefix("un")


class _Marks:
    """The marks of a text in their order, and which of them are words about marks."""

    def __init__(self, text: str) -> None:
        self.found = list(_marks(text))
        self._text = text
        self._mentioned: dict[str, int] = {}
        """Of an opening mark that is a word: its kind, and where its line begins."""
        self._closing: dict[int, re.Match[str]] = {}
        """The next closing mark behind a place where an opening one ends."""
        following: re.Match[str] | None = None
        for mark in reversed(self.found):
            if _closes(mark):
                following = mark
            elif following is not None:
                self._closing[mark.end()] = following

    def counts(self, mark: re.Match[str], begin: int) -> bool:
        """True unless a mark is a word about marks; asked in their order from `begin` on."""
        if _kind(mark) == "token":
            return True
        line_begin = max(begin, self._text.rfind("\n", begin, mark.start()) + 1)
        line = self._text[max(line_begin, mark.start() - _LONGEST_MARK) : mark.start()]
        borders = is_blank(line) or _SENTENCE_END.search(line.rstrip()) is not None
        if not _closes(mark):
            if borders or self._is_tight(mark, line):
                return True
            self._mentioned[_kind(mark)] = line_begin
            return False
        if self._mentioned.pop(_kind(mark), -1) == line_begin:
            return False
        after = self._text[mark.end() : mark.end() + _LONGEST_MARK].partition("\n")[0]
        if borders or is_blank(after):
            return True
        return not _QUOTED.search(line) and after.lstrip()[:1].isupper()

    def _is_tight(self, mark: re.Match[str], line: str) -> bool:
        """True if an opening mark and its closing one stand close around words."""
        closing = self._closing.get(mark.end())
        if closing is None or _kind(closing) != _kind(mark) or _QUOTED.search(line):
            return False
        inner = self._text[mark.end() : closing.start()]
        return inner[:1].isalnum() and not inner[-1:].isspace()


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
    return found[2] if found else piece


class Listener:
    """Follows an answer while it grows and gives its public words, for a live display.

    Nothing is shown that may still turn out to be a thought. Where it is not known whether the
    prompt opened one, that is the whole answer until its end.
    """

    def __init__(self, opened: bool | None) -> None:
        self._opened = opened
        self._heard = ""
        self._shown = ""
        self._is_plain = False
        """No mark has been seen, nor the beginning of one."""

    def add(self, piece: str) -> str:
        """The words that may be shown now that `piece` was written."""
        self._heard += piece
        if self._opened is None:
            return ""
        if self._is_plain and not _MARK_START.search(piece):
            return self._show(self._heard)
        settled = self._settled()
        found = divide(settled, self._opened)
        self._is_plain = found.text == self._heard
        return self._show(found.text)

    def end(self, said: str) -> str:
        """The words still to be shown of an answer that says `said`."""
        return self._show(said)

    def _settled(self) -> str:
        """The answer up to where a mark may have begun that is not complete yet."""
        head = self._heard.lstrip().lower()
        if any(beginning.startswith(head) for beginning in _BEGINNINGS):
            return ""
        start = max(0, len(self._heard) - _LONGEST_MARK)
        found = _UNFINISHED.search(self._heard, start)
        text = self._heard[: found.start()] if found else self._heard
        openings = [mark for mark in _marks(text) if not _closes(mark)]
        if openings and not text[openings[-1].end() :][:1].isspace():
            # In the middle of a sentence it depends on what follows whether this is a mark.
            last = openings[-1]
            if not any(_closes(mark) for mark in _marks(text, last.end())):
                return text[: last.start()] if self._may_be_prose(text, last) else text
        return text

    def _may_be_prose(self, text: str, mark: re.Match[str]) -> bool:
        return not divide(text[: mark.end()], bool(self._opened)).cut

    def _show(self, said: str) -> str:
        said = said.strip()
        if not said.startswith(self._shown):
            return ""
        piece, self._shown = said[len(self._shown) :], said
        return piece
