"""`oversight run`: a small circle from the command line, and what it says to wrong input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from oversight.cli.main import run

SMALL = """\
# A circle without training.
out = "circle"
methods = []
arenas = ["debate"]
held_out_questions = 8
jobs = 1

[dataset]
dataset = "world"
settings = { difficulty = 1, telling = "plain" }

[quick]
held_out_questions = 9
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL)
    return "small.toml"


def test_a_circle_ends_in_tables_and_a_second_run_prints_the_same(recipe, capfd):
    assert run(["run", recipe]) == 0
    first, progress = capfd.readouterr()
    assert "Judge accuracy before and after training" in first
    assert "6/6" in progress
    assert Path("circle/report.html").exists()
    assert run(["run", recipe]) == 0
    second, progress = capfd.readouterr()
    assert second == first
    assert "1/6" not in progress
    assert run(["run", recipe, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["num_questions"] == 8


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.toml"], "recipe 'nowhere.toml': No such file"),
        (["small.toml", "--set", "held_out_questions=1"], "small.toml: held_out_questions"),
        (["small.toml", "--set", "methods=['rloo']"], "small.toml: methods"),
        (["small.toml", "--set", "metods=[]"], "methods"),
        (["small.toml", "--qick"], "no such option: --qick. Did you mean '--quick'?"),
        (["small.toml", "--jobs", "0"], "jobs"),
        (["small.toml", "--set", "dataset.dataset=wrld"], "world"),
    ],
)
def test_wrong_input_is_one_line_that_says_what_to_do(recipe, capfd, arguments, says):
    assert run(["run", *arguments]) in (1, 2)
    out, err = capfd.readouterr()
    assert not out
    assert says in " ".join(err.split())
    assert "Traceback" not in err


def test_a_recipe_without_a_short_form_says_so(recipe, capfd):
    text = SMALL.split("[quick]")[0]
    Path("long.toml").write_text(text)
    assert run(["run", "long.toml", "--quick"]) == 2
    assert "it has no short form; leave --quick out" in capfd.readouterr().err


def test_what_is_set_by_hand_comes_before_the_short_form(recipe):
    from oversight.cli.run import load_circle

    short = load_circle(Path(recipe), {}, [], quick=True)
    assert short.held_out_questions == 9
    by_hand = load_circle(Path(recipe), {}, ["held_out_questions=10"], quick=True)
    assert by_hand.held_out_questions == 10


CIRCLE, PRINCIPLES = "recipes/closed_circle.toml", "recipes/constitutional_sl.toml"
TRAINER = "recipes/training/grpo.toml"


@pytest.mark.parametrize(
    ("command", "given", "says"),
    [
        (["run", CIRCLE], "grpo.stps=9", "'grpo.stps'. Did you mean 'steps'?"),
        (["run", CIRCLE], "grpo.shaping.clp=1", "'grpo.shaping.clp'. Did you mean 'clip'?"),
        (["run", CIRCLE], "dpo.beta=0.1", "Here it is called 'dpo.options.beta'"),
        (["run", CIRCLE], "ppo.steps=x", "ppo.steps = 'x': give a whole number"),
        (["run", CIRCLE], "grpo.loss=dr_grop", "grpo.loss = 'dr_grop': there is no policy loss"),
        (["run", CIRCLE], "sft_judge.out=x", "sft_judge.out = 'x': leave it out"),
        (["run", PRINCIPLES], "sft.stps=9", "'sft.stps'. Did you mean 'steps'?"),
        (["train", "grpo", TRAINER], "samles=2", "'samles'. Did you mean 'samples'?"),
    ],
)
def test_a_slip_in_a_trainers_table_is_refused_before_torch_is_loaded(
    root: Path, command: list[str], given: str, says: str
) -> None:
    words = [str(root / word) if word.endswith(".toml") else word for word in command]
    program = (
        "import sys\nfrom oversight.cli.main import run\n"
        f"code = run({[*words, '--set', given]!r})\nprint(code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == "2 False\n"


def test_settings_of_a_table_that_work_beside_the_experiments_own_are_taken(recipe) -> None:
    # Alone, no shaping.scale would read the bound.
    from oversight.cli.run import load_circle

    circle = load_circle(Path(recipe), {"ppo.shaping.clip": 2.0}, [], quick=False)
    assert circle.ppo == {"shaping": {"clip": 2.0}}
