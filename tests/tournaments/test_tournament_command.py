"""`oversight tournament` from the recipe to the page: planted strengths are found, a second run
finds everything done, and what the debates cannot bear is not printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oversight.aggregation.ratings import ELO
from oversight.cli.main import run, way_on
from oversight.store import Store

RIGGED = Path(__file__).with_name("rigged.py")


def recipe_of(folder: Path, players: dict[str, dict], judge: str = "{}", more: str = "") -> Path:
    """A recipe over generated questions with rigged players."""
    lines = [more, "[dataset]", 'dataset = "world"', "limit = 40", 'split = "held_out"']
    for name, settings in players.items():
        inside = ", ".join(f"{key} = {value}" for key, value in settings.items())
        lines += [f"[players.{name}]", f'agent = "{RIGGED}:Strong"', f"settings = {{ {inside} }}"]
    lines += ["[judge]", f'agent = "{RIGGED}:Sums"', f"settings = {judge}"]
    path = folder / "tournament.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def played(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs the command; its JSON."""

    def go(recipe: Path, *more: str, code: int = 0):
        capsys.readouterr()
        words = ["tournament", str(recipe), "--store", str(tmp_path / "t.db"), "--json", *more]
        assert run(words) == code
        return json.loads(capsys.readouterr().out)

    return go


THREE = {"low": {"strength": 0.0}, "middle": {"strength": 0.8}, "high": {"strength": 1.6}}


def test_planted_strengths_and_the_judges_liking_are_found(played, tmp_path):
    found = played(recipe_of(tmp_path, THREE, "{ first = 0.7 }"))
    rows = {each["player"]: each for each in found["ratings"]["ratings"]}
    for name, settings in THREE.items():
        true = ELO * (settings["strength"] - 0.8)
        assert rows[name]["low"] - 30 <= true <= rows[name]["high"] + 30
    assert rows["low"]["value"] < rows["middle"]["value"] < rows["high"]["value"]
    effects = {each["name"]: each for each in found["ratings"]["effects"]}
    assert effects["first"]["low"] > 0
    assert abs(effects["first"]["value"] - ELO * 0.7) < 80
    assert effects["right side"]["low"] < 0 < effects["right side"]["high"]
    assert len(found["ratings_by_side"]["ratings"]) == 6
    # Six pairings of sides by 40 questions, each judged in both orders.
    assert len(found["games"]) == 480
    assert {each["num"] for each in found["cross_play"]} == {0, 80}


def test_every_figure_names_debates_that_the_store_has(played, tmp_path):
    found = played(recipe_of(tmp_path, THREE), "--limit", "3")
    with Store.open(str(tmp_path / "t.db"), create=False) as store:
        have = set(store.debate_ids())
    for row in (*found["ratings"]["ratings"], *found["ratings_by_side"]["ratings"]):
        assert row["debates"]
        assert set(row["debates"]) <= have
    cells = [each for each in found["cross_play"] if each["right"] != each["wrong"]]
    assert {id_ for cell in cells for id_ in cell["debates"]} == have
    for cell in cells:
        games = [
            g for g in found["games"] if (g["right"], g["wrong"]) == (cell["right"], cell["wrong"])
        ]
        assert cell["num"] == len(games) == 2 * len(cell["debates"])


def test_a_second_run_finds_everything_done_and_says_the_same(played, tmp_path):
    recipe = recipe_of(tmp_path, THREE, more='schedule = "swiss"\nrounds = 2')
    first = played(recipe, "--limit", "4", "--run", "t")
    with Store.open(str(tmp_path / "t.db"), create=False) as store:
        before = set(store.debate_ids())
    assert played(recipe, "--limit", "4", "--run", "t") == first
    with Store.open(str(tmp_path / "t.db"), create=False) as store:
        assert set(store.debate_ids()) == before
    assert way_on(["tournament", "t.toml"]) != ""


def test_more_questions_keep_the_debates_that_stand(played, tmp_path):
    recipe = recipe_of(tmp_path, THREE)
    first = played(recipe, "--limit", "2")
    second = played(recipe, "--limit", "4")
    assert {g["debate"] for g in first["games"]} < {g["debate"] for g in second["games"]}


def test_where_sides_speak_in_turn_each_begins_once(played, tmp_path):
    recipe = recipe_of(tmp_path, THREE, more='protocol = "debate_sequential"')
    found = played(recipe, "--limit", "2")
    assert len(found["games"]) == len({g["debate"] for g in found["games"]}) == 3 * 2 * 4
    by_pair = {(g["right"], g["wrong"], g["right_first"], g["cluster"][1]) for g in found["games"]}
    assert len(by_pair) == len(found["games"])


