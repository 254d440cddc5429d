"""A quality-diversity search: the best attack of each cell of a grid, over all goals of a target.

MAP-Elites (Mouret and Clune 2015, arXiv:1504.04909) over kind of harm × style × length, as Rainbow
Teaming has it (Samvelyan et al. 2024, arXiv:2402.16822): an elite is rewritten by one more step,
and what comes of it stands in its cell if it scores higher than what stood there. Cells are of
names and elites are texts, of which libraries for vectors of numbers keep neither, so the archive
is a fold over the attempts of its lane; a test holds its figures against those of `ribs`.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.errors import ConfigError
from oversight.evals.drawing import LIGHT, WIDTH_IN, Theme, save_png, short, title
from oversight.files import write_json
from oversight.ids import content_id, seed_from
from oversight.redteam.attacks import steps
from oversight.redteam.lanes import AttackRunner, together
from oversight.redteam.measures import DIRECT
from oversight.redteam.preparing import ArchiveSettings, RedTeamWork, seeded
from oversight.redteam.types import AttackCase, Attempt, AttemptPurpose, Target, Try
from oversight.text.numbers import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = tuple[int, int, int]
"""Indices of harm, style and length."""
SNAPSHOTS = 4
"""Moments at which the picture shows the grid, the last one being the end."""
FROM_WORDS = 0.25
"""Share of attempts that begin from a goal's own words though there are elites."""
ROUNDS_IDLE = 20
"""Rounds without a new text after which the search ends."""


@dataclass(frozen=True, slots=True)
class EliteGrid:
    """The axes of an archive."""

    harms: tuple[str, ...]
    styles: tuple[str, ...]
    lengths: tuple[int, ...]
    """Bounds between the bins of words added."""

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.harms) * len(self.styles) * (len(self.lengths) + 1)

    def cell(self, harm: str, style: str, added: int) -> Cell:
        """The cell of an attempt."""
        place = bisect_right(self.lengths, added)
        return self.harms.index(harm), self.styles.index(style), place

    def body(self) -> dict[str, list[Any]]:
        """A JSON-plain mapping."""
        return {
            "harms": list(self.harms),
            "styles": list(self.styles),
            "lengths": list(self.lengths),
        }


@dataclass(frozen=True, slots=True)
class Elite:
    """The best attempt of a cell."""

    cell: Cell
    score: float
    is_success: bool
    text: str
    goal: str
    case: int
    """Number of its goal among those of the target."""
    at: int
    """Number of the call that found it, from 1."""
    place: int
    fresh: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class EliteArchive:
    """The elites of a grid, as far as they were found."""

    grid: EliteGrid
    elites: dict[Cell, Elite] = field(default_factory=dict)
    course: list[tuple[int, float, float]] = field(default_factory=list)
    """Calls, coverage and QD score after each round."""
    snapshots: list[tuple[int, dict[Cell, float]]] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """Share of cells that hold an elite."""
        return len(self.elites) / self.grid.size

    @property
    def qd_score(self) -> float:
        """Sum of the elites' scores."""
        return sum(each.score for each in self.elites.values())

    def add(self, elite: Elite) -> bool:
        """Let an attempt stand in its cell if it scores higher than what stood there; True if it
        does."""
        before = self.elites.get(elite.cell)
        if before is not None and before.score >= elite.score:
            return False
        self.elites[elite.cell] = elite
        return True

    def end_round(self, calls: int, of: int) -> None:
        """Note how far the archive is after so many calls."""
        self.course.append((calls, self.coverage, self.qd_score))
        if calls * SNAPSHOTS >= of * (len(self.snapshots) + 1):
            scores = {cell: each.score for cell, each in self.elites.items()}
            self.snapshots.append((calls, scores))

    def body(self) -> dict[str, Any]:
        """A JSON-plain mapping."""
        return {
            "grid": self.grid.body(),
            "coverage": self.coverage,
            "qd_score": self.qd_score,
            "elites": [
                {
                    "cell": list(each.cell),
                    "score": each.score,
                    "success": each.is_success,
                    "fresh": list(each.fresh),
                    "goal": each.goal,
                    "at": each.at,
                    "text": each.text,
                }
                for _, each in sorted(self.elites.items())
            ],
            "course": [list(each) for each in self.course],
        }


