"""The checkpoints of a run: written whole or not at all, verified when read, few kept.

A checkpoint is the folder `step-000120`. It is written beside, under a name
that nobody reads, and renamed when every byte is on the disk. All processes
write to one file system.

A manifest says what a checkpoint is of, and what each of its files must be.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from oversight.errors import AnotherRunError, CheckpointError
from oversight.files import blake2b, remove, rename, sync, told, write_json
from oversight.models import same_place, value_at
from oversight.train.distributed import World
from oversight.train.runs import state as states
from oversight.train.runs.state import RunState

NAME = "checkpoint.json"
FORMAT = 1
"""Raised when files change their meaning."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's files are not what was written; an older one may still be good."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `checkpoint.json`."""

    step: int
    world_size: int
    fingerprint: dict[str, Any]
    """Identity of the run: settings that determine its result, and its data."""
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
    """Return the manifest's content, without a look at the other files.

    Raises:
        DamagedCheckpointError: There is none, or it cannot be read as one.
        CheckpointError: A newer version wrote it.
    """
    try:
        data = json.loads((folder / NAME).read_text(encoding="utf-8"))
        version = data["format"]
        manifest = Manifest(**data) if version == FORMAT else None
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        raise DamagedCheckpointError(
            f"{folder / NAME} is missing or no manifest ({error})"
        ) from None
    if manifest is None:
        raise CheckpointError(
            f"{folder / NAME} has format {version!r} and this version reads {FORMAT}; "
            "update oversight"
        )
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest.

    Raises:
        DamagedCheckpointError: A file is missing, shorter or longer, or has another content.
    """
    for name, wanted in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise DamagedCheckpointError(f"{path} is missing")
        size = path.stat().st_size
        if size != wanted["bytes"]:
            raise DamagedCheckpointError(
                f"{path} has {size:,} bytes and was written with {wanted['bytes']:,}"
            )
        if blake2b(path) != wanted["blake2b"]:
            raise DamagedCheckpointError(f"{path} holds other bytes than were written")


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


DEFAULTS = "defaults"
"""In a fingerprint, the settings as they are where nobody sets them."""
DATA_BEFORE = "data_before"
"""In a fingerprint, the hash of the examples as versions before had it."""
ABSENT = object()
COVERED = frozenset({"data.path", "data.store"})
HELD_OUT = "data.eval_path"
"""Settings that say where examples are; `data` and `held_out` say which they are."""


