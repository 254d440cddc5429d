"""Training runs as pages, from their folders: settings, curves, guards that fired, state."""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.errors import DataError
from oversight.reporting.rendering import Plot, Series, metric_plot
from oversight.text.numbers import duration

if TYPE_CHECKING:
    from oversight.train.runs.curves import Curve

METRICS = "metrics.jsonl"
MAX_DEPTH = 4
"""Folders below a named one in which runs and stores are looked for."""
MAX_FOLDERS = 5_000
MAX_SAMPLES = 40
"""Samples of rollouts that a run's page shows."""
EXPERIMENTS = {"circle.json": "closed circle", "constitutional.json": "constitutional experiment"}
"""Files that make a folder an experiment's, and what it is."""
SHOWN_FIGURES = ("loss", "reward", "accuracy", "kl")
MAIN = ("loss", "reward", "accuracy", "kl", "entropy", "response_length")
"""Metrics that a run's page shows first, where it has them, with the parts of its reward."""
GROUPS: dict[str, tuple[str, ...]] = {
    "Rewards and responses": (
        *("reward_std", "judge_right", "no_signal", "finished", "margin", "reward_chosen"),
        *("reward_rejected", "logp_chosen", "logp_rejected", "return"),
    ),
    "The policy's update": (
        *("policy_loss", "approx_kl", "advantage", "kl_per_token", "sampler_kl", "ratio"),
        *("ratio_max", "ratio_error", "clip_low", "clip_high", "kl_rollout", "kl_coefficient"),
    ),
    "Importance weights": ("importance/",),
    "Value function": ("value/",),
    "Optimizer": ("lr", "grad_norm", "skipped"),
}
"""Other metrics by what they are about: names, or with a slash how names begin."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A training run as a list shows it."""

    name: str
    trainer: str
    state: str
    step: int
    steps: int | None
    started: str
    figures: tuple[tuple[str, str], ...]
    """Last values of the main metrics."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RunPage:
    """A training run."""

    name: str
    trainer: str
    state: str
    step: int
    steps: int | None
    is_live: bool
    facts: tuple[str, ...]
    guards: tuple[str, ...]
    samples: tuple[dict[str, Any], ...]
    """Responses that were learnt from, as `read_samples` gives them, the newest first."""
    outcome: tuple[tuple[str, str, str, str, str], ...]
    """Title, first, last and best value and its step of the main metrics."""
    plots: tuple[Plot, ...]
    """One for each of the main metrics: what differs in kind never shares an axis."""
    more: tuple[tuple[str, tuple[Plot, ...]], ...]
    """Likewise for all other metrics, by what they are about, see `GROUPS`."""
    card: str
    """README.md of the finished model; empty before."""
    settings: str
    starts: tuple[str, ...]
    problems: tuple[str, ...]
    others: tuple[str, ...]
    """Runs that can be shown beside it."""


@dataclass(slots=True)
class FoldersFound:
    """Folders and stores in a place, and below it."""

    runs: list[Path] = field(default_factory=list)
    stores: list[Path] = field(default_factory=list)
    """Files `*.db`."""
    experiments: list[Path] = field(default_factory=list)


def find(folder: Path) -> FoldersFound:
    """The runs, stores and experiments in a folder and those below it."""
    found = FoldersFound()
    todo, seen = [(folder, 0)], 0
    while todo and seen < MAX_FOLDERS:
        here, depth = todo.pop()
        seen += 1
        try:
            entries = sorted(here.iterdir())
        except OSError:
            continue
        if (here / METRICS).is_file() or (here / "origin.json").is_file():
            found.runs.append(here)
            continue
        if any((here / name).is_file() for name in EXPERIMENTS):
            found.experiments.append(here)
        found.stores += [each for each in entries if each.suffix == ".db" and each.is_file()]
        if depth < MAX_DEPTH:
            below = [each for each in entries if each.is_dir() and not each.name.startswith(".")]
            todo += [(each, depth + 1) for each in reversed(below)]
    return found


def named_folders(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders or files, each by the shortest ending of its path that no other has."""
    paths = list(dict.fromkeys(folder.resolve() for folder in folders))
    endings = Counter(
        path.parts[-depth:] for path in paths for depth in range(1, len(path.parts) + 1)
    )
    return {
        "/".join(
            next(
                (
                    path.parts[-depth:]
                    for depth in range(1, len(path.parts))
                    if endings[path.parts[-depth:]] == 1
                ),
                path.parts,
            )
        ): path
        for path in paths
    }


