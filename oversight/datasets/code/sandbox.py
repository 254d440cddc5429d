"""Programs run in a process of their own, with limits: what they print, and how they end.

Linux and macOS. `docs/datasets.md` says what keeps a program in, and what this is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oversight.errors import DataError
from oversight.files import Closing
from oversight.ids import text_id

INSIDE = Path(__file__).with_name("sandboxed.py")
START_S = 60.0
"""Longest time that the server may take to start, on a machine that has other things to do."""
GRACE_S = 20.0
"""Longest time beyond a program's own limit before the server itself is taken for lost."""
CHUNK_BYTES = 1 << 16
MAX_REMEMBERED = 50_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a program's run."""

    cpu_s: int = 2
    """Seconds of CPU."""
    wall_s: float = 10.0
    """Seconds by the clock."""
    memory_mb: int = 512
    """MiB of address space; macOS does not hold programs to it."""
    output_bytes: int = 1 << 16
    """Of what it prints."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class ProgramStep:
    """A line of a program that was done, and the variables of its frame as they stood then."""

    line: int
    """1-based."""
    visit: int
    """1-based number of the line's visits so far, over all calls."""
    function: str
    """`<module>` outside of all functions."""
    values: dict[str, str | None]
    """The `repr` of each variable with a plain value; None where that is too long to be kept."""


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """The result of running a program."""

    output: str
    """All that it printed."""
    error: str = ""
    """Name of the exception that ended it; empty where it came to its own end."""
    line: int | None = None
    """1-based line of the program in which that was raised."""
    stopped: str = ""
    """Reason for which it has no result, as the end of a sentence about it; nothing else counts
    where this is set."""
    steps: tuple[ProgramStep, ...] = ()
    is_cut: bool = False
    """True if it had more steps than were asked for."""


_REMEMBERED: OrderedDict[str, ProgramEnd] = OrderedDict()
"""Results by content, those used last at the end."""
_REMEMBERED_LOCK = threading.Lock()


