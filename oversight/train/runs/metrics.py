"""The figures of a run, step by step: lines of `metrics.jsonl`, and progress on stderr.

The file has one line a logged step, as if the run had never been cut. Beside it, `samples.jsonl`
has responses that PPO and GRPO have learnt from, a few of each collection. On stderr is a bar with
what matters or, where it is no terminal, a line now and then.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from oversight.errors import DataError
from oversight.files import told, write_text
from oversight.text.numbers import compact, count, duration
from oversight.text.terminal import can_redraw, rich_text, visible
from oversight.train.runs.trackers import open_trackers

Split = Literal["train", "eval"]
NAME = "metrics.jsonl"
SAMPLES = "samples.jsonl"
GUARDS = "guards.jsonl"
"""File of what guards said, a line each."""
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
        trackers: Services that show the run as well: `tensorboard`, `wandb`, `mlflow`.
        window: Values that a moving average is over.

    Raises:
        MissingDependencyError: The package of a service is not installed.
        ConfigError: A service cannot be reached.
        DataError: The file that is there cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        step: int = 0,
        *,
        writes: bool = True,
        trackers: Sequence[str] = (),
        window: int = 20,
    ) -> None:
        self.path = folder / NAME
        self._recent: dict[tuple[str, str], deque[float]] = defaultdict(
            lambda: deque(maxlen=window)
        )
        self._trackers = open_trackers(trackers if writes else (), folder, step)
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
        finite = {f"{split}/{n}": value for n, value in plain.items() if math.isfinite(value)}
        for each in self._trackers:
            each.log(step, finite)

    def mean(self, name: str, split: Split = "train") -> float:
        """The moving average of a metric; NaN where it was never logged."""
        recent = self._recent.get((split, name))
        return sum(recent) / len(recent) if recent else math.nan

    def sync(self, step: int) -> None:
        """Wait until all lines are on the disk, as a checkpoint of `step` will stand on them."""
        if self._file is not None:
            with told(f"{self.path} cannot be written"):
                os.fsync(self._file.fileno())
        for each in self._trackers:
            each.flush()
        self._sealed = max(self._sealed, step)

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        for each in self._trackers:
            each.close()

    def _remember(self, split: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._recent[split, name].append(value)


REWARD_PART = "rewards/"
"""Before the name of a source in a sum of rewards: the metric of its mean."""


def parts_of_reward(names: Iterable[str]) -> list[str]:
    """Of metrics' names those of the parts of a summed reward, in alphabetical order."""
    return sorted({each for each in names if each.startswith(REWARD_PART)})


