"""Identity of this process, and a test for whether another one still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told apart from a later one that was given the same number."""

    host: str
    """Where process numbers mean the same: machine, its boot, and the namespace of numbers."""
    pid: int
    started: str
    """Clock ticks from boot to its start; empty where the system does not tell."""

    def is_gone(self) -> bool:
        """True if it has surely ended. Of a process elsewhere nothing is known: False."""
        if self.host != host():
            return False
        status = _status(self.pid)
        if status is None:
            return not _answers(self.pid)
        state, started = status
        # A zombie has ended and waits for its parent to notice.
        return state in "ZX" or (self.started != "" and self.started != started)


def current() -> Process:
    """This process."""
    status = _status(os.getpid())
    return Process(host=host(), pid=os.getpid(), started=status[1] if status else "")


@cache
def host() -> str:
    """The name of the place in which process numbers mean the same."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()}/{boot.read_text().strip()}/{namespace.readlink()}"
    except OSError:
        return socket.gethostname()


def _status(pid: int) -> tuple[str, str] | None:
    """State letter and start time of a process, or None where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
