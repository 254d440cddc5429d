"""Speed of the judging screen, in a real pseudo-terminal of 140 × 45 cells.

    python benchmarks/judging_screen.py [--words 60000] [--keys 200] [--seconds 10]

opening     from the key that takes an item of that many words to its first whole picture
key         from a key (scrolling, turns, quotes, belief, folding) to the end of what it paints
streaming   two turns at 200 chunks a second each: the longest time between two frames, and the
            processor time over the time that passed
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import time
from fcntl import ioctl
from itertools import pairwise
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

WIDTH, HEIGHT = 140, 45
QUIET_S = 0.02
"""So long without output, a picture is whole."""
CHUNKS_A_SECOND = 200
KEYS = (b"\x1b[6~", b"\x1b[5~", b"\x1b[B", b"j", b"k", b"]", b"\x1b[C", b".", b"\x1b[F", b"\x1b[H")


def make_store(path: Path, num_words: int) -> None:
    """A recorded debate of so many words, with a quote every hundred."""
    from oversight import protocols
    from oversight.agents.lexical import Config
    from oversight.graphs.planning import draw_orders, plan_one
    from oversight.store import Store
    from oversight.text.quotes import find_quotes
    from oversight.types import (
        Act,
        AgentSpec,
        Option,
        Outcome,
        OutcomeStatus,
        Question,
        Role,
        Seat,
        Source,
        Turn,
    )

    source = Source(
        text="In the year of the flood the keeper wrote down every boat that passed. " * 50
    )
    question = Question(
        id="q", dataset="bench", text="Which boat?", source=source, correct=0,
        options=(Option(text="the first"), Option(text="the last")),
    )  # fmt: skip
    protocol = protocols.load("debate").model_copy(update={"rounds": 10})
    spec = AgentSpec(agent="lexical", settings=Config().identity())
    specs = {Role.JUDGE: spec, Role.DEBATER: spec}
    debate = plan_one(question, protocol, specs, draw_orders(question, 0), 0)
    piece = "The keeper saw it and wrote of it, as anyone who reads with care will find. " * 6
    piece += "<quote>the keeper wrote down every boat that passed</quote>. "
    steps = [step for step in protocol.schedule() if step.slots[0].act is Act.SPEAK]
    a_turn = num_words // (len(steps) * 2)
    text = " ".join((piece * (a_turn // 90 + 1)).split(" ")[:a_turn])
    turns = [
        Turn(
            debate_id=debate.id, step=step.index, round=step.round, seat=seat, role=Role.DEBATER,
            act=Act.SPEAK, text=text, quotes=find_quotes(text, source),
        )
        for step in steps for seat in (Seat.A, Seat.B)
    ]  # fmt: skip
    with Store.open(path) as store:
        store.add(question, debate, *turns)
        store.add(Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE))


class Terminal:
    """A program under a pseudo-terminal."""

    def __init__(self, *command: str) -> None:
        leader, follower = pty.openpty()
        ioctl(leader, TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.process = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        self.leader = leader

    def paint(self, timeout_s: float = 30.0, quiet_s: float = QUIET_S) -> tuple[float, bytes]:
        """When the last byte of what comes now came, and all of it."""
        got, last = b"", time.perf_counter()
        wait = timeout_s
        while select.select([self.leader], [], [], wait)[0]:
            try:
                got += os.read(self.leader, 1 << 16)
            except OSError:
                break
            last = time.perf_counter()
            wait = quiet_s
        return last, got

    def wait_for(self, words: bytes, timeout_s: float = 60.0) -> float:
        """When these words were painted."""
        seen, end = b"", time.perf_counter() + timeout_s
        while time.perf_counter() < end:
            last, got = self.paint(1.0)
            seen += got
            if words in seen:
                return last
        raise TimeoutError(f"{words!r} did not appear")

    def press(self, key: bytes) -> float:
        """Seconds from the key to the end of what it paints; 0 if it paints nothing."""
        begin = time.perf_counter()
        os.write(self.leader, key)
        last, got = self.paint(0.5)
        return last - begin if got else 0.0

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            os.write(self.leader, b"\x11")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.leader)


def measure_reading(store: Path, num_keys: int) -> dict[str, float]:
    """Opening, and keys."""
    command = (sys.executable, "-m", "oversight.cli.main", "judge", "--whole")
    terminal = Terminal(*command, "--store", str(store), "--judge", "bench")
    try:
        terminal.wait_for(b"Which boat?")
        begin = time.perf_counter()
        os.write(terminal.leader, b"\r")
        opened = terminal.wait_for(b"for B") - begin
        terminal.paint(1.0)
        times = [t for n in range(num_keys) if (t := terminal.press(KEYS[n % len(KEYS)]))]
    finally:
        terminal.close()
    times.sort()
    return {
        "opening_s": opened,
        "keys": len(times),
        "key_median_ms": 1000 * times[len(times) // 2],
        "key_p95_ms": 1000 * times[int(len(times) * 0.95)],
        "key_max_ms": 1000 * times[-1],
    }


def measure_streaming(store: Path, seconds: float) -> dict[str, float]:
    """Frames and processor time while two turns are written."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = (sys.executable, __file__, "--stream", str(store), out.name, str(seconds))
        terminal = Terminal(*command)
        try:
            shown = b""
            while terminal.process.poll() is None:
                shown = (shown + terminal.paint(0.5)[1])[-4000:]
        finally:
            terminal.close()
        text = Path(out.name).read_text()
        if not text:
            raise RuntimeError(shown.decode(errors="replace"))
        found: dict[str, float] = json.loads(text)
    return found


