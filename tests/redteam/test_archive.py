"""The archive of elites."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import ModuleType

import pytest

from oversight.errors import ConfigError
from oversight.redteam import goals
from oversight.redteam.archive import (
    Elite,
    EliteArchive,
    EliteGrid,
    fill,
    read_elites,
    write_grid_picture,
)
from oversight.redteam.lanes import AttackRunner
from oversight.redteam.log import AttemptLog
from oversight.redteam.preparing import ArchiveSettings
from oversight.redteam.types import AttackCase

GRID = EliteGrid(("leak", "noise"), ("cases", "forms", "longer"), (5, 20))


def elite(cell: tuple[int, int, int], score: float, at: int = 1) -> Elite:
    return Elite(cell, score, score > 0.5, "text", "goal", 0, at, at - 1)


def test_a_cell_keeps_its_best_and_the_first_of_equals() -> None:
    archive = EliteArchive(GRID)
    assert archive.add(elite((0, 1, 2), 0.4))
    assert not archive.add(elite((0, 1, 2), 0.4, at=2))
    assert archive.add(elite((0, 1, 2), 0.6, at=3))
    assert archive.add(elite((1, 0, 0), 0.1))
    assert GRID.size == 18
    assert archive.coverage == pytest.approx(2 / 18)
    assert archive.qd_score == pytest.approx(0.7)


def test_words_added_find_their_bin() -> None:
    assert [GRID.cell("noise", "forms", n)[2] for n in (-3, 4, 5, 19, 20, 900)] == [
        *(0, 0, 1, 1, 2, 2)
    ]


def test_coverage_and_score_are_those_of_ribs() -> None:
    archives = pytest.importorskip("ribs.archives")
    rng = random.Random(0)
    peer = archives.GridArchive(
        solution_dim=1, dims=[2, 3, 3], ranges=[(-0.5, 1.5), (-0.5, 2.5), (-0.5, 2.5)]
    )
    own = EliteArchive(GRID)
    for number in range(60):
        cell = (rng.randrange(2), rng.randrange(3), rng.randrange(3))
        score = rng.random()
        own.add(elite(cell, score, number + 1))
        peer.add_single([float(number)], score, [float(each) for each in cell])
    assert own.coverage == pytest.approx(peer.stats.coverage)
    assert own.qd_score == pytest.approx(peer.stats.qd_score)


async def filled(
    planted: ModuleType, folder: Path, calls: int = 160, start: str = ""
) -> EliteArchive:
    target = planted.policy("capitals", planted.POLICIES["capital letters"])
    cases = [
        AttackCase(goal, goal.request, random.Random(0), 10)
        for goal in goals.load("told_secret").goals
    ]
    with AttemptLog(folder) as log:
        runner = AttackRunner(log, fresh=2)
        return await fill(target, cases, runner, ArchiveSettings(calls=calls, start=start))


async def test_the_search_fills_cells_and_tries_what_succeeds_again(
    planted: ModuleType, tmp_path: Path
) -> None:
    archive = await filled(planted, tmp_path)
    assert archive.coverage > 0.2
    assert archive.course[-1][0] == 160
    coverages = [each[1] for each in archive.course]
    assert coverages == sorted(coverages)
    won = [each for each in archive.elites.values() if each.is_success]
    assert won
    assert {each.fresh for each in won} == {(2, 2)}
    assert len(archive.snapshots) == 4


async def test_an_archive_begun_again_is_the_same_without_a_call(
    planted: ModuleType, tmp_path: Path
) -> None:
    first = await filled(planted, tmp_path)
    with AttemptLog(tmp_path) as log:
        before = log.num_attempts
    again = await filled(planted, tmp_path)
    with AttemptLog(tmp_path) as log:
        assert log.num_attempts == before
    assert again.body() == first.body()


async def test_an_earlier_archive_is_begun_from_unless_its_grid_is_another(
    planted: ModuleType, tmp_path: Path
) -> None:
    first = await filled(planted, tmp_path / "one")
    path = tmp_path / "archive.json"
    path.write_text(json.dumps(first.body()))
    again = await filled(planted, tmp_path / "two", calls=64, start=str(path))
    assert any(each.is_success for each in again.elites.values())
    with pytest.raises(ConfigError, match="of another grid: its harms are leak"):
        read_elites(path, GRID)


@pytest.mark.parametrize("text", ["{}", "[1]", "x", '{"grid": {}, "elites": [1]}'])
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no archive"):
        read_elites(path, GRID)
    with pytest.raises(ConfigError, match="No such file"):
        read_elites(tmp_path / "none.json", GRID)


async def test_the_picture_is_drawn_without_a_warning(planted: ModuleType, tmp_path: Path) -> None:
    archive = await filled(planted, tmp_path, calls=32)
    write_grid_picture(archive, "a $name$ of somebody's", tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 10_000