def test_an_unbeaten_player_has_no_rating_and_is_named(played, tmp_path, capsys):
    players = {**THREE, "giant": {"strength": 500.0}}
    recipe = recipe_of(tmp_path, players)
    found = played(recipe, "--limit", "10")
    rows = {each["player"]: each for each in found["ratings"]["ratings"]}
    assert rows["giant"]["value"] is rows["giant"]["low"] is None
    assert rows["giant"]["lack"] == "won every game"
    assert rows["low"]["value"] is not None
    assert any("giant won every game" in note for note in found["notes"])
    assert run(["tournament", str(recipe), "--store", str(tmp_path / "t.db"), "--limit", "10"]) == 0
    assert "giant won every game" in " ".join(capsys.readouterr().out.split())


def test_two_players_by_side_are_in_two_parts(played, tmp_path):
    players = {name: THREE[name] for name in ("low", "middle")}
    found = played(recipe_of(tmp_path, players), "--limit", "20")
    parts = [set(each) for each in found["ratings_by_side"]["parts"]]
    assert parts == [{"low right", "middle wrong"}, {"low wrong", "middle right"}] or parts == [
        {"low wrong", "middle right"},
        {"low right", "middle wrong"},
    ]
    assert any("2 parts" in note and "low right" in note for note in found["notes"])


def test_ties_count_and_what_is_invalid_is_left_out_and_counted(played, tmp_path):
    found = played(recipe_of(tmp_path, THREE, "{ tie = 0.6, invalid = 0.2 }"), "--limit", "20")
    verdicts = [g["verdict"] for g in found["games"]]
    assert found["ratings"]["tie"] > 0
    undecided = [g for g in found["games"] if g["score"] is None]
    assert len(undecided) == verdicts.count("invalid") > 0
    assert found["ratings"]["num_games"] == len(found["games"]) - len(undecided)
    assert any(f"{len(undecided)} invalid" in note for note in found["notes"])


def test_the_page_and_the_picture_are_written(played, tmp_path):
    page, picture = tmp_path / "t.html", tmp_path / "t.png"
    recipe = recipe_of(tmp_path, THREE)
    found = played(recipe, "--limit", "3", "--html", str(page), "--png", str(picture))
    text = page.read_text(encoding="utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")
    for cell in found["cross_play"]:
        assert all(id_[:12] in text for id_ in cell["debates"])


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ("judge.agent=human", "judge.agent = 'human'"),
        ("players.low.agent=human", "players.low.agent = 'human'"),
        ("players.low.agent=lexical", "players.low"),
        ("rounds=3", "rounds = 3"),
        ("protocol=consultancy", "two debaters argue"),
        ("protocol=naive", "two debaters argue"),
        ("schedule=knockout", "schedule"),
        ("covariates=['looks']", "covariates"),
        ("dataset.dataset=nowhere", "nowhere"),
    ],
)
def test_what_is_no_tournament_is_refused_in_one_line(tmp_path, capsys, sets, says):
    recipe = recipe_of(tmp_path, THREE)
    assert run(["tournament", str(recipe), "--store", str(tmp_path / "t.db"), "--set", sets]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert "Traceback" not in told


def test_one_player_is_refused(tmp_path, capsys):
    recipe = recipe_of(tmp_path, {"low": {"strength": 0.0}})
    assert run(["tournament", str(recipe), "--store", str(tmp_path / "t.db")]) == 2
    assert "players" in capsys.readouterr().err


@pytest.mark.parametrize("schedule", ["round_robin", "swiss"])
def test_after_a_failure_the_same_command_comes_to_the_same_end(
    played, tmp_path, monkeypatch, schedule
):
    recipe = recipe_of(tmp_path, THREE, more=f'schedule = "{schedule}"')
    monkeypatch.setenv("RIGGED_FAILS", "1")
    stopped = played(recipe, "--limit", "3", code=1)
    monkeypatch.delenv("RIGGED_FAILS")
    mended = played(recipe, "--limit", "3")
    whole = played(recipe, "--limit", "3", "--store", str(tmp_path / "whole.db"))
    assert len(stopped["games"]) < len(mended["games"])
    for part in ("games", "ratings", "ratings_by_side", "online", "cross_play"):
        assert mended[part] == whole[part]


def test_who_has_to_meet_again_debates_anew(played, tmp_path):
    players = {name: THREE[name] for name in ("low", "middle")}
    recipe = recipe_of(tmp_path, players, more='schedule = "swiss"\nrounds = 3')
    found = played(recipe, "--limit", "5")
    assert len({g["debate"] for g in found["games"]}) == 3 * 5 * 2


def test_a_covariate_that_never_differs_is_left_out_and_named(played, tmp_path):
    recipe = recipe_of(tmp_path, THREE, more='covariates = ["words", "verified_quotes"]')
    found = played(recipe, "--limit", "10")
    assert {each["name"] for each in found["ratings"]["effects"]} <= {"first"}
    assert any("verified quote" in note and "cannot be told" in note for note in found["notes"])
    assert all(row["value"] is not None for row in found["ratings"]["ratings"])