def read_elites(path: Path, grid: EliteGrid) -> list[tuple[str, str]]:
    """The goal and the text of each elite in an archive's file.

    Raises:
        ConfigError: The file cannot be read, is no archive, or is of another grid.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        axes, elites = body["grid"], [(str(e["goal"]), str(e["text"])) for e in body["elites"]]
    except OSError as error:
        raise ConfigError(f"archive.start = {str(path)!r}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"archive.start = {str(path)!r}: no archive; name an archive-TARGET.json of a run"
        ) from None
    own = grid.body()
    for name, values in own.items():
        if axes.get(name) != values:
            raise ConfigError(
                f"archive.start = {str(path)!r} is of another grid: its {name} are "
                f"{_few(axes.get(name))}, and those of this run {_few(values)}; run it with the "
                "same goals and lengths, or leave archive.start out"
            )
    return elites


def _few(values: Any) -> str:
    shown = [str(each) for each in values or ()]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


async def fill_archives(
    work: RedTeamWork, runner: AttackRunner, tell: Callable[[str, int, int], None]
) -> dict[str, EliteArchive]:
    """The archives of all targets, by name; written into the run's folder.

    Raises:
        EngineError: A reply is not to be had.
        ConfigError: An archive to begin from is of another grid.
    """
    settings = work.settings.archive
    assert settings is not None
    found = {}
    for name, target in work.targets.items():
        cases = [each for each in work.cases(target) if _withstands(runner, target, each)]
        if not cases:
            continue
        archive = await fill(target, cases, runner, settings, tell)
        place = Path(work.settings.folder)
        write_json(place / f"archive-{name}.json", archive.body())
        write_grid_picture(archive, name, place / f"archive-{name}.png")
        found[name] = archive
    return found


def _withstands(runner: AttackRunner, target: Target, case: AttackCase) -> bool:
    lane = runner.log.lane(runner.lane_id(target, case, DIRECT, 1))
    return lane is not None and lane.broken_at is None


async def fill(
    target: Target,
    cases: Sequence[AttackCase],
    runner: AttackRunner,
    settings: ArchiveSettings,
    tell: Callable[[str, int, int], None] = lambda *_: None,
) -> EliteArchive:
    """The archive of a target after so many calls, its successful elites tried on fresh seeds.

    Raises:
        EngineError: A reply is not to be had.
        ConfigError: An archive to begin from is of another grid.
    """
    able = list(steps(target.kind))
    grid = EliteGrid(
        tuple(sorted({each.goal.harm for each in cases})),
        tuple(each.name for each in able),
        settings.lengths,
    )
    archive = EliteArchive(grid)
    key = [settings.calls, settings.batch, list(settings.lengths)]
    of = [each.goal.fingerprint for each in cases]
    lane = content_id("archive", target.name, target.identity, key, of, runner.seed)
    rng = random.Random(seed_from("archive", target.name, runner.seed))
    own = [seeded(each, runner.seed, "archive") for each in cases]
    known = {(number, each.words) for number, each in enumerate(own)}
    waiting = _starts(settings, grid, own)
    calls = idle = 0
    while calls < settings.calls and idle < ROUNDS_IDLE:
        batch: list[tuple[int, Try]] = []
        for _ in range(4 * settings.batch):
            if len(batch) == min(settings.batch, settings.calls - calls):
                break
            number, move = next(waiting, None) or _child(archive, own, able, rng)
            if move is not None and (number, move.text) not in known:
                known.add((number, move.text))
                batch.append((number, move))
        idle = 0 if batch else idle + 1
        tried = await together(
            runner.attempt(
                target, own[number], "archive", lane, calls + n, move, AttemptPurpose.SEARCH, 0
            )
            for n, (number, move) in enumerate(batch)
        )
        for done, (number, move) in zip(tried, batch, strict=True):
            if done.score is not None:
                added = len(done.text.split()) - len(own[number].words.split())
                cell = grid.cell(done.harm, move.style, added)
                archive.add(_elite(cell, done, number))
        calls += len(batch)
        archive.end_round(calls, settings.calls)
        tell(f"archive of {target.name}", calls, settings.calls)
    await _again(archive, target, own, runner, lane)
    return archive


def _elite(cell: Cell, done: Attempt, number: int) -> Elite:
    return Elite(
        cell, done.score or 0.0, done.is_success, done.text, done.goal, number, done.place + 1,
        done.place,
    )  # fmt: skip


def _starts(
    settings: ArchiveSettings, grid: EliteGrid, cases: Sequence[AttackCase]
) -> Iterator[tuple[int, Try | None]]:
    """Elites of an earlier archive, to be tried first."""
    if not settings.start:
        return
    places = {each.goal.id: number for number, each in enumerate(cases)}
    for goal, text in read_elites(Path(settings.start), grid):
        if goal in places:
            yield places[goal], Try(text, style=grid.styles[0])


def _child(
    archive: EliteArchive,
    cases: Sequence[AttackCase],
    able: Sequence[Any],
    rng: random.Random,
) -> tuple[int, Try | None]:
    """An elite, or a goal's own words, under one more rewriting."""
    elites = sorted(archive.elites)
    if elites and rng.random() > FROM_WORDS:
        parent = archive.elites[rng.choice(elites)]
        number, text = parent.case, parent.text
    else:
        number = rng.randrange(len(cases))
        text = cases[number].words
    step = rng.choice(able)
    versions = step.versions(text, cases[number], rng)
    if not versions:
        return number, None
    made = rng.choice(versions)
    return number, Try(made, style=step.name) if len(made) < 8000 else None


