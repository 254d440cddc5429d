"""The folder of a run: what it is, how it went, its checkpoints, and at last its model.

RUN/config.toml, config.json   resolved settings, and what must agree when the run goes on
RUN/origin.json                seed, data, and for each start: command, git revision, versions
RUN/metrics.jsonl              one line a logged step
RUN/checkpoints/step-000120/   see `checkpoints`
RUN/model/                     the finished model, see `final`; a run that has it is finished
RUN/lock                       held while a process trains
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from oversight.errors import ConfigError, OversightError
from oversight.models.identity import contents_of
from oversight.train.distributed import World
from oversight.train.runs import origin
from oversight.train.runs.checkpoints import ALONE, Checkpoints, Resumed
from oversight.train.runs.files import told, write_json, write_text
from oversight.train.runs.lock import FolderLock
from oversight.train.runs.manifest import check_fingerprint, unlike
from oversight.train.runs.metrics import MetricsLog, Split
from oversight.train.runs.state import RunState
from oversight.train.runs.toml import to_toml

MODEL = "model"
BEFORE_A_RUN = frozenset(
    ["lock", "origin.json", "config.toml"]
    + [f".{name}.part" for name in ("origin.json", "config.toml", "config.json")]
)
"""What a first start may leave if it is killed before the folder counts as a run."""


@dataclass(frozen=True, slots=True)
class About:
    """What a run is, JSON-plain."""

    trainer: str
    """sft, reward, dpo, ppo or grpo."""
    config: Mapping[str, Any]
    """Resolved settings, all of them."""
    identity: Mapping[str, Any]
    """Those that determine the result: they must agree when the run goes on."""
    data: str
    """Content hash of the examples; must agree as well."""
    seed: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the data comes from, for the model card."""
    held_out: str = ""
    """Content hash of the held-out examples."""
    contents: Mapping[str, Any] = field(default_factory=dict)
    """By dotted field what is at the places that `identity` names (`models.identity`)."""

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        fingerprint = {
            "trainer": self.trainer,
            "config": dict(self.identity),
            "data": self.data,
            "held_out": self.held_out,
            "contents": dict(self.contents),
        }
        # As JSON has it (tuples are lists), or a fingerprint would differ from itself read back.
        plain: dict[str, Any] = json.loads(json.dumps(fingerprint))
        return plain


class RunFolder:
    """A run's folder, open for training; a context manager.

    Call `resume` first, then for each step `log` and, at times, `save`.
    """

    def __init__(
        self,
        path: Path,
        about: About,
        *,
        resume: bool = False,
        world: World = ALONE,
        keep: int = 2,
        higher_is_better: bool = False,
        tensorboard: bool = False,
    ) -> None:
        """Make the folder, or open one to go on in it.

        Raises:
            ConfigError: A run is there and `resume` is false, or it is finished, or another
                process trains in it, or the folder holds something else.
            CheckpointError: A run with other settings or data is there.
        """
        self.path = path
        self.about = about
        self._world = world
        self._tensorboard = tensorboard
        self._lock: FolderLock | None = None
        self._metrics: MetricsLog | None = None
        self.checkpoints = Checkpoints(
            path / "checkpoints",
            about.fingerprint(),
            keep=keep,
            higher_is_better=higher_is_better,
            world=world,
        )
        self._first_opens(resume)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def model_path(self) -> Path:
        """Where the finished model stands."""
        return self.path / MODEL

    @property
    def metrics(self) -> MetricsLog:
        """The log; open after `resume`."""
        if self._metrics is None:
            raise ValueError("call resume() before the first step: it opens the metrics")
        return self._metrics

    def resume(self, state: RunState) -> Resumed:
        """Set `state` to the newest checkpoint if there is one, and cut the metrics to it.

        Raises:
            CheckpointError: As `Checkpoints.resume`.
        """
        resumed = self.checkpoints.resume(state)
        self._metrics = MetricsLog(
            self.path,
            resumed.step,
            writes=self._world.is_first,
            tensorboard=self._tensorboard,
        )
        return resumed

    def log(self, step: int, values: Mapping[str, float], split: Split = "train") -> None:
        """Append to the metrics; before the step is saved."""
        self.metrics.log(step, values, split)

    def save(self, step: int, state: RunState, score: float | None = None) -> Path:
        """Write a checkpoint after `step` steps; `score` is the held-out result at this step.

        Raises:
            CheckpointError: As `Checkpoints.save`.
        """
        self.metrics.sync(step)
        return self.checkpoints.save(step, state, score)

    def close(self) -> None:
        """Close the metrics and give the lock back."""
        if self._metrics is not None:
            self._metrics.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _first_opens(self, resume: bool) -> None:
        """The first process opens the folder; if it fails, all do."""
        error: OversightError | None = None
        if self._world.is_first:
            try:
                self._open(resume)
            except OversightError as raised:
                error = raised
        told_all = self._world.from_first(None if error is None else str(error))
        if error is not None:
            raise error
        if told_all is not None:
            raise ConfigError(told_all)

    def _open(self, resume: bool) -> None:
        check_place(self.path, resume)
        with told(f"out = {str(self.path)!r} cannot be made"):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path)
        try:
            self._describe()
        except BaseException:
            self.close()
            raise

    def _describe(self) -> None:
        """Write what the run is at its first start, and this start to those before."""
        described = self.path / "config.json"
        fingerprint = self.about.fingerprint()
        if described.exists():
            saved = json.loads(described.read_text(encoding="utf-8"))["fingerprint"]
            check_fingerprint(self.path, saved, fingerprint)
        origin_path = self.path / "origin.json"
        before = json.loads(origin_path.read_text(encoding="utf-8")) if origin_path.exists() else {}
        about = {"trainer": self.about.trainer, "seed": self.about.seed}
        about |= {"data": dict(self.about.provenance), "data_hash": self.about.data}
        starts = [*before.get("starts", []), origin.start()]
        with told(f"{self.path} cannot be written"):
            write_json(origin_path, about | {"starts": starts})
            write_text(self.path / "config.toml", to_toml(self.about.config))
            # Last: the folder counts as a run from here on.
            write_json(
                described,
                {"trainer": self.about.trainer, "config": dict(self.about.config)}
                | {"fingerprint": fingerprint},
            )


