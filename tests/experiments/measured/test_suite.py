"""The suite by its command: all parts in the short form, resumed, refused, and looked at."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import rmtree

import pytest

from oversight.cli import main
from oversight.cli.measure import load_suite
from oversight.errors import ConfigError
from oversight.experiments.measured.suite import PARTS, PartDone

RECIPE = Path(__file__).parents[3] / "recipes" / "measured" / "suite.toml"


def measured(out: Path, *words: str) -> int:
    return main.run(["measure", str(RECIPE), "--quick", "--out", str(out), *words])


def parts_of(out: Path) -> dict[str, PartDone]:
    data = json.loads((out / "results.json").read_text())
    return {name: PartDone.model_validate(part) for name, part in data["parts"].items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_suite_in_its_short_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One test: on several workers each would measure the suite for itself."""
    out = tmp_path / "out"
    assert measured(out) == 0
    has_its_orderings(parts_of(out))
    every_part_has_a_page_a_picture_and_says_what_it_does_not_show(out)
    a_part_that_was_lost_is_measured_again_to_the_same_numbers(out)
    capsys.readouterr()
    assert measured(out, "--part", "control", "--set", "control.tasks=60") == 2
    said = capsys.readouterr().err
    assert "control" in said
    assert said.count("\n") == 1
    assert measured(out, "--part", "control", "--set", "shift.items=30") == 0


def has_its_orderings(found: dict[str, PartDone]) -> None:
    assert list(found) == list(PARTS)
    proxies = found["overoptimisation"].figures
    chosen, chance = proxies["judge's belief.last"], proxies["chance (control).last"]
    assert chosen.value > chance.value + 0.2
    assert all(proxies[f"planted.{seed}.error"].value <= 0.2 for seed in range(3))
    shift = found["shift"].figures
    assert shift["none (control).right"].value > shift["one side.right"].value
    assert shift["other telling.detected"].value > 0.5
    assert shift["none (control).detected"].value == 0.0
    control = found["control"].figures
    trust, debate = (
        control["always_trust.0.safety"],
        control["debate_monitoring.0.2.safety"],
    )
    assert debate.low is not None
    assert trust.high is not None
    assert debate.low > trust.high
    assert "debate monitoring" in found["control"].headlines[1]
    learnt = found["weak_to_strong"].figures
    for size in found["weak_to_strong"].series["sizes"]:  # type: ignore[union-attr]
        ceiling, start = learnt[f"{size}.ceiling.right"], learnt[f"{size}.start (control).right"]
        assert ceiling.low is not None
        assert ceiling.low > learnt["supervisor.nothing.right"].value
        assert ceiling.low > start.value
        assert ceiling.low > learnt[f"{size}.shuffled (control).right"].value


def every_part_has_a_page_a_picture_and_says_what_it_does_not_show(out: Path) -> None:
    for name, done in parts_of(out).items():
        page = (out / f"{name}.html").read_text()
        assert done.title in page
        assert "does not show" in done.not_shown
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert all(done.title in (out / "report.html").read_text() for done in parts_of(out).values())


def a_part_that_was_lost_is_measured_again_to_the_same_numbers(out: Path) -> None:
    before = parts_of(out)
    rmtree(out / "stages" / "control")
    assert measured(out, "--part", "control") == 0
    after = parts_of(out)
    assert after["control"].figures == before["control"].figures
    assert after["shift"] == before["shift"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--part", "honesty"], "overoptimisation"),
        (["--set", "control.budgets=[0.3,0.1]"], "control.budgets"),
        (["--set", "shift.share=0"], "shift.share"),
        (["--set", "overoptimisation.labels=[64,32]"], "overoptimisation.labels"),
        (["--set", "weak_to_strong.learners=[96,16]"], "weak_to_strong.learners"),
        (["--set", "seeds=[1,1]"], "seeds"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measured(tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_model_that_is_not_there_is_named_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measured(tmp_path / "out", "--set", f"judge={tmp_path}/nothing") == 2
    error = capsys.readouterr().err
    assert "judge = " in error
    assert error.count("\n") == 1


def test_a_recipe_without_short_form_says_so(tmp_path: Path) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text('parts = ["control"]\n')
    with pytest.raises(ConfigError, match="leave --quick out"):
        load_suite(recipe, {}, [], quick=True)
    assert load_suite(recipe, {}, [], quick=False).parts == ("control",)
