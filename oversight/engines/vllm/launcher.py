"""Runs a server only for as long as the process that asked for it lives.

    python -I -S launcher.py PARENT_PID GRACE_S COMMAND...

A vLLM server is a family of processes, and its engine process outlives an API
process that is killed (0.32: for ever, with the memory it holds). So this
launcher, which leads the family's process group, watches three things: the
server, its own parent, and SIGTERM. Whichever ends first, it asks the server to
stop and waits at most GRACE_S seconds, then asks processes left, and at last
kills the group, itself included, in an order that leaves no shared memory behind.

Standard library only, and nothing of oversight: it starts in 50 ms and needs 12 MB.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

POLL_S = 0.1
ORPHANS_GRACE_S = 10.0
TRACKERS_GRACE_S = 3.0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(arguments: Sequence[str]) -> None:
    """Start the command, and end its group when it, the parent or we are to end."""
    parent_pid, grace_s, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    asked_to_stop: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        asked_to_stop.append(signum)

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, note)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the family become our children
    pid = os.getpid()
    server = subprocess.Popen(command, preexec_fn=lambda: _end_with(pid))  # noqa: PLW1509  one thread only
    while not asked_to_stop and os.getppid() == parent_pid and server.poll() is None:
        time.sleep(POLL_S)
    _end_family(server, grace_s)


def _prctl(option: int, value: int) -> None:
    """A process attribute of Linux; elsewhere the polling above has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_with(launcher_pid: int) -> None:
    """In the new process: be told to stop if the launcher itself is killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != launcher_pid:  # it was killed before the line above
        os._exit(1)


def _end_family(server: subprocess.Popen[bytes], grace_s: float) -> None:
    """Send SIGTERM to the server, then to its orphans, then SIGKILL to processes left."""
    if server.poll() is None:
        server.terminate()
        _wait_until(lambda: server.poll() is not None, grace_s)
    else:
        print(f"launcher: the server ended with exit status {server.returncode}", flush=True)  # noqa: T201  goes to the log file
    if server.returncode is not None and not _childless():
        os.killpg(0, signal.SIGTERM)  # we only note it
        _wait_until(_childless, ORPHANS_GRACE_S)
    if not _childless():
        _kill_all_but_trackers()
        _wait_until(_childless, TRACKERS_GRACE_S)
    os.killpg(0, signal.SIGKILL)


def _kill_all_but_trackers() -> None:
    """SIGKILL to the group, but not to Python's trackers of shared memory (Linux).

    A tracker ends by itself once nobody is left who uses it, and then removes the
    memory that killed processes could not.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        with contextlib.suppress(OSError):  # it has ended meanwhile
            ours = pid != os.getpid() and os.getpgid(pid) == os.getpgrp()
            if ours and b"resource_tracker" not in (entry / "cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _childless() -> bool:
    """Return whether all children have ended, adopted orphans included."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


if __name__ == "__main__":
    main(sys.argv[1:])
