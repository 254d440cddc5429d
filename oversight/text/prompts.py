"""Prompts with everything foreign as data: templates that render once, and dialogues as text.

A value put into a template goes through `data()` unless it is `Safe`: text that one of our own
renderers made. Template syntax inside a value stays what it is, literal text, because rendering is
a single pass.

All words of people, models and data sets go through `data()` on their way into a prompt: they
cannot pass for our structure or a template's. It changes nothing but what could be read as
structure, and it does so visibly, so that a reader still sees what was written.

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
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from oversight.errors import PromptError
from oversight.text.folding import (
    BIDI_CONTROLS,
    COMBINING,
    LOOKALIKES,
    TAGS,
    UNSEEN,
    picture,
)

__all__ = ["RESERVED_TAGS", "Safe", "Template", "data", "first_mark", "labelled", "parsed"]


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


_NUMBERED_STEMS = _names("extra_id_ reserved_ special_ unused_ 0x")
_TAG_BEGINNINGS = _beginnings(_TAGS | _NUMBERED_STEMS) - {"0"}  # "if x < 0" ends so, too
_WORD_BEGINNINGS = _beginnings(CONTROL_WORDS | {"e"})
_LONGEST = max(map(len, _TAGS | CONTROL_WORDS)) + len("4294967295")

_ANGLES = "<＜﹤≮‹\u2329\u3008︿⟨❬❮❰˂ᐸᚲ\U0001d236"
_SQUARES = "[［﹇"
_TILDES = "~～"
_OPENINGS = frozenset(_ANGLES + _SQUARES + _TILDES)
_HIDDEN = rf"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{BIDI_CONTROLS}{TAGS}"
_IS_HIDDEN = re.compile(f"[{_HIDDEN}]")
_IS_UNSEEN = re.compile(f"[{UNSEEN}{COMBINING}\ufffd]")
# `<` before any other character of ASCII opens nothing: hostile text may be full of them. The
# opening is taken before its kind is looked back at: one set at the front is searched for fastest.
_SUSPECT = re.compile(
    rf"[{_ANGLES}{re.escape(_SQUARES)}{_TILDES}{_HIDDEN}]"
    rf"(?:(?<=[^{_ANGLES}])|(?=[\w\s|/\\]|[^\x00-\x7f]|\Z))"
)

# Text behind an opening is first looked at as it stands, where it is ASCII, and else as readers
# may make it (`_plain`). Each look ends at the next opening at the latest, so that all of them
# together read the text once more at most.
_GAP = r"[ \t\n/\\]*+"
_ASCII_TAG = re.compile(rf"{_GAP}([A-Za-z0-9_|]*+)(?:(?=[\x00-\x7f])|(\Z))")
_ASCII_WORD = re.compile(rf"{_GAP}([A-Za-z0-9_|]*+){_GAP}(?:([\x00-\x7f])|\Z)")
_SHAPED = {
    start + offset: chr(ord("a") + offset)
    for start in (0x1F150, 0x1F170, 0x1F1E6)  # in black circles, in black squares, of flags
    for offset in range(26)
}
"""Letters in shapes that NFKC leaves alone, as the letters that the eye reads."""
_LOOKS = LOOKALIKES | _SHAPED
_BREAK = "\0"
"""Stands in a plain form for what a reader drops or takes for a space."""
_PLAIN_GAP = rf"[\s/\\⁄∕▁{_BREAK}]*+"
_PLAIN_TAG = re.compile(rf"{_PLAIN_GAP}([\w|{_BREAK}]*+)(.|\Z)", re.DOTALL)
_PLAIN_WORD = re.compile(rf"{_PLAIN_GAP}([\w|{_BREAK}]*+){_PLAIN_GAP}(.|\Z)", re.DOTALL)
_PLAIN_TILDE = re.compile(rf"{_PLAIN_GAP}!?{_PLAIN_GAP}(b?){_PLAIN_GAP}(.|\Z)", re.DOTALL)
_CALCULATION = re.compile(
    r"[A-Za-z]\w{0,40} ?[-+*/^%] ?(?=[\w.$(])[\w .,$()*/^%+-]{1,80}="
    r"(?=[^\d<>=\n]{0,40}\d)[\w .,$/%-]{1,80}>>",
    re.ASCII,
)
"""The inside of a calculator mark of GSM8K, `<<s*2=10>>`, that begins with a variable."""


def data(text: str) -> str:
    """`text` as data: no reserved tag, chat control string or control character is left in it.

    - The `<` of a reserved or control tag, closing or opening, becomes `&lt;`; the `[` of `[INST]`
      becomes `&#91;`. That holds in any case, for look-alikes of `<` and of letters, and for
      whatever NFKC, lower-casing, the removal of accents or invisible characters, or taking these
      for spaces would make a tag: full-width, circled or squared letters, low lines, joiners.
    - Control characters other than newline and tab become their pictures
      (`␛`) or `\\u009b`; bidirectional controls, tag characters and lone
      surrogates become `\\u202e`. A carriage return before a newline goes.

    All other text stays as it is, and so does arithmetic between doubled angles: `<<s*2=10>>`, the
    calculator marks of GSM8K, may begin with a variable that has a tag's name. Pure, idempotent,
    and linear in the length of `text`.
    """
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    return _SUSPECT.sub(_defused, text)


def _defused(match: re.Match[str]) -> str:
    char, text, after = match[0], match.string, match.end()
    if char in _ANGLES:
        opens = _opens_tag(text, after)
        return ("&nlt;" if char == "≮" else "&lt;") if opens else char
    if char in _SQUARES:
        return "&#91;" if _opens_word(text, after) else char
    if char in _TILDES:
        return "&#126;" if _joins_brackets(text, match.start()) else char
    return _escaped(char)


_OURS = re.compile(rf"</?(?:{'|'.join(sorted(RESERVED_TAGS))})[\s>]")


def first_mark(text: str) -> int | None:
    """Place of the first mark in `text` that `data` would break, but for tags of our prompts, also
    of one that `text` may begin at its end; None if there is none."""
    found = (match for match in _SUSPECT.finditer(text) if not _OURS.match(text, match.start()))
    return next((match.start() for match in found if _defused(match) != match[0]), None)


def _opens_tag(text: str, place: int) -> bool:
    """True if a reserved or control tag's inside stands at `place`, or may once text is added."""
    if found := _ASCII_TAG.match(text, place):
        if found[1] and text.startswith("<<", place - 2) and _CALCULATION.match(text, place):
            return False
        is_byte = found[0] == "0"  # the beginning of <0x0A>, not of "if x < 0"
        return _is_tag(found[1].lower(), is_cut=found[2] is not None) or (
            is_byte and found[2] == ""
        )
    reading = _reading(text, place)
    if reading.replace(_BREAK, "") == "0":
        return True
    plain = _PLAIN_TAG.match(reading)
    assert plain is not None  # the pattern matches nothing at all, too
    parts, name = plain[1].split(_BREAK), ""
    if _is_tag("".join(parts), is_cut=not plain[2]):
        return True
    for part in parts[:-1]:  # it may end where a reader sees a space
        name += part
        if name in _TAGS or _NUMBERED.fullmatch(name):
            return True
        if len(name) > _LONGEST:
            break
    return False


