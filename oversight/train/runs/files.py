"""Files that are either whole or not there, also after a power cut."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from oversight.errors import CheckpointError
from oversight.redaction import redacted

HASH_CHUNK_BYTES = 1 << 22


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Wait until everything below `folder`, and its lists of names, are on the disk."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)


def rename(old: Path, new: Path) -> None:
    """Give a file or folder its name for good; both names are in one folder."""
    old.rename(new)
    sync(new.parent)


def remove(folder: Path) -> None:
    """Take a folder away; if that is cut short, what is left has a name that nobody reads."""
    gone = folder.with_name(f".gone-{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace the content of a file, in one go; known secrets are left out of it."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(redacted(text))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace the content of a file by `value`, in one go."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def blake2b(path: Path) -> str:
    """The content's hash, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def told(what: str, otherwise: str = "") -> Iterator[None]:
    """Turns a failure of the disk into a `CheckpointError` that names `what` was being done."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{what}: {reason}.{otherwise and ' ' + otherwise}") from error