def check_place(path: Path, resume: bool) -> None:
    """Refuse a folder that no run can begin or go on in; changes nothing.

    Raises:
        ConfigError: A run is there and `resume` is false, or it is finished, or the folder holds
            something else, or nothing can be written there.
    """
    place = f"out = {str(path)!r}"
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{place} is a file; name a folder")
    if (path / MODEL).exists():
        raise ConfigError(
            f"{place} holds a finished run (its model is {MODEL}/); take another folder to "
            "train again, or resume (--resume, resume=True) to be given that model"
        )
    if (path / "config.json").exists():
        if not resume:
            raise ConfigError(
                f"{place} holds a run that is not finished. Go on with it: "
                f"{origin.resume_command()}; or take another folder"
            )
    elif path.is_dir() and any(p.name not in BEFORE_A_RUN for p in path.iterdir()):
        raise ConfigError(f"{place} is not empty and no run; take another folder")
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise ConfigError(f"{place} cannot be made: {there} cannot be written to")


def check_places(config: Any, resume: bool) -> None:
    """Refuse folders that the runs of these settings cannot begin or go on in.

    Raises:
        ConfigError: As `check_place`; finished members of an ensemble that goes on are left alone.
    """
    runs = run_folders(config)
    for run in runs:
        if not (resume and len(runs) > 1 and (run / MODEL).exists()):
            check_place(run, resume)


def run_folders(config: Any) -> list[Path]:
    """The folders of the runs that settings stand for: one, or one for each of an ensemble."""
    members: int = getattr(config, "members", 1)
    out: Path = config.out
    if members == 1:
        return [out]
    return [out / f"member-{number}" for number in range(1, members + 1)]


def is_finished(config: Any) -> bool:
    """Whether a finished run with these settings stands in their folder."""
    if not (config.out / MODEL).is_dir():
        return False
    try:
        saved = json.loads((config.out / "config.json").read_text(encoding="utf-8"))["fingerprint"]
        known = {name: saved[name] for name in ("config", "contents") if name in saved}
        return not unlike(known, describe_settings(config))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def describe_settings(config: Any) -> dict[str, Any]:
    """What of a run's settings determines its result, and what is at the places they name."""
    identity = json.loads(json.dumps(config.identity()))
    return {"config": identity, "contents": contents_of(identity, config.all_by_content())}