def _is_tag(name: str, *, is_cut: bool) -> bool:
    """True if a name is one of a tag's, or may become one where the text's end cuts it short."""
    head, bar, _ = name.partition("|")
    if head in _TAGS or (bar and (not head or name.endswith("|"))):
        return True
    if is_cut and (name in _TAG_BEGINNINGS or re.fullmatch("0x[0-9a-f]", name)):
        return True
    return _NUMBERED.fullmatch(head) is not None


def _opens_word(text: str, place: int) -> bool:
    """True if a control word and `]` stand at `place`, or may once text is added."""
    found = _ASCII_WORD.match(text, place) or _PLAIN_WORD.match(_reading(text, place))
    assert found is not None  # the second pattern matches nothing at all, too
    name, close = found[1].replace(_BREAK, "").lower(), found[2]
    if close == "~":
        return name == "e"  # [e~[
    if close not in ("]", "", None):
        return False
    if name in CONTROL_WORDS or (name.startswith("|") and (name.endswith("|") or not close)):
        return True
    return not close and name in _WORD_BEGINNINGS


def _joins_brackets(text: str, place: int) -> bool:
    """True if the tilde at `place` is that of `]~b]` or `]~!b[`, or may be once text is added."""
    if place and (before := text[place - 1]) not in "]］﹈" and _BREAK not in _plain(before):
        return False
    found = _PLAIN_TILDE.match(_reading(text, place + 1))
    assert found is not None  # the pattern matches nothing at all, too
    return found[2] in ("[", "]", "") and (found[1] == "b" or not found[2])


