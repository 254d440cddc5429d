"""Services that people watch runs with: TensorBoard, Weights & Biases, MLflow.

Each shows a run's metrics under `train/NAME` and `eval/NAME`, by step. A run that goes on after it
was cut goes on in the same place there; steps that it does again are logged again. Where a service
keeps its data, and as whom, its own variables say: WANDB_PROJECT, WANDB_API_KEY, WANDB_MODE,
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from oversight.errors import ConfigError, MissingDependencyError
from oversight.files import write_json
from oversight.redaction import redacted
from oversight.text.terminal import visible

TENSORBOARD = "tensorboard"
"""Folder of TensorBoard's files, in the run's folder."""
IDS = "trackers.json"
"""File with the run's id at each service, in the run's folder."""
PROJECT = "oversight"
"""Project, or experiment, where the service's own variable names none."""
MLFLOW_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
MAX_PARAM = 500
"""Characters of a setting that MLflow takes in every version."""


class Tracker(Protocol):
    """A service that shows a run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show finite values of a step, by `split/name`."""

    def flush(self) -> None:
        """Hand on what is held back."""

    def close(self) -> None:
        """End here; a run that goes on opens it again."""


def open_trackers(names: Sequence[str], folder: Path, step: int) -> list[Tracker]:
    """The services that a run is shown by.

    Args:
        names: Their settings: `tensorboard`, `wandb`, `mlflow`.
        folder: The run's folder, with its `config.json` if that is written.
        step: Where the run goes on.

    Raises:
        MissingDependencyError: A package is not installed.
        ConfigError: A service cannot be reached, or refuses.
    """
    made: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _Wandb, "mlflow": _MLflow}
    found: list[Tracker] = []
    try:
        for name in names:
            found.append(_Kept(name, made[name](folder, step)))
    except BaseException:
        for each in found:
            each.close()
        raise
    return found


class _Kept:
    """A service whose failure does not end the run: it is told once, and then left alone."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name = name
        self._tracker: Tracker | None = tracker

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda tracker: tracker.log(step, values))

    def flush(self) -> None:
        self._try(lambda tracker: tracker.flush())

    def close(self) -> None:
        self._try(lambda tracker: tracker.close())

    def _try(self, act: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            act(self._tracker)
        except Exception as error:
            self._tracker = None
            said = redacted(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
            told = f"{self._name} takes no more metrics ({said}); the run goes on without it"
            sys.stderr.write(visible(told) + "\n")


class _TensorBoard:
    """Event files in the run's folder."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard", "tensorboard") from None
        # Untyped in torch. What a cut run wrote after its checkpoint is hidden.
        writer: Any = SummaryWriter
        self._board = writer(str(folder / TENSORBOARD), purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        self._board.flush()

    def close(self) -> None:
        self._board.close()


class _Wandb:
    """A run of Weights & Biases."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb", "wandb") from None
        try:
            self._run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=folder.resolve().name,
                id=_id_of(folder, "wandb", lambda: uuid.uuid4().hex[:8]),
                resume="allow",
                dir=str(folder),
                config=_config(folder),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except (wandb.errors.Error, OSError) as error:
            raise _unreachable(
                "wandb", error, "log in by `wandb login`, or set WANDB_MODE=offline"
            ) from None
        # By its own count of calls, steps that are done again would be dropped.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def flush(self) -> None:
        """It sends by itself."""

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """A run of MLflow."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise _missing("mlflow", "mlflow-skinny") from None
        self._metric: Any = Metric
        self._held: list[Any] = []
        settings = [Param(name, value[:MAX_PARAM]) for name, value in _flat(_config(folder))]
        try:
            with _asked_briefly():
                self._client: Any = MlflowClient()
                self._id = _id_of(folder, "mlflow", lambda: self._made(folder, settings))
                self._client.update_run(self._id, status="RUNNING")
        except (MlflowException, OSError) as error:
            raise _unreachable(
                "mlflow", error, "set MLFLOW_TRACKING_URI to the address of a tracking server"
            ) from None

    def _made(self, folder: Path, settings: Sequence[Any]) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        place = known.experiment_id if known else self._client.create_experiment(name)
        run = str(self._client.create_run(place, run_name=folder.resolve().name).info.run_id)
        for first in range(0, len(settings), 100):
            self._client.log_batch(run, params=settings[first : first + 100])
        return run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._held += [self._metric(name, value, now, step) for name, value in values.items()]
        if len(self._held) >= 500:
            self.flush()

    def flush(self) -> None:
        for first in range(0, len(self._held), 1000):
            self._client.log_batch(self._id, metrics=self._held[first : first + 1000])
        self._held.clear()

    def close(self) -> None:
        self.flush()
        self._client.set_terminated(self._id)


@contextmanager
def _asked_briefly() -> Iterator[None]:
    """MLflow asks a server that does not answer again for some seconds, not for minutes.

    Who waits for a run to begin takes a wrong address for a slow model. Once it runs, MLflow's own
    patience holds; a variable that the user has set holds always.
    """
    given = os.environ.get(MLFLOW_RETRIES)
    os.environ.setdefault(MLFLOW_RETRIES, "2")
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(MLFLOW_RETRIES, None)


def _id_of(folder: Path, service: str, made: Any) -> str:
    """The run's id at a service, which is made at its first start."""
    path = folder / IDS
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        known = {}
    if not isinstance(known.get(service), str):
        known[service] = made()
        write_json(path, known)
    return str(known[service])


def _config(folder: Path) -> dict[str, Any]:
    """The run's trainer and settings, as its folder has them."""
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return {"trainer": about["trainer"], **about["config"]}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}


def _flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Dotted names and values of settings within settings."""
    found: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}.")
        elif value is not None:
            found.append((f"{before}{name}", str(value)))
    return found


def _missing(setting: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{setting} = true needs the package {package}: pip install {package}"
    )


def _unreachable(setting: str, error: BaseException, remedy: str) -> ConfigError:
    said = redacted(" ".join(str(error).split()))[:300]
    return ConfigError(f"{setting} = true: {said}; {remedy}, or set {setting} = false")
