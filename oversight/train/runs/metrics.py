"""`metrics.jsonl`: one line a logged step, as if the run had never been cut."""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from oversight.errors import DataError, MissingDependencyError
from oversight.files import told, write_text

Split = Literal["train", "eval"]
NAME = "metrics.jsonl"
TENSORBOARD = "tensorboard"
"""Folder of TensorBoard's files, in the run's folder."""
FIXED = frozenset({"step", "split", "time", "wall_s"})
"""Names in a line besides those of metrics."""


class MetricsLog:
    """Appends what was measured to a run's `metrics.jsonl`.

    A line holds step, split, Unix time, and the seconds that the run has
    worked, over all its starts. NaN and infinities become null.

    Args:
        folder: The run's folder.
        step: Where the run goes on; lines after it are dropped.
        writes: Whether this process is the one that writes.
        tensorboard: Write TensorBoard's files as well.
        window: Values that a moving average is over.

    Raises:
        MissingDependencyError: TensorBoard is asked for and not installed.
        DataError: The file that is there cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        step: int = 0,
        *,
        writes: bool = True,
        tensorboard: bool = False,
        window: int = 20,
    ) -> None:
        self.path = folder / NAME
        self._recent: dict[tuple[str, str], deque[float]] = defaultdict(
            lambda: deque(maxlen=window)
        )
        self._board = _open_board(folder / TENSORBOARD, step) if writes and tensorboard else None
        self._sealed = step
        self._before_s = 0.0
        for line in _keep_until(self.path, step) if writes else ():
            self._before_s = float(line["wall_s"])
            self._remember(line["split"], _metrics(line))
        self._begin = time.monotonic()
        self._file: IO[str] | None = (
            self.path.open("a", encoding="utf-8", newline="\n") if writes else None
        )

    def log(self, step: int, values: Mapping[str, float], split: Split = "train") -> None:
        """Append a line; it reaches the disk by `sync` at the latest.

        Raises:
            ValueError: The step has its checkpoint already, so that the line would be lost or
                doubled if the run were cut: log a step before it is saved.
        """
        if step <= self._sealed:
            raise ValueError(f"step {step} is logged after its checkpoint; log it before")
        plain = {name: float(value) for name, value in values.items()}
        self._remember(split, plain)
        if self._file is None:
            return
        line: dict[str, Any] = {
            "step": step,
            "split": split,
            "time": round(time.time(), 3),
            "wall_s": round(self._before_s + time.monotonic() - self._begin, 3),
        }
        line |= {name: value if math.isfinite(value) else None for name, value in plain.items()}
        with told(f"{self.path} cannot be written"):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in plain.items():
                self._board.add_scalar(f"{split}/{name}", value, step)

    def mean(self, name: str, split: Split = "train") -> float:
        """The moving average of a metric; NaN where it was never logged."""
        recent = self._recent.get((split, name))
        return sum(recent) / len(recent) if recent else math.nan

    def sync(self, step: int) -> None:
        """Wait until all lines are on the disk, as a checkpoint of `step` will stand on them."""
        if self._file is not None:
            with told(f"{self.path} cannot be written"):
                os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()
        self._sealed = max(self._sealed, step)

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def _remember(self, split: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._recent[split, name].append(value)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line that was cut short is left out.

    Raises:
        DataError: The file is missing or a line is no metrics line; names it.
    """
    path = folder / NAME
    if not path.is_file():
        raise DataError(f"{folder} has no {NAME}; name the folder of a run of `oversight train`")
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    # Bytes that are no UTF-8 are named with their line, as text that is no JSON.
    texts = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    for number, text in enumerate(texts[:-1], 1):
        try:
            line = json.loads(text)
            if not (isinstance(line["step"], int) and isinstance(line["split"], str)):
                raise TypeError
            float(line["wall_s"])
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            raise DataError(
                f"{path}:{number}: {text[:80]!r} is no metrics line (an object with step, split "
                "and wall_s); remove the line"
            ) from None
        yield line


def _keep_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop from the file what came after `step`, in one go; gives what stays."""
    if not path.is_file():
        return []
    kept = [line for line in _lines(path) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    if path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return kept


def _metrics(line: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in line.items()
        if name not in FIXED and isinstance(value, int | float)
    }


def _open_board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependencyError(
            "tensorboard = true needs the package tensorboard: pip install tensorboard"
        ) from None
    # Untyped in torch. What a cut run wrote after its checkpoint is hidden.
    writer: Any = SummaryWriter
    return writer(str(folder), purge_step=step + 1)