def _reading(text: str, place: int) -> str:
    """The plain form of what follows an opening: gap, name, gap, and one character more.

    It ends before that where the text ends, and with an opening's own plain form at the latest.
    """
    plains: list[str] = []
    has_name = has_ended = has_symbol = False
    for index in range(place, len(text)):
        char = text[index]
        if char in _OPENINGS:
            plains.append("[" if char in _SQUARES else "~" if char in _TILDES else "<")
            break
        plain = _plain(char)
        if plain == _BREAK and plains[-1:] == [_BREAK]:
            continue
        if not (has_symbol or char.isalnum() or char in "_|") and _IS_WORD.search(plain):
            has_symbol = True  # a reader that does not fold ⓢ to s sees the name's end here
            plain = _BREAK + plain
        for each in plain:
            plains.append(each)
            if _IS_SPACE.match(each):
                has_ended = has_name
            elif each != _BREAK:
                if has_ended or not _IS_WORD.match(each):
                    return "".join(plains)
                has_name = True
    return "".join(plains)


_IS_SPACE = re.compile(r"[\s/\\⁄∕▁!]")
_IS_WORD = re.compile(r"[\w|]")


@lru_cache(maxsize=20_000)
def _plain(char: str) -> str:
    """One character as a lenient reader takes it: compatible, folded, Latin, without its marks."""
    if _IS_HIDDEN.match(char):
        return _escaped(char)
    if _is_dropped(char):
        return _BREAK
    folded = _decomposed(_decomposed(char).casefold()).translate(_LOOKS)
    # Some tokenizers put spaces around ideographs, so that a name ends before one.
    return _BREAK + folded if char >= "\u2e80" else folded


def _decomposed(text: str) -> str:
    """The NFKD form without marks; what has nothing but what readers drop is one break."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(char for char in letters if not _is_dropped(char)) or _BREAK


def _is_dropped(char: str) -> bool:
    """True if some reader leaves a character out: marks, formats, what is not assigned."""
    if char in "\t\n":
        return False
    return unicodedata.category(char)[0] in "MC" or _IS_UNSEEN.match(char) is not None


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return picture(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Safe(str):
    """Text made by our own renderers, which goes into a template as it is.

    Any string made of it (a sum, a slice, another case) is a plain str again.
    Wrap foreign text in it and it can forge our structure: only renderers do.
    """

    __slots__ = ()


def _value(value: object) -> str:
    """Text that stands in the prompt for a value of a template."""
    if isinstance(value, Safe):
        return value
    if isinstance(value, str):
        return data(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises, and names what is missing
    raise TypeError(f"{value!r:.100} is no text or number")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox without str.format, whose result it would make as safe as the format."""

    def wrap_str_format(self, value: Any) -> None:
        return None

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        formats = isinstance(obj, str) and attr in ("format", "format_map")
        return not formats and super().is_safe_attribute(obj, attr, value)


