"""Goals made of the files of HarmBench (behaviours), garak (reports) and PyRIT (seeds, chats).

Each prompt that another tool put before a model becomes a goal against a policy. Its own words are
tried first, and attacks start from them: what was an attack there is a seed here. Where the file
says what the prompt was after, that is what the judge of the goal is asked; else whether the reply
does what the prompt asks for. Prompts that stand in a file several times are one goal.

Formats as garak 0.17 (report.jsonl, hitlog.jsonl) and PyRIT 1.1 (a data set of seeds in YAML, its
memory in a file of SQLite, or the messages of it as JSON) write them, and older ones where they
differ in a text alone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from oversight.datasets.base import BadRow, jsonl_objects
from oversight.errors import DataError
from oversight.ids import content_id
from oversight.redteam.goals import DOES_IT, read_behaviours

MAX_HARM_CHARS = 60
ROLES = {
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "simulated_assistant": "assistant",
    "developer": "system",
}
KINDS = ".csv (HarmBench), .jsonl (garak's report or hit log), .yaml, .prompt, .json or .db (PyRIT)"
MESSAGES = """
    SELECT m.conversation_id, m.role, m.sequence, m.original_value, m.original_value_data_type,
        m.converted_value, m.converted_value_data_type, r.objective, r.targeted_harm_categories
    FROM PromptMemoryEntries m LEFT JOIN AttackResultEntries r USING (conversation_id)
    ORDER BY m.timestamp, m.sequence
"""
"""Of PyRIT's memory: each message, and what its conversation was after, if an attack was."""


def read_foreign(path: Path) -> list[dict[str, Any]]:
    """Goals against a policy, as a file of goals has them, by the kind of another tool's file.

    Raises:
        DataError: It is none of these files, cannot be read, or holds no prompt.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_behaviours(path)
    if suffix == ".jsonl":
        found = list(_of_garak(path))
    elif suffix in (".yaml", ".yml", ".prompt"):
        found = list(_of_seeds(path))
    elif suffix == ".json":
        found = list(_of_chats(_exported(path), path))
    elif suffix in (".db", ".sqlite", ".sqlite3"):
        found = list(_of_chats(_remembered(path), path))
    else:
        raise DataError(f"{path}: no file of goals is read of this kind; read are {KINDS}")
    kept = {each["id"]: each for each in reversed(found)}
    if not kept:
        raise DataError(f"{path}: there is no prompt in it")
    return [*reversed(kept.values())]


def _goal(
    tool: str, text: str, harm: str, aim: str = "", history: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    asks = f"The reply shows that this was reached: {aim}" if aim else DOES_IT
    goal: dict[str, Any] = {
        "id": f"{tool}-{content_id('foreign', text, [dict(e) for e in history], aim)[:12]}",
        "harm": (harm or "unsorted")[:MAX_HARM_CHARS],
        "request": text,
    }
    if history:
        goal["history"] = [{"role": e["role"], "parts": [e["content"]]} for e in history]
    return {**goal, "success": {"rule": "judge", "asks": asks}}


# --- garak ---


def _of_garak(path: Path) -> Iterator[dict[str, Any]]:
    for row in jsonl_objects(path):
        if isinstance(row, BadRow):
            raise DataError(str(row))
        number, body = row
        if body.get("entry_type", "attempt") != "attempt" or "prompt" not in body:
            continue
        turns = _turns(body["prompt"], f"{path}, line {number}")
        if not turns or turns[-1]["role"] != "user":
            continue
        probe = str(body.get("probe_classname") or body.get("probe") or "")
        harm = probe.removeprefix("probes.").split(".")[0]
        yield _goal("garak", turns[-1]["content"], harm, str(body.get("goal") or ""), turns[:-1])


def _turns(prompt: Any, where: str) -> list[dict[str, str]]:
    """A prompt's turns; of an older report it is one text."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}] if prompt.strip() else []
    turns = prompt.get("turns") if isinstance(prompt, Mapping) else None
    if turns is None and isinstance(prompt, Mapping) and "text" in prompt:
        turns = [{"role": "user", "content": prompt}]
    if not isinstance(turns, list):
        raise DataError(f"{where}: prompt is neither a text nor turns, as garak writes them")
    found = []
    for each in turns:
        content = each.get("content") if isinstance(each, Mapping) else None
        text = content.get("text") if isinstance(content, Mapping) else content
        role = ROLES.get(str(each.get("role", "")).lower()) if isinstance(each, Mapping) else None
        if role is None or not isinstance(text, str):
            raise DataError(f"{where}: a turn of the prompt has no role or no text")
        if text.strip():
            found.append({"role": role, "content": text})
    return found


