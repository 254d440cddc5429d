"""The ordinary report on the NYU debates, against figures computed from the raw files here."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.datasets.nyu import detokenise
from oversight.interop.base import ImportSettings, import_debates
from oversight.store import Store

BY = "meta.setting+meta.in_paper+study"
SETTINGS = {
    (True, True): "human debate",
    (True, False): "human consultancy",
    (False, True): "AI debate",
    (False, False): "AI consultancy",
}


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Path:
    place = shared_data / "nyu-debates"
    if not place.is_dir():
        pytest.skip(f"NYU debates not found at {place}")
    return place


@pytest.fixture(scope="module")
def raw(published: Path) -> dict[str, list[dict[str, Any]]]:
    """By setting, plain figures of each debate that is included in the paper and was ended."""
    told = {}
    for line in (published / "debates-metadata.jsonl").read_text().splitlines():
        told[json.loads(line)["name"]] = json.loads(line)
    found = defaultdict(list)
    for file in sorted((published / "debates").glob("*.json")):
        given, known = json.loads(file.read_text()), told[file.stem]
        beliefs, final = [], None
        rounds = characters = quotes = 0
        [story] = given["setup"]["sourceMaterial"].values()
        text = detokenise(story["contents"])
        for each in given["rounds"]:
            [(kind, body)] = each.items()
            if kind == "JudgeFeedback":
                beliefs.append(body["distribution"][given["setup"]["correctAnswerIndex"]])
                final = beliefs[-1] if body["endDebate"] else final
            rounds += kind.endswith("Speeches")
            for part in (p for one in body.get("speeches", {}).values() for p in one["content"]):
                if "Text" in part:
                    characters += len(part["Text"]["text"])
                else:
                    begin, end = text.characters(*part["Quote"]["span"])
                    characters += end - begin
                    quotes += 1
        if known["includedInPaper"] and final is not None:
            setting = SETTINGS[known["setting"]["isHuman"], known["setting"]["isDebate"]]
            found[setting].append(
                {
                    "right": final > 0.5,
                    "beliefs": beliefs,
                    "rounds": rounds,
                    "characters": characters,
                    "quotes": quotes,
                }
            )
    return found


@pytest.fixture(scope="module")
def reported(published: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The breakdown that the command prints, by its values."""
    folder = tmp_path_factory.mktemp("nyu")
    store = folder / "nyu.db"
    with Store.open(store) as opened:
        import_debates(ImportSettings(format="nyu", path=str(published), store=""), opened)
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("typer.echo", lambda text="", **_: printed.append(str(text)))
        assert run(["report", "--store", str(store), "--by", BY, "--json"]) == 0
    return {each["value"]: each for each in json.loads("".join(printed))["breakdowns"]}


@pytest.mark.parametrize("setting", SETTINGS.values())
def test_judges_who_ended_it_are_as_right_as_the_raw_files_say(
    setting: str, raw: dict[str, Any], reported: dict[str, Any]
) -> None:
    found = reported[f"{setting}, yes, live"]
    debates = raw[setting]
    assert found["accuracy"]["num"] == len(debates) > 10
    right = fmean(each["right"] for each in debates)
    assert found["share_right"] == pytest.approx(right, abs=5e-4)


@pytest.mark.parametrize("setting", SETTINGS.values())
def test_belief_in_the_right_answer_goes_by_the_judges_turn_as_in_the_raw_files(
    setting: str, raw: dict[str, Any], reported: dict[str, Any]
) -> None:
    found = reported[f"{setting}, yes, live"]
    paths = [each["beliefs"] for each in raw[setting]]
    present = {p["round"]: p["belief"]["value"] for p in found["beliefs"]}
    carried = {p["round"]: p["belief"]["value"] for p in found["beliefs_carried"]}
    last = max(len(path) for path in paths)
    assert present.keys() == carried.keys() == {*range(last), None}
    for turn in range(last):
        here = [path[turn] for path in paths if len(path) > turn]
        assert present[turn] == pytest.approx(fmean(here), abs=5e-4), turn
        whole = [path[min(turn, len(path) - 1)] for path in paths]
        assert carried[turn] == pytest.approx(fmean(whole), abs=5e-4), turn
    assert present[None] == pytest.approx(fmean(path[-1] for path in paths), abs=5e-4)


@pytest.mark.parametrize("what", ["rounds", "characters", "quotes"])
@pytest.mark.parametrize("setting", SETTINGS.values())
def test_debates_are_as_long_as_the_raw_files_say(
    what: str, setting: str, raw: dict[str, Any], reported: dict[str, Any]
) -> None:
    sizes = reported[f"{setting}, yes, live"]["sizes"]
    assert sizes["num_debates"] == len(raw[setting])
    wanted = fmean(each[what] for each in raw[setting])
    assert sizes[what]["value"] == pytest.approx(wanted, rel=5e-4)