def stream(store: Path, out: Path, seconds: float) -> None:
    """In the terminal: the real app, in whose debate two speakers write for `seconds`."""
    from oversight.graphs.runtime import SpeechBegins, Words
    from oversight.judging.settings import JudgingSettings
    from oversight.store import Store
    from oversight.tui.person_app import JudgeApp
    from oversight.tui.screens.debate import DebateScreen
    from oversight.types import Act, Role, Seat

    frames: list[float] = []
    results: list[dict[str, float]] = []

    class Streaming(JudgeApp):
        def on_mount(self) -> None:
            super().on_mount()
            self.run_worker(self.write())

        def _display(self, screen: Any, renderable: Any) -> None:
            super()._display(screen, renderable)
            if renderable is not None and screen is self.screen:
                frames.append(time.perf_counter())

        async def write(self) -> None:
            await asyncio.sleep(0.5)
            self.screen.action_do_next()
            await asyncio.sleep(1.5)
            screen = self.screen
            assert isinstance(screen, DebateScreen)
            seats = (Seat.A, Seat.B)
            for seat in seats:
                screen.live._hear(SpeechBegins("d", seat, Role.DEBATER, Act.SPEAK, 11))
            frames.clear()
            begun, cpu, num = time.perf_counter(), time.process_time(), 0
            while (passed := time.perf_counter() - begun) < seconds:
                while num < passed * CHUNKS_A_SECOND:
                    for seat in seats:
                        screen.live._hear(Words("d", seat, f"chunk {num} of the speech, "))
                    num += 1
                await asyncio.sleep(0.005)
            used = (time.process_time() - cpu) / (time.perf_counter() - begun)
            gaps = sorted(b - a for a, b in pairwise(frames))
            result = {
                "chunks_a_second": 2 * num / passed,
                "frames_a_second": len(frames) / passed,
                "longest_gap_ms": 1000 * gaps[-1],
                "gap_p95_ms": 1000 * gaps[int(len(gaps) * 0.95)],
                "core_share": used,
            }
            results.append(result)
            screen.live.writing.clear()
            self.exit()

    with Store.open(store) as opened:
        settings = JudgingSettings(store=str(store), judge="streamer", stepped=False, overlap=9)
        Streaming(opened, settings).run()
    out.write_text(json.dumps(results[0]))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--words", type=int, default=60_000)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--stream", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        store, out, seconds = arguments.stream
        stream(Path(store), Path(out), float(seconds))
        return
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "bench.db")
        make_store(store, arguments.words)
        reading = measure_reading(store, arguments.keys)
        print(f"a transcript of {arguments.words} words, {WIDTH} × {HEIGHT} cells")
        print(f"opening            {reading['opening_s']:6.2f} s    (bar 1 s)")
        print(f"key to paint, p95  {reading['key_p95_ms']:6.1f} ms   (bar 50 ms)")
        print(
            f"           median  {reading['key_median_ms']:6.1f} ms, "
            f"most {reading['key_max_ms']:.1f}"
        )
        found = measure_streaming(store, arguments.seconds)
        print(f"two turns streaming, {found['chunks_a_second']:.0f} chunks a second together")
        print(f"longest gap        {found['longest_gap_ms']:6.1f} ms   (bar 100 ms)")
        print(f"frames a second    {found['frames_a_second']:6.1f}")
        print(f"share of a core    {found['core_share']:6.2f}      (bar 0.5)")


if __name__ == "__main__":
    main()
