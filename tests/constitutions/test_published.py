"""Principles and dialogues in the formats that others publish them in; the words are our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oversight import constitutions
from oversight.constitutions.published import demonstrations
from oversight.errors import ConfigError

DIALOGUE = (
    "\n\nHuman: Two things: first: what is 2:1?\n\nAssistant: A ratio."
    "\n\nHuman: Say more.\n\nAssistant: Note: Critique: no.\n\nCritiqueRequest: What is missing?"
    "\n\nCritique: An example.\n\nRevisionRequest: Add one."
    "\n\nRevision: A ratio, as of 2 cups to 1."
)


def written(folder: Path, name: str, held: Any) -> Path:
    path = folder / name
    path.write_text(held if isinstance(held, str) else json.dumps(held), encoding="utf-8")
    return path


def test_requests_for_critiques_lose_their_labels(tmp_path: Path) -> None:
    entry = {
        "prompt": ["\n\nCritiqueRequest: Name what is rude: every word.\n\nCritique:"],
        "edit_request": "\n\nRevisionRequest: Make it polite.\n\nRevision:",
    }

    (principle,) = constitutions.read(written(tmp_path, "x.json", {"Rude 0": entry})).principles

    assert principle.id == "rude-0"
    assert principle.critique_request == "Name what is rude: every word."
    assert principle.revision_request == "Make it polite."
    assert principle.origin == "x.json"


def test_each_wording_of_a_request_is_a_principle(tmp_path: Path) -> None:
    entry = {"prompt": ["Say this.", "Say that."], "edit_request": "Mend it."}

    read = constitutions.read(written(tmp_path, "x.json", {"a": entry})).principles

    assert [(each.id, each.critique) for each in read] == [
        ("a-1", "Say this."),
        ("a-2", "Say that."),
    ]
    assert {each.revision for each in read} == {"Mend it."}


def test_a_list_of_texts_is_comparison_principles(tmp_path: Path) -> None:
    texts = ["\nWhich one is kinder? Options:", "Which one is truer?"]

    read = constitutions.read(written(tmp_path, "x.json", texts)).principles

    assert [each.comparison_question for each in read] == [
        "Which one is kinder?",
        "Which one is truer?",
    ]


def test_a_plain_list_is_a_principle_a_line(tmp_path: Path) -> None:
    text = "# Ours\n- Be kind.\n\n2. Be brief: no more than needed.\n"

    read = constitutions.read(written(tmp_path, "x.txt", text)).principles

    assert [each.text for each in read] == ["Be kind.", "Be brief: no more than needed."]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"a": {"prompt": ["x"]}}, "a: expected an object with 'prompt' and 'edit_request'"),
        ({"a": {"prompt": [], "edit_request": "x"}}, "a.prompt = "),
        ({"a": {"prompt": ["x"], "edit_request": 3}}, "a.edit_request = 3"),
        ({"a": {"prompt": ["x {topic}"], "edit_request": "y"}}, "{topic} is a hole"),
        ({"a b": {"prompt": "x", "edit_request": "y"}, "a-b": {"prompt": "x", "edit_request": "y"}},
         "'a-b' stands 2 times"),
        ([1, 2], "expected an object"),
        ([DIALOGUE], "holds dialogues"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "give at least one"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_by_name(tmp_path: Path, held: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        constitutions.read(written(tmp_path, "x.json", held))

    assert "x.json" in str(caught.value)
    assert said in str(caught.value)


def test_a_dialogue_keeps_its_colons_and_labels_within_the_words(tmp_path: Path) -> None:
    (read,) = demonstrations(written(tmp_path, "few.json", [DIALOGUE + "\n\nHuman:"]))

    assert [(m.role, m.content) for m in read.chat] == [
        ("user", "Two things: first: what is 2:1?"),
        ("assistant", "A ratio."),
        ("user", "Say more."),
        ("assistant", "Note: Critique: no."),
    ]
    assert read.critique_request == "What is missing?"
    assert read.critique == "An example."
    assert read.revision_request == "Add one."
    assert read.revision == "A ratio, as of 2 cups to 1."


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([DIALOGUE.replace("\n\nCritique: An example.", "")], "dialogue 1: expected a chat"),
        ([DIALOGUE, DIALOGUE.replace("\n\nAssistant: A ratio.", "")], "dialogue 2: Human: and"),
        ([DIALOGUE.replace("Add one.", " ")], "nothing stands behind RevisionRequest:"),
        (["before" + DIALOGUE], "dialogue 1"),
        ([{"prompt": DIALOGUE}], "dialogue 1 = "),
        ({}, "expected a list of dialogues"),
    ],
)
def test_a_malformed_few_shot_file_names_the_dialogue(tmp_path: Path, held: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        demonstrations(written(tmp_path, "few.json", held))

    assert "few.json" in str(caught.value)
    assert said in str(caught.value)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    entry = '{"prompt": ["Look."], "edit_request": "Mend it."}'
    path.write_text(f'{{"harm 1": {entry}, "harm 1": {entry}}}', encoding="utf-8")

    with pytest.raises(ConfigError, match="the name 'harm 1' stands twice"):
        constitutions.read(path)
