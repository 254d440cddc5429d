"""Nothing foreign steers a judge's terminal: every byte that the real app writes is looked at.

The same keys are pressed over a store whose every text is hostile, and over one of plain words;
what the second makes the app write is what the first may.
"""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fcntl import ioctl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from oversight import protocols
from oversight.graphs.planning import draw_orders, plan_one
from oversight.store import Store
from oversight.text.quotes import find_quotes
from oversight.text.terminal import visible
from oversight.types import (
    Act,
    AgentSpec,
    Debate,
    EngineSpec,
    EventKind,
    Option,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Question,
    Role,
    Source,
    Turn,
)
from tests.text.test_terminal import forbidden

HOSTILE = [
    case["text"].encode("utf-8", "replace").decode("utf-8")
    for case in json.loads((Path(__file__).parents[1] / "text" / "hostile.json").read_text())
]
"""Lone halves of pairs left out: no store holds them."""
LONG = "\n".join(text[:600] for text in HOSTILE if text.strip())
SHORT = [text[:60] for text in HOSTILE if text.strip() and not text[:60].isprintable()]
SHORT += [text[:60] for text in HOSTILE if "[" in text]
NAMES = ["¦".join(SHORT[k::4]) for k in range(4)]
"""Every string that hides or steers, in names short enough to be seen whole."""

WIDTH, HEIGHT = 1000, 50
"""Wide, so that little is cut off."""

SEQUENCE = re.compile(
    rb"\x1b\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])"
    rb"|\x1b(?P<string>[\]P_^X])(?P<body>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    rb"|\x1b(?P<other>.)"
    rb"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])",
    re.DOTALL,
)


@dataclass
class Written:
    """The output of an app to its terminal."""

    raw: bytes

    @property
    def kinds(self) -> set[str]:
        """Kinds of sequences and control characters."""
        found = set()
        for match in SEQUENCE.finditer(self.raw):
            if match["final"]:
                final, parameters = match["final"].decode(), match["parameters"].decode()
                # What is set and asked counts whole; colours and places only as what they are.
                found.add(f"CSI {final}" if final in "mHK" else f"CSI {parameters}{final}")
            elif match["string"]:
                found.add(f"string {match['string'].decode()}{match['body'][:3].decode()}")
            else:
                found.add(repr(match[0]))
        return found

    @property
    def text(self) -> str:
        """The words between, which must be UTF-8."""
        return SEQUENCE.sub(b"", self.raw).decode()

    @property
    def copied(self) -> list[str]:
        """Texts that were put on the clipboard."""
        sent = re.findall(rb"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", self.raw)
        return [base64.b64decode(each, validate=True).decode() for each in sent]


class Terminal:
    """`oversight` under a pseudo-terminal."""

    def __init__(self, *args: str, folder: Path) -> None:
        leader, follower = pty.openpty()
        ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "oversight.cli.main", *args],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
                # Whoever runs the tests may have said another size, which counts for more.
                "COLUMNS": str(WIDTH),
                "LINES": str(HEIGHT),
            },
            cwd=folder,
            start_new_session=True,
        )
        os.close(follower)
        self._leader = leader
        self.written = b""
        self._pressed = 0

    def read(self, quiet_s: float = 0.4, most_s: float = 20.0) -> bytes:
        """Reads until nothing more comes for a while, and returns the bytes that came."""
        got, end = b"", time.monotonic() + most_s
        # A busy machine may take a while to answer at all.
        wait = max(quiet_s, 1.2)
        while time.monotonic() < end and select.select([self._leader], [], [], wait)[0]:
            wait = quiet_s
            try:
                data = os.read(self._leader, 1 << 16)
            except OSError:
                break
            if not data:
                break
            got += data
        self.written += got
        return got

    def see(self, words: str, most_s: float = 60.0) -> None:
        """Read until these words have come since the last key."""
        end = time.monotonic() + most_s
        while words not in (seen := self.written[self._pressed :]).decode(errors="replace"):
            assert time.monotonic() < end, (words, visible(seen[-3000:].decode(errors="replace")))
            self.read()

    def go_on_until(self, words: str, most_s: float = 120.0) -> None:
        """Read what the screen says is unread, and answer what it asks about that, until these
        words have come."""
        began, end = self._pressed, time.monotonic() + most_s
        while words not in (seen := self.written[began:].decode(errors="replace")):
            assert time.monotonic() < end, (words, visible(seen[-3000:]))
            if "answer anyway (y)" in seen:
                self.press("y")
                began = self._pressed
            elif (last := max((seen.rfind(f"{name} reads on"), name) for name in PAGES))[0] >= 0:
                self.press(PAGES[last[1]])
            self.read()

    def press(self, *keys: str) -> None:
        for key in keys:
            self._pressed = len(self.written)
            os.write(self._leader, key.encode())
            self.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._leader)


