"""The examples of docs/datasets.md run as they stand."""

from __future__ import annotations

import re

import pytest

from oversight.datasets.base import load_questions
from oversight.datasets.code import programs
from oversight.datasets.world import LEVELS
from oversight.datasets.world.names import FAMILIES


@pytest.fixture(scope="module")
def page(root) -> str:
    return (root / "docs" / "datasets.md").read_text(encoding="utf-8")


def test_the_jsonl_example_loads(page, tmp_path):
    example, _ = re.findall(r"```jsonl[^\n]*\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "ferry.jsonl"
    file.write_text(example, encoding="utf-8")
    loaded = load_questions(("jsonl", {"path": str(file)}))
    assert [q.id for q in loaded.questions] == ["ferry-1", "ferry-2"]
    assert loaded.questions[1].options[0].argument == "Ada has the licence."


def test_the_jsonl_example_of_open_prompts_loads(page, tmp_path):
    _, example = re.findall(r"```jsonl[^\n]*\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "prompts.jsonl"
    file.write_text(example, encoding="utf-8")
    loaded = load_questions(("jsonl", {"path": str(file)}))
    assert [len(q.chat.messages) for q in loaded.questions] == [2, 3]
    assert {q.is_open for q in loaded.questions} == {True}


def test_the_python_example_runs(page, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out.count("world:held_out:0:3:") == 5


def test_the_tables_of_families_and_difficulties_are_the_ones_in_use(page):
    for family in FAMILIES:
        assert f"| `{family.name}` | " in page
    for difficulty, level in LEVELS.items():
        low, high = level.num_lines
        assert f"| {difficulty} | {low}–{high} | {level.num_subjects} | " in page
        assert f"| {'shuffled' if level.shuffled else 'by time'} |" in page


def test_the_table_of_programs_by_difficulty_is_the_one_in_use(page):
    for difficulty, level in programs.LEVELS.items():
        low, high = level.num_items
        assert f"| {difficulty} | {level.num_before} | {low}–{high} | " in page


def test_the_example_of_a_step_runs(page, capsys):
    (example,) = re.findall(r"```py\n(from oversight\.datasets\.code.*?)```", page, re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out == "True\n"


def test_the_example_of_own_programs_loads(page, tmp_path):
    (example,) = re.findall(r"```json\n(\{\"id\": \"a\", \"program\".*?)```", page, re.DOTALL)
    file = tmp_path / "programs.jsonl"
    file.write_text(example, encoding="utf-8")
    loaded = load_questions(("code", {"path": str(file)}))
    assert [q.options[q.correct].text for q in loaded.questions] == ["-4", "No, it fails."]
