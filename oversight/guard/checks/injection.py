"""Marks of prompt injection: tags that chat templates speak by, and requests to forget the rules.

Also characters that a reader does not see: bidirectional overrides, tags, and other invisible ones.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

from pydantic import Field

from oversight.config import Settings
from oversight.guard.checks.base import FoundStretch, Passage, Reading, Surroundings
from oversight.guard.checks.patterns import PatternCheck, compiled
from oversight.text.folding import BIDI_CONTROLS, TAGS, UNSEEN

NAMES = {"hidden_characters": "Bidirectional controls, tags and other characters nobody sees."}

ROLE_TAGS = (
    r"<\|[a-z0-9_ ]{1,40}\|>",
    r"<｜[^｜>]{1,40}｜>",
    r"\[/?inst\]",
    r"<</?sys>>",
    r"</?(?:start_of_turn|end_of_turn|bos|eos)>",
    r"</?s>",
    r"(?m:^)#{2,4} {0,2}(?:system|assistant|instruction|response) {0,2}:",
    r"(?m:^)(?:system|assistant|human) {0,2}: {0,2}you are\b",
)
"""Tags of the chat templates in use, in the folded text."""

_FORGET = r"(?:ignore|disregard|forget|override|bypass|do not follow|stop following)"
_WHOSE = r"(?:any|the|my|these|those|of)"
_WHICH = r"(?:all|your|previous|prior|above|earlier|preceding|initial|original|system)"
_RULES = (
    r"(?:instructions?|prompts?|rules?|directives?|guidelines?|guardrails?|constraints?|messages?)"
)
_TELL = r"(?:reveal|print|show|repeat|output|tell|write out|what is|what are|what was)"
_GAP = r"\s{1,3}"
REQUESTS = (
    rf"\b{_FORGET}(?:{_GAP}{_WHOSE}){{0,3}}{_GAP}{_WHICH}(?:{_GAP}(?:{_WHOSE}|{_WHICH})){{0,4}}"
    rf"{_GAP}{_RULES}\b",
    rf"\b{_TELL}(?:{_GAP}(?:me|us|all|of|the|full|entire|exact)){{0,5}}{_GAP}(?:your|the)"
    rf"(?:{_GAP}(?:system|hidden|secret|initial|original)){{1,2}}{_GAP}"
    r"(?:prompts?|messages?|instructions?)\b",
    rf"\byou are (?:now|no longer){_GAP}(?:in{_GAP})?(?:dan|jailbroken|unrestricted|bound|"
    r"developer mode|an unrestricted)\b",
    rf"\b(?:enable|enter|activate){_GAP}(?:developer|god|jailbreak|dan){_GAP}mode\b",
    rf"\b(?:ignoriere|vergiss|missachte)(?:{_GAP}(?:alle|die|deine|bisherigen|vorherigen|obigen|"
    rf"fruheren)){{1,5}}{_GAP}(?:anweisungen|regeln|instruktionen|vorgaben)\b",
    rf"\b(?:ignore[sz]?|oublie[sz]?)(?:{_GAP}(?:toutes|tous|les|tes|vos)){{1,3}}{_GAP}"
    r"(?:instructions|regles|consignes)\b",
    rf"\b(?:ignora|olvida)(?:{_GAP}(?:todas|todos|las|los|tus|sus)){{1,3}}{_GAP}"
    r"(?:instrucciones|reglas)\b",
)
"""Requests to set the rules aside or to tell them, in the folded text."""

Part = Literal["role_tags", "requests"]
_PARTS: dict[Part, tuple[str, ...]] = {"role_tags": ROLE_TAGS, "requests": REQUESTS}


class Config(Settings):
    """Kinds of marks."""

    parts: tuple[Part, ...] = Field(default=("role_tags", "requests"), min_length=1)
    """Tags of chat templates, and requests to set the rules aside or to tell them."""


def build(config: Config, around: Surroundings) -> PatternCheck:
    """The check of marks of injection."""
    patterns = [pattern for part in config.parts for pattern in _PARTS[part]]
    return PatternCheck(patterns, Reading.FOLDED, "a mark of injection")


# --- hidden characters ---

Hidden = Literal["bidi", "tags", "unseen"]
_NEEDED = "\u200c\u200d\ufe0e\ufe0f\u00ad"
"""Joiners of Persian, Indic scripts and emoji, selectors of emoji, and soft hyphens."""


class HiddenConfig(Settings):
    """Kinds of characters that nobody sees."""

    kinds: tuple[Hidden, ...] = Field(default=("bidi", "tags", "unseen"), min_length=1)
    """Controls of direction; the invisible copy of ASCII; fillers, zero-width and annotation
    characters, but for joiners and selectors, which scripts and emoji need."""


class HiddenCheck:
    """Finds single characters that nobody sees."""

    reading = Reading.RAW
    reach = 1

    def __init__(self, kinds: tuple[Hidden, ...]) -> None:
        sets = {"bidi": BIDI_CONTROLS, "tags": TAGS, "unseen": UNSEEN}
        inside = "".join(sets[kind] for kind in kinds)
        self._expression = compiled(f"[{inside}]")
        self._spared = frozenset(_NEEDED)

    def search(self, passage: Passage, start: int) -> FoundStretch | None:
        """The first of them from `start` on."""
        if isinstance(passage.searched, bytes):  # ASCII has none
            return None
        at = start
        while (hit := self._expression.search(passage.text, at)) is not None:
            if hit.group() not in self._spared:
                return FoundStretch(hit.start(), hit.end(), f"U+{ord(hit.group()):04X}")
            at = hit.end()
        return None


def named(name: str) -> SimpleNamespace:
    """The check of one of `NAMES`, with what a module of its own would hold."""

    def build_hidden(config: HiddenConfig, around: Surroundings) -> HiddenCheck:
        return HiddenCheck(config.kinds)

    return SimpleNamespace(__doc__=NAMES[name], Config=HiddenConfig, build=build_hidden)
