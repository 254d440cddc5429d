"""Thoughts in an answer: what a model wrote for itself, kept apart from what it says.

Models that reason write a thought before their answer, or between its parts, and mark it in one
of many ways: `<think>…</think>` and its kin (`<thinking>`, `<reasoning>`, `<seed:think>` …),
`[THINK]…[/THINK]`, `◁think▷…◁/think▷`, `<|START_THINKING|>…<|END_THINKING|>`, the channels of
gpt-oss (`<|channel|>analysis<|message|>…`), also without their special tokens
(`analysis…assistantfinal…`). A chat template may open the thought itself, so that the answer
holds its closing mark alone; and the answer may end within a thought.

Which marks count, and which are words about marks: `thought_marks.py`.

In doubt more is a thought than less: a thought that passes for a speech is read by the other side
and by the judge, while a speech that lost a sentence to its author's notes is merely shorter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from oversight.text.thought_marks import (
    CLOSING,
    FLAGS,
    LONGEST_MARK,
    NAME,
    OPENING,
    SEEN,
    Marks,
    closes,
    is_blank,
    kind_of,
)

_OPEN_END = re.compile(
    rf"(?:{OPENING}|<\|channel\|>analysis<\|message\|>|Here\ are\ my\ reasoning\ steps:)\s*\Z",
    FLAGS,
)
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
    rf"""^[ \t]*(?:(?P<fence>`{{3,}}|~{{3,}})[ \t]*{NAME}[ \t]*\n(?P<fenced>.*?)
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

_NO_WORDS = re.compile(
    r"</?quote\s*/?>|<\|[^|<>\s]{1,40}\|>|</?(?:s|pad|eos|bos|unk|end_of_turn|start_of_turn)>"
    r"|^[ \t]*(?:`{3,}|~{3,})[ \t]*\w*[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
"""Marks that stand in an answer and are no words of it."""
MARK_TOKENS = re.compile(
    rf"(?:{OPENING}|{CLOSING}|<\|(?:channel|message|constrain|start)\|>|<\|open\|>|<\|close\|>"
    r"|<\|sep\|>|<\|channel>|<channel\|>|<\|(?:start|end)_response\|>"
    r"|<\|(?:begin|end)_of_solution\|>)\Z",
    FLAGS,
)
"""Special tokens that mark thoughts: decoded without them, thought and answer run together."""


@dataclass(frozen=True, slots=True)
class DividedText:
    """An answer, divided."""

    text: str
    """The public words; unchanged where the answer holds no thought."""
    thoughts: str = ""
    """The private words, several thoughts divided by blank lines."""
    cut: bool = False
    """The answer ends within a thought."""


def divide(text: str, opened: bool = False) -> DividedText:
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
            return DividedText(text, "\n\n".join(filter(None, map(str.strip, thoughts))), cut)
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
    marks = Marks(text)
    first = next((mark for mark in marks.found if marks.counts(mark, 0)), None)
    return first is not None and closes(first)


def is_wordless(text: str) -> bool:
    """True if it says nothing: it holds only marks of quotes, tokens of templates, empty fences."""
    seen = SEEN.search(text)
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
    if "[BEGIN FINAL" in text and (border := _BEGINS_RESPONSE.search(text)):
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
    marks = Marks(text)
    for mark in marks.found:
        if inside:
            if closes(mark) and kind in ("", kind_of(mark)):
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
            begin, inside, kind, changed = mark.end(), not mark["empty"], kind_of(mark), True
    if not changed:
        return None
    (thoughts if inside else said).append(text[begin:])
    return _joined(said), thoughts, inside


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
