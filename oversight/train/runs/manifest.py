"""A checkpoint's manifest: what it is of, and what each of its files must be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oversight.errors import CheckpointError
from oversight.models.identity import same_place, value_at
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


COVERED = frozenset({"data.path", "data.store"})
HELD_OUT = "data.eval_path"
"""Settings that say where examples are; `data` and `held_out` say which they are."""


def check_fingerprint(place: Path, saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to go on with what another run left.

    Models and reward functions are compared by what they hold, examples by their hashes; where
    they are is nothing that a run depends on. A fingerprint of before, which has no `contents`,
    says only where they were: there the places are compared.

    Raises:
        CheckpointError: Names the first thing that differs, and both values.
    """
    if found := unlike(saved, here):
        more = f" ({len(found) - 1} more differ)" if len(found) > 1 else ""
        raise CheckpointError(
            f"{place} is of another run: {found[0]}{more}. "
            "Set it back to go on, or begin a new run in another folder."
        )


def unlike(saved: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """How two fingerprints differ, in words; those of one run do not."""
    known: Mapping[str, Any] | None = saved.get("contents")
    places = set(here.get("contents", ())) | set(known or ())
    found = unlike_contents(
        saved.get("config", {}), known, here.get("config", {}), here.get("contents", {})
    )
    left_out = {"contents", *(f"config.{name}" for name in places)}
    if "data" in here:
        left_out |= {f"config.{name}" for name in COVERED}
        if "held_out" in saved:
            left_out.add(f"config.{HELD_OUT}")
        else:
            left_out.add("held_out")
    for name, old, new in differences(saved, here):
        if name in left_out or name.startswith("contents."):
            continue
        if name.removeprefix("config.") in {*COVERED, HELD_OUT} and same_place(old, new):
            continue
        found.append(f"{name} was {old!r} and is now {new!r}")
    return found


def unlike_contents(
    saved: Mapping[str, Any],
    known: Mapping[str, Any] | None,
    here: Mapping[str, Any],
    contents: Mapping[str, Any],
) -> list[str]:
    """Which of the places that settings name hold something else than they did, in words.

    Args:
        saved: Settings as they were.
        known: What was at their places, as `contents_of` gave it; None where nobody looked.
        here: Settings as they are.
        contents: What is at their places.
    """
    found = []
    for name in sorted({*contents, *(known or ())}):
        old, new = value_at(saved, name), value_at(here, name)
        held, holds = (known or {}).get(name), contents.get(name)
        if not (old and new):
            if old != new:
                found.append(f"{name} was {old!r} and is now {new!r}")
        elif known is None:
            if not same_place(old, new):
                found.append(
                    f"{name} was {old!r} and is now {new!r}, and a run of that version does not "
                    "know what it held"
                )
        elif not _same_content(old, held, new, holds):
            held, holds = (", ".join(_listed(each)) for each in (held, holds))
            found.append(
                f"{name} = {old!r} held {held} and now holds {holds}: it was written over"
                if same_place(old, new)
                else f"{name} was {old!r}, which held {held}, and is now {new!r}, which holds "
                f"{holds}"
            )
    return found


def _same_content(old: Any, held: Any, new: Any, holds: Any) -> bool:
    values = [_listed(each) for each in (old, held, new, holds)]
    if len({len(each) for each in values}) > 1:
        return False
    # What is not there any more cannot have another content: whoever needs it will say so.
    return all(
        was == now or (now == after and same_place(before, after))
        for before, was, after, now in zip(*values, strict=True)
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
