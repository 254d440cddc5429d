"""The contract of every registered data set, ours and those of others."""

from __future__ import annotations

import inspect
import re

import pytest

from oversight import registry
from oversight.config import DatasetSettings, Settings
from oversight.datasets.base import load_questions
from oversight.errors import ConfigError
from oversight.types import Question

NAMES = registry.names("datasets")
GENERATED = ("code", "register", "world")
"""Their `path`, where they have one, may be left empty."""
FILE = "no/such/file"


@pytest.mark.parametrize("name", NAMES)
def test_it_has_settings_rows_and_a_line_about_itself(name):
    module = registry.load("datasets", name)
    assert issubclass(module.Config, Settings)
    assert inspect.isfunction(module.rows)
    first = module.__doc__.splitlines()[0]
    assert first.endswith(".")
    assert len(first) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_documented(name, root):
    page = (root / "docs" / "datasets.md").read_text(encoding="utf-8")
    section = re.search(rf"^## `{name}`.*?(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert section, name
    table = re.search(r"^\| setting \|.*?(?=\n\n)", section.group(), re.DOTALL | re.MULTILINE)
    assert table, name
    documented = set(re.findall(r"^\| `(\w+)` \|", table.group(), re.MULTILINE))
    assert documented == set(registry.load("datasets", name).Config.model_fields)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_reader(name):
    module = registry.load("datasets", name)
    source = inspect.getsource(module)
    for setting in module.Config.model_fields:
        assert re.search(rf"(config|self)\.{setting}\b", source), setting


@pytest.mark.parametrize("name", [n for n in NAMES if n not in GENERATED])
def test_a_missing_file_is_a_plain_error_that_names_the_path(name):
    with pytest.raises(ConfigError, match=FILE):
        load_questions((name, {"path": FILE}))


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_setting_is_refused(name):
    with pytest.raises(ConfigError, match=r"unknown setting .dataset\.settings\.colour."):
        load_questions((name, {"colour": 1} | ({"path": FILE} if name not in GENERATED else {})))


@pytest.mark.parametrize("name", NAMES)
def test_loading_twice_gives_the_same_questions_with_ids_of_their_own(name, tmp_path, request):
    spec = DatasetSettings(dataset=name, settings=sample_settings(name, tmp_path, request))
    first, second = (load_questions(spec, limit=20).questions for _ in range(2))
    assert first == second
    assert [q.fingerprint for q in first] == [q.fingerprint for q in second]
    assert len({q.id for q in first}) == len(first)
    for question in first:
        assert question.dataset == name
        assert Question.model_validate_json(question.model_dump_json()) == question


def sample_settings(name, tmp_path, request) -> dict[str, str]:
    if name in REAL_DATA:
        return {"path": str(request.getfixturevalue("shared_data") / REAL_DATA[name])}
    if name not in SAMPLES:
        return {}
    file = tmp_path / f"sample{ENDINGS.get(name, '')}"
    file.write_text(SAMPLES[name], encoding="utf-8")
    return {"path": str(file)}


REAL_DATA = {
    "nyu": "nyu-debates",
    "gsm8k": "gsm8k/example_model_solutions.jsonl",
    "hh_rlhf": "hh-rlhf/harmless-test-1200.jsonl",
}
SAMPLES = {
    "jsonl": '{"id": "a", "question": "Which?", "options": ["this", "that"], "source": "Text."}',
    "prompts": "One prompt.\nAnother prompt.\n",
    "templates": "templates = ['How do I mend a {thing}?']\nslots = { thing = ['kite', 'boat'] }",
    "quality": (
        '{"article_id": "1", "article": "Text.", "questions": [{"question": "Which?",'
        ' "question_unique_id": "1_A_1", "options": ["a", "b", "c", "d"], "gold_label": 3}]}'
    ),
}
ENDINGS = {"prompts": ".txt"}