def run_row(name: str, folder: Path) -> RunRow:
    """A run for the list; a file that cannot be read is said, and hides nothing else."""
    config = json_of(folder / "config.json")
    origin = json_of(folder / "origin.json")
    figures: list[tuple[str, str]] = []
    step, problem = 0, ""
    try:
        last: dict[str, float] = {}
        for curve in _curves(folder):
            if curve.split == "train":
                last[curve.metric] = float(curve.values[-1])
                step = max(step, int(curve.steps[-1]))
        figures = [(key, f"{last[key]:.4g}") for key in SHOWN_FIGURES if key in last]
    except DataError as error:
        problem = str(error)
    return RunRow(
        name=name,
        trainer=str(origin.get("trainer") or config.get("trainer") or "run"),
        state=_state(folder),
        step=step,
        steps=_steps(config),
        started=_started(origin),
        figures=tuple(figures),
        problem=problem,
    )


def run_page(name: str, folders: dict[str, Path], beside: str = "") -> RunPage:
    """The page of a run, with the curves of another beside its own if one is named."""
    folder = folders[name]
    config, origin = json_of(folder / "config.json"), json_of(folder / "origin.json")
    problems: list[str] = []
    wanted = [name, *([beside] if beside in folders and beside != name else [])]
    curves: list[Curve] = []
    for each in wanted:
        try:
            curves += [replace(curve, run=each) for curve in _curves(folders[each])]
        except DataError as error:
            problems.append(str(error))
    steps = [int(c.steps[-1]) for c in curves if c.run == name and c.split == "train"]
    starts = origin.get("starts", [])
    trainer = str(origin.get("trainer") or config.get("trainer") or "run")
    main, grouped = _sorted({curve.metric for curve in curves})
    several = len(wanted) > 1
    return RunPage(
        name=name,
        trainer=trainer,
        state=_state(folder),
        step=max(steps, default=0),
        steps=_steps(config),
        is_live=is_training(folder),
        facts=tuple(_facts(folder, origin)),
        guards=tuple(_guards(folder)),
        samples=tuple(_samples(folder, problems)),
        outcome=tuple(_outcome([c for c in curves if c.run == name], main, trainer)),
        plots=tuple(_plots(curves, main, several=several)),
        more=tuple(
            (title, tuple(_plots(curves, names, several=several)))
            for title, names in grouped.items()
        ),
        card=_text(folder / "model" / "README.md"),
        settings=_text(folder / "config.toml"),
        starts=tuple(json.dumps(each, indent=1, ensure_ascii=False) for each in starts),
        problems=tuple(problems),
        others=tuple(each for each in folders if each != name),
    )


