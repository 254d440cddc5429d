"""Secrets of this process, and text without them: nothing printed, stored or logged shows a key.

A secret is registered where it is read (`register`), or stands in an environment variable whose
name says so (`OPENAI_API_KEY`, `HF_TOKEN`, `PGPASSWORD`). `redacted` takes it out of a text as it
is, in the forms that libraries and servers give it (percent, JSON, HTML, base64, hexadecimal),
in capital or small letters, and in pieces, as a text that was cut short holds them. A text is
redacted before it is cut.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shlex
import string
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

SHOWN = "***"
"""The words that stand in a secret's place."""

MIN_CHARS = 4
"""Least characters of a secret: to take out shorter words would make messages unreadable."""
WHOLE_WORD_CHARS = 12
"""Shorter secrets of letters alone, such as the password `postgres`, are taken out as words."""
ENVIRONMENT_MIN_CHARS = 8
"""Of a variable that is taken for a secret by its name alone."""
PIECE_CHARS = 8
"""Pieces of a secret from this length on are taken out; of shorter secrets, from half of it on."""
MIN_PIECE_CHARS = 6

OUR_WORDS = "openai oversight localhost postgresql password anthropic huggingface transformers"
"""Words of our own messages: a piece of a secret that is part of one tells nothing."""

_VARIABLE = re.compile(
    r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS)$", re.IGNORECASE
)
_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^:/?#@]*:([^/?#]*)@", re.IGNORECASE)
"""In a variable that holds an address, such as HTTPS_PROXY."""
_registered: set[str] = set()


def register(secret: str | None) -> None:
    """Take `secret` out of every text from now on; None and very short ones are ignored."""
    if secret is not None and len(secret.strip()) >= MIN_CHARS:
        _registered.add(secret.strip())


def without_password(address: str) -> str:
    """The address of a store or a server with `***` in place of the password in its URL."""
    address = re.sub(r"(://[^:/?#]*):.*@", rf"\1:{SHOWN}@", address, flags=re.DOTALL)
    return re.sub(r"(password=)[^&\s]*", rf"\1{SHOWN}", address)


_LOGIN = re.compile(
    r"""(?<![^\s'"=(,])(?:([\w+.-]+://)[^\s'"]*@|[^\s'"/:@=]+:[^\s'"]*@)""",
)
"""All that stands before the host of an address, up to the last @ of the word that it is."""


def without_login(text: str) -> str:
    """`text` with `***` in place of user and password of every address in it, right or wrong.

    For text that shows an address as somebody wrote it, of which nothing is known: a password may
    be too short to be registered, or hold signs by which the address is none.
    """
    return _LOGIN.sub(lambda found: f"{found[1] or ''}{SHOWN}@", text)


def register_login(address: str) -> bool:
    """Take the password of an address out of every text from now on, and so a key that stands in
    the place of a web address's user; True if the address has a user or a password."""
    scheme, slashes, rest = address.partition("//")
    login, at, _ = (rest if slashes else address).rpartition("@")
    user, colon, password = login.partition(":")
    secret = password if colon else user if scheme.startswith("http") else ""
    for form in {secret, unquote(secret)}:
        register(form)
    return bool(at)


def command_line(arguments: Iterable[str]) -> str:
    """The command of these arguments as it is kept and shown: without secrets."""
    return redacted(shlex.join(map(without_password, arguments)))


def redacted(text: str) -> str:
    """`text` with `***` in place of each known secret, its forms and its pieces.

    Linear in the length of `text`; the same text where no secret is in it.
    """
    secrets = frozenset(_registered | set(_of_environment()) | set(_of_hub()))
    if not secrets or len(text) < MIN_CHARS:
        return text
    whole, pieces = _tables(secrets)
    text = whole.sub(SHOWN, text)
    return _without_pieces(text, pieces)


def name_of_secret(text: str) -> str | None:
    """The place that a secret in `text` is known from, such as "HF_TOKEN"; None if none is in it.

    Only whole secrets count, in any of their forms: a piece of one may be a word by chance.
    """
    named = [("registered in this process", each) for each in _registered]
    named += [*_variables(), *(("the saved login of the hub", each) for each in _of_hub())]
    every = frozenset(secret for _, secret in named)
    if not every or not _tables(every)[0].search(text):
        return None
    return next(name for name, secret in named if _tables(frozenset({secret}))[0].search(text))


def _of_environment() -> Iterator[str]:
    return (value for _, value in _variables())