def toml(text: str) -> str:
    """A TOML string, all of whose characters but letters are escaped."""
    return '"' + "".join(c if c.isalnum() else f"\\U{ord(c):08X}" for c in text) + '"'


@pytest.fixture
def refusing() -> Iterator[Any]:
    """A model's server that refuses with a message of its own: its address, and the message."""

    class Refuse(BaseHTTPRequestHandler):
        message = ""

        def do_POST(self) -> None:
            body = json.dumps({"error": {"message": self.message, "type": self.message}}).encode()
            self.send_response(400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Refuse, f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def add_recorded(store: Store, names: list[str], long: str) -> None:
    """Finished debates with these names and words; the first has all of them."""
    for number, name in enumerate(["¦".join(names), *names]):
        question, protocol = question_of(f"recorded {number}", name, long)
        specs = {
            Role.DEBATER: AgentSpec(agent="lexical", settings={}),
            Role.JUDGE: AgentSpec(agent="lexical", settings={}),
        }
        debate = plan_one(question, protocol, specs, draw_orders(question, 0), 0)
        store.add(question, debate, *turns_of(debate, protocol, question, long))
        store.add(Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE))


def question_of(id_: str, name: str, long: str) -> tuple[Question, OversightProtocol]:
    question = Question(
        id=id_ + name,
        dataset=f"{id_} {name}",
        text=f"Which? {name}",
        options=(Option(text=f"one {name}"), Option(text=f"two {name}")),
        correct=0,
        source=Source(title=f"t {name}", text=f"Before. {long} After."),
    )
    changes = {"rounds": 1, "name": f"p {name}", "judge_sees_source": True}
    return question, protocols.load("debate").model_copy(update=changes)


def turns_of(
    debate: Debate, protocol: OversightProtocol, question: Question, long: str
) -> list[Turn]:
    text = f"{long} <quote>Before. {long[:300]}</quote> <quote>Not {long[:300]}</quote> {long}"
    return [
        Turn(
            debate_id=debate.id,
            step=step.index,
            round=step.round,
            seat=slot.seat,
            role=Role.DEBATER,
            act=Act.SPEAK,
            text=text,
            quotes=find_quotes(text, question.source),
        )
        for step in protocol.schedule()
        for slot in step.slots
        if slot.act is Act.SPEAK
    ]


def spoken(text: str) -> str:
    """The text without marks of thoughts: an answer that ends in a thought is no speech."""
    return re.sub(r"</?think>|\[/?THINK\]", "", text)


def add_live(store: Store, name: str, long: str) -> dict[str, Any]:
    """A debate that waits for a judge; the settings of its speakers' engine."""
    settings: dict[str, Any] = {"model": name, "fallback": spoken(long)}
    engine = EngineSpec(engine="scripted", settings=settings)
    specs = {
        Role.DEBATER: AgentSpec(agent="debater", settings={"reasoning": False}, engine=engine),
        Role.JUDGE: AgentSpec(agent="human", settings={}),
    }
    question, protocol = question_of("live", name, long)
    debate = plan_one(question, protocol, specs, draw_orders(question, 0), 0)
    store.add(question, debate)
    return settings


def write_study(path: Path, judge: str, long: str, refusing: str, speakers: dict[str, Any]) -> None:
    path.write_text(
        f"judge = {toml(judge)}\nname = {toml(judge)}\nreveal_models = true\n"
        '[assistance]\nfull = { agent = "assistant", engine = "says" }\n'
        f'[engines.says]\nengine = "scripted"\nsettings = {{ fallback = {toml(long)} }}\n'
        f'[engines.speakers]\nengine = "scripted"\nsettings = {{ fallback = {toml(spoken(long))}, '
        f"model = {toml(speakers['model'])} }}\n",
        "utf-8",
    )
    path.with_name("refused.toml").write_text(
        f"judge = {toml(judge)}\n"
        '[assistance]\nfull = { agent = "assistant", engine = "refuses" }\n'
        '[engines.refuses]\nengine = "openai"\n'
        f'settings = {{ base_url = "{refusing}", model = "m" }}\n',
        "utf-8",
    )