def _curves(folder: Path) -> tuple[Curve, ...]:
    try:
        found = (folder / METRICS).stat()
    except OSError:
        return _read_curves(folder, (0, 0))
    return _read_curves(folder, (found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=64)
def _read_curves(folder: Path, _stamp: tuple[int, int]) -> tuple[Curve, ...]:
    """The curves of a run, read once for each state of its file."""
    from oversight.train.runs.curves import read_curves

    return tuple(read_curves([folder]))


def _sorted(names: Collection[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The main metrics in their order, and the others by group."""
    from oversight.train.runs.metrics import parts_of_reward

    parts = parts_of_reward(names)
    main = [each for known in MAIN for each in (known, *parts * (known == "reward"))]
    left = sorted(set(names) - set(main))
    grouped = {}
    for title, known in GROUPS.items():
        places = {name: place for place, name in enumerate(known)}
        mine = [each for each in left if each in known or f"{each.split('/')[0]}/" in known]
        if mine:
            grouped[title] = sorted(mine, key=lambda name: places.get(name, 0))
        left = [name for name in left if name not in mine]
    if left:
        grouped["Other metrics"] = left
    return [name for name in main if name in names], grouped


def _outcome(
    curves: Sequence[Curve], metrics: Sequence[str], trainer: str
) -> Iterator[tuple[str, str, str, str, str]]:
    """Title, first, last and best value and its step, of the held-out part too."""
    from oversight.train.runs.curves import PANELS, summary

    for metric in metrics:
        for curve in (each for each in curves if each.metric == metric):
            points = [(int(n), float(v)) for n, v in zip(curve.steps, curve.values, strict=True)]
            title = PANELS.get(metric, metric) + ", held out" * (curve.split == "eval")
            yield title, *summary(metric, points, trainer)


def _plots(curves: list[Curve], metrics: Sequence[str], *, several: bool) -> Iterator[Plot]:
    """A chart for each of these metrics, and for each thing that it measures."""
    from oversight.train.runs.curves import panels

    for metric, title, held in panels(curves, metrics):
        yield from _plot_of(title, metric, held, several=several)


def _plot_of(title: str, metric: str, curves: list[Curve], *, several: bool) -> Iterator[Plot]:
    series = []
    for curve in curves:
        held_out = curve.split == "eval"
        label = "held out" if held_out else "train"
        points = list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
        smooth = None if held_out or metric == "lr" else curve.smoothed()
        strong = (
            points
            if smooth is None
            else list(zip(curve.steps.tolist(), smooth.tolist(), strict=True))
        )
        series.append(
            Series(
                label=f"{curve.run}, {label}" if several else label,
                points=strong,
                raw=points if smooth is not None else (),
                is_dotted=held_out,
            )
        )
    if series:
        yield metric_plot(title, series)


def _guards(folder: Path) -> Iterator[str]:
    from oversight.train.runs.metrics import GUARDS

    for line in _text(folder / GUARDS).splitlines():
        try:
            yield str(json.loads(line)["message"])
        except (ValueError, KeyError, TypeError):
            continue


def _samples(folder: Path, problems: list[str]) -> list[dict[str, Any]]:
    from oversight.train.runs.metrics import read_samples

    try:
        return read_samples(folder)[: -MAX_SAMPLES - 1 : -1]
    except DataError as error:
        problems.append(str(error))
        return []


def _facts(folder: Path, origin: dict[str, Any]) -> Iterator[str]:
    if "seed" in origin:
        yield f"seed {origin['seed']}"
    if started := _started(origin):
        yield f"begun {started}"
    lines = _text(folder / METRICS).rstrip().rsplit("\n", 1)
    try:
        yield duration(float(json.loads(lines[-1])["wall_s"]))
    except (ValueError, KeyError, TypeError):
        return


def _started(origin: dict[str, Any]) -> str:
    starts = origin.get("starts") or [{}]
    try:
        return datetime.fromisoformat(starts[0]["time"]).strftime("%Y-%m-%d %H:%M UTC")
    except (KeyError, ValueError, TypeError):
        return ""


def _steps(config: dict[str, Any]) -> int | None:
    settings = config.get("config")
    steps = settings.get("steps") if isinstance(settings, dict) else None
    return steps if isinstance(steps, int) else None


def _state(folder: Path) -> str:
    if (folder / "model").is_dir():
        return "finished"
    return "training now" if is_training(folder) else "stopped before its end"


def is_training(folder: Path) -> bool:
    """True if a process holds the run's lock; asks without taking it from anybody."""
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def json_of(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
