"""Where a run comes from: code, packages, machine and command line."""

from __future__ import annotations

import os
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
OURS = ("oversight", "cli", "main.py")
"""End of the path that `python -m oversight.cli.main` shows as its program."""


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
    return shlex.join([*_program(), *sys.argv[1:]])


def resume_command() -> str:
    """The command line that goes on with this run."""
    words = shlex.split(command())
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


def _program() -> list[str]:
    """What the command line begins with: a program's name, or how our command was started."""
    program = Path(sys.argv[0])
    if "TORCHELASTIC_RUN_ID" in os.environ:
        num = os.environ.get("LOCAL_WORLD_SIZE", "1")
        started = ["torchrun", "--nproc-per-node", num]
        if program.parts[-3:] == OURS:
            return [*started, "-m", "oversight.cli.main"]
        return [*started, sys.argv[0]]
    if program.parts[-3:] == OURS:
        return ["python", "-m", "oversight.cli.main"]
    return [program.name if program.parent.name == "bin" else sys.argv[0]]


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
