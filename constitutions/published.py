"""Principles in the formats that others publish them in, and dialogues that show their use.

Of "Constitutional AI" (Bai et al. 2022, arXiv:2212.08073), as its authors' files have them:
requests for critiques and revisions (an object of name -> {`prompt`: [text], `edit_request`:
text}), lists of comparison principles, and dialogues that show a critique and its revision. And
plain lists, one principle a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oversight.errors import ConfigError
from oversight.text.prompts import labelled
from oversight.types import Message

SUFFIXES = (".json", ".txt")
"""Endings of files in a published format."""

_LABELS = ("CritiqueRequest", "Critique", "RevisionRequest", "Revision")
_SPEAKERS = ("Human", "Assistant")
_OPTIONS = re.compile(r"\s*Options:\s*$")
_BULLET = re.compile(r"^(?:[-*•]|\(?\d{1,3}[.)])\s+")
_WORDS = re.compile(r"[^a-z0-9]+")


def published(text: str, path: Path) -> dict[str, Any]:
    """The set in a file of a published format, as a .toml file would hold it.

    Raises:
        ConfigError: The file is in none of these formats; the message says where it departs.
    """
    where = f"constitution file {str(path)!r}"
    if path.suffix == ".txt":
        principles = list(_lines(text))
    else:
        held = parsed_json(text, where)
        if isinstance(held, dict):
            principles = [
                each for name, value in held.items() for each in _asked(name, value, where)
            ]
        elif isinstance(held, list) and all(isinstance(each, str) for each in held):
            if any("\n\nHuman:" in each for each in held):
                raise ConfigError(
                    f"{where} holds dialogues, not principles; name it as examples= of an agent"
                )
            principles = [
                {"id": f"comparison-{number}", "text": said, "comparison": said}
                for number, said in enumerate(map(_without_options, held), start=1)
            ]
        else:
            raise ConfigError(
                f"{where}: expected an object of name -> {{prompt, edit_request}}, or a list of "
                "texts"
            )
    for each in principles:
        each["origin"] = path.name
    return {"description": f"Principles of {path.name}.", "principles": principles}


def parsed_json(text: str, where: str) -> Any:
    """The value of a JSON text.

    Raises:
        ConfigError: It is none; `where` begins the message.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON: {error}") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different: of two equal ones JSON would keep the last.

    Raises:
        ValueError: A name stands twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {doubled!r} stands twice in one object")
    return found


def _lines(text: str) -> Iterator[dict[str, Any]]:
    """Principles of a plain list: a line each, without bullets; `#` begins a remark."""
    said = (line.strip() for line in text.splitlines())
    rules = [_BULLET.sub("", line) for line in said if line and not line.startswith("#")]
    for number, rule in enumerate(rules, start=1):
        yield {"id": f"line-{number}", "text": rule}


def _asked(name: str, value: Any, where: str) -> Iterator[dict[str, Any]]:
    """Principles of one entry: one for each wording of its request for a critique."""
    if not isinstance(value, Mapping) or not {"prompt", "edit_request"} <= value.keys():
        raise ConfigError(f"{where}: {name}: expected an object with 'prompt' and 'edit_request'")
    prompts = value["prompt"]
    prompts = [prompts] if isinstance(prompts, str) else prompts
    revision = value["edit_request"]
    if (
        not isinstance(prompts, list)
        or not prompts
        or not all(isinstance(each, str) for each in prompts)
    ):
        raise ConfigError(f"{where}: {name}.prompt = {prompts!r}: expected a list of texts")
    if not isinstance(revision, str):
        raise ConfigError(f"{where}: {name}.edit_request = {revision!r}: expected a text")
    id_ = _WORDS.sub("-", name.lower()).strip("-")
    for number, prompt in enumerate(prompts, start=1):
        critique = _unlabelled(prompt)
        yield {
            "id": id_ if len(prompts) == 1 else f"{id_}-{number}",
            "text": critique,
            "critique": critique,
            "revision": _unlabelled(revision),
        }


def _unlabelled(text: str) -> str:
    """A request without the label before it and the one that is to be written behind it."""
    for label in _LABELS:
        text = re.sub(rf"^\s*{label}:|\b{label}:\s*$", "", text)
    return text.strip()


def _without_options(text: str) -> str:
    return _OPTIONS.sub("", text).strip()


# --- dialogues that show how it is done ---


@dataclass(frozen=True)
class CritiqueExample:
    """A chat with the answer that was criticised, the critique by a principle, and the revision."""

    chat: tuple[Message, ...]
    """Ends with the answer."""
    critique_request: str
    critique: str
    revision_request: str
    revision: str


def demonstrations(path: Path) -> tuple[CritiqueExample, ...]:
    """The dialogues of a few-shot file: a JSON list of texts, each written as
    `\\n\\nHuman: … \\n\\nAssistant: … \\n\\nCritiqueRequest: … \\n\\nCritique: …
    \\n\\nRevisionRequest: … \\n\\nRevision: …`.

    Raises:
        ConfigError: The file is none; the message names the dialogue and what is missing in it.
    """
    where = f"few-shot file {str(path)!r}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    held = parsed_json(text, where)
    if not isinstance(held, list) or not held:
        raise ConfigError(f"{where}: expected a list of dialogues, as texts")
    return tuple(_demonstration(each, f"{where}: dialogue {n}") for n, each in enumerate(held, 1))


def _demonstration(given: Any, where: str) -> CritiqueExample:
    if not isinstance(given, str):
        raise ConfigError(f"{where} = {given!r}: expected a text")
    parts = labelled(given, (*_SPEAKERS, *_LABELS))
    if parts and parts[-1] == ("Human", ""):
        parts = parts[:-1]  # a stop sequence, written out
    chat = [part for part in parts if part[0] in _SPEAKERS]
    asked = parts[len(chat) :]
    if tuple(label for label, _ in asked) != _LABELS:
        raise ConfigError(
            f"{where}: expected a chat of Human: and Assistant:, then {': '.join(_LABELS)}: in "
            f"this order, and found {', '.join(label for label, _ in parts) or 'none of them'}"
        )
    roles = [label for label, _ in chat]
    wanted = [_SPEAKERS[number % 2] for number in range(len(roles))]
    if roles != wanted or not roles or roles[-1] != "Assistant":
        raise ConfigError(
            f"{where}: Human: and Assistant: take turns, and the Assistant has the last word "
            f"before the critique; found {', '.join(roles) or 'neither'}"
        )
    for label, said in parts:
        if not said:
            raise ConfigError(f"{where}: nothing stands behind {label}:")
    messages = tuple(
        Message(role="user" if label == "Human" else "assistant", parts=(said,))
        for label, said in chat
    )
    return CritiqueExample(messages, *(said for _, said in asked))
