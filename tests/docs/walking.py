"""A page of the documentation walked through by its own commands, in their short form.

Every fenced block of a page is one of: a file (its title, or a comment in its first line, names
it), a script in Python, or lines for a shell. Files are written and everything else is run, in the
page's order, in a folder of its own. What makes a run short (fewer questions, fewer steps, an
embedded model in place of one on the hub) is in `short`.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import uvicorn

from oversight.cli.main import run
from oversight.store import Store

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
NAMED = re.compile(r'\A(?:# |"""In )([\w.]+\.(?:toml|py))\b')
HUB_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
HUB_ENGINE = f'engine = "transformers"\nsettings = {{ model = "{HUB_MODEL}" }}'
ANSWERS = [f"It stands in line {number} of the log." for number in range(500)]
SETTINGS = f"settings = {{ answers = {ANSWERS} }}"
"""Of the scripted engine, which answers in place of a model on the hub, each time otherwise."""
WHO = ("Ada", "Ben", "Cy", "Di", "Eve", "Flo")
ASKED = ("Where", "With whom", "Since when", "How")
PROMPTS = "".join(f"{ask} does {who} live?\n" for ask in ASKED for who in WHO)


@dataclass(frozen=True)
class Part:
    """A block of a page: a `file` by its name, a `script`, or a `command` in words."""

    kind: str
    name: str
    text: str
    words: tuple[str, ...] = ()


def pages() -> list[str]:
    """README and every page of docs/, as paths from the root."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return ["README.md", *(path.relative_to(ROOT).as_posix() for path in found)]


def parts(page: str) -> Iterator[Part]:
    """The commands and files of a page, in their order."""
    for language, info, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        title = TITLE.search(info) or NAMED.match(text)
        if title:
            yield Part("file", title[1], text)
        elif language == "python":
            yield Part("script", "", text)
        elif language in ("bash", "console", "sh", "shell"):
            yield from _commands(language, text)


def _commands(language: str, text: str) -> Iterator[Part]:
    lines = text.replace("\\\n", " ").splitlines()
    if language == "console":  # the other lines are what the command prints
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    for line in lines:
        for each in line.split(" && "):
            words = tuple(shlex.split(each, comments=True))
            if words:
                yield Part("command", words[0], each.strip(), words)


# --------------------------------------------------------------------------- short forms


def short(words: tuple[str, ...]) -> list[str]:
    """A command of ours without its first word, made short."""
    command, *rest = words[1:]
    rest = ["seedling" if w == HUB_MODEL else w for w in rest]
    if command == "debate":
        live = not {"--dataset", "-d"} & {*rest} and not any(w.endswith(".toml") for w in rest)
        if not live or "--limit" in rest:
            rest = _limited(rest, 2 if "--model" in rest else 12)
    elif command in ("critique", "propose"):
        rest = [re.sub(r"limit=\d+", "limit=24", word) for word in _limited(rest, 24)]
    elif command == "train" and "--dry-run" not in rest:
        rest += ["--set", "steps=2"]
    elif command in ("judge", "rate") and not {"--linear", "--model"} & {*rest}:
        rest += ["--linear"]
    elif command == "view":
        rest += ["--no-browser", "--port=0"]
    elif command == "pixels" and not any(w.startswith("recipes/") for w in rest):
        rest = ["4" if w == "50" else w for w in rest]
    if command == "propose":  # which have to differ from one another
        # porter writes on and on: more examples would be longer than what it can read.
        own = ("engines.local.settings.model=porter", "num_examples=2")
        return [command, *rest, *(word for each in own for word in ("--set", each))]
    if any(w.startswith("recipes/") and HUB_MODEL in (ROOT / w).read_text() for w in rest):
        rest += [
            "--set",
            "engines.local.engine=scripted",
            "--set",
            f"engines.local.{SETTINGS.replace(' = ', '=', 1)}",
        ]
    return [command, *rest]


def _limited(rest: list[str], most: int) -> list[str]:
    if "--limit" not in rest:
        return [*rest, "--limit", str(most)]
    place = rest.index("--limit") + 1
    return [*rest[:place], str(min(most, int(rest[place]))), *rest[place + 1 :]]


TYPED = {
    "judge": "next\nb A 80\nverdict decided\nsend\n" * 4 + "quit\n",
    "rate pairs": "1\n\n" * 20 + "quit\n",
    "rate revisions": "1\n1\n\n" * 20 + "quit\n",
    "rate clarity.py:Clarity": "1\n\n2\n\n" * 40 + "quit\n",
}
"""Input of a person, by command: four debates are judged, and all items rated."""


# --------------------------------------------------------------------------- walking


def take(part: Part) -> None:
    """Write a file, or run a script or a command of ours; any failure is the page's."""
    if part.kind == "file":
        text = part.text.replace(HUB_ENGINE, f'engine = "scripted"\n{SETTINGS}')
        Path(part.name).write_text(text.replace(HUB_MODEL, "seedling"), encoding="utf-8")
    elif part.kind == "script":
        exec(compile(part.text, "script", "exec"), {"__name__": "script"})
    else:
        words = short(tuple(map(_at_hand, part.words)))
        typed = TYPED.get(" ".join(words[:2]), TYPED.get(words[0], "quit\n"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(typed))
            patch.setattr(sys, "argv", ["oversight", *words])
            patch.setattr(uvicorn.Server, "run", _visited)
            assert run(words) == 0, f"oversight {shlex.join(words)}"
        if words[0] == "export":
            assert _num_rows(Path(words[1])), f"no row by oversight {shlex.join(words)}"


def _num_rows(path: Path) -> int:
    """Rows of a file that was exported; at least 1 of another kind of file or a folder."""
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    return len(path.read_text("utf-8").splitlines()) if path.suffix == ".jsonl" else path.exists()


STANDS_FOR = dict.fromkeys(("start.db", "sl.db", "rl.db"), "critique.db")
STANDS_FOR |= {"reworded.toml": "ours.toml"}
"""Files that a reader has made by other commands than the page's, and what serves instead."""


def _at_hand(word: str) -> str:
    """A word of a command, with what is there in place of what the page takes for granted."""
    for name, other in STANDS_FOR.items():
        word = re.sub(rf"(?<![\w.]){re.escape(name)}", other, word)
    if word != "3f2a9c":
        return word
    with Store.open("demo/demo.db", create=False) as opened:
        return next(iter(opened.debate_ids(complete=True)))[:12]


SERVE = uvicorn.Server.run


def _visited(server: uvicorn.Server, sockets: Any = None) -> None:
    """Serve until one visitor has got the first page."""
    status = []

    def visit() -> None:
        while not server.started:
            time.sleep(0.01)
        host, port = sockets[0].getsockname()[:2]
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=30) as answer:
                status.append(answer.status)
        finally:
            server.should_exit = True

    visitor = threading.Thread(target=visit)
    visitor.start()
    SERVE(server, sockets=sockets)
    visitor.join()
    assert status == [200]


def begin(folder: Path) -> None:
    """Lay out what pages take for granted: the recipes, and prompts of one's own."""
    (folder / "recipes").symlink_to(ROOT / "recipes")
    for name in ("prompts.txt", "asked.txt", "seeds.txt"):
        (folder / name).write_text(PROMPTS, encoding="utf-8")
    (folder / "asked.csv").write_text("request,other\nWhere do I live?,x\nWhy?,y\n")
    lines = [json.dumps({"prompt": line}) + "\n" for line in PROMPTS.splitlines()]
    (folder / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
