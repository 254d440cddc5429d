"""A judge attacked, trained on what was found, and attacked anew."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.config import override, read_toml
from oversight.errors import ConfigError, DataError
from oversight.redteam.loop import LoopSettings, run_loop
from oversight.redteam.measures import (
    ARMS,
    Arm,
    AttackedDebate,
    LoopArm,
    loop_sentences,
    loop_table,
    measure_loop,
)


def arm(name: Arm, found: int, again: int, plain: int, seed: int = 0) -> LoopArm:
    """Ten debates, of which two are judged wrong without attack; ten questions judged plainly."""
    debates = [AttackedDebate(f"q{n}", (False, True)) for n in range(2)]
    debates += [
        AttackedDebate(f"q{n}", (True, True), found=n - 2 < found, again=n - 2 < again, calls=3)
        for n in range(2, 10)
    ]
    return LoopArm(name, seed, [(f"q{n}", float(n < plain)) for n in range(10)], debates, 40, 20)


def test_success_is_of_the_debates_that_were_right_and_accuracy_of_all() -> None:
    figures = measure_loop(
        [arm("before", 6, 4, 8), arm("mended", 2, 1, 9), arm("control", 6, 4, 8)]
    )
    before, mended, control = figures.arms
    assert before.found is not None
    assert (before.found.value, before.found.num) == (6 / 8, 8)
    assert before.under_attack.value == pytest.approx(0.2)
    assert mended.under_attack.value == pytest.approx(0.6)
    assert mended.again is not None
    assert mended.again.value == 1 / 8
    assert control.plain.value == 0.8
    change = figures.plain_change["mended"]
    assert change is not None
    assert change.value == pytest.approx(0.1)
    assert figures.attack_change["control"].value == 0.0  # type: ignore[union-attr]
    said = loop_sentences(figures)
    assert sum("reached" in each and "not reached" not in each for each in said) == 3
    assert len(loop_table(figures).rows) == 3


def test_a_bar_that_is_missed_is_said_to_be_missed() -> None:
    figures = measure_loop(
        [arm("before", 6, 4, 8), arm("mended", 4, 3, 5), arm("control", 6, 4, 8)]
    )
    assert all("not reached" in each for each in loop_sentences(figures))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seeds": [1, 1]}, "seeds = [1, 1]: one stands there twice"),
        ({"attacked_debates": 500}, "attacked_debates = 500 are among plain_debates"),
        ({"dataset.split": "train"}, "splits train and held_out are taken themselves"),
        ({"train_debate": 3}, "train_debate"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changed: dict[str, Any], said: str, root: Path) -> None:
    data = override(read_toml(root / "recipes" / "redteam_judge.toml"), changed)
    with pytest.raises(ConfigError) as refused:
        LoopSettings.parse(data, "recipe")
    assert said in str(refused.value)


FEW = {
    "train_debates": 8,
    "attacked_debates": 4,
    "plain_debates": 5,
    "seeds": [0],
    "calls": 4,
    "sft": {"steps": 2, "batch_size": 4},
}


@pytest.fixture(scope="module")
def few(root: Path, tmp_path_factory: pytest.TempPathFactory) -> LoopSettings:
    out = tmp_path_factory.mktemp("loop")
    data = read_toml(root / "recipes" / "redteam_judge.toml")
    return LoopSettings.parse({**data, **FEW, "out": str(out)}, "few")


def test_a_loop_trains_on_what_it_found_and_goes_on_without_a_call(few: LoopSettings) -> None:
    done: list[str] = []
    first = run_loop(few, asyncio.run, lambda task, now, total: done.append(task))
    folder = Path(few.out, "seed_0")
    arms = {name: LoopArm.read(folder / f"{name}.json") for name in ARMS}
    assert arms["before"].num_rows == 0
    assert arms["mended"].num_rows == arms["control"].num_rows == 2 * arms["mended"].num_attacks > 0
    assert arms["control"].num_attacks == 0
    assert all(len(each.plain) == 10 and len(each.attacked) == 4 for each in arms.values())
    assert {q for q, _ in arms["before"].plain} == {q for q, _ in arms["mended"].plain}
    models = [folder / f"train_{name}" / "model" / "model.safetensors" for name in ARMS[1:]]
    assert models[0].read_bytes() != models[1].read_bytes()
    assert any("attacks" in each for each in done)
    done.clear()
    assert run_loop(few, asyncio.run, lambda task, now, total: done.append(task)) == first
    assert not done
    (folder / "before.json").unlink()
    assert run_loop(few, asyncio.run, lambda *_: None) == first
    result = json.loads(Path(few.out, "result.json").read_text())
    assert [each["name"] for each in result["arms"]] == list(ARMS)


def test_a_folder_of_another_loop_or_a_broken_arm_is_named(few: LoopSettings) -> None:
    Path(few.out).mkdir(exist_ok=True)
    run_loop(few, asyncio.run, lambda *_: None)
    other = few.model_copy(update={"calls": 5})
    with pytest.raises(ConfigError, match="holds a loop of other settings"):
        run_loop(other, asyncio.run, lambda *_: None)
    path = Path(few.out, "seed_0", "mended.json")
    kept = path.read_text()
    path.write_text("{}")
    with pytest.raises(DataError, match="delete it, and it is made anew"):
        run_loop(few, asyncio.run, lambda *_: None)
    path.write_text(kept)


@pytest.mark.slow
def test_the_recipes_short_form_runs_as_it_is_typed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = str(root / "recipes" / "redteam_judge.toml")
    assert run(["redteam", "loop", recipe, "--quick"]) == 0
    out = capsys.readouterr().out
    assert "Success of the search" in out
    assert run(["redteam", "loop", recipe, "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [0]
