"""Where a run comes from: code, packages, machine and command line."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("oversight", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy")
GIT_TIMEOUT_S = 10


def start() -> dict[str, Any]:
    """This start of a run, JSON-plain."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "git": git_revision(Path.cwd()),
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def command() -> str:
    """The command line, as a shell takes it."""
    program = Path(sys.argv[0])
    first = program.name if program.parent.name == "bin" else sys.argv[0]
    return shlex.join([first, *sys.argv[1:]])


def resume_command() -> str:
    """The command line that goes on with this run."""
    words = shlex.split(command())
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_revision(folder: Path) -> str | None:
    """The commit of `folder`, with `+changes` where it was edited; None outside a repository."""
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return None
    return revision + "+changes" * bool(_git(folder, "status", "--porcelain"))


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