def judged(folder: Path, names: list[str], long: str, refusing: tuple[Any, str]) -> Written:
    """All screens over a store of these words, and all that was written to the terminal."""
    prepare(folder, names, long, refusing)
    written = b""
    for study, more in (("study.toml", whole_round), ("refused.toml", refused)):
        terminal = Terminal("judge", "--store=s.db", study, folder=folder)
        try:
            more(terminal)
            terminal.press("\x11")
            terminal.process.wait(20)
            terminal.read()
        finally:
            terminal.close()
        written += terminal.written
    return Written(written)


def judged_by_line(folder: Path, names: list[str], long: str, refusing: tuple[Any, str]) -> Written:
    """The same line by line."""
    prepare(folder, names, long, refusing)
    terminal = Terminal("judge", "--linear", "--store=s.db", "study.toml", folder=folder)
    try:
        terminal.see("queue>")
        for line in LINES:
            terminal.press(f"{line}\n")
        terminal.process.wait(20)
        terminal.read()
    finally:
        terminal.close()
    return Written(terminal.written)


LINES = (
    *("list all", "filter recorded", "1", "quotes", "around 1", "source", "turns", "status"),
    *("assist", "assist 1", "belief 70", "lean 1", "why because", "", "send", "queue"),
    *("filter live", "1", "", "belief 60", "", "queue", "quit"),
)


def prepare(folder: Path, names: list[str], long: str, refusing: tuple[Any, str]) -> None:
    """A store, and studies, of these words."""
    handler, address = refusing
    handler.message = long
    with Store.open(folder / "s.db") as store:
        add_recorded(store, names, long)
        speakers = add_live(store, "¦".join(names), long)
    write_study(folder / "study.toml", "¦".join(names), long, address, speakers)


def whole_round(terminal: Terminal) -> None:
    """Queue, debate, quotes, source, search, copying, assistant, keys, verdict, sent."""
    terminal.see("Enter ")
    terminal.press("f", *"recorded", "\r", "\r")
    terminal.see("reads on")
    terminal.press("j", "y", "]", "y", "c", "]", "q", " ", "w", *[PAGE_DOWN] * 4, "\x1b")
    terminal.press(*[PAGE_DOWN] * 5, "/", *"evil", "\r", "n", "z", "z")
    terminal.press("a")
    terminal.see("Summarise")
    terminal.press("1")
    terminal.see("◇")
    terminal.press("a", "\x1b", "?", "\x1b", "7", "0", "v")
    terminal.go_on_until("Your judgment")
    terminal.press(*"why", "\x13")
    terminal.see("Sent")
    terminal.press("\x1b", "f", *["\x7f"] * 8, *"live", "\r", "\r")
    terminal.go_on_until("Set your belief")
    terminal.press("6", "0", "\r")
    terminal.go_on_until("The debate is over")
    terminal.press("\x1b", "s", "d")


def refused(terminal: Terminal) -> None:
    """An error whose message is another's."""
    terminal.see("Enter ")
    terminal.press("f", *"recorded", "\r", "\r", "a")
    terminal.see("Summarise")
    terminal.press("1")
    terminal.see("No answer")


PAGE_DOWN = "\x1b[6~"
PAGES = {"PgDn": PAGE_DOWN, "PgUp": "\x1b[5~"}
"""Keys by the names that the line at the foot gives them."""
PLAIN = "Plain words [that] nobody <minds>, evil ones among them ✓ “so” · 中文. "


MARKS = ("␛]52;c;ZXZpbA==␇", "⟨U+202E⟩", "⟨U+009B⟩2J", "⟨U+200B⟩", "[@click=app.quit]")
PLAIN_LONG = (PLAIN * 7 + "\n") * 20
Judged = Callable[[Path, list[str], str, Any], Written]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", [judged, judged_by_line])
def test_nothing_foreign_steers_the_terminal(way: Judged, tmp_path: Path, refusing: Any) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "hostile").mkdir()
    plain = way(tmp_path / "plain", [PLAIN * 2] * 4, PLAIN_LONG, refusing)
    hostile = way(tmp_path / "hostile", NAMES, LONG, refusing)
    assert forbidden(plain.text, kept="") == []
    assert hostile.kinds - plain.kinds == set()
    assert forbidden(hostile.text, kept="") == []
    for mark in MARKS:
        assert mark in hostile.text, f"{mark} was never on the screen"
    assert len(hostile.copied) == len(plain.copied) == (2 if way is judged else 0)
    for copied in hostile.copied:
        assert forbidden(copied) == []
    with Store.open(tmp_path / "hostile" / "s.db") as store:
        sent = [e for e in store.events("¦".join(NAMES)) if e.kind is EventKind.SENT]
    assert len(sent) == 1