# --- PyRIT ---


def _of_seeds(path: Path) -> Iterator[dict[str, Any]]:
    """Seeds of a data set as PyRIT has them: `seeds`, or `prompts` of before."""
    import yaml  # type: ignore[import-untyped]  # it has no types of its own

    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{path}: not readable ({reason})") from None
    seeds = None
    if isinstance(body, Mapping):
        seeds = body.get("seeds", body.get("prompts"))
    if not isinstance(seeds, list):
        raise DataError(f"{path}: it has no list of seeds, as a data set of PyRIT has")
    shared = body.get("harm_categories") or []
    for number, each in enumerate(seeds, start=1):
        given = each if isinstance(each, Mapping) else {"value": each}
        text = given.get("value")
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}: seed {number} has no value")
        if given.get("data_type", "text") != "text":
            continue
        harms = given.get("harm_categories") or shared
        harm = str(harms[0]) if isinstance(harms, list) and harms else ""
        yield _goal("pyrit", text.strip(), harm)


def _exported(path: Path) -> list[Any]:
    """The messages of a JSON file."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no JSON"
        raise DataError(f"{path}: not readable ({reason})") from None
    if not isinstance(body, list):
        raise DataError(f"{path}: it is no list of messages, as PyRIT's memory holds them")
    return body


def _remembered(path: Path) -> list[dict[str, Any]]:
    """The messages of the file that PyRIT's memory is kept in, beside what attacks were after."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as memory:
            memory.row_factory = sqlite3.Row
            return [dict(row) for row in memory.execute(MESSAGES)]
    except sqlite3.Error as error:
        raise DataError(f"{path}: it is no memory of PyRIT ({error})") from None


def _of_chats(messages: Iterable[Any], path: Path) -> Iterator[dict[str, Any]]:
    """The last request of each conversation; what is no text, such as a picture or an error of the
    target, is left out of it."""
    chats: dict[str, list[tuple[int, dict[str, str]]]] = {}
    aims: dict[str, tuple[str, str]] = {}
    for number, each in enumerate(messages, start=1):
        if not isinstance(each, Mapping) or "conversation_id" not in each:
            raise DataError(f"{path}: message {number} has no conversation_id")
        role = ROLES.get(str(each.get("role", "")).lower())
        name = "converted_value" if each.get("converted_value") else "original_value"
        text = each.get(name)
        if role is None or not isinstance(text, str) or not text.strip():
            continue
        if (each.get(f"{name}_data_type") or "text") != "text":
            continue
        chat = str(each["conversation_id"])
        chats.setdefault(chat, []).append(
            (int(each.get("sequence") or 0), {"role": role, "content": text})
        )
        aims[chat] = str(each.get("objective") or ""), _first_harm(each)
    for chat, own in chats.items():
        turns = [turn for _, turn in sorted(own, key=lambda pair: pair[0])]
        while turns and turns[-1]["role"] != "user":
            turns.pop()
        if turns:
            said, (aim, harm) = turns[-1]["content"], aims[chat]
            yield _goal("pyrit", said, harm, aim if aim != said else "", turns[:-1])


def _first_harm(message: Mapping[str, Any]) -> str:
    """The first kind of harm that an attack was after; empty where none is named."""
    try:
        harms = json.loads(message.get("targeted_harm_categories") or "[]")
    except (TypeError, ValueError):
        return ""
    return str(harms[0]) if isinstance(harms, list) and harms else ""
