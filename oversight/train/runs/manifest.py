"""A checkpoint's manifest: what it is of, and what each of its files must be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oversight.errors import CheckpointError
from oversight.train.runs.files import blake2b, write_json

NAME = "checkpoint.json"
FORMAT = 1
"""Raised when files change their meaning."""


class Damaged(CheckpointError):
    """A checkpoint's files are not what was written; an older one may still be good."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `checkpoint.json` says."""

    step: int
    world_size: int
    fingerprint: dict[str, Any]
    """What the run is: settings that determine its result, and its data."""
    files: dict[str, dict[str, Any]]
    """Bytes and blake2b of every other file."""
    score: float | None = None
    """The held-out result at this step."""
    format: int = FORMAT


def seal(
    folder: Path, step: int, world_size: int, fingerprint: dict[str, Any], score: float | None
) -> None:
    """Write the manifest of all that is in `folder`."""
    files = {
        path.name: {"bytes": path.stat().st_size, "blake2b": blake2b(path)}
        for path in sorted(folder.iterdir())
    }
    write_json(folder / NAME, asdict(Manifest(step, world_size, fingerprint, files, score)))


def read_manifest(folder: Path) -> Manifest:
    """What the manifest says, without a look at the other files.

    Raises:
        Damaged: There is none, or it cannot be read as one.
        CheckpointError: A newer version wrote it.
    """
    try:
        data = json.loads((folder / NAME).read_text(encoding="utf-8"))
        version = data["format"]
        manifest = Manifest(**data) if version == FORMAT else None
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{folder / NAME} is missing or no manifest ({error})") from None
    if manifest is None:
        raise CheckpointError(
            f"{folder / NAME} has format {version!r} and this version reads {FORMAT}; "
            "update oversight"
        )
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest.

    Raises:
        Damaged: A file is missing, shorter or longer, or has another content.
    """
    for name, wanted in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{path} is missing")
        size = path.stat().st_size
        if size != wanted["bytes"]:
            raise Damaged(f"{path} has {size:,} bytes and was written with {wanted['bytes']:,}")
        if blake2b(path) != wanted["blake2b"]:
            raise Damaged(f"{path} holds other bytes than were written")


def differences(
    saved: Mapping[str, Any], here: Mapping[str, Any], where: str = ""
) -> list[tuple[str, Any, Any]]:
    """Dotted names of what differs between two nested mappings, with both values."""
    found: list[tuple[str, Any, Any]] = []
    for key in sorted(saved.keys() | here.keys()):
        name = f"{where}.{key}" if where else key
        old, new = saved.get(key), here.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, name)
        elif old != new:
            found.append((name, old, new))
    return found


def check_fingerprint(place: Path, saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to go on with what another run left.

    Raises:
        CheckpointError: Names the first setting that differs, and both values.
    """
    if found := differences(saved, here):
        name, old, new = found[0]
        more = f" ({len(found) - 1} more differ)" if len(found) > 1 else ""
        raise CheckpointError(
            f"{place} is of another run: {name} was {old!r} and is now {new!r}{more}. "
            "Set it back to go on, or begin a new run in another folder."
        )