class SamplesLog:
    """Appends sampled responses to a run's `samples.jsonl`, a line each.

    Args:
        folder: The run's folder.
        step: Where the run goes on; lines after it are dropped.
        writes: Whether this process is the one that writes.

    Raises:
        DataError: The file that is there cannot be read.
    """

    def __init__(self, folder: Path, step: int = 0, *, writes: bool = True) -> None:
        self.path = folder / SAMPLES
        self._writes = writes
        if writes:
            _keep_until(self.path, step)

    def keep(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Append what was learnt from in this step."""
        if not (self._writes and samples):
            return
        text = "".join(json.dumps({"step": step, **each}) + "\n" for each in samples)
        with (
            told(f"{self.path} cannot be written"),
            self.path.open("a", encoding="utf-8", newline="\n") as file,
        ):
            file.write(text)


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `samples.jsonl`; none where it keeps no samples.

    Each has `step`, `collection`, `id` (the example's), `prompt` (its end), `response`, `reward`,
    `tokens` and `finished`.

    Raises:
        DataError: A line is none of them; names it.
    """
    path = folder / SAMPLES
    return list(_lines(path)) if path.is_file() else []


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line that was cut short is left out.

    Raises:
        DataError: The file is missing or a line is no metrics line; names it.
    """
    path = folder / NAME
    if not path.is_file():
        raise DataError(f"{folder} has no {NAME}; name the folder of a run of `oversight train`")
    return list(_lines(path))


NUMBER = int | float
KINDS: dict[str, dict[str, Any]] = {
    NAME: {"step": int, "split": str, "wall_s": NUMBER},
    SAMPLES: {
        "step": int,
        "id": str,
        "prompt": str,
        "response": str,
        "reward": NUMBER,
        "tokens": int,
        "finished": bool,
    },
}
"""Fields that a line of each file has to have."""
LINES = {NAME: "metrics line", SAMPLES: "sample"}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    # Bytes that are no UTF-8 are named with their line, as text that is no JSON.
    texts = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    for number, text in enumerate(texts[:-1], 1):
        try:
            line = json.loads(text)
            for name, kind in KINDS[path.name].items():
                if not isinstance(line[name], kind):
                    raise TypeError
                float(line[name] if kind is NUMBER else 0)  # a whole number may be too large
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            *first, last = KINDS[path.name]
            raise DataError(
                f"{path}:{number}: {text[:80]!r} is no {LINES[path.name]} (an object with "
                f"{', '.join(first)} and {last}); remove the line"
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


SAMPLE_EVERY_S = 60.0
"""Time between two samples that are shown."""
SAMPLE_CHARS = 220
"""Characters of a prompt's end, and of a response's beginning, that are shown."""
LINE_EVERY_S = 10.0
"""Time between two lines where stderr is no terminal."""
SHOWN = {"loss": "loss", "reward": "reward", "accuracy": "acc", "kl": "KL", "entropy": "entropy"}
"""Metrics that are shown, in this order, with the names they are shown by."""
RATE_STEPS = 20
"""Steps that tokens a second and the time left are measured over."""
BAR, SHORT_BAR = 20, 8
"""Columns of the bar, and of one on a terminal that is too narrow for all that is shown."""
TIME_LEFT = len(" left 00:00:00")


class TrainProgress:
    """Shows a run's progress; a context manager. Call `update` after each step.

    Args:
        name: Name of the model that is trained, shown before the bar.
        total: Steps of the whole run.
        step: Steps that were done before this start.
        console: Where to; stderr if not given.
        silent: Show nothing, as in all processes but the first.
    """

    def __init__(
        self,
        name: str,
        total: int,
        step: int = 0,
        console: Console | None = None,
        silent: bool = False,
    ) -> None:
        self._console = console or Console(stderr=True, quiet=silent)
        self._drawn = BarColumn(bar_width=BAR)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            self._drawn,
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._is_bar = can_redraw(self._console) and not silent
        self._name = visible(name, newlines=False)
        self._total = total
        self._task = self._bar.add_task(self._name, total=total, completed=step, note="")
        self._last_line = time.monotonic()
        self._marks: deque[tuple[float, int, int]] = deque(maxlen=RATE_STEPS + 1)
        self._marks.append((self._last_line, step, 0))
        self._shown: dict[str, float] = {}
        self._next_sample = 0.0

    def __enter__(self) -> Self:
        if self._is_bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_bar:
            self._bar.stop()

    def update(self, step: int, values: Mapping[str, float], num_tokens: int = 0) -> None:
        """Show that `step` steps are done.

        Args:
            step: Steps done.
            values: The step's metrics; those in `SHOWN` are shown.
            num_tokens: Tokens that this step took.
        """
        now = time.monotonic()
        self._marks.append((now, step, self._marks[-1][2] + num_tokens))
        self._shown |= {name: values[name] for name in SHOWN if name in values}
        parts = [*self._metrics(), *self._rate()]
        note = ", ".join(parts)
        self._bar.update(self._task, completed=step, note=self._fitting(parts))
        if not self._is_bar and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            words = [f"{self._name} {step}/{self._total}", note, self._left(step)]
            self._print(", ".join(word for word in words if word))

    def say(self, message: str) -> None:
        """Print a line, such as a guard's warning; above the bar if there is one."""
        self._print(message)

    def sample(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Show the first of the samples of a step, if none was shown for a while."""
        now = time.monotonic()
        if not samples or now < self._next_sample:
            return
        self._next_sample = now + SAMPLE_EVERY_S
        first = samples[0]
        asked, said = (" ".join(str(first[name]).split()) for name in ("prompt", "response"))
        asked = asked if len(asked) <= SAMPLE_CHARS else "…" + asked[-SAMPLE_CHARS:]
        said = said if len(said) <= SAMPLE_CHARS else said[:SAMPLE_CHARS] + "…"
        self._print(
            f"step {step}, a response of {count(first['tokens'], 'token')} with reward "
            f"{first['reward']:.4g}\n  {asked}\n  -> {said or '(nothing)'}"
        )

    def _print(self, text: str) -> None:
        self._console.print(rich_text(text), soft_wrap=True, highlight=False)

    def _fitting(self, parts: list[str]) -> str:
        """As much as stands beside the bar on one line of the terminal, the first things first.

        Where not all does, the bar is short, too: cut by rich, a line would lose the name, the
        step and the time left.
        """
        count = 2 * len(str(self._total)) + 1
        room = self._console.width - 1 - cell_len(self._name) - count - TIME_LEFT - len("   ")
        note = ", ".join(parts)
        is_short = len(note) > room - BAR
        self._drawn.bar_width = SHORT_BAR if is_short else BAR
        while is_short and parts and len(note) > room - SHORT_BAR:
            parts = parts[:-1]
            note = ", ".join(parts)
        return note

    def _metrics(self) -> list[str]:
        return [f"{SHOWN[name]} {self._shown[name]:.4g}" for name in SHOWN if name in self._shown]

    def _rate(self) -> list[str]:
        (begin, _, before), (end, _, after) = self._marks[0], self._marks[-1]
        if after == before or end <= begin:
            return []
        return [f"{compact((after - before) / (end - begin))} tokens/s"]

    def _left(self, step: int) -> str:
        (begin, first, _), (end, last, _) = self._marks[0], self._marks[-1]
        if last == first or end <= begin:
            return ""
        return f"{duration((self._total - step) * (end - begin) / (last - first))} left"
