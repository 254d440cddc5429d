"""The command line: one command a file, heavy imports inside the command."""

import os
import signal
import sys
from types import FrameType


def _is_command() -> bool:
    """True if this process is the command itself, not one that imports it."""
    by_name = os.path.basename(sys.argv[0] if sys.argv else "") in ("oversight", "oversight.exe")
    return by_name or "oversight.cli.main" in sys.orig_argv[1:3]


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, b"oversight: stopped\n")
    os._exit(130)


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while modules are loaded, until `ending.install` takes it: nothing has begun.
    signal.signal(signal.SIGINT, _stop)
