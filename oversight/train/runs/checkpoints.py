"""The checkpoints of a run: written whole or not at all, verified when read, few kept.

A checkpoint is the folder `step-000120`. It is written beside, under a name
that nobody reads, and renamed when every byte is on the disk. All processes
write to one file system.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oversight.errors import CheckpointError
from oversight.train.distributed import World
from oversight.train.runs import manifest as manifests
from oversight.train.runs import state as states
from oversight.train.runs.files import remove, rename, sync, told
from oversight.train.runs.manifest import Damaged, Manifest
from oversight.train.runs.state import RunState

_NAME = re.compile(r"step-(\d+)")
ALONE = World(0, 1, torch.device("cpu"))


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a run goes on."""

    step: int = 0
    """Steps that have been done; 0 for a run that has no checkpoint yet."""
    notes: tuple[str, ...] = ()
    """What a person should know: checkpoints that were damaged, streams that begin anew."""


class Checkpoints:
    """The checkpoints in one folder.

    Args:
        folder: Made when the first checkpoint is written.
        fingerprint: What the run is, JSON-plain; a checkpoint of another one is refused.
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

        What was written before stays untouched until the new one is whole. A step that has its
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

    def resume(self, state: RunState) -> Resumed:
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
            return Resumed(0, notes)
        path = self._path(manifest.step)
        with self._all_or_none(), told(f"{path} cannot be read"):
            notes += states.read(path, manifest.world_size, state, self._world)
        return Resumed(manifest.step, notes)

    def read_weights(self, path: Path, weights: Mapping[str, torch.Tensor]) -> None:
        """Set only `weights` to those of the checkpoint at `path`, such as the best one.

        Raises:
            CheckpointError: It is damaged or of another model.
        """
        with self._all_or_none(), told(f"{path} cannot be read"):
            manifest = manifests.read_manifest(path)
            manifests.check_files(path, manifest)
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
        manifests.seal(part, step, self._world.size, self._fingerprint, kept)
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
                manifest = manifests.read_manifest(path)
                manifests.check_fingerprint(path, manifest.fingerprint, self._fingerprint)
                manifests.check_files(path, manifest)
            except Damaged as error:
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
            return manifests.read_manifest(path).score
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
