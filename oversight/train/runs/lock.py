"""One process a run folder: a second one is told, and a dead one's lock is taken over."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import IO

from oversight.errors import ConfigError

NAME = "lock"


class FolderLock:
    """Holds the lock of a folder until it is released or the process ends, however it ends.

    The system gives the lock back when a process dies; the file's content only tells who has it.

    Raises:
        ConfigError: Another process has it; names it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        self._file: IO[str] = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process"
            self._file.close()
            raise ConfigError(
                f"{folder} is being trained in by {owner}; wait for it or end it, or take "
                "another folder"
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {json.dumps(socket.gethostname())}\n")
        self._file.flush()

    def release(self) -> None:
        """Give the lock back; the file stays, as another process may be waiting at it."""
        self._file.close()