def _variables() -> Iterator[tuple[str, str]]:
    """Variables of the environment that hold a secret, with their values."""
    for name, given in os.environ.items():
        value = given.strip()
        is_path = value.startswith(("/", "~", "./"))
        if _VARIABLE.search(name) and len(value) >= ENVIRONMENT_MIN_CHARS and not is_path:
            yield name, value
        elif (login := _PASSWORD.search(value)) and len(login[1]) >= ENVIRONMENT_MIN_CHARS:
            yield name, login[1]
            yield name, unquote(login[1])


def _of_hub() -> tuple[str, ...]:
    """The token that `hf auth login` has left."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return _token_in(os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token"))


@lru_cache(maxsize=16)
def _token_in(path: str) -> tuple[str, ...]:
    try:
        token = Path(path).expanduser().read_text("utf-8").strip()
    except (OSError, ValueError, RuntimeError):
        return ()
    return (token,) if len(token) >= ENVIRONMENT_MIN_CHARS else ()


@lru_cache(maxsize=16)
def _tables(secrets: frozenset[str]) -> tuple[re.Pattern[str], dict[int, frozenset[str]]]:
    """A pattern of whole secrets in all their forms, the longest first; and pieces by length."""
    forms: set[str] = set()
    words: set[str] = set()
    pieces: dict[int, set[str]] = {}
    for secret in secrets:
        forms.update(_spelt_out(secret))
        for form in _forms(secret):
            if form == secret and _is_word(form):
                words.add(form)
                continue
            forms.add(form)
            size = min(PIECE_CHARS, max(MIN_PIECE_CHARS, (len(form) + 1) // 2))
            if len(form) > size:
                small = form.translate(_SMALL)
                every = (small[at : at + size] for at in range(len(form) - size + 1))
                pieces.setdefault(size, set()).update(p for p in every if p not in OUR_WORDS)
    patterns = sorted((forms | words) - {""}, key=len, reverse=True)
    whole = "|".join(
        rf"(?-i:(?<![^\W_]){re.escape(form)}(?![^\W_]))" if form in words else re.escape(form)
        for form in patterns
    )
    every_size = {size: frozenset(each) for size, each in pieces.items()}
    return re.compile(whole, re.IGNORECASE | re.ASCII), every_size


def _is_word(form: str) -> bool:
    return len(form) < WHOLE_WORD_CHARS and form.isalpha()


_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
"""Small letters of ASCII, so that no text becomes longer or shorter."""


def _spelt_out(secret: str) -> Iterator[str]:
    """A secret encoded twice, or character by character: of these, pieces tell too little."""
    if len(secret) < ENVIRONMENT_MIN_CHARS:
        return
    yield quote(quote(secret, safe=""), safe="")
    yield json.dumps(json.dumps(secret)[1:-1])[1:-1]
    yield "".join(f"%{byte:02x}" for byte in secret.encode("utf-8", "replace"))
    for written in ("\\u{:04x}", "\\x{:02x}", "&#{};", "&#x{:x};"):
        yield "".join(written.format(ord(char)) for char in secret)


def _forms(secret: str) -> Iterator[str]:
    """A secret as it is, and as encodings write it."""
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield html.escape(secret)
    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
    yield ascii(secret)[1:-1]
    if len(secret) >= ENVIRONMENT_MIN_CHARS:
        data = secret.encode("utf-8", "replace")
        yield data.hex()
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            for before in range(3):  # it may begin at each place of a group of three bytes
                yield _inner(encode(b"\0" * before + data).decode(), before)


def _inner(encoded: str, before: int) -> str:
    """The characters of base64 that the secret alone decides, whatever stands around it."""
    skipped = (0, 2, 3)[before]
    body = encoded.rstrip("=")
    return body[skipped:] if len(encoded) == len(body) else body[skipped:-1]


def _without_pieces(text: str, pieces: dict[int, frozenset[str]]) -> str:
    kept: list[str] = []
    place = 0
    hidden_to = 0
    for start, end in _found(text, pieces):
        if start > hidden_to or not hidden_to:
            kept += [text[place:start], SHOWN]
        hidden_to = place = max(hidden_to, end)
    return "".join([*kept, text[place:]]) if kept else text


def _found(text: str, pieces: dict[int, frozenset[str]]) -> list[tuple[int, int]]:
    """Return the stretches at which pieces stand, by their beginnings; they may overlap."""
    text = text.translate(_SMALL)
    found = [
        (at, at + size)
        for size, every in pieces.items()
        for at in range(len(text) - size + 1)
        if text[at : at + size] in every
    ]
    return sorted(found)