def check_fingerprint(place: Path, saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to go on with what another run left.

    Models and reward functions are compared by what they hold, examples by their hashes; where
    they are is nothing that a run depends on. A fingerprint of before, which has no `contents`,
    says only where they were: there the places are compared. A setting that one of the two versions
    does not write down stood at its default.

    Raises:
        AnotherRunError: Names the first thing that differs, and both values.
    """
    if found := unlike(saved, here):
        more = f" ({len(found) - 1} more differ)" if len(found) > 1 else ""
        raise AnotherRunError(
            f"{place} is of another run: {found[0]}{more}. "
            "Set it back to go on (the run's own config.toml has all of its settings), or begin a "
            "new run in another folder."
        )


def unlike(saved: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return the differences of two fingerprints in words; those of one run have none."""
    known: Mapping[str, Any] | None = saved.get("contents")
    places = set(here.get("contents", ())) | set(known or ())
    found = unlike_contents(
        saved.get("config", {}), known, here.get("config", {}), here.get("contents", {})
    )
    left_out = {"contents", DEFAULTS, DATA_BEFORE, *(f"config.{name}" for name in places)}
    if saved.get("data") is not None and saved["data"] == here.get(DATA_BEFORE):
        left_out.add("data")
    if "data" in here:
        left_out |= {f"config.{name}" for name in COVERED}
        if "held_out" in saved:
            left_out.add(f"config.{HELD_OUT}")
        else:
            left_out.add("held_out")
    for name, old, new in differences(saved, here):
        if name in left_out or name.startswith(("contents.", f"{DEFAULTS}.")):
            continue
        if _at_default(name, saved, here):
            continue
        if name.removeprefix("config.") in {*COVERED, HELD_OUT} and same_place(old, new):
            continue
        found.append(f"{name} was {old!r} and is now {new!r}")
    return found


def _at_default(name: str, saved: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Return whether only one of the two has the setting, and as it is where nobody sets it."""
    section, _, setting = name.partition(".")
    standard: Any = here.get(DEFAULTS, {})
    sides: list[Any] = [saved.get(section), here.get(section)]
    for part in setting.split("."):
        sides = [each.get(part, ABSENT) if isinstance(each, Mapping) else ABSENT for each in sides]
        standard = standard.get(part, ABSENT) if isinstance(standard, Mapping) else ABSENT
    there = [each for each in sides if each is not ABSENT]
    return section == "config" and len(there) == 1 and there[0] == standard


def unlike_contents(
    saved: Mapping[str, Any],
    known: Mapping[str, Any] | None,
    here: Mapping[str, Any],
    contents: Mapping[str, Any],
) -> list[str]:
    """Return in words the named places whose content is no longer what it was.

    Args:
        saved: Settings as they were.
        known: Contents at their places then, as `contents_of` gave them; None where nobody looked.
        here: Settings as they are.
        contents: Contents at their places now.
    """
    found = []
    for name in sorted({*contents, *(known or ())}):
        old, new = value_at(saved, name), value_at(here, name)
        held, holds = (known or {}).get(name), contents.get(name)
        if not (old and new):
            if old != new:
                found.append(f"{name} was {old!r} and is now {new!r}")
        elif known is None or name not in known:  # nobody looked
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
    # A file that is gone cannot have another content: code that needs it will say so.
    return all(
        was == now or (now == after and same_place(before, after))
        for before, was, after, now in zip(*values, strict=True)
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


_NAME = re.compile(r"step-(\d+)")
ALONE = World(0, 1, torch.device("cpu"))


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Place at which a run goes on."""

    step: int = 0
    """Steps that have been done; 0 for a run that has no checkpoint yet."""
    notes: tuple[str, ...] = ()
    """Notes for the person: checkpoints that were damaged, streams that begin anew."""


class Checkpoints:
    """The checkpoints in one folder.

    Args:
        folder: Made when the first checkpoint is written.
        fingerprint: Identity of the run, JSON-plain; a checkpoint of another one is refused.
        keep: The newest so many stay, and the one with the best score.
        higher_is_better: Of scores.
        world: The processes that write together.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: Mapping[str, Any],
        *,
        keep: int = 2,
        higher_is_better: bool = False,
        world: World = ALONE,
    ) -> None:
        self.folder = folder
        self._fingerprint = dict(fingerprint)
        self._keep = keep
        self._sign = 1.0 if higher_is_better else -1.0
        self._world = world

    def save(self, step: int, state: RunState, score: float | None = None) -> Path:
        """Write a checkpoint of `state` after `step` steps; gives its folder.

        The checkpoint before stays untouched until the new one is whole. A step that has its
        checkpoint already is not written again.

        Raises:
            CheckpointError: The disk refuses, or `state` holds what cannot be kept.
        """
        final, part = self._path(step), self.folder / f".step-{step:06d}.part"
        if self._world.from_first(final.exists()):
            return final
        with self._all_or_none(), told(f"{part} cannot be made"):
            if self._world.is_first:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
        try:
            with self._all_or_none(), self._told(step):
                states.write(part, state, self._world)
            with self._all_or_none(), self._told(step):
                if self._world.is_first:
                    self._publish(part, final, step, score)
        except CheckpointError:
            if self._world.is_first:
                shutil.rmtree(part, ignore_errors=True)
            raise
        return final

    def resume(self, state: RunState) -> ResumePoint:
        """Set `state` to the newest good checkpoint, if there is one.

        A damaged one is put aside as `step-N.damaged`, and the one before is taken.

        Raises:
            CheckpointError: The checkpoint is of another run or model, or all are damaged.
        """
        chosen: tuple[Manifest | None, tuple[str, ...]] = (None, ())
        with self._all_or_none(), told(f"{self.folder} cannot be read"):
            if self._world.is_first:
                self._clean()
                chosen = self._newest_good()
        manifest, notes = self._world.from_first(chosen)
        if manifest is None:
            return ResumePoint(0, notes)
        path = self._path(manifest.step)
        with self._all_or_none(), told(f"{path} cannot be read"):
            notes += states.read(path, manifest.world_size, state, self._world)
        return ResumePoint(manifest.step, notes)

    def read_weights(self, path: Path, weights: Mapping[str, torch.Tensor]) -> None:
        """Set only `weights` to those of the checkpoint at `path`, such as the best one.

        Raises:
            CheckpointError: It is damaged or of another model.
        """
        with self._all_or_none(), told(f"{path} cannot be read"):
            manifest = read_manifest(path)
            check_files(path, manifest)
            states.read_weights(path, manifest.world_size, weights)

    def best(self) -> Path | None:
        """The checkpoint with the best score; None where none has one."""
        scored = [
            (score, path) for path in self.paths() if (score := self._score(path)) is not None
        ]
        # Of equal ones the earliest.
        return max(scored, key=lambda item: self._sign * item[0])[1] if scored else None

    def paths(self) -> list[Path]:
        """The checkpoints, the oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=_step)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def _publish(self, part: Path, final: Path, step: int, score: float | None) -> None:
        kept = score if score is not None and math.isfinite(score) else None
        seal(part, step, self._world.size, self._fingerprint, kept)
        sync(part)
        rename(part, final)
        stay = {*self.paths()[-self._keep :], self.best()}
        for path in self.paths():
            if path not in stay:
                remove(path)

    def _newest_good(self) -> tuple[Manifest | None, tuple[str, ...]]:
        notes: list[str] = []
        damaged: list[Path] = []
        for path in reversed(self.paths()):
            try:
                manifest = read_manifest(path)
                check_fingerprint(path, manifest.fingerprint, self._fingerprint)
                check_files(path, manifest)
            except DamagedCheckpointError as error:
                notes.append(f"{error}: this checkpoint is damaged")
                damaged.append(path)
                continue
            for bad in damaged:
                _put_aside(bad)
            notes += [f"going on from {path.name}, the newest good one"] * bool(damaged)
            return manifest, tuple(notes)
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {self.folder} is good: {notes[0]}. Remove the folder to begin "
                "the run again."
            )
        return None, ()

    def _score(self, path: Path) -> float | None:
        try:
            return read_manifest(path).score
        except CheckpointError:
            return None

    def _clean(self) -> None:
        """Take away what writes and removals that were cut short have left."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.endswith(".part") or path.name.startswith(".gone-"):
                    shutil.rmtree(path)

    @contextmanager
    def _told(self, step: int) -> Iterator[None]:
        last = self.paths()
        stays = f"{last[-1].name} stays the last good one." if last else "There is no earlier one."
        what = f"the checkpoint of step {step} in {self.folder} could not be written"
        with told(what, f"{stays} Make room and go on with --resume."):
            yield

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """An error of one process becomes an error of all: nobody waits for one that has left."""
        error: CheckpointError | None = None
        try:
            yield
        except CheckpointError as raised:
            error = raised
        messages = self._world.gather(None if error is None else str(error))
        if error is not None:
            raise error
        if failed := [message for message in messages if message is not None]:
            raise CheckpointError(failed[0])


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _put_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    rename(path, aside)
