"""Files and folders that are either whole or not there, also after a power cut.

A file is written beside its place, under a name that nobody reads, waited for until it is on the
disk, and then renamed; so a reader of the place meets the old content or the new one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from oversight.errors import CheckpointError, FileError, OversightError
from oversight.redaction import redacted

HASH_CHUNK_BYTES = 1 << 22
_PARTS: set[Path] = set()
"""Files that are being written beside their places."""


class Closing(ABC):
    """A holder of open files, closed at the end of its `with` block."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def remove_parts() -> None:
    """Take away what is half written: for a process that ends at once, past every `finally`."""
    for part in tuple(_PARTS):
        with suppress(OSError):
            part.unlink()


def check_place(path: Path, setting: str, *, is_folder: bool = False) -> None:
    """Refuse a place at which no file, or no folder, can be made or replaced; leaves nothing there.

    Whether it can is tried: permissions alone do not tell of a read-only disk or of `/proc`.

    Args:
        path: The file or folder that is to be written later.
        setting: The setting that names it, for messages.
        is_folder: A folder is to be made, or written into.

    Raises:
        FileError: It cannot; the message has the path and the cause.
    """
    try:
        _check_kind(path, is_folder=is_folder)
        below = path.absolute() if is_folder else path.absolute().parent
        there = next(each for each in (below, *below.parents) if os.path.lexists(each))
        if not there.is_dir():
            raise NotADirectoryError(None, f"{there} is no folder")
        with tempfile.TemporaryFile(dir=there):
            pass
    except (OSError, ValueError) as error:
        raise FileError.of(setting, path, error, is_folder=is_folder) from error


def _check_kind(path: Path, *, is_folder: bool) -> None:
    """Refuse what stands at a place already and is no plain file, or no folder."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise FileNotFoundError(None, "it is a link to what is not there") from None
        return
    if is_folder and not stat.S_ISDIR(mode):
        raise NotADirectoryError(None, "it is a file")
    if not is_folder and stat.S_ISDIR(mode):
        raise IsADirectoryError(None, "it is a folder")
    if not is_folder and not stat.S_ISREG(mode):
        # It would be replaced, and not written to: /dev/null would be gone.
        raise FileExistsError(None, "it is a device or a pipe, and no file")


@contextmanager
def whole_file(path: Path, setting: str = "file") -> Iterator[Path]:
    """A path beside `path`, which takes its place if the block ends well, and else is removed.

    The folder is made if it is not there.

    Args:
        path: The file; one of that name stays as it is until the new one is on the disk.
        setting: The setting that names it, for messages.

    Raises:
        FileError: It cannot be written; the message has the path and the cause.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    _PARTS.add(part)
    try:
        _check_kind(path, is_folder=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        sync(part)
        rename(part, path)
    except OversightError:
        raise  # of where the content comes from, though it may be an OSError as well
    except _disk_errors() as error:
        raise FileError.of(setting, path, error) from error
    finally:
        with suppress(OSError):
            part.unlink()
        _PARTS.discard(part)


@contextmanager
def whole_folder(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """A folder beside `path`, which takes its place if the block ends well, and else is removed.

    The block makes it.

    Args:
        path: The folder; one of that name stays until the new one is complete.
        lasting: Wait until all of it is on the disk; False for what only running processes read.

    Raises:
        OSError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        if lasting:
            sync_all(part)
        if path.exists():
            remove(path)
        part.rename(path)
        if lasting:
            sync(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str, setting: str = "file", errors: str = "strict") -> None:
    """Replace the content of a file, in one go; known secrets are left out of it.

    Args:
        path: The file.
        text: Its new content.
        setting: The setting that names it, for messages.
        errors: As `open` takes it: treatment of what UTF-8 has no bytes for.

    Raises:
        FileError: It cannot be written.
    """
    with (
        whole_file(path, setting) as part,
        part.open("w", encoding="utf-8", newline="\n", errors=errors) as file,
    ):
        file.write(redacted(text))


def write_json(path: Path, value: Any) -> None:
    """Replace the content of a file by `value`, in one go.

    Raises:
        FileError: It cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


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
    old.replace(new)
    sync(new.parent)


def remove(folder: Path) -> None:
    """Take a folder away; if that is cut short, what is left has a name that nobody reads."""
    gone = folder.with_name(f".gone-{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


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
    except (FileError, *_disk_errors()) as error:  # type: ignore[misc]  # a tuple of them
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{what}: {reason}.{otherwise and ' ' + otherwise}") from error


def _disk_errors() -> tuple[type[Exception], ...]:
    """Errors that a full or read-only disk raises; those of safetensors where that is in use."""
    safetensors = sys.modules.get("safetensors")
    return (OSError,) if safetensors is None else (OSError, safetensors.SafetensorError)


_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, Any]) -> str:
    """TOML of nested mappings, lists, texts and numbers. None has no form in TOML: left out."""
    return "\n".join(_table(data, ())).strip() + "\n"


def _table(data: Mapping[str, Any], way: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in data.items() if not isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_value(v)}" for key, v in plain.items() if v is not None]
    if way and (lines or not data):
        lines = ["", f"[{'.'.join(map(_key, way))}]", *lines]
    for key, value in data.items():
        if isinstance(value, Mapping):
            lines += _table(value, (*way, key))
    return lines


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        pairs = (f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(pairs) + "}"
    return "[" + ", ".join(_value(item) for item in value if item is not None) + "]"


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL; half a surrogate pair has no form in TOML.
    escaped = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    return escaped.encode("utf-8", "replace").decode("utf-8")


def toml_block(text: str) -> str:
    """A text as a TOML value of its own lines; its reader takes the last line break off.

    What a block of literal text cannot hold has its escapes, on one line.
    """
    plain = all(each.isprintable() or each in "\n\t" for each in text) and "'''" not in text
    return f"'''\n{text}\n'''" if plain else _text(text)


GIT_TIMEOUT_S = 10


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
