"""The folder of a run: what it is, how it went, its checkpoints, and at last its model.

RUN/config.toml, config.json   resolved settings, and what must agree when the run goes on
RUN/origin.json                seed, data, and for each start: command, git revision, versions
RUN/metrics.jsonl, guards.jsonl   one line a logged step; what guards said, if any did
RUN/checkpoints/step-000120/   see `checkpoints`
RUN/model/                     the finished model, see `final`; a run that has it is finished
RUN/lock                       held while a process trains
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shlex
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from pydantic_core import to_jsonable_python

from oversight import files
from oversight.config import Settings
from oversight.errors import ConfigError, OversightError, TrainingStopped
from oversight.files import Closing, git_revision, to_toml, told, write_json, write_text
from oversight.models import contents_of
from oversight.train.distributed import World
from oversight.train.runs.checkpoints import (
    ALONE,
    DATA_BEFORE,
    DEFAULTS,
    Checkpoints,
    ResumePoint,
    check_fingerprint,
    unlike,
)
from oversight.train.runs.metrics import GUARDS, MetricsLog, SamplesLog, Split
from oversight.train.runs.state import RunState

NAME = "lock"


class FolderLock:
    """Holds the lock of a folder until it is released or the process ends, however it ends.

    The system gives the lock back when a process dies; the file's content only tells who has it.

    Raises:
        ConfigError: Another process has it; names it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        self._file: IO[str] = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process"
            self._file.close()
            raise ConfigError(
                f"{folder} is being trained in by {owner}; wait for it or end it, or take "
                "another folder"
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {json.dumps(socket.gethostname())}\n")
        self._file.flush()

    def release(self) -> None:
        """Give the lock back; the file stays, as another process may be waiting at it."""
        self._file.close()


PACKAGES = ("oversight", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy")
OURS = ("oversight", "cli", "main.py")
"""End of the path that `python -m oversight.cli.main` shows as its program."""


def start_record() -> dict[str, Any]:
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
    words = [word for word in shlex.split(command()) if word not in ("--dry-run", "--resume")]
    return shlex.join([*words, "--resume"])


def begin_command() -> str:
    """The command line that begins the run that this one was to go on with."""
    return shlex.join(word for word in shlex.split(command()) if word != "--resume")


def _program() -> list[str]:
    """Return the first words of the command line: a program, or how our command was started."""
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


MODEL = "model"
BEGUN = ("config.json", MODEL)
"""Names in a folder that make it one of a run."""
BEFORE_A_RUN = re.compile(
    r"lock|origin\.json|config\.toml|\.(origin|config)\.(json|toml)(\.\d+)?\.part"
)
"""Files that a first start may leave if it is killed before the folder counts as a run."""


@dataclass(frozen=True, slots=True)
class RunDescription:
    """Description of a run, JSON-plain."""

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
    """Sources of the data, for the model card."""
    held_out: str = ""
    """Content hash of the held-out examples."""
    contents: Mapping[str, Any] = field(default_factory=dict)
    """By dotted field what is at the places that `identity` names (`models.contents_of`)."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """The same settings as they are where nobody sets them."""
    data_before: str = ""
    """`data` as versions before had it, if another: a run that they began has that."""

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint that a checkpoint must agree with."""
        fingerprint = {
            "trainer": self.trainer,
            "config": dict(self.identity),
            "data": self.data,
            "held_out": self.held_out,
            "contents": dict(self.contents),
            DEFAULTS: dict(self.defaults),
        }
        if self.data_before:
            fingerprint[DATA_BEFORE] = self.data_before
        # As JSON has it (tuples are lists), or a fingerprint would differ from itself read back.
        plain: dict[str, Any] = json.loads(json.dumps(fingerprint))
        return plain


class RunFolder(Closing):
    """A run's folder, open for training; a context manager.

    Call `resume` first, then for each step `log` and, at times, `save`.
    """

    def __init__(
        self,
        path: Path,
        about: RunDescription,
        *,
        resume: bool = False,
        world: World = ALONE,
        keep: int = 2,
        higher_is_better: bool = False,
        trackers: Sequence[str] = (),
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
        self._trackers = trackers
        self._lock: FolderLock | None = None
        self._metrics: MetricsLog | None = None
        self._samples: SamplesLog | None = None
        self.checkpoints = Checkpoints(
            path / "checkpoints",
            about.fingerprint(),
            keep=keep,
            higher_is_better=higher_is_better,
            world=world,
        )
        self._first_opens(resume)

    @property
    def model_path(self) -> Path:
        """Path of the finished model."""
        return self.path / MODEL

    @property
    def metrics(self) -> MetricsLog:
        """The log; open after `resume`."""
        if self._metrics is None:
            raise ValueError("call resume() before the first step: it opens the metrics")
        return self._metrics

    def resume(self, state: RunState) -> ResumePoint:
        """Set `state` to the newest checkpoint if there is one, and cut the metrics to it.

        Raises:
            CheckpointError: As `Checkpoints.resume`.
        """
        resumed = self.checkpoints.resume(state)
        self._metrics = MetricsLog(
            self.path,
            resumed.step,
            writes=self._world.is_first,
            trackers=self._trackers,
        )
        self._samples = SamplesLog(self.path, resumed.step, writes=self._world.is_first)
        return resumed

    def log(self, step: int, values: Mapping[str, float], split: Split = "train") -> None:
        """Append to the metrics; before the step is saved."""
        self.metrics.log(step, values, split)

    def keep(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Append to the samples; before the step is saved."""
        assert self._samples is not None
        self._samples.keep(step, samples)

    def noted(self, step: int, check: Callable[[], list[str]]) -> list[str]:
        """Write down what guards say of a step in `guards.jsonl`; also that which stops the run."""
        try:
            said = check()
        except TrainingStopped as stop:
            self._note(step, str(stop))
            raise
        for each in said:
            self._note(step, each)
        return said

    def _note(self, step: int, message: str) -> None:
        if self._world.is_first:
            with (self.path / GUARDS).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "message": message}) + "\n")

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
        starts = [*before.get("starts", []), start_record()]
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
        given = (
            "with other settings or data than these; take another folder"
            if resume
            else f"(its model is {MODEL}/); take another folder to train again, or resume "
            "(--resume, resume=True) to be given that model"
        )
        raise ConfigError(f"{place} holds a finished run {given}")
    if (path / "config.json").exists():
        if not resume:
            raise ConfigError(
                f"{place} holds a run that is not finished. Go on with it: "
                f"{resume_command()}; or take another folder"
            )
    elif path.is_dir() and any(not BEFORE_A_RUN.fullmatch(p.name) for p in path.iterdir()):
        raise ConfigError(f"{place} is not empty and no run; take another folder")
    files.check_place(path, "out", is_folder=True)


def check_places(config: Any, resume: bool) -> None:
    """Refuse folders that the runs of these settings cannot begin or go on in.

    Raises:
        ConfigError: As `check_place`; finished members of an ensemble that goes on are left alone.
    """
    runs = run_folders(config)
    for run in runs:
        if not (resume and len(runs) > 1 and (run / MODEL).exists()):
            check_place(run, resume)


def check_begun(config: Any) -> None:
    """Refuse to go on with a run that nobody has begun, as a wrong folder would be trained in anew.

    Raises:
        ConfigError: No folder of these settings holds a run.
    """
    if not any((run / name).exists() for run in run_folders(config) for name in BEGUN):
        raise ConfigError(
            f"out = {str(config.out)!r} holds no run to go on with; to begin one: "
            f"{begin_command()}; or name the folder of a run"
        )


def check_finished(config: Any) -> None:
    """Refuse to be given the model of a finished run that had other settings.

    Raises:
        AnotherRunError: It names the first setting that differs, and both values.
    """
    described = config.out / "config.json"
    if not ((config.out / MODEL).is_dir() and described.is_file()):
        return
    try:
        saved = json.loads(described.read_text(encoding="utf-8"))["fingerprint"]
        known = {name: saved[name] for name in ("config", "contents") if name in saved}
    except (OSError, ValueError, LookupError, TypeError):
        return  # no run of ours: the folder is refused where it is opened
    check_fingerprint(config.out, known, describe_settings(config))


def run_folders(config: Any) -> list[Path]:
    """The folders of the runs that settings stand for: one, or one for each of an ensemble."""
    members: int = getattr(config, "members", 1)
    out: Path = config.out
    if members == 1:
        return [out]
    return [out / f"member-{number}" for number in range(1, members + 1)]


def is_finished(config: Any) -> bool:
    """Return whether a finished run with these settings stands in their folder."""
    if not (config.out / MODEL).is_dir():
        return False
    try:
        saved = json.loads((config.out / "config.json").read_text(encoding="utf-8"))["fingerprint"]
        known = {name: saved[name] for name in ("config", "contents") if name in saved}
        return not unlike(known, describe_settings(config))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def describe_settings(config: Any) -> dict[str, Any]:
    """Return the settings that determine a run's result, with the content of named places."""
    identity = json.loads(json.dumps(config.identity()))
    return {
        "config": identity,
        "contents": contents_of(identity, config.all_by_content()),
        DEFAULTS: _defaults(config),
    }


def _defaults(settings: Settings) -> dict[str, Any]:
    """The settings, JSON-plain, as they are where nobody sets them."""
    found: dict[str, Any] = {}
    for name, about in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            found[name] = _defaults(value)
        elif not about.is_required():
            found[name] = to_jsonable_python(
                about.get_default(call_default_factory=True), fallback=str
            )
    return found
