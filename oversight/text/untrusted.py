"""Foreign text made safe as data in a prompt: it cannot pass for our structure or a template's.

Whatever people, models and data sets wrote goes through `data()` on its way
into a prompt. It changes nothing but what could be read as structure, and it
does so visibly, so that a reader still sees what was written.

Two outputs of `data()` may stand next to each other, or around a piece of our
own that begins with `<` or a newline and does not end in `<` or `[`: no tag
can arise across the seam, because an opening that the end of the text cuts
short is broken as well.

Out of reach are conventions in plain words ("Human:", "### Instruction"),
which no tokenizer knows as one token and which ordinary text contains.
"""

from __future__ import annotations

import re
import unicodedata

from oversight.text.characters import (
    BIDI_CONTROLS,
    COMBINING,
    LOOKALIKES,
    TAGS,
    UNSEEN,
    picture,
)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESERVED_TAGS = _names(
    """
    rules role task instructions side
    source question options option answer argument
    transcript debate round turn speech statement reasoning belief judgment
    quote verified_quote near_quote unverified_quote source_words
    """
)
"""Tags that our prompts are built with. Prompts use no others."""

CONTROL_TAGS = _names(
    """
    s bos eos unk pad mask sep cls sop eop bos_token eos_token endoftext seed
    start_of_turn end_of_turn start_of_image end_of_image
    sys system user assistant human model tool tools tool_call tool_response tool_result
    think thinking scratchpad function_call function_response function_results
    """
)
"""Names that chat templates write in angle brackets, beside `<|...|>` and `<...|>`."""

CONTROL_WORDS = _names(
    """
    inst system_prompt available_tools tool_calls tool_results tool_content args call_id
    think img img_break img_end prefix middle suffix gmask model_settings
    """
)
"""Names that chat templates write in square brackets."""

_TAGS = RESERVED_TAGS | CONTROL_TAGS
_NUMBERED = re.compile(r"(?:extra_id|reserved|special|unused)_?\d+|0x[0-9a-f]{2}")


def _beginnings(names: frozenset[str]) -> frozenset[str]:
    return frozenset(name[:end] for name in names for end in range(len(name) + 1))


_TAG_BEGINNINGS = _beginnings(_TAGS)
_WORD_BEGINNINGS = _beginnings(CONTROL_WORDS | {"e"})

_ANGLES = "<＜﹤‹〈〈⟨❬❮❰˂ᐸ"
_SQUARES = "[［﹇"
_IGNORED = re.compile(f"[{UNSEEN}{COMBINING}]")
_HIDDEN = rf"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{BIDI_CONTROLS}{TAGS}"
_SUSPECT = re.compile(rf"[{_ANGLES}\[［﹇~{_HIDDEN}]")

# What follows an opening is looked at in place, as it may need a change of its own. Each look ends
# at the next opening at the latest, so that all of them together read the text once more at most.
_GAP = rf"[\s/\\／∕⁄＼{UNSEEN}{COMBINING}]*+"
_NAME = rf"([\w|｜{UNSEEN}{COMBINING}]*+)"
_TAG = re.compile(rf"{_GAP}{_NAME}(\Z)?")
_CLOSE = r"([\]］﹈]|\Z)?"
_WORD = re.compile(rf"{_GAP}{_NAME}{_GAP}(?:(~)|{_CLOSE})")
_TILDE = re.compile(
    rf"(?:(?<=[\]］﹈{UNSEEN}])|\A)~{_GAP}[!！]?{_GAP}{_NAME}{_GAP}([\[\]［］﹇﹈]|\Z)?"
)


def data(text: str) -> str:
    """`text` as data: no reserved tag, chat control string or control character is left in it.

    - The `<` of a reserved or control tag, closing or opening, becomes `&lt;`,
      in any case and also with spaces, invisible characters, marks, or
      look-alikes of its letters or of `<`; the `[` of `[INST]` becomes `&#91;`.
    - Control characters other than newline and tab become their pictures
      (`␛`) or `\\u009b`; bidirectional controls, tag characters and lone
      surrogates become `\\u202e`. A carriage return before a newline goes.

    All other text stays as it is. Pure, and linear in the length of `text`.
    """
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    return _SUSPECT.sub(_defused, text)


def _defused(match: re.Match[str]) -> str:
    char = match[0]
    if char in _ANGLES:
        return "&lt;" if _opens_tag(match.string, match.end()) else char
    if char in _SQUARES:
        return "&#91;" if _opens_word(match.string, match.end()) else char
    if char == "~":
        return "&#126;" if _joins_brackets(match.string, match.start()) else char
    return _escaped(char)


def _opens_tag(text: str, place: int) -> bool:
    """Whether a reserved or control tag's inside stands at `place`, or may once text is added."""
    found = _TAG.match(text, place)
    assert found is not None  # the pattern matches nothing at all, too
    name = _folded(found[1])
    head, bar, _ = name.partition("|")
    if head in _TAGS or (bar and (not head or name.endswith("|"))):
        return True
    if found[2] is not None and name in _TAG_BEGINNINGS:
        return True
    return _NUMBERED.fullmatch(head) is not None


def _opens_word(text: str, place: int) -> bool:
    """Whether a control word and `]` stand at `place`, or may once text is added."""
    found = _WORD.match(text, place)
    assert found is not None  # the pattern matches nothing at all, too
    name, tilde, close = _folded(found[1]), found[2], found[3]
    if tilde:
        return name == "e"  # [e~[
    if close is None:
        return False
    if name in CONTROL_WORDS or (name.startswith("|") and (name.endswith("|") or not close)):
        return True
    return not close and name in _WORD_BEGINNINGS


def _joins_brackets(text: str, place: int) -> bool:
    """Whether the tilde at `place` is that of `]~b]` or `]~!b[`, or may be once text is added."""
    found = _TILDE.match(text, place)
    if found is None or found[2] is None:
        return False
    return _folded(found[1]) in (("b",) if found[2] else ("", "b"))


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower()
    decomposed = unicodedata.normalize("NFKD", name)
    return _IGNORED.sub("", decomposed).casefold().translate(LOOKALIKES)


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return picture(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