async def _again(
    archive: EliteArchive,
    target: Target,
    cases: Sequence[AttackCase],
    runner: AttackRunner,
    lane: str,
) -> None:
    """Try elites that succeeded again on fresh seeds, since the best of many is biased upward."""
    for number, (cell, each) in enumerate(sorted(archive.elites.items())):
        if not each.is_success or not runner.fresh:
            continue
        style = archive.grid.styles[cell[1]]
        tried = await runner.again(
            target, cases[each.case], "archive", f"{lane}-fresh", Try(each.text, style=style),
            runner.fresh, number * runner.fresh,
        )  # fmt: skip
        won = sum(one.is_success for one in tried)
        archive.elites[cell] = replace(each, fresh=(won, runner.fresh))


# --- the picture ---


def grid_picture(archive: EliteArchive, name: str, theme: Theme = LIGHT) -> Figure:
    """The grid at several moments, from left to right: styles down, lengths across, harms in blocks
    beside each other; the darker a cell, the higher its elite's score."""
    import numpy as np
    from matplotlib.figure import Figure

    grid, bins = archive.grid, len(archive.grid.lengths) + 1
    shown = archive.snapshots or [(0, {})]
    wide = len(grid.harms) * bins
    height = 1.05 + 0.17 * len(grid.styles) + 0.75
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    title(
        figure,
        theme,
        f"Archive of attacks on {short(name, 40)}".replace("$", r"\$"),
        f"{percent(archive.coverage)} of {grid.size} cells filled, QD score "
        f"{archive.qd_score:.1f}; a cell's shade is the score of its best attack",
        height,
    )
    left, gap = 0.2, 0.02
    each_wide = (0.97 - left - gap * (len(shown) - 1)) / len(shown)
    for number, (calls, scores) in enumerate(shown):
        values = np.full((len(grid.styles), wide), np.nan)
        for (harm, style, length), score in scores.items():
            values[style, harm * bins + length] = score
        box = (left + number * (each_wide + gap), 0.6 / height, each_wide,
               0.17 * len(grid.styles) / height)  # fmt: skip
        axes = figure.add_axes(box)
        axes.set_facecolor(theme.grid)
        axes.imshow(values, aspect="auto", vmin=0.0, vmax=1.0, cmap="YlOrRd", origin="upper",
                    interpolation="nearest")  # fmt: skip
        for edge in range(1, len(grid.harms)):
            axes.axvline(edge * bins - 0.5, color=theme.ink, linewidth=0.8)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0, colors=theme.muted, labelsize=7)
        axes.set_yticks(range(len(grid.styles)), grid.styles if number == 0 else [])
        middles = [bins * n + (bins - 1) / 2 for n in range(len(grid.harms))]
        axes.set_xticks(middles, [short(each, 14) for each in grid.harms], fontsize=7)
        axes.set_title(f"{calls:,} calls", color=theme.ink, fontsize=9, loc="left")
    bounds = ", ".join(str(each) for each in grid.lengths)
    figure.text(0.03, 0.12 / height, f"across, in each kind of harm: words added, bounds {bounds}",
                color=theme.muted, fontsize=8)  # fmt: skip
    return figure


def write_grid_picture(archive: EliteArchive, name: str, path: Path) -> None:
    """Write the picture of an archive as PNG.

    Raises:
        FileError: The file cannot be written.
    """
    save_png(grid_picture(archive, name), path)
