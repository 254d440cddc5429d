"""Every page of the documentation is walked by its own commands; none can escape.

A page that is added is walked as soon as it is there. A command that cannot run here stands in
`NOT_RUN` with the test that runs it, or with the reason why nothing here can.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from oversight.cli.main import run
from tests.docs.walking import ROOT, Part, begin, pages, parts, take

TRAINERS = "tests/test_readme.py::test_every_trainer_runs_on_what_export_made"
SERVERS = "tests/cli/test_servers.py::test_the_pages_commands_run_as_they_stand"
CIRCLE = "tests/experiments/selfplay/test_circle.py"
STAGES = "tests/experiments/constitutional/test_quick.py"
WEB = "tests/tui/test_web.py"
GUARD = "tests/guard/test_page.py"
LOOP = "tests/experiments/test_feedback_loop.py"
JUDGED = (
    "tests/test_readme.py::test_the_walk_from_debates_to_a_policy_trained_on_ones_own_judgments"
)
NOT_RUN = {
    "README.md": {
        "oversight run recipes/closed_circle.toml": CIRCLE,
        "oversight run recipes/constitutional_": STAGES,
        "oversight guard serve": GUARD,
        "curl": GUARD,
        "oversight debate recipes/vllm_debate.toml": "tests/engines/vllm",
        "oversight debate --dataset world --model NAME --base-url": SERVERS,
        "oversight judge --web": WEB,
        "oversight pixels recipes": "tests/experiments/pixels/test_running.py",
        "oversight train": TRAINERS,
        "oversight plot runs/sft": TRAINERS,
        "oversight push runs/dpo": TRAINERS,
        "oversight debate --model runs/grpo/model": TRAINERS,
    },
    "docs/constitution.md": {
        "oversight run recipes/constitutional_": STAGES,
        "vllm run-batch": "tests/jobs/test_run_batch.py",
        "for file in": "a task of a Slurm array",
        'oversight answer "$file"': "tests/jobs/test_answer_files.py",
        "done": "a task of a Slurm array",
    },
    "docs/guard.md": {
        "oversight guard": GUARD,
        "oversight rate flagged": "tests/guard/test_feedback.py",
        "oversight run recipes/feedback_loop.toml": LOOP,
        "oversight train sft better.toml": LOOP,
        "curl": GUARD,
    },
    "docs/hard_problems.md": {
        "oversight measure": "tests/experiments/measured/test_suite.py",
    },
    "docs/importing.md": {
        "oversight import nyu": "tests/interop/test_nyu.py",
        "oversight import llm_debate": "tests/interop/test_llm_debate.py",
        "oversight report --store nyu.db": "tests/interop/test_nyu_report.py",
        "oversight export nyu-again": "tests/interop/test_nyu.py",
    },
    "docs/inspect.md": {
        "pip install": "installs packages",
        "inspect eval": "tests/interop/test_inspect_tasks.py",
        "oversight debate --dataset world --engine inspect": "tests/interop/test_inspect_engine.py",
    },
    "docs/judging.md": {"oversight judge --web": WEB},
    "docs/pixels.md": {
        "oversight pixels": "tests/experiments/pixels/test_running.py",
        "oversight report --store pixels/games.db": "tests/experiments/pixels/test_running.py",
    },
    "docs/selfplay.md": {"oversight run": CIRCLE},
    "docs/servers.md": {"export OPENAI_API_KEY": SERVERS, "oversight": SERVERS},
    "docs/training.md": {
        "torchrun": "tests/train/scale",
        "oversight push runs/sft": "tests/cli/test_push.py",
        "oversight push preferences.parquet": "tests/cli/test_push.py",
    },
    "docs/viewer.md": {"oversight view postgresql://": "tests/reporting"},
}
"""By page and by how the command begins: the test that runs it, or why none can."""
NO_COMMANDS_OF_OURS = ("make", "source")
"""Programs that set things up; what they set up is there already."""
LONG = frozenset(
    {
        "README.md",
        *("docs/constitution.md", "docs/datasets.md", "docs/judging.md", "docs/rating.md"),
        *("docs/tutorials/own_reward.md", "docs/tutorials/train.md"),
    }
)
"""Pages whose walk trains or asks models for longer than a few seconds."""


def excuse(page: str, part: Part) -> str | None:
    """The reason for which a command is not run in the walk."""
    found = (why for start, why in NOT_RUN.get(page, {}).items() if part.text.startswith(start))
    return next(found, None)


def walked() -> list[object]:
    """Each page that runs anything, the long ones marked."""
    ran = [page for page in pages() if any(each.kind != "file" for each in parts(page))]
    return [pytest.param(page, marks=pytest.mark.slow) if page in LONG else page for page in ran]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `make demo`, and an afternoon of trying, left."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        recipe = str(ROOT / "oversight" / "cli" / "demo.toml")
        os.mkdir("demo")
        assert run(["debate", recipe, "--limit", "2", "--store", "demo/demo.db"]) == 0
        world = ["debate", "-d", "world", "--limit", "12", "-p", "debate", "--both-sides"]
        assert run(world) == 0
        assert run(["export", "preferences.parquet"]) == 0
        shutil.copy(ROOT / "recipes" / "training" / "sft.toml", "RECIPE.toml")
        first = ["train", "sft", "RECIPE.toml", "--out", "runs/first", "--set", "steps=1"]
        assert run([*first, "--set", "data.eval_fraction=0"]) == 0
    return folder


@pytest.mark.parametrize("page", walked())
@pytest.mark.timeout(300)
def test_a_page_is_walked_by_its_own_commands(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if not page.startswith("docs/tutorials/"):  # those begin in an empty folder
        shutil.copytree(request.getfixturevalue("made"), tmp_path, dirs_exist_ok=True)
        begin(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    written = [part for part in parts(page) if part.kind == "file"]  # some stand behind their use
    for part in (*written, *parts(page)):
        if part.kind == "command" and (excuse(page, part) or part.words[0] in NO_COMMANDS_OF_OURS):
            continue
        assert part.kind != "command" or part.words[0] == "oversight", (
            f"{page}: nothing runs {part.text!r}; run it in a test and say so in NOT_RUN"
        )
        take(part)


def test_every_excuse_is_of_a_command_and_names_a_test_that_is_there() -> None:
    for page, excuses in NOT_RUN.items():
        commands = [each.text for each in parts(page) if each.kind == "command"]
        for start, why in excuses.items():
            assert any(each.startswith(start) for each in commands), (page, start)
            if why.startswith("tests/"):
                path, _, name = why.partition("::")
                assert (ROOT / path).exists(), why
                assert not name or f"def {name}(" in (ROOT / path).read_text(), why


def test_every_make_target_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in pages():
        for part in parts(page):
            if part.kind == "command" and part.words[0] == "make":
                assert re.search(rf"^{part.words[1]}:", makefile, re.MULTILINE), (page, part.text)