def _environment() -> _Sandbox:
    environment = _Sandbox(
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        finalize=_value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.clear()
    return environment


_ENVIRONMENT = _environment()


def parsed(source: str) -> jinja2.nodes.Template:
    """The syntax tree of a template; a jinja2.TemplateSyntaxError if it is none."""
    return _ENVIRONMENT.parse(source)


def _pieces(tree: jinja2.nodes.Template) -> tuple[tuple[str, str], ...] | None:
    """Pieces of a template without tags and filters, in their order: names of values,
    or words. None of any other, which Jinja renders, at some ten times the cost."""
    found: list[tuple[str, str]] = []
    for output in tree.body:
        if not isinstance(output, jinja2.nodes.Output):
            return None
        for node in output.nodes:
            if isinstance(node, jinja2.nodes.TemplateData):
                found.append(("", node.data))
            elif isinstance(node, jinja2.nodes.Name):
                found.append((node.name, ""))
            else:
                return None
    return tuple(found)


SHORT_CHARS = 80
MAX_KEPT = 256
"""Renderings that a template keeps, of short values: the same rules and requests in all debates."""


class Template:
    """A Jinja template in a sandbox, compiled once; every name in it must be given.

    A block tag (`{% ... %}`) alone on its line leaves no line behind. Values
    are text or numbers, and records and sequences of them for `for` and `if`;
    what a macro or a `set` block made counts as foreign, so use neither.

    Raises:
        PromptError: The source is no valid template; the message names template and line.
    """

    def __init__(self, source: str, name: str) -> None:
        self.name = name
        self.source = source
        try:
            self._rendered: dict[tuple[tuple[type, str | int], ...], Safe] = {}
            tree = parsed(source)
            self.names = frozenset(meta.find_undeclared_variables(tree))
            self._pieces = _pieces(tree)
            self._compiled = _ENVIRONMENT.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            reason = f"line {error.lineno}: {error.message}"
            raise PromptError(f"prompt template {name!r} does not compile, {reason}") from None

    def __repr__(self) -> str:
        return f"Template({self.name!r})"

    def render(self, **values: Any) -> Safe:
        """The template with `values` in their places; names that it does not use are ignored.

        Raises:
            PromptError: A name is missing, or a value is neither text nor a number.
        """
        if not self.names <= values.keys():
            raise PromptError(self._missing(values))
        key = self._key(values)
        if key is not None and (known := self._rendered.get(key)) is not None:
            return known
        try:
            rendered = Safe(
                self._compiled.render(values)
                if self._pieces is None
                else "".join(_value(values[name]) if name else text for name, text in self._pieces)
            )
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            given = ", ".join(sorted(values)) or "nothing"
            raise PromptError(
                f"prompt template {self.name!r} cannot be rendered: {error} (given: {given})"
            ) from error
        if key is not None:
            if len(self._rendered) >= MAX_KEPT:
                self._rendered.clear()
            self._rendered[key] = rendered
        return rendered

    def _key(self, values: Mapping[str, Any]) -> tuple[tuple[type, str | int], ...] | None:
        """The values that it uses, by which what was rendered is found again, if all are short."""
        used = []
        for name in self.names:
            kind, value = type(values[name]), values[name]
            if kind is not int and (kind not in (str, Safe) or len(value) > SHORT_CHARS):
                return None
            used.append((kind, value))
        return tuple(used)

    def _missing(self, values: Mapping[str, Any]) -> str:
        missing = ", ".join(sorted(self.names - values.keys()))
        given = ", ".join(sorted(values)) or "nothing"
        return f"prompt template {self.name!r} needs {missing}; given: {given}"


def labelled(text: str, labels: Collection[str]) -> list[tuple[str, str]]:
    """The turns of a dialogue as label and words, without white space around the words.

    A turn begins where a blank line is followed by a label and a colon; a colon or a label
    elsewhere is part of the words. Words before the first turn have the label "".
    """
    names = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    parts = re.split(rf"\n\n({names}):", text)
    turns = list(zip(parts[1::2], (said.strip() for said in parts[2::2]), strict=True))
    before = parts[0].strip()
    return [("", before), *turns] if before else turns
