"""A model in a folder is known by its content: `qwen2:91c3…`, wherever the folder is.

A moved or copied folder is the same model, and one that was written over is another. Names on the
hub and of embedded models stay what they are.

Every byte of weights, settings and tokenizer counts. Files are hashed in blocks, by as many
threads as there are cores (hashing lets others run), at the speed of the disk or about 1.5 GB a
second and core; what a process has hashed once it hashes again only if a file's size or time of
change is another.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from oversight.errors import ConfigError
from oversight.models import EMBEDDED

BLOCK = 1 << 24
DIGEST_CHARS = 16

READ = frozenset(
    {
        *(".safetensors", ".bin", ".pt", ".pth", ".gguf"),
        *(".json", ".model", ".txt", ".tiktoken", ".jinja", ".py"),
    }
)
"""Endings of what is read of a model; a README or a log is no part of it."""

NOT_READ = re.compile(
    r"(trainer_state|(all|train|eval)_results|training|oversight.*)\.json"
    r"|(optimizer|scheduler|rng_state|training_args|scaler).*\.(pt|pth|bin)|requirements.*\.txt"
)
"""Files that trainers leave beside a model."""

INCIDENTAL = frozenset({"_name_or_path", "name_or_path", "is_local", "local_files_only"})
"""Keys that say where a model was read from, and nothing of the model."""

CONTENT_NAME = re.compile(rf"[\w.-]+:[0-9a-f]{{{DIGEST_CHARS}}}")

_known: dict[tuple[tuple[str, int, int], ...], str] = {}
_lock = Lock()


def content_name(model: str) -> str:
    """The name of a model that does not depend on where it is.

    Raises:
        ConfigError: A file of its folder cannot be read.
    """
    folder = Path(model).expanduser()
    if model in EMBEDDED or not folder.is_dir():
        return model
    try:
        return _name_of(folder)
    except OSError as error:
        raise ConfigError(
            f"model = {model!r}: {error.filename} cannot be read ({error.strerror})"
        ) from None


def is_content_name(model: str) -> bool:
    """Whether a name was made by `content_name` from a folder."""
    return CONTENT_NAME.fullmatch(model) is not None


def _name_of(folder: Path) -> str:
    files = sorted(_files(folder))
    stamp = tuple((str(file.resolve()), *_size_and_time(file)) for file in files)
    with _lock:
        if stamp not in _known:
            _known[stamp] = f"{_kind(folder)}:{_digest(folder, files)}"
        return _known[stamp]


def _files(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "additional_chat_templates"):
        for file in place.iterdir() if place.is_dir() else ():
            read = file.suffix in READ and not NOT_READ.fullmatch(file.name)
            if read and not file.name.startswith(".") and file.is_file():
                yield file


def _size_and_time(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _kind(folder: Path) -> str:
    """The architecture as its settings call it, for people to read."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        kind = "model"
    return re.sub(r"[^\w.-]", "_", str(kind)) or "model"


def _digest(folder: Path, files: list[Path]) -> str:
    whole = sha256()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file in files:
            if file.suffix == ".json" and (settings := _settings(file)) is not None:
                parts = [settings]
            else:
                starts = range(0, file.stat().st_size, BLOCK)
                parts = list(pool.map(partial(_block, file), starts))
            whole.update(f"{file.relative_to(folder)}\0{len(parts)}\0".encode())
            whole.update(b"".join(parts))
    return whole.hexdigest()[:DIGEST_CHARS]


def _settings(file: Path) -> bytes | None:
    """The hash of a JSON object without what says where it was read from; None if it is none."""
    if not file.name.endswith("config.json"):
        return None
    try:
        found: Any = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    kept = {name: value for name, value in found.items() if name not in INCIDENTAL}
    return sha256(json.dumps(kept, sort_keys=True).encode()).digest()


def _block(file: Path, start: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(start)
        return sha256(opened.read(BLOCK)).digest()