class Sandbox(Closing):
    """A server process that runs programs one after the other, each in a fork of it.

    Results are remembered by content, over all sandboxes of this process. It may be used from
    several threads; their programs then take turns.
    """

    def __init__(self, limits: Limits | None = None, *, remembers: bool = True) -> None:
        self.limits = limits or DEFAULT_LIMITS
        self.is_filtered = False
        """True if the kernel keeps programs from all system calls that they do not need; known
        once the first program was run."""
        self._remembers = remembers
        self._server: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._rest = b""

    def run(self, program: str, max_steps: int = 0) -> ProgramEnd:
        """Run a program; its result.

        Args:
            program: Its text.
            max_steps: Number of steps to record at most; 0 runs it at full speed.

        Raises:
            DataError: The sandbox cannot be started on this machine.
        """
        key = self._key(program, max_steps)
        with self._lock:
            known = self._recall(key)
            if known is not None:
                return known
            outcome = self._run(program, max_steps)
        self._remember(key, outcome)
        return outcome

    def run_together(self, programs: Sequence[str]) -> list[ProgramEnd]:
        """Run programs that trust each other in one process, which is faster; their results.

        Where one of them is stopped, each is run by itself.

        Raises:
            DataError: The sandbox cannot be started on this machine.
        """
        with self._lock:
            known = {program: self._recall(self._key(program, 0)) for program in programs}
            unknown = [program for program, outcome in known.items() if outcome is None]
            answer = self._request(unknown, 0) if len(unknown) > 1 else None
        if answer is None or len(answer["outcomes"]) != len(unknown):
            return [self.run(program) for program in programs]
        for program, told in zip(unknown, answer["outcomes"], strict=True):
            made = known[program] = ProgramEnd(told["output"], told["error"], told["line"])
            self._remember(self._key(program, 0), made)
        return [found for program in programs if (found := known[program]) is not None]

    def close(self) -> None:
        """End the server and what it runs, and remove its folder."""
        server, self._server = self._server, None
        if server is not None:
            assert server.stdin is not None
            assert server.stdout is not None
            with contextlib.suppress(OSError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            for pipe in (server.stdin, server.stdout):
                with contextlib.suppress(OSError):  # what was not sent to a lost server
                    pipe.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _run(self, program: str, max_steps: int) -> ProgramEnd:
        try:
            program.encode()
        except UnicodeEncodeError:
            return ProgramEnd("", stopped="is no text (half of a surrogate pair)")
        answer = self._request([program], max_steps)
        if answer is None:
            return ProgramEnd("", stopped="ends the process that watches it, or keeps it from work")
        return ProgramEnd(
            answer["output"],
            error=answer["error"],
            line=answer["line"],
            stopped=answer["stopped"],
            steps=tuple(ProgramStep(*step) for step in answer["steps"]),
            is_cut=answer["more"],
        )

    def _request(self, programs: Sequence[str], max_steps: int) -> dict[str, Any] | None:
        """The server's answer about programs; None where it is lost, and it is then ended."""
        self._start()
        request = {"programs": programs, "max_steps": max_steps, **asdict(self.limits)}
        answer = self._ask(request, self.limits.wall_s + GRACE_S)
        if answer is None:
            self.close()
        return answer

    def _key(self, program: str, max_steps: int) -> str:
        return text_id("run", program, repr(self.limits), str(max_steps))

    def _recall(self, key: str) -> ProgramEnd | None:
        if not self._remembers:
            return None
        with _REMEMBERED_LOCK:
            found = _REMEMBERED.get(key)
            if found is not None:
                _REMEMBERED.move_to_end(key)
            return found

    def _remember(self, key: str, outcome: ProgramEnd) -> None:
        """Keep a result; not one that was stopped, as a busy machine may be the reason."""
        is_large = len(outcome.output) + len(outcome.steps) > CHUNK_BYTES
        if outcome.stopped or is_large or not self._remembers:
            return
        with _REMEMBERED_LOCK:
            _REMEMBERED[key] = outcome
            while len(_REMEMBERED) > MAX_REMEMBERED:
                _REMEMBERED.popitem(last=False)

    def _start(self) -> None:
        if self._server is not None:
            return
        if not hasattr(os, "fork"):
            raise DataError("programs cannot be run here: the sandbox needs Linux or macOS")
        self._folder = tempfile.TemporaryDirectory(prefix="oversight-program-")
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        self._rest = b""
        self._server = subprocess.Popen(
            [sys.executable, "-I", "-S", str(INSIDE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env=kept | {"TZ": "UTC0"},  # so that no file says which time it is
            start_new_session=True,
        )
        told = self._ask(None, START_S)
        if told is None:
            self.close()
            raise DataError(
                f"programs cannot be run here: {sys.executable} did not start the sandbox"
                f" within {START_S:g} s"
            )
        self.is_filtered = told["filtered"]

    def _ask(self, request: dict[str, Any] | None, timeout_s: float) -> dict[str, Any] | None:
        """The server's next answer; None where none came, or none that can be read."""
        assert self._server is not None
        assert self._server.stdin is not None
        try:
            if request is not None:
                self._server.stdin.write(json.dumps(request).encode() + b"\n")
                self._server.stdin.flush()
            answer: dict[str, Any] = json.loads(self._line(time.monotonic() + timeout_s))
        except (OSError, ValueError):
            return None
        return answer

    def _line(self, deadline: float) -> bytes:
        """The server's next line; empty where there is none by the deadline."""
        assert self._server is not None
        assert self._server.stdout is not None
        end = self._server.stdout.fileno()
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            left = deadline - time.monotonic()
            ready = select.select([end], [], [], max(0.0, left))[0]
            piece = os.read(end, CHUNK_BYTES) if ready else b""
            if not piece:
                return b""
            pieces.append(piece)
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        return line
