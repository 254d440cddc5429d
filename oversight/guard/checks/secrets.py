"""Secrets, such as keys and tokens; and personal data, such as addresses and numbers of accounts.

What has a check digit (cards, accounts) is found only where the digit is right.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal, get_args

from pydantic import Field

from oversight.config import Settings
from oversight.guard.checks.base import FoundStretch, Passage, Reading, Surroundings
from oversight.guard.checks.patterns import compiled, longest_match

NAMES = {
    "personal_data": "E-mail and IP addresses; telephone, card, account and security numbers.",
}


@dataclass(frozen=True, slots=True)
class Form:
    """A form that something has, and how much of what has it stands its check."""

    pattern: str
    fits: Callable[[str], int] = len
    """Of a match, the number of characters that are the thing; 0 for none."""
    tail: Callable[[str], bool] | None = None
    """Characters that go on with it, as in `FoundStretch.tail`."""


def _longest(holds: Callable[[str], bool]) -> Callable[[str], int]:
    """The longest beginning that ends where a group of characters does and holds."""

    def fits(text: str) -> int:
        ends = (end for end in range(len(text), 0, -1) if text[end : end + 1] in ("", " ", "-"))
        return next((end for end in ends if holds(text[:end])), 0)

    return fits


def _whole(holds: Callable[[str], bool]) -> Callable[[str], int]:
    return lambda text: len(text) if holds(text) else 0


def _luhn(text: str) -> bool:
    digits = [int(char) for char in text if char.isdigit()]
    doubled = (2 * digit - 9 * (digit > 4) for digit in digits[-2::-2])
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    plain = "".join(text.split())
    turned = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def _phone(text: str) -> bool:
    return 8 <= sum(map(str.isdigit, text)) <= 15


def _ip(text: str) -> bool:
    return all(int(part) < 256 for part in text.split("."))


def _varied(text: str) -> bool:
    """True of a value that looks drawn at random: a placeholder repeats few characters."""
    return len(set(text[-8:])) >= 5


def _of(characters: str) -> Callable[[str], bool]:
    """True of letters and digits of ASCII, and of some other characters."""
    known = frozenset(string.ascii_letters + string.digits + characters)
    return known.__contains__


_TOKEN = _of("_-")
SECRETS: Mapping[str, Form] = {
    "aws": Form(r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}\b"),
    "github": Form(r"\b(?:gh[pousr]_[A-Za-z0-9]{30}|github_pat_[A-Za-z0-9_]{20})", tail=_TOKEN),
    "openai": Form(r"\bsk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_\-]{20}", tail=_TOKEN),
    "slack": Form(r"\bxox[abposr]-[A-Za-z0-9\-]{10}", tail=_TOKEN),
    "google": Form(r"\bAIza[0-9A-Za-z_\-]{35}", tail=_TOKEN),
    "stripe": Form(r"\b[rs]k_(?:live|test)_[0-9A-Za-z]{16}", tail=_TOKEN),
    "hugging_face": Form(r"\bhf_[A-Za-z0-9]{30}", tail=_TOKEN),
    "gitlab": Form(r"\bglpat-[A-Za-z0-9_\-]{20}", tail=_TOKEN),
    "jwt": Form(r"\beyJ[A-Za-z0-9_\-]{8,80}\.eyJ[A-Za-z0-9_\-]{8}", tail=_of("_-.")),
    # Its lines follow each other without a space.
    "private_key": Form(r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----", tail=_of("+/=\r\n-")),
    "url_password": Form(r"\b[a-z][a-z0-9+]{1,11}://[^\s:@/]{1,32}:[^\s:@/]{3,64}@"),
    "assigned": Form(
        r"(?i)\b(?:api_?key|secret|token|passwd|password|pwd)\s{0,3}[:=]\s{0,3}['\"][^\s'\"]{8}",
        _whole(_varied),
        lambda char: not char.isspace() and char not in "'\"",
    ),
}
PERSONAL: Mapping[str, Form] = {
    "email": Form(r"\b[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9\-]{1,40}\.[A-Za-z]{2}", tail=_of(".-")),
    "card": Form(r"\b\d(?:[ \-]?\d){12,18}\b", _longest(_luhn)),
    "iban": Form(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b", _longest(_iban)),
    "us_ssn": Form(r"\b(?:00[1-9]|0[1-9]\d|[1-578]\d\d|6[0-57-9]\d)-(?:0[1-9]|[1-9]\d)-\d{4}\b"),
    "phone": Form(r"\+\d{1,3}(?:[ \-.]?\(?\d{1,4}\)?){2,6}\b", _whole(_phone)),
    "ip": Form(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", _whole(_ip)),
}
SecretKind = Literal[
    "aws", "github", "openai", "slack", "google", "stripe", "hugging_face", "gitlab", "jwt",
    "private_key", "url_password", "assigned",
]  # fmt: skip
PersonalKind = Literal["email", "card", "iban", "us_ssn", "phone", "ip"]


class Config(Settings):
    """Kinds of secrets."""

    kinds: tuple[SecretKind, ...] = Field(default=get_args(SecretKind), min_length=1)


class PersonalConfig(Settings):
    """Kinds of personal data."""

    kinds: tuple[PersonalKind, ...] = Field(default=get_args(PersonalKind), min_length=1)


class KindsCheck:
    """Finds what has one of some forms, and stands its check."""

    reading = Reading.RAW

    def __init__(self, kinds: Mapping[str, Form]) -> None:
        self._kinds = list(kinds.items())
        self.reach = max(longest_match(kind.pattern) for kind in kinds.values())
        self._any = compiled("|".join(f"(?:{kind.pattern})" for kind in kinds.values()))
        self._each = [compiled(kind.pattern) for kind in kinds.values()]

    def search(self, passage: Passage, start: int) -> FoundStretch | None:
        """The first that holds from `start` on; of one place, the longest."""
        text = passage.searched
        if self._any.search(text, start) is None:  # most texts hold none, and end here
            return None
        best: FoundStretch | None = None
        for (name, kind), expression in zip(self._kinds, self._each, strict=True):
            at = start
            while (hit := expression.search(text, at)) is not None:
                if best is not None and hit.start() > best.start:
                    break
                size = kind.fits(passage.text[hit.start() : hit.end()])
                if size:
                    found = FoundStretch(hit.start(), hit.start() + size, name, kind.tail)
                    if best is None or (found.start, -found.end) < (best.start, -best.end):
                        best = found
                    break
                at = hit.start() + 1
        return best


def build(config: Config, around: Surroundings) -> KindsCheck:
    """The check of secrets."""
    return KindsCheck({kind: SECRETS[kind] for kind in config.kinds})


def named(name: str) -> SimpleNamespace:
    """The check of one of `NAMES`, with what a module of its own would hold."""

    def build_personal(config: PersonalConfig, around: Surroundings) -> KindsCheck:
        return KindsCheck({kind: PERSONAL[kind] for kind in config.kinds})

    return SimpleNamespace(__doc__=NAMES[name], Config=PersonalConfig, build=build_personal)
