"""Runs: the table, resuming, the records, the pictures and the command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oversight.cli import main
from oversight.errors import ConfigError, StoreError
from oversight.evals.observations import Kind
from oversight.evals.report import build_report
from oversight.experiments.pixels import PixelSettings
from oversight.experiments.pixels.game import MATCHES
from oversight.experiments.pixels.results import NAMES, PUBLISHED, PixelResults, results
from oversight.experiments.pixels.running import FinishedRun, PixelProgress, run, stored_games
from oversight.store import Store

GAMES_AN_IMAGE = sum(len(match.orders) for match in MATCHES)


def settings(out: Path, **changes: Any) -> PixelSettings:
    quick: dict[str, Any] = {"pixels": [2, 4], "images": 3, "judge": {"hidden": 8, "steps": 30}}
    return PixelSettings.parse(quick | {"out": out} | changes)


def played(given: PixelSettings) -> tuple[FinishedRun, PixelResults]:
    given.out.mkdir(parents=True, exist_ok=True)
    with Store.open(given.store_url) as store:
        done = run(given, store)
        return done, results(done.dataset, done.games, stored_games(store, done.dataset))


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[PixelSettings, FinishedRun, PixelResults]:
    given = settings(tmp_path_factory.mktemp("pixels"))
    return given, *played(given)


def test_every_match_is_played_on_every_image_and_named(
    finished: tuple[PixelSettings, FinishedRun, PixelResults],
) -> None:
    _, done, found = finished
    assert done.num_played == found.num_games == 2 * 3 * GAMES_AN_IMAGE
    assert [(row.pixels, row.name) for row in found.rows] == [
        (pixels, NAMES[match]) for pixels in (2, 4) for match in NAMES
    ]
    assert set(NAMES) == set(MATCHES)
    assert {row.published for row in found.rows if row.pixels == 4} == {
        None,
        *(value for (pixels, _), value in PUBLISHED.items() if pixels == 4),
    }


def test_shares_of_the_liar_by_order_make_up_the_judges_accuracy(
    finished: tuple[PixelSettings, FinishedRun, PixelResults],
) -> None:
    for row in finished[2].rows:
        if row.liar_second is not None and row.liar_first is not None:
            lost = (row.liar_second.value + row.liar_first.value) / 2
            assert row.right.value == pytest.approx(1.0 - lost)
            assert (row.right.num, row.right.num_clusters) == (6, 3)


def test_the_records_are_sound_and_the_projects_report_reads_them(
    finished: tuple[PixelSettings, FinishedRun, PixelResults],
) -> None:
    with Store.open(finished[0].store_url) as store:
        assert store.check() == []
        report = build_report(store.transcripts())
    assert {arm.kind for arm in report.arms} == {Kind.DEBATE, Kind.CONSULTANCY, Kind.NAIVE}
    [debate] = [
        arm
        for arm in report.arms
        if arm.arm.protocol == "pixels4_debate" and arm.arm.speakers == "search"
    ]
    [row] = [
        row for row in finished[2].rows if row.pixels == 4 and row.name == "debate, liar's best lie"
    ]
    assert debate.accuracy.accuracy_all.value == row.right.value
    assert debate.honest_win_rate is not None
    assert debate.honest_win_rate.value == row.right.value


def test_a_run_that_broke_off_goes_on_and_ends_in_the_same_table(
    finished: tuple[PixelSettings, FinishedRun, PixelResults], tmp_path: Path
) -> None:
    given = settings(tmp_path)

    def stop(progress: PixelProgress) -> None:
        if progress.doing == "games" and progress.done >= 2 * GAMES_AN_IMAGE:
            raise KeyboardInterrupt

    with Store.open(given.store_url) as store, pytest.raises(KeyboardInterrupt):
        run(given, store, stop)
    done, found = played(given)
    assert done.num_found == 2 * GAMES_AN_IMAGE
    assert done.num_played == 4 * GAMES_AN_IMAGE
    assert found == finished[2]


def test_other_settings_in_the_same_store_are_other_games(tmp_path: Path) -> None:
    first = played(settings(tmp_path, pixels=[2]))[1]
    other, _ = played(settings(tmp_path, pixels=[2], seed=1))
    again, same = played(settings(tmp_path, pixels=[2]))
    assert (other.num_found, again.num_played) == (0, 0)
    assert same == first


def test_two_runs_do_not_play_in_one_store_at_once(tmp_path: Path) -> None:
    given = settings(tmp_path, pixels=[2])
    with Store.open(given.store_url) as one, Store.open(given.store_url) as other:

        def second(progress: PixelProgress) -> None:
            if progress.doing == "games":
                with pytest.raises(StoreError, match="another process"):
                    run(given, other)

        run(given, one, second)


def test_mnists_files_are_played_on(mnist: Path, tmp_path: Path) -> None:
    done, found = played(settings(tmp_path, pixels=[2], mnist=mnist))
    assert (done.dataset, found.num_games) == ("mnist", 3 * GAMES_AN_IMAGE)


def test_more_images_than_there_are_is_an_error(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"images = 41: only 40 held-out images of mnist"):
        played(settings(tmp_path, mnist=mnist, images=41))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--pixels", "5"], r"pixels = \[5\]: 5 is not 2, 4, 6 or 8"),
        (["--pixels", "4", "--pixels", "4"], "named twice"),
        (["--images", "1"], "images = 1"),
        (["--pixls", "4"], r"no such option: --pixls. Did you mean '--pixels'"),
        (["--set", "judge.step=4"], r"unknown setting 'judge.step'. Did you mean 'steps'"),
        (["absent.toml"], "recipe 'absent.toml': No such file"),
        (["--mnist", "nowhere"], "nowhere: neither t10k-images"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    args: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["pixels", *args]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert said.count("\n") == 1


def test_the_command_leaves_table_pictures_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--pixels", "4", "--images", "3", "--set", "judge.steps=100"]
    assert main.run(["pixels", *quick]) == 0
    printed = capsys.readouterr().out
    assert "45 games played, 0 found complete." in printed
    assert max(map(len, printed.splitlines()[:14])) <= 80
    rows = json.loads((tmp_path / "pixels" / "results.json").read_text())["rows"]
    assert len(rows) == len(MATCHES)
    for name in ("results.png", "games.png"):
        assert (tmp_path / "pixels" / name).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "pixels" / "report.html").read_text()
    assert page.count("data:image/svg+xml") == 4
    assert "same labels, random pixels" in page
    assert main.run(["pixels", *quick, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows


def test_the_recipe_says_the_defaults(root: Path) -> None:
    from oversight.config import load_recipe

    path = root / "recipes" / "pixels" / "pixel_debate.toml"
    assert load_recipe(PixelSettings, path, {}) == PixelSettings()
    assert path.read_text().startswith("# "), "a recipe begins by saying what it is for"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_is_finished_by_the_same_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "oversight.cli.main", "pixels", "--images", "12", "--json"]
    command += ["--set", "judge.steps=400"]
    process = subprocess.Popen(
        [*command, "--out", "cut"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    for line in process.stderr:
        if b"games: " in line:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.stderr.close()
    process.wait()
    begin = time.perf_counter()
    tables = [
        subprocess.run(
            [*command, "--out", out], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for out in ("cut", "whole")
    ]
    assert tables[0] == tables[1]
    assert time.perf_counter() - begin < 300
    debates = {row["name"]: row for row in json.loads(tables[0])["rows"] if row["pixels"] == 4}
    alone = debates["judge alone, random pixels"]["right"]["value"]
    assert debates["debate, liar's best lie"]["right"]["value"] > alone
